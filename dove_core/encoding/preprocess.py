"""Image bytes to the pixels that a model sees."""

from __future__ import annotations

import io
import warnings
from collections.abc import Sequence
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
import simplejpeg
import torch
from PIL import Image
from torch import Tensor
from torchvision.transforms.v2 import functional as T

from dove_core.errors import DataError

_MEAN = (0.485, 0.456, 0.406)
_STD = (0.229, 0.224, 0.225)
_LUMA = (0.299, 0.587, 0.114)
_JPEG = b"\xff\xd8"


class View(NamedTuple):
    """How an image is seen: a crop, its sides as shares of the image's, then quarter turns, then a mirror."""

    top: float
    left: float
    height: float
    width: float
    turns: int = 0
    mirrored: bool = False


def is_jpeg(data: bytes) -> bool:
    """Tell whether bytes begin as a JPEG does."""
    return data.startswith(_JPEG)


def image_size(data: bytes, name: str) -> tuple[int, int]:
    """Return height and width of an image from its header.

    Raises:
        DataError: the bytes are no image.
    """
    try:
        if is_jpeg(data):
            height, width, _, _ = simplejpeg.decode_jpeg_header(data)
            return height, width
        with Image.open(io.BytesIO(data)) as image:
            return image.height, image.width
    except (ValueError, OSError, Image.DecompressionBombError) as error:
        raise _broken(name, error) from error


def decode(data: bytes, name: str, *, least: tuple[int, int] = (1 << 30, 1 << 30)) -> Tensor:
    """Decode an image to `(3, H, W)` uint8 RGB: JPEGs by libjpeg-turbo, everything else that Pillow reads by Pillow.

    A JPEG whose half, quarter or eighth still has `least` (height, width) pixels is decoded at that scale, which is
    faster than making the whole smaller afterwards, and differs from that by less than its own losses.

    Raises:
        DataError: the bytes are no image; `name` says whose they are.
    """
    try:
        if is_jpeg(data):
            height, width = least
            pixels = simplejpeg.decode_jpeg(data, colorspace="RGB", min_height=height, min_width=width, min_factor=2)
        else:
            pixels = np.array(Image.open(io.BytesIO(data)).convert("RGB"))
    except (ValueError, OSError, Image.DecompressionBombError) as error:
        raise _broken(name, error) from error
    return torch.from_numpy(pixels).permute(2, 0, 1)


def decode_jpegs(encoded: Sequence[Tensor], device: torch.device) -> list[Tensor]:
    """Decode JPEGs, each `(n,)` uint8 on the CPU, on a device: on a GPU by nvJPEG.

    Raises:
        RuntimeError: one of them cannot be decoded there, or this torchvision has no decoder any more (0.29 calls it
            deprecated).
    """
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DeprecationWarning)
        try:
            from torchvision.io import ImageReadMode, decode_jpeg  # noqa: PLC0415  # may be gone one day
        except ImportError as error:
            raise RuntimeError(f"torchvision has no JPEG decoder: {error}") from error
        if device.type == "cuda":  # torchvision's stream does not wait for this one, whose memory it is given
            torch.cuda.current_stream(device).synchronize()
        decoded: list[Tensor] = decode_jpeg(list(encoded), mode=ImageReadMode.RGB, device=device)
    return decoded


def fit(data: bytes, name: str, size: int) -> Tensor:
    """Decode an image and bring it to `(3, size, size)` uint8: shorter side to `size`, middle kept.

    Raises:
        DataError: the bytes are no image.
    """
    height, width = image_size(data, name)
    side = min(height, width)
    middle = View((height - side) / 2 / height, (width - side) / 2 / width, side / height, side / width)
    return look(decode(data, name, least=least_pixels(middle, size)), middle, size)


