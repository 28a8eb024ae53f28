"""The files of a checkpoint of the family `clip`: any model that open_clip can build.

A checkpoint has `model.json`, the weights as safetensors, and the tokenizer as `tokenizer.json` of the library
tokenizers. `model.json` says where the weights are from, and which activation they were trained with and why.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal, get_args

from dove_core.errors import CheckpointError, UsageError
from dove_core.files import parse_record, read_json, record_values, write_json

FORMAT = 1
FAMILY = "clip"
CONFIG, WEIGHTS, TOKENIZER = "model.json", "model.safetensors", "tokenizer.json"
FILES = (WEIGHTS, CONFIG, TOKENIZER)
"""Files of a checkpoint, in the order in which the fingerprint covers them."""

TEXT_TOWER, TEXT_WEIGHTS = "text.onnx", "text.bin"
"""Files of a text side, besides configuration and tokenizer: the text tower, and its weights."""

HINT = "fetch the model again with `dove fetch NAME --overwrite`"
INSTALL = "install it with `pip install 'dove-eo[clip]'`"

Activation = Literal["quick-gelu", "gelu"]
Interpolation = Literal["bicubic", "bilinear"]
ResizeMode = Literal["shortest", "squash", "longest"]
Cleaning = Literal["lower", "whitespace", "canonicalize"]


@dataclass(frozen=True)
class ClipConfig:
    """What `model.json` says of a model of the family `clip`.

    Attributes:
        architecture: open_clip's name of the architecture, or a name for its configuration.
        model: the configuration of both towers, `model_cfg` in open_clip, without `quick_gelu`.
        activation: of the transformers' blocks: QuickGELU, `x * sigmoid(1.702 x)`, or the exact GELU.
        activation_reason: why it is this one.
        activation_verified: whether its authors or a measurement confirm it.
        image_size: side S of the model's input in pixels.
        mean: of the red, green and blue values between 0 and 1 that the model was trained on.
        std: their standard deviations.
        interpolation: how images are resized.
        resize_mode: `shortest` resizes the shortest side to S and cuts the middle square; `squash` resizes to S x S;
            `longest` resizes the longest side to S and pads.
        fill_color: value from 0 to 255 of the padding.
        context_length: tokens of a text that the model reads, with the first and last.
        clean: how a text is cleaned before it is cut into tokens: spaces only, `lower` case too, or `canonicalize`:
            lower case without punctuation.
        language_model: configuration of a text tower of the library transformers; empty if open_clip has its own.
        origin: where the weights are from.
        sha256: of the file that the weights are from; empty after training.
        licence: of the weights.
        caption_field: the field of captions that the model was trained on here; empty if it was not.
    """

    architecture: str
    model: dict[str, Any]
    activation: Activation
    activation_reason: str
    activation_verified: bool = True
    image_size: int = 224
    mean: list[float] = field(default_factory=lambda: [0.48145466, 0.4578275, 0.40821073])
    std: list[float] = field(default_factory=lambda: [0.26862954, 0.26130258, 0.27577711])
    interpolation: Interpolation = "bicubic"
    resize_mode: ResizeMode = "shortest"
    fill_color: int = 0
    context_length: int = 77
    clean: Cleaning = "lower"
    language_model: dict[str, Any] = field(default_factory=dict)
    origin: str = ""
    sha256: str = ""
    licence: str = ""
    caption_field: str = ""

    @property
    def dim(self) -> int:
        """Dimensions D of an embedding."""
        return int(self.model["embed_dim"])

    def open_clip_config(self) -> dict[str, Any]:
        """Return the content of `open_clip_config.json`, which open_clip loads a folder by."""
        preprocess = {
            "size": self.image_size, "mode": "RGB", "mean": self.mean, "std": self.std,
            "interpolation": self.interpolation, "resize_mode": self.resize_mode, "fill_color": self.fill_color,
        }  # fmt: skip
        return {
            "model_cfg": {**self.model, "quick_gelu": self.activation == "quick-gelu"},
            "preprocess_cfg": preprocess,
        }


def open_clip_library() -> Any:
    """Return the library open_clip, which imports torch.

    Raises:
        UsageError: it is not installed.
    """
    try:
        import open_clip  # noqa: PLC0415  # of an extra
    except ImportError as error:
        raise UsageError("CLIP models need the library open_clip", hint=INSTALL) from error
    return open_clip


def config_values(config: ClipConfig) -> dict[str, Any]:
    """Return the content of `model.json`."""
    values = record_values(config, FORMAT)
    return {"format": values.pop("format"), "family": FAMILY, **values}


def write_config(folder: Path, config: ClipConfig) -> None:
    """Write `model.json` into a folder."""
    write_json(folder / CONFIG, config_values(config))


def read_config(folder: Path) -> ClipConfig:
    """Read `model.json`.

    Raises:
        CheckpointError: the file is missing, damaged, of another format, or has a value that is not possible.
    """
    path = folder / CONFIG
    values = read_json(path, CheckpointError, hint=HINT)
    if isinstance(values, dict):
        values = {name: value for name, value in values.items() if name != "family"}
    config = parse_record(values, str(path), ClipConfig, FORMAT, CheckpointError, hint=HINT)
    if problem := _problem(config):
        raise CheckpointError(f"{path}: {problem}", hint=HINT)
    return config


def _problem(config: ClipConfig) -> str:
    """Return which value is not possible; "" if all are."""
    choices = {"activation": Activation, "interpolation": Interpolation, "resize_mode": ResizeMode, "clean": Cleaning}
    for name, kind in choices.items():
        if getattr(config, name) not in get_args(kind):
            return f"{name} {getattr(config, name)!r} is not one of {', '.join(get_args(kind))}"
    for name in ("image_size", "context_length"):
        if getattr(config, name) < 1:
            return f"{name} {getattr(config, name)} is less than 1"
    for name in ("mean", "std"):
        values = getattr(config, name)
        if len(values) != 3 or not all(isinstance(value, float | int) for value in values):
            return f"{name} is not three numbers"
    return "" if isinstance(config.model.get("embed_dim"), int) else "model.embed_dim is not a number"
