"""The image trunk: torchvision's ResNet, giving the feature maps of its stages 2 to 5."""

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
from torch import Tensor, nn

from dove_core.errors import CheckpointError, DownloadError

STRIDES = (4, 8, 16, 32)


class Trunk(nn.Module):
    """A ResNet without its classifier.

    Call it with `(B, 3, S, S)` floats for four maps `(B, widths[k], S / STRIDES[k], S / STRIDES[k])`.
    """

    def __init__(self, name: str) -> None:
        super().__init__()
        resnet = getattr(torchvision.models, name)(weights=None)
        self.name = name
        self.stem = nn.Sequential(resnet.conv1, resnet.bn1, resnet.relu, resnet.maxpool)
        self.stages = nn.ModuleList([resnet.layer1, resnet.layer2, resnet.layer3, resnet.layer4])
        self.widths = tuple(width * (1 if name in ("resnet18", "resnet34") else 4) for width in (64, 128, 256, 512))
        self.frozen = False
        self.to(memory_format=torch.channels_last)  # convolutions are faster with it, on CPUs and on GPUs

    def forward(self, pixels: Tensor) -> list[Tensor]:
        """Return the maps of stages 2, 3, 4 and 5."""
        maps = [self.stem(pixels.contiguous(memory_format=torch.channels_last))]
        for stage in self.stages:
            maps.append(stage(maps[-1]))  # each stage reads the one before
        return maps[1:]

    def freeze(self) -> None:
        """Stop weights and batch-norm statistics for good."""
        self.frozen = True
        self.requires_grad_(False)
        self.eval()

    def unfreeze(self) -> None:
        """Let weights and batch-norm statistics move again."""
        self.frozen = False
        self.requires_grad_(True)
        self.train()

    def train(self, mode: bool = True) -> Trunk:
        """Switch to training, unless frozen: statistics of a frozen batch norm must not move."""
        return super().train(mode and not self.frozen)

    def load(self, weights: str) -> None:
        """Start from `imagenet`, from `none` (as initialised), or from a file in torchvision's naming.

        Raises:
            DownloadError: torchvision's weights cannot be fetched.
            CheckpointError: the file is missing, damaged, or of another trunk.
        """
        if weights == "none":
            return
        state = self._imagenet() if weights == "imagenet" else self._read(Path(weights))
        named = {_own_name(key): value for key, value in state.items() if not key.startswith("fc.")}
        own = self.state_dict()
        odd = sorted(named.keys() ^ own.keys()) + [
            k for k in named.keys() & own.keys() if named[k].shape != own[k].shape
        ]
        if odd:
            message = f"the weights {weights} do not fit {self.name}: {len(odd)} tensors differ, {odd[0]} among them"
            raise CheckpointError(message, hint="give weights of the same --backbone, saved under torchvision's names")
        self.load_state_dict(named)

    def _imagenet(self) -> dict[str, Tensor]:
        try:
            with redirect_stdout(sys.stderr):  # where torch.hub says what it downloads is not the data's place
                state: dict[str, Tensor] = torchvision.models.get_model_weights(self.name).DEFAULT.get_state_dict(
                    progress=False, check_hash=True
                )
        except (URLError, OSError, RuntimeError) as error:
            hint = (
                "connect once, or give a downloaded file with --weights FILE, or start from scratch with --weights none"
            )
            raise DownloadError(
                f"torchvision's ImageNet weights of {self.name} cannot be had: {error}", hint=hint
            ) from error
        return state

    @staticmethod
    def _read(path: Path) -> dict[str, Tensor]:
        try:
            if path.suffix == ".safetensors":
                return safetensors.torch.load_file(path)
            state: Any = torch.load(path, map_location="cpu", weights_only=True)
            if not isinstance(state, dict) or not all(isinstance(value, Tensor) for value in state.values()):
                raise ValueError("it holds no state_dict")
        except FileNotFoundError:
            raise CheckpointError(f"--weights {path} does not exist", hint="imagenet, none, or a file") from None
        except (SafetensorError, OSError, RuntimeError, ValueError, EOFError) as error:
            raise CheckpointError(f"--weights {path} cannot be read: {error}", hint="is the file complete?") from error
        except Exception as error:  # the unpickler's own errors share no base class
            raise CheckpointError(
                f"--weights {path} is not a file of weights: {error}", hint="save a state_dict"
            ) from error
        return dict(state)


def _own_name(key: str) -> str:
    head, _, rest = key.partition(".")
    if re.fullmatch("layer[1-4]", head):
        return f"stages.{int(head[5:]) - 1}.{rest}"
    return {"conv1": "stem.0.", "bn1": "stem.1."}.get(head, head + ".") + rest
