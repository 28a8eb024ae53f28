"""From a checkpoint of any model family to embeddings; no other package but `training` knows a model's class.

Modules, bottom up; each imports only those above it:

    text_side   protocols of the text side of a model, which needs no torch
    encoder     protocols of a model: `Encoder`, `Reranker`, `Preprocess`, `Features`
    preprocess  decoding, cropping and normalising of images
    compute     devices, precision and the number of processes
    dove_text   the text side of DOVE, and ROAM over stored regions, in numpy
    dove        DOVE as an `Encoder`, and its checkpoint files
    families    the name of a model family to the code that loads it
    checkpoint  the files of a checkpoint, in a folder or a bucket
    load        loading of an encoder or a text side
    embedder    images and texts to embeddings, in batches on a device
"""
