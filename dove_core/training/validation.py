"""Score of a model on the validation split, by which `best/` is chosen."""

from __future__ import annotations

from dove_core.config import ComputeConfig
from dove_core.data.reader import Shards
from dove_core.encoding.embedder import Embedder
from dove_core.encoding.encoder import Encoder
from dove_core.evaluation.encode import encode_split
from dove_core.evaluation.rows import score_global_row
from dove_core.places import Place


def mean_recall(encoder: Encoder, folder: Place, compute: ComputeConfig, batch_size: int) -> float:
    """Return the mean recall of the global scores."""
    split = encode_split(Embedder(encoder, compute), Shards(folder), batch_size=batch_size)
    return score_global_row(split).mean_recall
