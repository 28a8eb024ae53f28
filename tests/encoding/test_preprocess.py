"""Images are decoded exactly, resized without distortion, and augmented by seed."""

from __future__ import annotations

import io
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from PIL import Image

from dove_core.encoding.preprocess import (
    CenterSquare,
    Crop,
    apply_crop,
    decode,
    decode_jpegs,
    draw_crop,
    image_size,
    jitter,
    least_pixels,
    normalise,
)
from dove_core.errors import DataError
from tests.made import draw_shape


def encoded(image: Image.Image, kind: str, **options) -> bytes:
    stream = io.BytesIO()
    image.save(stream, kind, **options)
    return stream.getvalue()


def test_a_jpeg_has_nearly_the_pixels_that_pillow_decodes():
    data = encoded(draw_shape("red", "circle", 64), "JPEG", quality=90)
    expected = np.array(Image.open(io.BytesIO(data)).convert("RGB")).astype(int)
    assert np.abs(decode(data, "x").permute(1, 2, 0).numpy().astype(int) - expected).max() <= 2


@pytest.mark.parametrize(
    ("kind", "mode"), [("PNG", "RGB"), ("PNG", "L"), ("PNG", "RGBA"), ("JPEG", "L"), ("TIFF", "RGB")]
)
def test_other_kinds_and_modes_become_rgb(kind, mode):
    assert decode(encoded(draw_shape("red", "circle").convert(mode), kind), "x").shape == (3, 48, 48)


@pytest.mark.parametrize("data", [b"", b"GIF89a", b"\xff\xd8\xff", b"<html>no</html>"])
def test_invalid_bytes_are_an_error_with_the_name(data):
    with pytest.raises(DataError, match=r"^a\.jpg (cannot be decoded|is not an image that Pillow can read)") as caught:
        decode(data, "a.jpg")
    assert "object at" not in caught.value.message


def test_a_gpu_decodes_after_its_queued_work(monkeypatch):
    """Its decoder writes on another stream into memory that queued work may still read."""
    did = list[str]()
    stream = SimpleNamespace(synchronize=lambda: did.append("wait"))
    monkeypatch.setattr(torch.cuda, "current_stream", lambda device: stream)
    monkeypatch.setattr("torchvision.io.decode_jpeg", lambda encoded, **_: did.append("decode") or [])
    decode_jpegs([], torch.device("cuda"))
    assert did == ["wait", "decode"]
    decode_jpegs([], torch.device("cpu"))
    assert did == ["wait", "decode", "decode"]


