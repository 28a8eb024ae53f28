"""Models of timm as image trunks."""

from __future__ import annotations

import difflib
import sys
from collections.abc import Mapping, Sequence
from typing import Any

import torch
from torch import Tensor, nn

from dove_core.errors import UsageError
from dove_core.model.normalisation import Normalisation
from dove_core.model.trunk import MapShape, Trunk

PREFIX = "timm:"
"""Begins a `ModelConfig.backbone` that is a model of timm."""

_INSTALL = "install it with `pip install 'dove-eo[timm]'`"
_MAPS = 4


class TimmTrunk(Trunk):
    """A model of timm without its classifier.

    It returns the maps of its last four stages; of a plain vision transformer, whose maps all have one size, those of
    four layers at equal distances, the last among them.
    """

    def __init__(self, name: str, size: int) -> None:
        super().__init__()
        library, model = _library(), name.removeprefix(PREFIX)
        config = _config_of(library, model)
        try:
            self.name, self.net, self._indices, self.shapes = name, *_open(library, model, config, size)
        except Exception as error:  # timm's models check the size in many ways
            raise _refusal(library, model, config, size, error) from error
        self.first_tensor = next(iter(self.net.state_dict()))
        self._size, self.normalisation = size, Normalisation(tuple(config.mean), tuple(config.std))
        self.to(memory_format=torch.channels_last)

    def forward(self, pixels: Tensor) -> list[Tensor]:
        """Return the maps, also of models that compute with channels last."""
        return _maps(self.net, self._indices, pixels.contiguous(memory_format=torch.channels_last))

    def own_names(self, state: Mapping[str, Tensor]) -> dict[str, Tensor]:
        """Rename tensors of timm, or of the authors if timm can convert them; layers without use are left out.

        Positions of a vision transformer for another image size are interpolated, as timm does.

        Raises:
            ValueError: timm cannot convert the tensors.
        """
        library, model = _library(), self.name.removeprefix(PREFIX)
        whole = _create(library, model, _config_of(library, model), self._size)
        convert = getattr(sys.modules[type(whole).__module__], "checkpoint_filter_fn", None)
        try:
            named = convert(dict(state), whole) if convert else state
        except Exception as error:  # of a file of another model, in many ways
            raise ValueError(f"timm cannot convert it for {model}: {_reason(error)}") from error
        unused = whole.state_dict().keys() - self.net.state_dict().keys()
        return {f"net.{key}": value for key, value in named.items() if key not in unused}

    def download(self) -> dict[str, Tensor]:
        """Return timm's pre-trained weights under this trunk's names, from the cache of the Hub's client if there.

        Raises:
            UsageError: timm has no weights of this model.
            OSError, RuntimeError, ValueError, httpx.HTTPError: they cannot be downloaded.
        """
        library, model = _library(), self.name.removeprefix(PREFIX)
        config = _config_of(library, model)
        if not config.has_weights:
            hint = "give a file with --weights FILE, or train from scratch with --weights none"
            raise UsageError(f"timm has no pre-trained weights of {model}", hint=hint)
        whole = _create(library, model, config, self._size, pretrained=True, num_classes=0)
        return {f"net.{key}": value for key, value in whole.state_dict().items() if key in self.net.state_dict()}


def _library() -> Any:
    try:
        import timm  # noqa: PLC0415  # of an extra
    except ImportError as error:
        raise UsageError(f"--backbone {PREFIX}... needs the library timm", hint=_INSTALL) from error
    return timm


def _config_of(library: Any, model: str) -> Any:
    """Return timm's facts about a model and its weights.

    Raises:
        UsageError: timm does not know the name.
    """
    try:
        config = library.get_pretrained_cfg(model)
    except RuntimeError:  # the tag after the dot is wrong
        config = None
    if config is None:
        names = [*library.list_models(), *library.list_pretrained()]
        close = ", ".join(PREFIX + name for name in difflib.get_close_matches(model, names))
        hint = f"close names: {close}" if close else "see timm.list_models() for all names"
        raise UsageError(f"--backbone {PREFIX}{model}: timm {library.__version__} does not know the model", hint=hint)
    return config


def _create(library: Any, model: str, config: Any, size: int, **options: Any) -> Any:
    """Make a whole model; one that is made for one input size is made for `size`."""
    sized = {"img_size": size} if config.fixed_input_size else {}
    return library.create_model(model, **sized, **options)


def _open(library: Any, model: str, config: Any, size: int) -> tuple[nn.Module, list[int], tuple[MapShape, ...]]:
    """Return a model without its classifier, the layers that give the maps, and the shapes of the maps."""
    net = _create(library, model, config, size, num_classes=0)
    layers = [(info["num_chs"], info["reduction"]) for info in net.feature_info]
    chosen = _choose([stride for _, stride in layers])
    indices: list[int] = list(net.prune_intermediate_layers(chosen, prune_norm=True))
    with torch.no_grad():
        maps = _maps(net.eval(), indices, torch.zeros(1, 3, size, size))
    net.train()
    sides = [found.shape[-1] for found in maps]
    shapes = tuple(MapShape(*layers[index], side) for index, side in zip(chosen, sides, strict=True))
    if [tuple(found.shape[1:]) for found in maps] != [(width, side, side) for width, _, side in shapes]:
        raise ValueError("its maps are not those that timm describes")
    if config.fixed_input_size and shapes[0].stride * shapes[0].side < size:
        raise ValueError("its patches do not cover the image")
    return net, indices, shapes


def _choose(strides: Sequence[int]) -> list[int]:
    """Return the layers whose maps are used."""
    count = len(strides)
    last = list(range(max(0, count - _MAPS), count))
    if len({strides[index] for index in last}) > 1:
        return last
    return sorted({-(-count * (k + 1) // _MAPS) - 1 for k in range(_MAPS)})


def _maps(net: Any, indices: Sequence[int], pixels: Tensor) -> list[Tensor]:
    maps: list[Tensor] = net.forward_intermediates(pixels, indices=indices, output_fmt="NCHW", intermediates_only=True)
    return maps


def _refusal(library: Any, model: str, config: Any, size: int, error: Exception) -> UsageError:
    """Return why a model cannot be used, and a size that works if there is one."""
    for other in (max(32, size // 32 * 32), config.input_size[-1]):
        try:
            _open(library, model, config, other)
        except Exception:  # as in the caller
            continue
        message = f"--backbone {PREFIX}{model} takes no images of {size} pixels: {_reason(error)}"
        return UsageError(message, hint=f"use --image-size {other}")
    hint = f"choose a backbone with feature maps, such as {PREFIX}convnext_tiny"
    return UsageError(f"--backbone {PREFIX}{model} has no maps that dove can use: {_reason(error)}", hint=hint)


def _reason(error: Exception) -> str:
    return next(iter(str(error).splitlines()), "") or type(error).__name__
