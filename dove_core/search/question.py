"""What a user looks for: words, an image, keys of similar and of unlike images."""

from __future__ import annotations

import io
import os
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from dove_core.errors import UsageError

if TYPE_CHECKING:
    from PIL import Image

    ImageLike = str | os.PathLike[str] | bytes | Image.Image
    """The path of an image file, the bytes of one, or an image of Pillow."""


@dataclass(frozen=True)
class Question:
    """Words, an image as (bytes, name), and keys of images in the index that are like it or unlike it.

    The search direction is the sum of the embeddings of all that is given; those of `unlike` are subtracted with half
    weight.

    >>> question = dove.Question("a circle", like=("test_1",), unlike=("test_2",))
    >>> question.title
    'a circle, like test_1, unlike test_2'
    >>> [hit.rank for hit in dove.Searcher.open("index/shapes").answer(question, dove.QueryConfig(top=3))]
    [1, 2, 3]
    """

    text: str = ""
    image: tuple[bytes, str] | None = None
    like: Sequence[str] = ()
    unlike: Sequence[str] = ()

    @property
    def title(self) -> str:
        """Return the question in one line, for a heading."""
        parts = [self.text] if self.text else []
        if self.image:
            parts.append(f"like {Path(self.image[1]).name}")
        return ", ".join([*parts, *(f"like {key}" for key in self.like), *(f"unlike {key}" for key in self.unlike)])


def read_query_image(image: ImageLike) -> tuple[bytes, str]:
    """Return an image as (bytes, name), as a `Question` holds it.

    Raises:
        UsageError: the file cannot be read.
    """
    if isinstance(image, bytes):
        return image, "your image"
    if not isinstance(image, str | os.PathLike):
        is_deep, stream = image.mode.startswith(("I", "F")), io.BytesIO()
        (image if is_deep else image.convert("RGB")).save(stream, "TIFF" if is_deep else "PNG")
        return stream.getvalue(), "your image"
    try:
        return Path(image).read_bytes(), str(image)
    except OSError as error:
        hint = "give a JPEG, PNG or WebP file"
        raise UsageError(f"--image {image} cannot be read: {error.strerror}", hint=hint) from error
