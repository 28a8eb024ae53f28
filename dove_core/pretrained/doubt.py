"""The note about a checkpoint whose activation is not verified."""

from __future__ import annotations

from pathlib import Path

from dove_core.encoding.clip_config import CONFIG, FAMILY
from dove_core.errors import CheckpointError
from dove_core.files import read_json


def doubt_about(folder: Path) -> str:
    """Return a note about the activation of a checkpoint and how to find out; "" if it is verified, or has none.

    Raises:
        CheckpointError: `model.json` is missing or damaged.
    """
    card = read_json(folder / CONFIG, CheckpointError, hint="fetch or train it again")
    if not isinstance(card, dict) or card.get("family") != FAMILY or card.get("activation_verified", True):
        return ""
    name, other = ("GELU", "--quick-gelu") if card.get("activation") == "gelu" else ("QuickGELU", "--no-quick-gelu")
    return (
        f"{folder}: it is not verified that its activation is {name} ({card.get('activation_reason', '')}). To find "
        f"out, fetch the model with {other} and another --out too, and run `dove eval` with both checkpoints on images "
        "with captions: the right one has the higher recall"
    )
