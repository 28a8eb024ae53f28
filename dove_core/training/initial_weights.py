"""Initial weights of the image trunk: torchvision's ImageNet weights, or a file with torchvision's names."""

from __future__ import annotations

import re
import sys
from contextlib import redirect_stdout
from pathlib import Path
from typing import Any
from urllib.error import URLError

import safetensors.torch
import torch
import torchvision
from safetensors import SafetensorError
from torch import Tensor

from dove_core.errors import CheckpointError, DownloadError, reason_of
from dove_core.model.backbone import Trunk


def load_initial_weights(trunk: Trunk, weights: str) -> None:
    """Load `imagenet`, a file with torchvision's names, or nothing (`none`: the trunk keeps its random weights).

    Raises:
        DownloadError: torchvision's weights cannot be downloaded.
        CheckpointError: the file is missing or damaged, or holds the weights of another backbone.
    """
    if weights == "none":
        return
    state = _imagenet(trunk.name) if weights == "imagenet" else _read(Path(weights))
    named = {_name_in_trunk(key): value for key, value in state.items() if not key.startswith("fc.")}
    own = trunk.state_dict()
    shapes = {key for key in named.keys() & own.keys() if named[key].shape != own[key].shape}
    if different := sorted((named.keys() ^ own.keys()) | shapes):
        message = f"--weights {weights}: {len(different)} tensors do not fit {trunk.name}, such as {different[0]}"
        raise CheckpointError(message, hint="give weights of the same --backbone, saved with torchvision's names")
    trunk.load_state_dict(named)


def _imagenet(backbone: str) -> dict[str, Tensor]:
    """Return torchvision's weights from its cache, downloaded first if necessary."""
    try:
        with redirect_stdout(sys.stderr):  # torch.hub prints what it downloads; stdout is for results
            weights = torchvision.models.get_model_weights(backbone).DEFAULT
            state: dict[str, Tensor] = weights.get_state_dict(progress=False, check_hash=True)
    except (URLError, OSError, RuntimeError) as error:
        hint = "go online once, give a downloaded file with --weights FILE, or train from scratch with --weights none"
        raise DownloadError(
            f"ImageNet weights of {backbone} cannot be downloaded from torchvision: {error}", hint=hint
        ) from error
    return state


def _read(path: Path) -> dict[str, Tensor]:
    try:
        if path.suffix == ".safetensors":
            return safetensors.torch.load_file(path)
        state: Any = torch.load(path, map_location="cpu", weights_only=True)
        if not isinstance(state, dict) or not all(isinstance(value, Tensor) for value in state.values()):
            raise ValueError("the file has no state_dict")
    except FileNotFoundError:
        raise CheckpointError(f"--weights {path} does not exist", hint="give imagenet, none, or a file") from None
    except (SafetensorError, OSError, RuntimeError, ValueError, EOFError) as error:
        hint = "expected a complete file of weights, saved by torch or safetensors"
        raise CheckpointError(f"--weights {path} cannot be read: {reason_of(error)}", hint=hint) from error
    except Exception as error:  # errors of the unpickler have no common base class
        message = f"--weights {path} is not a file of weights: {error}"
        raise CheckpointError(message, hint="save the model's state_dict") from error
    return dict(state)


def _name_in_trunk(key: str) -> str:
    """Return the name in `Trunk` of a tensor of torchvision's ResNet."""
    head, _, rest = key.partition(".")
    if re.fullmatch("layer[1-4]", head):
        return f"stages.{int(head[5:]) - 1}.{rest}"
    return {"conv1": "stem.0.", "bn1": "stem.1."}.get(head, head + ".") + rest
