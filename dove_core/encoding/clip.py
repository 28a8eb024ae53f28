"""A model of the family `clip` as an `Encoder`, computed by open_clip, and the files of its checkpoints."""

from __future__ import annotations

import json
import tempfile
import warnings
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import safetensors.torch
import torch
from safetensors import SafetensorError
from torch import Tensor, nn
from torch.nn.functional import normalize
from torch.overrides import TorchFunctionMode

from dove_core.encoding.clip_config import (
    CONFIG,
    FAMILY,
    HINT,
    INSTALL,
    TEXT_TOWER,
    TEXT_WEIGHTS,
    TOKENIZER,
    WEIGHTS,
    ClipConfig,
    open_clip_library,
    read_config,
    write_config,
)  # fmt: skip
from dove_core.encoding.clip_padding import encode_short_texts, ignores_padding
from dove_core.encoding.clip_preprocess import ClipPreprocess
from dove_core.encoding.clip_relevance import relevance
from dove_core.encoding.clip_tokenizer import ClipTokenizer
from dove_core.errors import CheckpointError, UsageError, reason_of

_TEXTS_AT_ONCE = 256
_OPSET = 17
_RANDOM = (Tensor.normal_, Tensor.uniform_, Tensor.erfinv_)


class ClipEncoder:
    """An `Encoder` and `Explainer`: the image tower and the text tower of open_clip.

    A model that is in training has no `fingerprint`.
    """

    family, reranker = FAMILY, None

    def __init__(self, model: nn.Module, config: ClipConfig, tokenizer: ClipTokenizer, fingerprint: str = "") -> None:
        self.model: Any = model
        self.config, self.dim, self.fingerprint = config, config.dim, fingerprint
        self.caption_field = config.caption_field
        self.preprocess = ClipPreprocess(config)
        self.tokenizer = tokenizer

    @property
    def explainer(self) -> ClipEncoder:
        """The encoder itself, with maps by gradients."""
        return self

    @property
    def is_convolutional(self) -> bool:
        """Tell whether images are encoded by convolutions; a transformer has one, for its patches."""
        return sum(isinstance(module, nn.Conv2d) for module in self.model.visual.modules()) > 1

    @property
    def _device(self) -> torch.device:
        device: torch.device = next(self.model.parameters()).device
        return device

    def to(self, device: torch.device) -> None:
        """Move the weights to a device."""
        self.model.to(device)

    def encode_images(self, pixels: Tensor) -> Tensor:
        """Return the embeddings `(B, D)` float32 of length 1 of images `(B, 3, S, S)`, normalised."""
        return normalize(self.model.encode_image(pixels).float(), dim=-1)

    def encode_texts(self, texts: Sequence[str]) -> Tensor:
        """Return the embeddings `(C, D)` float32 of length 1 of texts."""
        whole, blocks = not ignores_padding(self.model), list[Tensor]()
        for start in range(0, len(texts), _TEXTS_AT_ONCE):
            tokens = self.tokenizer.encode(texts[start : start + _TEXTS_AT_ONCE], whole=whole)
            blocks.append(encode_short_texts(self.model, torch.from_numpy(tokens).to(self._device)))
        return normalize(torch.cat(blocks).float(), dim=-1)

    def relevance(self, pixels: Tensor, texts: Sequence[str]) -> Tensor:
        """Return where images `(B, 3, S, S)` have what texts describe: maps `(B, C, g, g)`, see `clip_relevance`.

        Raises:
            UsageError: the image tower has neither attention over patches nor feature maps.
        """
        return relevance(self.model, pixels, self.encode_texts(texts))

    def save_text_side(self, folder: Path) -> None:
        """Write the text tower as ONNX with its weights beside it, the configuration and the tokenizer.

        Raises:
            UsageError: the library onnx is not installed.
        """
        write_config(folder, self.config)
        (folder / TOKENIZER).write_bytes(self.tokenizer.content)
        device = self._device
        self.model.cpu()
        try:
            _export_text_tower(self.model, torch.from_numpy(self.tokenizer.encode([""])), folder, self.fingerprint)
        finally:
            self.model.to(device)


def load_clip(folder: Path, fingerprint: str = "") -> ClipEncoder:
    """Load a checkpoint on the CPU, in evaluation mode.

    Raises:
        CheckpointError: a file is missing, damaged, or does not match the others.
        UsageError: open_clip is not installed.
    """
    config = read_config(folder)
    with _Uninitialised():
        model = build_model(config)
    try:
        model.load_state_dict(safetensors.torch.load_file(folder / WEIGHTS))
    except (SafetensorError, OSError, RuntimeError) as error:
        message = f"{folder / WEIGHTS} cannot be read: {reason_of(error).splitlines()[0]}"
        raise CheckpointError(message, hint=HINT) from error
    return ClipEncoder(model.eval(), config, ClipTokenizer(folder, config), fingerprint)


