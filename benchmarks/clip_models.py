"""Checkpoints of open_clip's architectures with random weights, for benchmarks.

python -m benchmarks.clip_models models/small-vit    # a ViT that two cores train on RSICD within an hour
"""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import Any

import open_clip
import torch

from dove_core.encoding.clip_import import ModelSource, import_checkpoint

SMALL_VIT: dict[str, Any] = {
    "embed_dim": 192,
    "vision_cfg": {"image_size": 96, "layers": 4, "width": 192, "patch_size": 12, "head_width": 48},
    "text_cfg": {"context_length": 24, "vocab_size": 49408, "width": 192, "heads": 4, "layers": 3},
}


def random_checkpoint(
    folder: Path, architecture: str, *, quick_gelu: bool = False, config: dict[str, Any] | None = None
) -> Path:
    """Write a checkpoint of an architecture of open_clip, or of a configuration; return its folder."""
    torch.manual_seed(0)
    values = config or open_clip.get_model_config(architecture)
    folder.mkdir(parents=True, exist_ok=True)
    torch.save(open_clip.CLIP(**values | {"quick_gelu": quick_gelu}).state_dict(), folder / "weights.pt")
    source = ModelSource(architecture, quick_gelu, "random weights", config={"model_cfg": values})
    import_checkpoint(folder / "weights.pt", folder / "model", source)
    (folder / "weights.pt").unlink()
    return folder / "model"


def main() -> None:
    """Write the small ViT."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folder", type=Path)
    folder = parser.parse_args().folder
    made = random_checkpoint(folder.with_name(f"{folder.name}.making"), "small-vit", config=SMALL_VIT)
    made.rename(folder)
    made.parent.rmdir()


if __name__ == "__main__":
    main()