@dataclass(frozen=True)
class CenterSquare:
    """DOVE's `Preprocess`: the middle square at `size` pixels, with ImageNet's mean and standard deviation."""

    size: int

    def fit(self, data: bytes, name: str) -> Tensor:
        """Decode an image and resize it to `(3, size, size)` uint8."""
        return fit(data, name, self.size)

    def normalise(self, pixels: Tensor) -> Tensor:
        """Return `(B, 3, size, size)` float32 around zero."""
        return normalise(pixels)


def draw_view(height: int, width: int, random: np.random.Generator, *, crop_scale: float, turn: bool) -> View:
    """Draw a random crop of an image and, with `turn`, one of the square's 8 symmetries.

    The crop keeps between `crop_scale` and all of the area, at an aspect between 4:5 and 5:4 where the image allows.
    An aerial image has no upper side, so quarter turns and mirrors lose nothing.
    """
    area = height * width * random.uniform(crop_scale, 1.0)
    aspect = np.exp(random.uniform(-1, 1) * np.log(1.25)) if crop_scale < 1 else width / height
    crop_height = max(1, min(height, round(np.sqrt(area / aspect))))
    crop_width = max(1, min(width, round(np.sqrt(area * aspect))))
    top, left = random.integers(height - crop_height + 1), random.integers(width - crop_width + 1)
    turns, mirrored = (int(random.integers(4)), bool(random.integers(2))) if turn else (0, False)
    return View(top / height, left / width, crop_height / height, crop_width / width, turns, mirrored)


def least_pixels(view: View, size: int) -> tuple[int, int]:
    """Return the height and width at which an image's crop still has `size` pixels either way."""
    return int(np.ceil(size / view.height)), int(np.ceil(size / view.width))


def look(image: Tensor, view: View, size: int) -> Tensor:
    """Bring `(3, H, W)` uint8, on any device, to the `(3, size, size)` that a view shows."""
    height, width = image.shape[-2:]
    top, left = round(view.top * height), round(view.left * width)
    part = image[:, top : top + max(1, round(view.height * height)), left : left + max(1, round(view.width * width))]
    if part.shape[1:] != (size, size):
        part = T.resize(part, [size, size], interpolation=T.InterpolationMode.BICUBIC, antialias=True)
    part = torch.rot90(part, view.turns, (1, 2)) if view.turns else part
    return part.flip(2) if view.mirrored else part


def _broken(name: str, error: Exception) -> DataError:
    return DataError(f"{name} cannot be decoded: {error}", hint="it is damaged, or no image that Pillow can read")


def _by_channel(values: Sequence[float], device: torch.device) -> Tensor:
    """Return `(3, 1, 1)` on a device, without waiting for what a GPU still has to do."""
    return torch.tensor(values).view(3, 1, 1).to(device, non_blocking=True)


def normalise(pixels: Tensor) -> Tensor:
    """Bring `(B, 3, S, S)` uint8 to float32 around zero, with ImageNet's mean and deviation."""
    mean, std = _by_channel(_MEAN, pixels.device), _by_channel(_STD, pixels.device)
    return torch.addcmul(-mean / std, pixels, 1 / (255 * std))  # one way through a GPU's memory


def jitter(pixels: Tensor, strength: float) -> Tensor:
    """Change saturation, contrast and brightness of each image by factors between 1 - `strength` and 1 + `strength`.

    `(B, 3, S, S)` uint8 on any device to the same; chance is torch's own. The whole batch at once: an image alone
    would cost a worker more than its decoding.
    """
    factors = 1 + strength * (2 * torch.rand(3, len(pixels), 1, 1, 1, device=pixels.device) - 1)
    saturation, contrast, brightness = factors
    result = pixels.float()
    grey = (result * _by_channel(_LUMA, pixels.device)).sum(dim=1, keepdim=True)
    result = (result - grey).mul_(saturation).add_(grey)
    middle = grey.mean(dim=(2, 3), keepdim=True)
    return (result - middle).mul_(contrast).add_(middle).mul_(brightness).round_().clamp_(0, 255).to(torch.uint8)
