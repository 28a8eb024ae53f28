"""Retrieval and classification scores of a checkpoint.

Modules, each importing only those above it:

    classification  accuracy and confusion matrix of class scores
    retrieval       ranks and recall of score matrices
    suite           SkyScript's benchmark sets and their settings
    compare         the difference of two evaluations
    provenance      facts needed to check and repeat an evaluation
    recorded        results kept in the run folder
    rows            the rows global, reranked and pairwise of an encoded split
    encode          images and captions of a split to features and pair scores
    evaluate        retrieval scores of a checkpoint on a split
    zero_shot       classification scores of a checkpoint on a split
    report          an HTML page of measurements
    material        images with captions or labels to temporary shards
    measure         the measurements of `dove eval`
"""
