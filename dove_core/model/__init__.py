"""The networks of DOVE: no files, no ranks, no other family.

Modules, each importing only those above it:

    spelling    words of a vocabulary that stand for others
    tokenizer   words to token numbers
    tokens      token numbers to padded tensors
    attention   gated self-attention; IFA and IGA, the two parts of ROAM
    textual     the text encoder: GRU and DTGA
    normalisation  the mean and deviation of a trunk's input
    trunk       what every image trunk is
    timm_trunk  models of timm as trunks
    backbone    the trunk of a backbone: torchvision's ResNets, or timm's models
    visual      scales (MSV) and regions (RoI) of the trunk's maps
    dove        the whole model: embeddings and pair scores
"""
