"""Initial weights of the image trunk: pre-trained ones of its library, or a file with the library's names."""

from __future__ import annotations

import sys
from collections.abc import Mapping
from contextlib import redirect_stdout
from pathlib import Path
from typing import Any

import httpx
import torchvision
from torch import Tensor

from dove_core.encoding.tensor_files import EXPECTED, read_tensor_file
from dove_core.errors import CheckpointError, DownloadError
from dove_core.model.timm_trunk import TimmTrunk
from dove_core.model.trunk import Trunk
from dove_core.training.input_scaling import normalisation_for

_WRAPPERS = ("state_dict", "model", "teacher")
"""Entries of training checkpoints that have the weights."""

_COUNTER = "num_batches_tracked"
"""Batches that a batch norm has seen. Files of earlier versions of torch lack it, and our trunks do not use it."""


def load_initial_weights(trunk: Trunk, weights: str, scaling: str) -> None:
    """Load `imagenet`, a file, or nothing (`none`: random weights), and set the normalisation that belongs to them.

    Args:
        trunk: receives the weights.
        weights: `imagenet` stands for torchvision's ImageNet weights, or what timm has of a backbone of its own. A file
            has the names of torchvision or timm; a prefix that all have, such as `module.encoder_q.`, is left out, and
            so are a classifier and, if there is a prefix, tensors without it.
        scaling: a `TrainConfig.input_scaling`.

    Raises:
        DownloadError: the weights cannot be downloaded.
        UsageError: timm has no weights of the backbone.
        CheckpointError: the file is missing or damaged, or holds the weights of another backbone.
    """
    file = None if weights in ("none", "imagenet") else Path(weights)
    if weights != "none":
        _load(trunk, _pretrained(trunk) if file is None else _of_file(trunk, file), weights)
    trunk.normalisation = normalisation_for(scaling, file) or trunk.normalisation


def _load(trunk: Trunk, named: Mapping[str, Tensor], weights: str) -> None:
    own = trunk.state_dict()
    named = {**{name: value for name, value in own.items() if name.endswith(_COUNTER)}, **named}
    wrong = dict.fromkeys(named.keys() - own.keys(), "it is unknown")
    wrong |= dict.fromkeys(own.keys() - named.keys(), "it is missing")
    for name in named.keys() & own.keys():
        if named[name].shape != own[name].shape:
            wrong[name] = f"its shape is {tuple(named[name].shape)} instead of {tuple(own[name].shape)}"
    if wrong:
        first = min(wrong)
        message = f"--weights {weights}: {len(wrong)} tensors do not fit {trunk.name}, such as {first}: {wrong[first]}"
        hint = "give weights of the same --backbone for red, green and blue, with the names of torchvision or timm"
        raise CheckpointError(message, hint=hint)
    trunk.load_state_dict(named)


def _pretrained(trunk: Trunk) -> dict[str, Tensor]:
    """Return the weights of torchvision or timm from their caches, downloaded first if necessary."""
    try:
        with redirect_stdout(sys.stderr):  # torch.hub prints what it downloads; stdout is for results
            if isinstance(trunk, TimmTrunk):
                return trunk.download()
            weights = torchvision.models.get_model_weights(trunk.name).DEFAULT
            return trunk.own_names(weights.get_state_dict(progress=False, check_hash=True))
    except (OSError, RuntimeError, ValueError, httpx.HTTPError) as error:  # URLError is an OSError
        library = "timm" if isinstance(trunk, TimmTrunk) else "torchvision"
        message = f"pre-trained weights of {trunk.name} cannot be downloaded from {library}: {_first_line(error)}"
        hint = "go online once, give a downloaded file with --weights FILE, or train from scratch with --weights none"
        raise DownloadError(message, hint=hint) from error


def _of_file(trunk: Trunk, path: Path) -> dict[str, Tensor]:
    state = _read(path)
    prefix = _prefix(state, trunk.first_tensor)
    try:
        return trunk.own_names({k.removeprefix(prefix): v for k, v in state.items() if k.startswith(prefix)})
    except ValueError as error:
        hint = "give weights of the same --backbone, with timm's names"
        raise CheckpointError(f"--weights {path}: {error}", hint=hint) from error


def _prefix(state: Mapping[str, Tensor], name: str) -> str:
    """Return the shortest prefix of a tensor; of two encoders in one file (MoCo, DINO), that of the first."""
    found = [key.removesuffix(name) for key in state if key == name or key.endswith(f".{name}")]
    return min(found, key=len, default="")


def _read(path: Path) -> dict[str, Tensor]:
    content = read_tensor_file(path, option="--weights", hint="give imagenet, none, or a file")
    inner = [content] + [content[name] for name in _WRAPPERS if isinstance(content, dict) and name in content]
    state = next((one for one in inner if _is_state(one)), None)
    if state is None:
        raise CheckpointError(f"--weights {path} has no state_dict in it", hint=EXPECTED)
    return dict(state)


def _is_state(value: Any) -> bool:
    return isinstance(value, dict) and all(isinstance(one, Tensor) for one in value.values())


def _first_line(error: Exception) -> str:
    return next(iter(str(error).splitlines()), "") or type(error).__name__
