"""Score of a checkpoint on the validation split, by which `best/` is chosen."""

from __future__ import annotations

from dove_core.config import ComputeConfig
from dove_core.data.reader import Shards
from dove_core.encoding.dove import Checkpoint, DoveEncoder
from dove_core.encoding.embedder import Embedder
from dove_core.evaluation.encode import encode_split
from dove_core.evaluation.rows import score_global_row
from dove_core.places import Place


def mean_recall(checkpoint: Checkpoint, folder: Place, compute: ComputeConfig, batch_size: int) -> float:
    """Return the mean recall of the global scores; the model keeps its training mode."""
    was_training = checkpoint.model.training
    checkpoint.model.eval()
    try:
        embedder = Embedder(DoveEncoder(checkpoint), compute)
        split = encode_split(embedder, Shards(folder), batch_size=batch_size)
    finally:
        checkpoint.model.train(was_training)
    return score_global_row(split).mean_recall
