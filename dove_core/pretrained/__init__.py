"""Models that others trained -> checkpoints of ours in models/.

Modules, each importing only those above it:

    catalog     the models that are known by name
    lookup      from the name that a user gives to a model, or to a release of data
    weights     the file with the weights: found, downloaded, or taken out of a zip
    plan        what fetching a model will do
    tokenizer   the tokenizer of another repository
    doubt       the note about an activation that is not verified
    fetch       a model's file, converted to a checkpoint
"""
