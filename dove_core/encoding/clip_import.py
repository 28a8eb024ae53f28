"""From a file of weights that others published to a checkpoint of the family `clip`."""

from __future__ import annotations

import copy
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from dove_core.encoding.clip import build_model, save_clip
from dove_core.encoding.clip_config import ClipConfig, open_clip_library
from dove_core.encoding.clip_tokenizer import write_clip_tokenizer
from dove_core.encoding.tensor_files import EXPECTED, read_tensor_file
from dove_core.errors import CheckpointError, UsageError
from dove_core.files import atomic_folder, sha256_of

_NAMED = 5
_LONG = ("positional_embedding_res", "text.positional_embedding_res")
_TEXT_POSITIONS = ("positional_embedding", "text.positional_embedding")


@dataclass(frozen=True)
class ModelSource:
    """What is known of a file of weights.

    Attributes:
        architecture: a name that open_clip knows; "" if `config` has the whole configuration.
        quick_gelu: whether the blocks have QuickGELU, not GELU; None: as `config` says.
        reason: why.
        is_verified: whether the authors or a measurement confirm it.
        origin: where the file is from.
        licence: of the weights.
        config: content of an `open_clip_config.json`; empty: open_clip's own of `architecture`.
        preprocess: mean, std, interpolation and resize mode that differ from the configuration's.
        tokenizer: the model's `tokenizer.json`; None: that of CLIP, which comes with open_clip.
        language_model: configuration of a text tower of the library transformers.
    """

    architecture: str
    quick_gelu: bool | None
    reason: str
    is_verified: bool = True
    origin: str = ""
    licence: str = ""
    config: Mapping[str, Any] = field(default_factory=dict)
    preprocess: Mapping[str, Any] = field(default_factory=dict)
    tokenizer: Path | None = None
    language_model: Mapping[str, Any] = field(default_factory=dict)

    def model_config(self) -> dict[str, Any]:
        """Return a copy of the configuration of both towers, open_clip's `model_cfg`.

        Raises:
            UsageError: open_clip is not installed, or does not know the architecture.
        """
        known = self.config.get("model_cfg") or open_clip_library().get_model_config(self.architecture)
        if not known:
            hint = "choose one of open_clip's, such as --architecture ViT-B-32"
            raise UsageError(f"open_clip does not know the architecture {self.architecture!r}", hint=hint)
        return copy.deepcopy(dict(known))


def import_checkpoint(file: Path, folder: Path, source: ModelSource) -> ClipConfig:
    """Write a checkpoint into `folder`, which is replaced when it is complete, and return its configuration.

    Only tensors are read. Optimizer states are left out, and the prefix `module.` of parallel training.

    Raises:
        CheckpointError: the file is not a file of tensors, or they do not fit the architecture.
        UsageError: open_clip is not installed, or the activation is not known.
        SpaceError: the disk is full.
    """
    config = _config_of(source, sha256_of(file))
    with torch.device("meta"):  # names and shapes alone, in no memory
        model = build_model(config)
    weights = _fitting(model, read_weights(file), file, config)
    with atomic_folder(folder) as aside:
        tokenizer = source.tokenizer
        if tokenizer is None:
            tokenizer = aside / "clip-tokenizer.json"
            write_clip_tokenizer(tokenizer)
        save_clip(aside, weights, config, tokenizer.read_bytes())
        (aside / "clip-tokenizer.json").unlink(missing_ok=True)
    return config


def read_weights(file: Path) -> dict[str, Tensor]:
    """Read the tensors of a model from a file of safetensors or of torch; code in a file is never run.

    Raises:
        CheckpointError: the file is missing, damaged, or has anything else than tensors.
    """
    content = read_tensor_file(file)
    weights = content.get("state_dict", content) if isinstance(content, dict) else content
    if not isinstance(weights, Mapping) or not weights:
        raise CheckpointError(f"{file} has no weights in it", hint=EXPECTED)
    if all(str(name).startswith("module.") for name in weights):
        weights = {name.removeprefix("module."): value for name, value in weights.items()}
    odd = [str(name) for name, value in weights.items() if not isinstance(value, Tensor)]
    if odd:
        raise CheckpointError(f"{file} has values that are not tensors: {_listed(odd)}", hint=EXPECTED)
    return dict(weights)


