"""From the bytes of an image to normalised pixels, with random crops and colours for training."""

from __future__ import annotations

import warnings
from collections.abc import Sequence
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor
from torchvision.transforms.v2 import functional as T

from dove_core.data.jpegs import SIDEWAYS, jpeg_header, orientation, upright_jpeg
from dove_core.data.sharding.depth import beyond_pillow
from dove_core.data.sharding.image import NotAnImageError, decode_noted, decode_rgb, image_size as header_size
from dove_core.errors import DataError
from dove_core.model.normalisation import IMAGENET, Normalisation

_LUMA = (0.299, 0.587, 0.114)
_JPEG = b"\xff\xd8"


class Crop(NamedTuple):
    """A crop of an image, in shares of its sides; then `turns` by 90 degrees; then mirrored if set."""

    top: float
    left: float
    height: float
    width: float
    turns: int = 0
    mirrored: bool = False


def is_jpeg(data: bytes) -> bool:
    """Tell whether bytes begin with the signature of a JPEG."""
    return data.startswith(_JPEG)


def image_size(data: bytes, name: str) -> tuple[int, int]:
    """Return the height and width in the header of an image, turned as its EXIF data say.

    Raises:
        DataError: the bytes are not a valid image.
    """
    try:
        if is_jpeg(data):
            height, width, _ = jpeg_header(data)
            return (width, height) if orientation(data) >= SIDEWAYS else (height, width)
        width, height = header_size(data)
        return height, width
    except (ValueError, OSError, DataError) as error:
        raise _broken(name, error) from error


def decode(data: bytes, name: str, *, least: tuple[int, int] = (1 << 30, 1 << 30)) -> Tensor:
    """Decode an image to `(3, H, W)` uint8 RGB, turned as viewers do: JPEGs with libjpeg-turbo, others with Pillow.

    An image of more than 8 bits a channel is brought to 8 as scenes are: see `note_on`.

    A JPEG is decoded at a half, quarter or eighth of its size if that has at least `least` (height, width) pixels. That
    is faster than resizing later, and the difference is smaller than the losses of JPEG.

    Raises:
        DataError: the bytes are not a valid image; the message has `name`.
    """
    try:
        if is_jpeg(data):
            height, width = least
            pixels = upright_jpeg(data, min_height=height, min_width=width, min_factor=2)
        else:
            pixels = np.array(decode_rgb(data))
    except (ValueError, OSError, DataError) as error:
        raise _broken(name, error) from error
    return torch.from_numpy(pixels).permute(2, 0, 1)


def note_on(data: bytes) -> str:
    """Return how `decode` brings an image of more than 8 bits a channel to 8; empty for other images.

    Raises:
        DataError: the image is damaged.
    """
    return decode_noted(data)[1] if beyond_pillow(data) else ""


def decode_jpegs(encoded: Sequence[Tensor], device: torch.device) -> list[Tensor]:
    """Decode JPEGs, each `(n,)` uint8 on the CPU, on a device; a GPU uses nvJPEG.

    Raises:
        RuntimeError: a JPEG cannot be decoded there, or this torchvision has no decoder (deprecated since 0.29).
    """
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DeprecationWarning)
        try:
            from torchvision.io import ImageReadMode, decode_jpeg  # noqa: PLC0415  # a later version may lack it
        except ImportError as error:
            raise RuntimeError(f"torchvision has no JPEG decoder: {error}") from error
        if device.type == "cuda":  # torchvision's stream does not wait for this one, which may still use the memory
            torch.cuda.current_stream(device).synchronize()
        decoded: list[Tensor] = decode_jpeg(list(encoded), mode=ImageReadMode.RGB, device=device)
    return decoded


@dataclass(frozen=True)
class CenterSquare:
    """The `Preprocess` of DOVE: the middle square, normalised as its image trunk expects."""

    size: int
    normalisation: Normalisation = IMAGENET

    def fit(self, data: bytes, name: str) -> Tensor:
        """Decode an image, and resize its middle square to `(3, size, size)` uint8.

        Raises:
            DataError: the bytes are not a valid image.
        """
        height, width = image_size(data, name)
        side = min(height, width)
        middle = Crop((height - side) / 2 / height, (width - side) / 2 / width, side / height, side / width)
        return apply_crop(decode(data, name, least=least_pixels(middle, self.size)), middle, self.size)

    def normalise(self, pixels: Tensor) -> Tensor:
        """Return normalised pixels `(B, 3, size, size)` float32."""
        return normalise(pixels, *self.normalisation)


