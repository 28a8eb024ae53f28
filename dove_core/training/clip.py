"""A CLIP model in training, with the loss that it was trained with."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Sequence
from pathlib import Path
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn
from torch.nn.functional import normalize
from torch.nn.modules.batchnorm import _BatchNorm

from dove_core.config import FineTuneConfig, TrainConfig
from dove_core.encoding.clip import ClipEncoder, save_clip
from dove_core.encoding.clip_padding import encode_short_texts, ignores_padding
from dove_core.encoding.clip_preprocess import ClipPreprocess
from dove_core.encoding.clip_tokenizer import ClipTokenizer
from dove_core.encoding.preprocess import jitter
from dove_core.errors import UsageError
from dove_core.training.batches import Batch
from dove_core.training.clip_layers import freeze, parameter_groups
from dove_core.training.gathered import gathered_scores
from dove_core.training.losses import infonce
from dove_core.training.trainable import Gather

_LARGEST_SCALE = math.log(100)


class ClipLosses(NamedTuple):
    """The loss, and the scale of the scores in it: the inverse of a temperature."""

    loss: Tensor
    logit_scale: Tensor


class ClipObjective(nn.Module):
    """InfoNCE over the images and captions of all processes, with the learned scale of the model.

    Captions of the same image, and equal captions, are not negatives.
    """

    def __init__(self, model: nn.Module, preprocess: ClipPreprocess, colours: float, gather: Gather) -> None:
        super().__init__()
        self.model: Any = model
        self._preprocess, self._jitter, self._gather = preprocess, colours, gather

    def forward(self, batch: Batch, counts: Sequence[int]) -> ClipLosses:
        """Return the loss of a batch; `counts` are the numbers of images of all processes in this step."""
        pixels = jitter(batch.pixels, self._jitter) if self._jitter else batch.pixels
        images = normalize(self.model.encode_image(self._preprocess.normalise(pixels)).float(), dim=-1)
        texts = normalize(encode_short_texts(self.model, batch.tokens).float(), dim=-1)
        scores, negative = gathered_scores(images, texts, batch, counts, self._gather)
        scale = self.model.logit_scale.exp()
        return ClipLosses(infonce(scores, negative, temperature=1 / scale), scale.detach())


@dataclasses.dataclass(frozen=True)
class ClipTokens:
    """Turns one caption into tokens, padded to the model's length if it has to be `whole`."""

    tokenizer: ClipTokenizer
    whole: bool

    def encode(self, text: str) -> list[int]:
        """Return the tokens of a caption, cut to the model's length."""
        tokens: list[int] = self.tokenizer.encode([text], whole=self.whole)[0].tolist()
        return tokens


class ClipTrainable:
    """A `Trainable`: a model of open_clip.

    Raises:
        UsageError: a tower has fewer blocks than are to be frozen, nothing is left to train, or open_clip has no
            gradient checkpointing for the image tower.
    """

    figures = ClipLosses._fields

    def __init__(self, encoder: ClipEncoder, training: TrainConfig, tuning: FineTuneConfig, gather: Gather) -> None:
        self._encoder, self._layer_decay = encoder, tuning.layer_decay
        self.model, self.image_size = encoder.model, encoder.config.image_size
        self.tokenizer = ClipTokens(encoder.tokenizer, whole=not ignores_padding(self.model))
        self.objective = ClipObjective(self.model, encoder.preprocess, training.jitter, gather)
        freeze(self.model, tuning)
        self._set_checkpointing(tuning)
        self.after_step()
        self.train()

    def train(self) -> None:
        """Switch to training mode; frozen batch norms keep their statistics."""
        self.model.train()
        for module in self.model.modules():
            if isinstance(module, _BatchNorm) and not any(p.requires_grad for p in module.parameters()):
                module.eval()

    def parameter_groups(self, weight_decay: float) -> list[dict[str, Any]]:
        """Return groups of the trained parameters by their depth in the towers."""
        return parameter_groups(self.model, weight_decay, self._layer_decay)

    def after_step(self) -> None:
        """Keep the scale of the scores at 100 or below, as CLIP does."""
        with torch.no_grad():
            self.model.logit_scale.clamp_(max=_LARGEST_SCALE)

    def unfreeze_if_due(self, epoch: int) -> bool:
        """Leave frozen what is frozen."""
        return False

    def compile(self) -> None:
        """Compile the image tower."""
        self.model.visual.compile()

    def encoder(self, model: nn.Module) -> ClipEncoder:
        """Return the encoder of a model, in evaluation mode."""
        return ClipEncoder(model.eval(), self._encoder.config, self._encoder.tokenizer)

    def save(self, folder: Path, model: nn.Module) -> None:
        """Write weights, configuration and tokenizer."""
        save_clip(folder, model.state_dict(), self._encoder.config, self._encoder.tokenizer.content)

    def _set_checkpointing(self, tuning: FineTuneConfig) -> None:
        self.model.set_grad_checkpointing(tuning.grad_checkpointing)
        is_on = any(getattr(module, "grad_checkpointing", False) for module in self.model.visual.modules())
        if tuning.grad_checkpointing and not is_on and tuning.freeze_image_blocks != -1:
            message = (
                f"--grad-checkpointing: open_clip has none for the image tower of {self._encoder.config.architecture}"
            )
            raise UsageError(message, hint="leave it out; a lower --batch-size needs less memory")