def test_a_truncated_jpeg_is_an_error_and_not_a_grey_image():
    data = encoded(draw_shape("red", "circle", 200), "JPEG")
    with pytest.raises(DataError, match="cannot be decoded"):
        decode(data[: len(data) // 2], "x")


def augment(image: torch.Tensor, size: int, random: np.random.Generator, **how) -> torch.Tensor:
    return apply_crop(image, draw_crop(*image.shape[1:], random, **how), size)


def lossless(image: torch.Tensor) -> bytes:
    return encoded(Image.fromarray(image.permute(1, 2, 0).numpy()), "PNG")


def test_fitting_keeps_the_middle_and_the_aspect():
    wide = torch.zeros(3, 40, 120, dtype=torch.uint8)
    wide[:, :, 40:80] = 200
    assert CenterSquare(40).fit(lossless(wide), "x").float().mean() == 200
    assert CenterSquare(16).fit(lossless(wide), "x").shape == (3, 16, 16)
    assert CenterSquare(32).fit(lossless(torch.zeros(3, 7, 5, dtype=torch.uint8)), "x").shape == (3, 32, 32)


def test_augmenting_depends_only_on_the_seed():
    image = torch.from_numpy(np.random.default_rng(0).integers(0, 255, (3, 50, 60), np.uint8))
    first, again, other = (
        augment(image, 32, np.random.default_rng(seed), crop_scale=0.5, turn=True) for seed in (1, 1, 2)
    )
    assert torch.equal(first, again)
    assert not torch.equal(first, other)


def test_without_crop_and_turn_a_square_image_is_only_resized():
    image = torch.from_numpy(np.random.default_rng(0).integers(0, 255, (3, 48, 48), np.uint8))
    whole = augment(image, 32, np.random.default_rng(0), crop_scale=1.0, turn=False)
    assert torch.equal(whole, CenterSquare(32).fit(lossless(image), "x"))


def test_random_rotations_and_mirrorings_are_the_eight_symmetries_of_the_square():
    image = torch.arange(48, dtype=torch.uint8).view(3, 4, 4)
    symmetries = {
        m.numpy().tobytes() for k in range(4) for t in [torch.rot90(image, k, (1, 2))] for m in (t, t.flip(2))
    }
    found = {
        augment(image, 4, np.random.default_rng(seed), crop_scale=1.0, turn=True).numpy().tobytes()
        for seed in range(80)
    }
    assert len(symmetries) == 8
    assert found == symmetries


@pytest.mark.parametrize("size", [(3, 300, 20), (3, 1, 1), (3, 5, 400)])
def test_images_of_any_shape_can_be_augmented(size):
    for seed in range(5):
        pixels = augment(
            torch.zeros(size, dtype=torch.uint8), 32, np.random.default_rng(seed), crop_scale=0.3, turn=True
        )
        assert pixels.shape == (3, 32, 32)


def test_normalised_pixels_have_imagenets_statistics():
    grey = torch.full((1, 3, 2, 2), 255, dtype=torch.uint8)
    assert torch.allclose(
        normalise(grey)[0, :, 0, 0], torch.tensor([(1 - 0.485) / 0.229, (1 - 0.456) / 0.224, (1 - 0.406) / 0.225])
    )


def test_a_large_jpeg_is_decoded_at_half_size_if_that_is_enough_and_looks_the_same():
    smooth = draw_shape("red", "circle", 600).resize((600, 500))
    data = encoded(smooth, "JPEG", quality=95)
    assert image_size(data, "x") == (500, 600)
    view = Crop(0.0, 0.1, 1.0, 0.8)
    assert least_pixels(view, 240) == (240, 300)
    assert decode(data, "x", least=(251, 300)).shape == (3, 500, 600)
    half = decode(data, "x", least=(250, 300))
    assert half.shape == (3, 250, 300)
    exact, fast = (apply_crop(image, view, 240).float() for image in (decode(data, "x"), half))
    assert 10 * torch.log10(255**2 / (exact - fast).square().mean()) > 30


def test_the_size_of_invalid_bytes_is_an_error():
    for data in (b"", b"\xff\xd8\xff", b"<html>"):
        with pytest.raises(DataError, match=r"^a\.jpg (cannot be decoded|is not an image that Pillow can read)"):
            image_size(data, "a.jpg")


def test_jitter_changes_brightness_contrast_and_saturation_of_each_image_within_bounds():
    torch.manual_seed(0)
    grey = torch.full((200, 3, 4, 4), 100, dtype=torch.uint8)
    changed = jitter(grey, 0.3)
    assert changed.dtype == torch.uint8
    assert bool((changed == changed[:, :1, :1, :1]).all())  # grey and even it stays: only the brightness shows
    brightness = changed[:, 0, 0, 0].float() / 100
    assert 0.69 <= float(brightness.min()) < 0.75
    assert 1.25 < float(brightness.max()) <= 1.3
    red = torch.zeros(200, 3, 4, 4, dtype=torch.uint8)
    red[:, 0] = 150
    ratio = jitter(red, 0.3)[:, 1].float().mean(dim=(1, 2))
    assert float(ratio.max()) > 5  # less red: towards its grey
    assert torch.equal(jitter(grey, 0.0), grey)