def draw_crop(height: int, width: int, random: np.random.Generator, *, crop_scale: float, turn: bool) -> Crop:
    """Draw a random crop and, with `turn`, a random rotation by a multiple of 90 degrees and a random mirroring.

    The area of the crop is between `crop_scale` and 1 of the image, its aspect ratio between 4:5 and 5:4 if the image
    allows. An aerial image has no up and down, so it stays natural when rotated and mirrored.
    """
    area = height * width * random.uniform(crop_scale, 1.0)
    aspect = np.exp(random.uniform(-1, 1) * np.log(1.25)) if crop_scale < 1 else width / height
    crop_height = max(1, min(height, round(np.sqrt(area / aspect))))
    crop_width = max(1, min(width, round(np.sqrt(area * aspect))))
    top, left = random.integers(height - crop_height + 1), random.integers(width - crop_width + 1)
    turns, mirrored = (int(random.integers(4)), bool(random.integers(2))) if turn else (0, False)
    return Crop(top / height, left / width, crop_height / height, crop_width / width, turns, mirrored)


def least_pixels(crop: Crop, size: int) -> tuple[int, int]:
    """Return the smallest height and width of an image whose crop has `size` pixels on each side."""
    return int(np.ceil(size / crop.height)), int(np.ceil(size / crop.width))


def apply_crop(image: Tensor, crop: Crop, size: int) -> Tensor:
    """Crop, resize, rotate and mirror `(3, H, W)` uint8 to `(3, size, size)`, on any device."""
    height, width = image.shape[-2:]
    top, left = round(crop.top * height), round(crop.left * width)
    pixels = image[:, top : top + max(1, round(crop.height * height)), left : left + max(1, round(crop.width * width))]
    if pixels.shape[1:] != (size, size):
        pixels = T.resize(pixels, [size, size], interpolation=T.InterpolationMode.BICUBIC, antialias=True)
    pixels = torch.rot90(pixels, crop.turns, (1, 2)) if crop.turns else pixels
    return pixels.flip(2) if crop.mirrored else pixels


def _broken(name: str, error: Exception) -> DataError:
    if isinstance(error, NotAnImageError):
        hint = "expected a JPEG, PNG, WebP or TIFF; is the file damaged?"
        return DataError(f"{name} is not an image that Pillow can read", hint=hint)
    return DataError(f"{name} cannot be decoded: {error}", hint="the file is damaged, or Pillow cannot read its format")


def _by_channel(values: Sequence[float], device: torch.device) -> Tensor:
    """Return `(3, 1, 1)` on a device, without waiting for queued work of a GPU."""
    return torch.tensor(values).view(3, 1, 1).to(device, non_blocking=True)


def normalise(
    pixels: Tensor, means: Sequence[float] = IMAGENET.mean, deviations: Sequence[float] = IMAGENET.std
) -> Tensor:
    """Return `(B, 3, S, S)` uint8 as float32, normalised with the mean and deviation of each channel in `[0, 1]`.

    By default they are those of ImageNet.
    """
    mean, std = _by_channel(means, pixels.device), _by_channel(deviations, pixels.device)
    return torch.addcmul(-mean / std, pixels, 1 / (255 * std))  # one pass over a GPU's memory


def jitter(pixels: Tensor, strength: float) -> Tensor:
    """Change saturation, contrast and brightness of each image by random factors between 1 - `strength` and 1 + it.

    Takes and returns `(B, 3, S, S)` uint8 on any device; torch's generator draws the factors. The whole batch is
    changed at once: one image after another would take longer than decoding them.
    """
    factors = 1 + strength * (2 * torch.rand(3, len(pixels), 1, 1, 1, device=pixels.device) - 1)
    saturation, contrast, brightness = factors
    result = pixels.float()
    grey = (result * _by_channel(_LUMA, pixels.device)).sum(dim=1, keepdim=True)
    result = (result - grey).mul_(saturation).add_(grey)
    middle = grey.mean(dim=(2, 3), keepdim=True)
    return (result - middle).mul_(contrast).add_(middle).mul_(brightness).round_().clamp_(0, 255).to(torch.uint8)
