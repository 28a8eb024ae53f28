"""From shards to a checkpoint.

Modules, each of which imports only modules above it:

    result      what a training returns
    trainable   what the trainer needs of a model, of any family
    losses      losses of a score matrix
    optimizer   AdamW and its learning rate
    initial_checkpoint  checkpoint that a run starts from, and which settings its family has
    average     moving average of the weights
    throughput  images per second, share of waiting
    interrupt   Ctrl-C and SIGTERM while training
    slurm       variables of srun's tasks
    input_scaling    how pixels are scaled for the initial weights
    initial_weights  pre-trained weights or a file of weights for the trunk
    journal     metrics, events and curves of a run
    storage     folder or bucket of a run
    batches     records to batches
    gathered    scores of all images and captions of a step, over all processes
    objective   DOVE's loss of a batch over all processes
    dove        DOVE in training
    clip_layers  layers of both towers of a CLIP model
    clip        a CLIP model in training
    run         settings, last/ and best/ of a run
    opening     model that a run starts from or continues with
    validation  score of a checkpoint, which chooses best/
    world       processes that train together; the only user of torch.distributed
    launch      starting and restarting processes
    trainer     one process's share of a training
    loop        train() and resume()
"""
