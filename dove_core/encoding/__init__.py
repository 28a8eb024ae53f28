"""From a checkpoint of any model family to embeddings; no other package but `training` knows a model's class.

Modules, bottom up; each imports only those above it:

    text_side   protocols of the text side of a model, which needs no torch
    encoder     protocols of a model: `Encoder`, `Reranker`, `Explainer`, `Preprocess`, `Features`
    preprocess  decoding, cropping and normalising of images
    compute     devices, precision and the number of processes
    dove_text   the text side of DOVE, and ROAM over stored regions, in numpy
    dove        DOVE as an `Encoder`, and its checkpoint files
    clip_config      the files of a checkpoint of open_clip's models
    clip_tokenizer   texts to their tokens, without torch
    clip_preprocess  images to their input
    clip_padding     the text tower on texts without their padding
    clip_relevance   where an image has what a text describes, by gradients
    clip        their `Encoder`, and the export of the text tower
    clip_text   their text side, in onnxruntime
    tensor_files     files of tensors that others made
    clip_import      a file of weights of others to a checkpoint
    families    the name of a model family to the code that loads it
    checkpoint  the files of a checkpoint, in a folder or a bucket
    clip_export      a checkpoint of open_clip's models to open_clip's own files
    load        loading of an encoder or a text side
    embedder    images and texts to embeddings, in batches on a device
"""
