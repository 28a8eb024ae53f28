"""The networks of DOVE: no files, no ranks, no other family.

Modules, each importing only those above it:

    spelling    words of a vocabulary that stand for others
    tokenizer   words to token numbers
    tokens      token numbers to padded tensors
    attention   gated self-attention; IFA and IGA, the two parts of ROAM
    textual     the text encoder: GRU and DTGA
    backbone    the image trunk: a ResNet
    visual      scales (MSV) and regions (RoI) of the trunk's maps
    dove        the whole model: embeddings and pair scores
"""