def save_clip(folder: Path, weights: Mapping[str, Tensor], config: ClipConfig, tokenizer: bytes) -> None:
    """Write weights, configuration and tokenizer into an existing folder, best within `files.atomic_folder`."""
    (folder / TOKENIZER).write_bytes(tokenizer)
    write_config(folder, config)
    safetensors.torch.save_file(_apart(weights), folder / WEIGHTS)
    _make_readable(folder, WEIGHTS)


def _apart(weights: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Return tensors on the CPU of which no two share memory, as safetensors needs them."""
    found, seen = dict[str, Tensor](), set[int]()
    for name, value in weights.items():
        value = value.detach().cpu().contiguous()
        if value.untyped_storage().nbytes() != value.nbytes or value.data_ptr() in seen:
            value = value.clone()
        seen.add(value.data_ptr())
        found[name] = value
    return found


def _make_readable(folder: Path, name: str) -> None:
    """Give a file the permissions of the others: some libraries write files that only the owner can read."""
    (folder / name).chmod((folder / CONFIG).stat().st_mode)


def build_model(config: ClipConfig) -> nn.Module:
    """Return a model with random weights.

    Raises:
        CheckpointError: open_clip cannot build the model that `config` describes.
        UsageError: open_clip is not installed.
    """
    open_clip = open_clip_library()
    values: dict[str, Any] = json.loads(json.dumps(config.open_clip_config()["model_cfg"]))
    if "multimodal_cfg" in values:
        message = f"{config.architecture} also writes captions (CoCa), which is not supported"
        raise CheckpointError(message, hint="choose an architecture with an image and a text tower only")
    values["vision_cfg"]["timm_model_pretrained"] = False  # the weights come from the checkpoint, not from a server
    is_custom = values.pop("custom_text", False) or bool(config.language_model)
    with tempfile.TemporaryDirectory(prefix="dove-") as folder:
        if config.language_model:
            (Path(folder) / "config.json").write_text(json.dumps(config.language_model))
            values["text_cfg"] |= {"hf_model_name": folder, "hf_model_pretrained": False}
        try:
            model: nn.Module = (open_clip.CustomTextCLIP if is_custom else open_clip.CLIP)(**values)
        except (TypeError, ValueError, RuntimeError, KeyError, OSError) as error:
            message = f"open_clip cannot build {config.architecture}: {error}"
            raise CheckpointError(
                message, hint="is open_clip new enough? try `pip install -U open-clip-torch`"
            ) from error
    return model


class _Uninitialised(TorchFunctionMode):
    """Leaves out the random numbers of a new model: its weights are read from a file anyway."""

    def __torch_function__(self, func: Any, types: Any, args: Sequence[Any] = (), kwargs: Any = None) -> Any:
        """Compute a function of torch, or return the tensor that it would fill."""
        return args[0] if func in _RANDOM and args else func(*args, **(kwargs or {}))


class _TextTower(nn.Module):
    """The text tower alone: tokens `(1, L)` to the embedding `(1, D)` of length 1."""

    def __init__(self, model: Any) -> None:
        super().__init__()
        self.model = model

    def forward(self, tokens: Tensor) -> Tensor:
        """Encode a text."""
        return normalize(self.model.encode_text(tokens), dim=-1)


def _export_text_tower(model: nn.Module, tokens: Tensor, folder: Path, fingerprint: str) -> None:
    """Write `text.onnx`, and its weights as `text.bin`, which onnxruntime maps into memory."""
    try:
        import onnx  # noqa: PLC0415  # of an extra
    except ImportError as error:
        raise UsageError("an index of a CLIP model needs the library onnx", hint=INSTALL) from error
    with tempfile.TemporaryDirectory(prefix="dove-", dir=folder) as aside, warnings.catch_warnings():
        warnings.simplefilter("ignore")  # the exporter warns of itself, and of shapes that are constant here
        path = Path(aside) / TEXT_TOWER
        with torch.enable_grad():  # without gradients, torch takes a fused attention that cannot be exported
            torch.onnx.export(
                _TextTower(model).eval(), (tokens,), str(path), opset_version=_OPSET, dynamo=False,
                input_names=["tokens"], output_names=["embedding"],
            )  # fmt: skip
        exported = onnx.load(str(path))
    fact = exported.metadata_props.add()
    fact.key, fact.value = "fingerprint", fingerprint
    onnx.save_model(
        exported, str(folder / TEXT_TOWER),
        save_as_external_data=True, all_tensors_to_one_file=True, location=TEXT_WEIGHTS, size_threshold=1024,
    )  # fmt: skip
    _make_readable(folder, TEXT_WEIGHTS)
