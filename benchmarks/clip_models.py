"""Checkpoints of open_clip's architectures with random weights, for benchmarks."""

from __future__ import annotations

from pathlib import Path

import open_clip
import torch

from dove_core.encoding.clip_import import ModelSource, import_checkpoint


def random_checkpoint(folder: Path, architecture: str, *, quick_gelu: bool = False) -> Path:
    """Write a checkpoint of an architecture of open_clip; return its folder."""
    torch.manual_seed(0)
    model = open_clip.CLIP(**open_clip.get_model_config(architecture) | {"quick_gelu": quick_gelu})
    torch.save(model.state_dict(), folder / "weights.pt")
    import_checkpoint(folder / "weights.pt", folder / "model", ModelSource(architecture, quick_gelu, "random weights"))
    (folder / "weights.pt").unlink()
    return folder / "model"
