"""Settings of training; `config.py` has all others."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from dove_core.bounds import Settings, setting as _setting
from dove_core.errors import UsageError

OF_DOVE = (
    "weights", "input_scaling", "backbone_rate", "objective", "lambda_g", "margin", "negatives", "temperature",
    "freeze_backbone", "unfreeze_after", "paired_captions", "min_word_count",
)  # fmt: skip
"""Settings in `TrainConfig` that other models than DOVE do not have."""


@dataclass(frozen=True)
class TrainConfig(Settings):
    """How a model is trained.

    >>> dove.TrainConfig(epochs=5, objective="infonce").batch_size
    64
    """

    weights: str = _setting(
        "imagenet",
        "Initial weights of the backbone: imagenet (for timm:NAME, what timm has of it), none (random), or a file with "
        "the names of torchvision or timm, such as those of torchgeo.",
    )
    input_scaling: Literal["auto", "imagenet", "unit", "reflectance"] = _setting(
        "auto",
        "Scaling of the pixels: imagenet (its mean and deviation), unit (0 to 1), reflectance (0 to 0.3558, as in "
        "Sentinel-2's true-colour images), or auto: what timm says, or what a file of torchgeo needs, else imagenet.",
    )
    epochs: int = _setting(20, "Number of epochs.", low=1)
    batch_size: int = _setting(64, "Images in a batch, in each process.", low=2)
    learning_rate: float = _setting(2e-4, "Highest learning rate, reached after the warm-up.", above=0)
    backbone_rate: float = _setting(
        1.0,
        "Learning rate of the backbone as a share of --learning-rate; pre-trained weights need less.",
        above=0,
        high=1,
    )
    weight_decay: float = _setting(0.05, "Weight decay of AdamW; not applied to biases and norm layers.", low=0)
    warmup: float = _setting(0.05, "Share of all steps in which the learning rate rises from zero.", low=0, high=1)
    warmup_steps: int = _setting(
        0, "Number of steps in which the learning rate rises, instead of the share --warmup; 0: the share.", low=0
    )
    grad_clip: float = _setting(1.0, "Largest norm of the gradient; 0: no clipping.", low=0)
    lambda_g: float = _setting(
        10.0, "Weight of the loss of the global scores, added to the loss of the pairwise scores.", low=0
    )
    objective: Literal["triplet", "infonce"] = _setting("triplet", "Loss function for both scores.")
    margin: float = _setting(0.2, "Margin of the triplet loss.", above=0)
    negatives: Literal["sum", "hardest"] = _setting(
        "sum", "Negatives in the triplet loss: the sum over all, or only the hardest."
    )
    temperature: float = _setting(0.07, "Initial temperature of infonce; it is learned in training.", above=0)
    freeze_backbone: bool = _setting(False, "Do not train the backbone; its batch-norm statistics stay fixed too.")
    unfreeze_after: int = _setting(
        0, "With --freeze-backbone: train the backbone after this many epochs; 0: never.", low=0
    )
    accumulate: int = _setting(1, "Batches for one optimizer step; their gradients are averaged.", low=1)
    average: float = _setting(
        0.0,
        "Decay of a moving average of the weights; checkpoints then store the average; 0: none.",
        low=0,
        high=0.99999,
    )
    max_broken: float = _setting(
        0.001, "Largest share of images that cannot be decoded; above it, training is an error.", low=0, high=1
    )
    captions_per_picture: int = _setting(
        1, "Captions of each image in a batch, for the loss of the global scores.", low=1, high=100
    )
    paired_captions: int = _setting(
        1,
        "Captions of each image, out of --captions-per-picture, for the loss of the pairwise scores (ROAM).",
        low=1,
        high=100,
    )
    random_rotation: bool = _setting(True, "Rotate images by a random multiple of 90 degrees, and flip them at random.")
    crop_scale: float = _setting(
        0.6, "Smallest share of the image area that a random crop keeps; 1: no crop.", above=0, high=1
    )
    jitter: float = _setting(
        0.0, "Change brightness, contrast and saturation by up to this share at random; 0: none.", low=0, high=1
    )
    min_word_count: int = _setting(1, "Words that occur less often than this are left out of the vocabulary.", low=1)
    validate_every: int = _setting(1, "Epochs from one validation to the next.", low=1)
    save_steps: int = _setting(
        1000, "Save last/ every this many steps, and after each epoch; 0: after each epoch only.", low=0
    )
    max_steps: int = _setting(0, "Save and stop after this many steps in total; 0: train all epochs.", low=0)
    seed: int = _setting(0, "Seed of initial weights, shuffles and crops.", low=0)

    def __post_init__(self) -> None:
        """Check each field, and that `paired_captions` is at most `captions_per_picture`."""
        super().__post_init__()
        if self.paired_captions > self.captions_per_picture:
            there = f"--captions-per-picture {self.captions_per_picture}"
            message = f"--paired-captions {self.paired_captions} is more than {there}"
            raise UsageError(message, hint=f"give --captions-per-picture {self.paired_captions} or more")


@dataclass(frozen=True)
class FineTuneConfig(Settings):
    """How the towers of a CLIP model are trained further; DOVE has none of these settings.

    A layer of a tower is one block of its transformer, or one stage of its convolutional network.

    >>> dove.FineTuneConfig(layer_decay=0.7, freeze_text_blocks=-1).grad_checkpointing
    False
    """

    layer_decay: float = _setting(
        1.0,
        "CLIP: factor of the learning rate from each block of a tower to the block before it; 1: one rate for all.",
        above=0,
        high=1,
    )
    freeze_image_blocks: int = _setting(
        0, "CLIP: do not train the first N blocks of the image tower, nor what is before them; -1: the whole tower.",
        low=-1,
    )  # fmt: skip
    freeze_text_blocks: int = _setting(
        0, "CLIP: do not train the first N blocks of the text tower, nor what is before them; -1: the whole tower.",
        low=-1,
    )  # fmt: skip
    grad_checkpointing: bool = _setting(
        False, "CLIP: compute activations again in the backward pass: much less memory, about a third more time."
    )