def _config_of(source: ModelSource, sha256: str) -> ClipConfig:
    model = source.model_config()
    own = model.pop("quick_gelu", None)
    quick_gelu = source.quick_gelu if source.quick_gelu is not None else own
    if quick_gelu is None and not source.config:
        hint = "say it with --quick-gelu or --no-quick-gelu; `dove eval` with both shows which one is right"
        raise UsageError(f"the activation of {source.origin or 'the model'} is not known", hint=hint)
    text = model["text_cfg"]
    kwargs = text.get("tokenizer_kwargs") or {}
    if text.get("tokenizer_mode") or any(value for name, value in kwargs.items() if name != "clean"):
        message = f"{source.architecture or source.origin} needs a tokenizer that dove does not have"
        raise CheckpointError(message, hint="choose a model with the tokenizer of CLIP, SigLIP or a plain one")
    size = model["vision_cfg"].get("image_size", 224)
    image = {"size": size, **(source.config.get("preprocess_cfg") or {}), **source.preprocess}
    if not isinstance(image["size"], int):
        image["size"] = image["size"][0]
    plain = "whitespace" if text.get("hf_tokenizer_name") else "lower"
    values = {
        name: image[name] for name in ("interpolation", "resize_mode", "fill_color") if image.get(name) is not None
    }
    values |= {name: list(image[name]) for name in ("mean", "std") if image.get(name) is not None}
    return ClipConfig(
        source.architecture or source.origin, model, "quick-gelu" if quick_gelu else "gelu", source.reason,
        source.is_verified, image_size=image["size"], context_length=text.get("context_length", 77),
        clean=kwargs.get("clean", plain), language_model=dict(source.language_model), origin=source.origin,
        sha256=sha256, licence=source.licence, **values,
    )  # fmt: skip


def _fitting(model: nn.Module, weights: dict[str, Tensor], file: Path, config: ClipConfig) -> dict[str, Tensor]:
    """Return weights under the names of a model; names and shapes must be those of the architecture."""
    from open_clip.convert import convert_state_dict  # noqa: PLC0415  # of an extra
    from open_clip.model import convert_to_custom_text_state_dict  # noqa: PLC0415

    positions = next((weights[name] for name in _TEXT_POSITIONS if name in weights), None)
    if any(name in weights for name in _LONG) or (positions is not None and len(positions) > config.context_length):
        length = "" if positions is None else f" of {len(positions)} tokens"
        message = f"{file} is a Long-CLIP model{length}: its text tower is not one that open_clip can build"
        raise CheckpointError(message, hint=f"choose a model that reads {config.context_length} tokens")
    weights = convert_state_dict(model, weights)
    if hasattr(model, "text"):
        weights = convert_to_custom_text_state_dict(weights)
    own = model.state_dict()
    for name in ("logit_scale", "logit_bias"):
        if name in own and name in weights:
            weights[name] = weights[name].reshape(own[name].shape)
    weights.pop("text.transformer.embeddings.position_ids", None)
    problems = {
        "lacks": [name for name in own if name not in weights],
        "has unknown": [name for name in weights if name not in own],
        "has other shapes of": [name for name in own if name in weights and weights[name].shape != own[name].shape],
    }
    found = "; ".join(f"{what} {_listed(names)}" for what, names in problems.items() if names)
    if found:
        hint = "choose the architecture that the weights belong to with --architecture"
        raise CheckpointError(f"{file} does not fit {config.architecture}: it {found}", hint=hint)
    return weights


def _listed(names: list[str]) -> str:
    more = f" and {len(names) - _NAMED} more" if len(names) > _NAMED else ""
    return ", ".join(names[:_NAMED]) + more
