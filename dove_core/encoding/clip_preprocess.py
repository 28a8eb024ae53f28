"""From the bytes of an image to the input of a model of the family `clip`."""

from __future__ import annotations

from dataclasses import dataclass

from torch import Tensor
from torchvision.transforms.v2 import functional as T

from dove_core.encoding.clip_config import ClipConfig
from dove_core.encoding.preprocess import decode, image_size, normalise


@dataclass(frozen=True)
class ClipPreprocess:
    """The `Preprocess` of a model of the family `clip`: open_clip's transform for inference, on tensors.

    open_clip resizes with Pillow. Here libjpeg-turbo decodes JPEGs and torchvision resizes them, which is faster; the
    values differ by one or two of 255.
    """

    config: ClipConfig

    def fit(self, data: bytes, name: str) -> Tensor:
        """Decode an image file and resize it to `(3, S, S)` uint8.

        Raises:
            DataError: the bytes are not a valid image; the message has `name`.
        """
        side = self.config.image_size
        size = self._resized(*image_size(data, name))
        image = decode(data, name, least=size)
        if image.shape[-2:] != size:
            how = T.InterpolationMode(self.config.interpolation)
            image = T.resize(image, list(size), interpolation=how, antialias=True)
        return image if size == (side, side) else _cut_or_pad(image, side, self.config.fill_color)

    def normalise(self, pixels: Tensor) -> Tensor:
        """Return the model's input `(B, 3, S, S)` float32 for uint8 `pixels`."""
        return normalise(pixels, self.config.mean, self.config.std)

    def _resized(self, height: int, width: int) -> tuple[int, int]:
        """Return height and width after resizing, rounded as in open_clip."""
        side = self.config.image_size
        if self.config.resize_mode == "squash":
            return side, side
        if self.config.resize_mode == "longest":
            ratio = max(height, width) / side
            return max(1, round(height / ratio)), max(1, round(width / ratio))
        shortest = min(height, width)
        return int(side * height / shortest), int(side * width / shortest)


def _cut_or_pad(image: Tensor, side: int, fill: int) -> Tensor:
    """Return the middle `(3, side, side)` of an image, padded where it is smaller."""
    height, width = image.shape[-2:]
    missing = max(0, side - height), max(0, side - width)
    if any(missing):
        left, top = missing[1] // 2, missing[0] // 2
        image = T.pad(image, [left, top, missing[1] - left, missing[0] - top], fill=[fill])
        height, width = image.shape[-2:]
    top, left = round((height - side) / 2), round((width - side) / 2)
    return image[:, top : top + side, left : left + side]
