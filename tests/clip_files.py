"""Files with weights in the exact layouts of published models, with tiny towers and random weights."""

from __future__ import annotations

import io
import zipfile
from typing import Any

import open_clip
import pytest
import torch

from tests.clip_models import TEXT, random_model


def _vit(patch: int, **more: Any) -> dict[str, Any]:
    vision = {"image_size": 32, "layers": 2, "width": 64, "head_width": 32, "patch_size": patch, **more}
    return {"embed_dim": 32, "vision_cfg": vision, "text_cfg": dict(TEXT)}


TINY = {
    "ViT-B-32": _vit(16),
    "ViT-B-16": _vit(8),
    "ViT-L-14": _vit(16, layers=3),
    "RN50": {
        "embed_dim": 32,
        "vision_cfg": {"image_size": 32, "layers": [1, 1, 1, 1], "width": 8, "patch_size": None},
        "text_cfg": dict(TEXT),
    },
}
"""Small configurations under open_clip's names."""


def make_architectures_small(patch: pytest.MonkeyPatch) -> None:
    """Have open_clip build small towers under the names of the published ones."""
    for name, config in TINY.items():
        patch.setitem(open_clip.factory._MODEL_CONFIGS, name, config)


def tiny_model(architecture: str, quick_gelu: bool) -> Any:
    """Build a small model of an architecture with random weights."""
    return random_model(TINY[architecture], quick_gelu=quick_gelu)


def plain_file(model: torch.nn.Module) -> bytes:
    """Return a state dict in a file, as RemoteCLIP and GeoRSCLIP have it."""
    stream = io.BytesIO()
    torch.save(model.state_dict(), stream)
    return stream.getvalue()


def training_file(model: torch.nn.Module) -> bytes:
    """Return a checkpoint of distributed training with its optimizer, as SkyCLIP has it."""
    optimizer = torch.optim.AdamW(model.parameters(), lr=0.0)
    for parameter in model.parameters():
        parameter.grad = torch.zeros_like(parameter)
    optimizer.step()
    state = {f"module.{name}": tensor for name, tensor in model.state_dict().items()}
    stream = io.BytesIO()
    torch.save({"epoch": 20, "name": "SkyCLIP", "state_dict": state, "optimizer": optimizer.state_dict()}, stream)
    return stream.getvalue()


def skyclip_zip(stem: str, model: torch.nn.Module) -> bytes:
    """Return the zip in SkyScript's bucket."""
    stream = io.BytesIO()
    with zipfile.ZipFile(stream, "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr(f"{stem}/", b"")
        archive.writestr(f"{stem}/epoch_20.pt", training_file(model))
        archive.writestr(f"__MACOSX/{stem}/._epoch_20.pt", b"Mac OS X")
    return stream.getvalue()
