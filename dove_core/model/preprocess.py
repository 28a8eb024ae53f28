"""Picture bytes to the pixels that a model sees."""

from __future__ import annotations

import io

import numpy as np
import simplejpeg
import torch
from PIL import Image
from torch import Tensor
from torchvision.transforms.v2 import functional as T

from dove_core.errors import DataError

_MEAN = (0.485, 0.456, 0.406)
_STD = (0.229, 0.224, 0.225)


def decode(data: bytes, name: str) -> Tensor:
    """Decode a picture to `(3, H, W)` uint8 RGB: JPEGs by libjpeg-turbo, everything else that Pillow reads by Pillow.

    Raises:
        DataError: the bytes are no picture; `name` says whose they are.
    """
    try:
        if data.startswith(b"\xff\xd8"):
            pixels = simplejpeg.decode_jpeg(data, colorspace="RGB")
        else:
            pixels = np.array(Image.open(io.BytesIO(data)).convert("RGB"))
    except (ValueError, OSError, Image.DecompressionBombError) as error:
        hint = "it is damaged, or no picture that Pillow can read"
        raise DataError(f"{name} cannot be decoded: {error}", hint=hint) from error
    return torch.from_numpy(pixels).permute(2, 0, 1)


def fit(picture: Tensor, size: int) -> Tensor:
    """Bring `(3, H, W)` uint8 to `(3, size, size)`: shorter side to `size`, middle kept."""
    height, width = picture.shape[-2:]
    side = min(height, width)
    return _crop(picture, (height - side) // 2, (width - side) // 2, side, side, size)


def augment(picture: Tensor, size: int, random: np.random.Generator, *, crop_scale: float, turn: bool) -> Tensor:
    """Bring `(3, H, W)` uint8 to `(3, size, size)` by a random crop and, with `turn`, one of the square's 8 symmetries.

    The crop keeps between `crop_scale` and all of the area, at an aspect between 4:5 and 5:4 where the picture allows.
    An aerial picture has no upper side, so quarter turns and mirrors lose nothing.
    """
    height, width = picture.shape[-2:]
    area = height * width * random.uniform(crop_scale, 1.0)
    aspect = np.exp(random.uniform(-1, 1) * np.log(1.25)) if crop_scale < 1 else width / height
    crop_height = max(1, min(height, round(np.sqrt(area / aspect))))
    crop_width = max(1, min(width, round(np.sqrt(area * aspect))))
    top, left = random.integers(height - crop_height + 1), random.integers(width - crop_width + 1)
    pixels = _crop(picture, int(top), int(left), crop_height, crop_width, size)
    if turn:
        pixels = torch.rot90(pixels, int(random.integers(4)), (1, 2))
        pixels = pixels.flip(2) if random.integers(2) else pixels
    return pixels


def _crop(picture: Tensor, top: int, left: int, height: int, width: int, size: int) -> Tensor:
    part = picture[:, top : top + height, left : left + width]
    if (height, width) == (size, size):
        return part
    resized: Tensor = T.resize(part, [size, size], interpolation=T.InterpolationMode.BICUBIC, antialias=True)
    return resized


def normalise(pixels: Tensor) -> Tensor:
    """Bring `(B, 3, S, S)` uint8 to float32 around zero, with ImageNet's mean and deviation."""
    mean = torch.tensor(_MEAN, device=pixels.device).view(3, 1, 1)
    std = torch.tensor(_STD, device=pixels.device).view(3, 1, 1)
    return (pixels.float() / 255 - mean) / std
