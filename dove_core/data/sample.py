"""A sample: the captions and metadata of one image, their cleaning, and their JSON in a tar."""

from __future__ import annotations

import hashlib
import json
import re
import unicodedata
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any

from dove_core.errors import DataError

METRES_PER_PIXEL = {
    "CH": 0.1, "ES": 0.1, "DE": 0.2, "FI": 0.5, "US": 0.6, "P3": 0.8, "P5": 2.0, "S2": 10.0, "L8": 30.0, "L9": 30.0,
}  # fmt: skip
"""Ground sample distance of each source code in SkyScript's file names, in metres (US: 0.6 to 1)."""

IMAGE_ENDINGS = (".jpg", ".jpeg", ".png", ".tif", ".tiff", ".bmp", ".webp", ".gif", ".jp2")
"""Endings of names of images, in small letters."""

MAX_KEY = 95
"""Longest key: with its ending it fits into the 100 bytes of a name in a plain tar header."""

_MISSING = frozenset({"nan", "NaN", "<NA>"})
_STEM = re.compile(r"[awn]\d+_([A-Z][A-Z0-9])_\d\d")
# Unicode's controls (Cc), line and paragraph separators (Zl, Zp), and lone surrogates, which no file can hold as UTF-8.
_UNPRINTABLE = re.compile("[\x00-\x1f\x7f-\x9f\u2028\u2029\ud800-\udfff]")


@dataclass(frozen=True)
class Sample:
    """An image's captions and metadata, without its bytes.

    `captions` maps a field's name to its cleaned captions, none empty. `box` is west, south, east, north in degrees.
    `time` is ISO 8601, as precise as it is known: `2019`, `2019-07`, `2019-07-03` or `2019-07-03T10:20`.

    >>> dove.Sample("a1_CH_19", "images2/a1_CH_19.jpg", {"title": ("a lake",)}, time="2019-07").to_json()[:17]
    b'{"key":"a1_CH_19"'
    """

    key: str
    path: str
    captions: Mapping[str, tuple[str, ...]]
    box: tuple[float, float, float, float] | None = None
    time: str | None = None
    source: str | None = None
    gsd: float | None = None
    tags: Mapping[str, str] = field(default_factory=dict)
    surrounding_tags: tuple[Mapping[str, str], ...] = ()

    def to_json(self) -> bytes:
        """Return the tar member `KEY.json`: equal samples give equal bytes."""
        values = {
            **vars(self),  # in the order of the fields
            "captions": dict(sorted(self.captions.items())),
            "tags": dict(sorted(self.tags.items())),
            "surrounding_tags": [dict(sorted(tags.items())) for tags in self.surrounding_tags],
        }
        return json.dumps(values, ensure_ascii=False, separators=(",", ":")).encode()

    @classmethod
    def from_json(cls, data: bytes) -> Sample:
        """Read a tar member `KEY.json`; ignore keys that other tools added.

        Raises:
            DataError: the JSON is damaged or lacks key or captions.
        """
        try:
            values: dict[str, Any] = json.loads(data)
            return cls(
                key=values["key"],
                path=values.get("path", values["key"]),
                captions={name: tuple(texts) for name, texts in values["captions"].items()},
                box=None if values.get("box") is None else tuple(values["box"]),
                time=values.get("time"),
                source=values.get("source"),
                gsd=values.get("gsd"),
                tags=values.get("tags", {}),
                surrounding_tags=tuple(values.get("surrounding_tags", ())),
            )
        except (ValueError, KeyError, TypeError, AttributeError) as error:
            hint = "if the shard is damaged, make it again with `dove shard`"
            raise DataError(f"a sample's JSON cannot be read: {error!r}", hint=hint) from error


def clean_caption(text: str) -> str:
    """Return a caption in NFC on one line without control characters, or "" if no letter or digit is in it.

    "nan", in which pandas writes a missing value, is none either.
    """
    plain = " ".join(_UNPRINTABLE.sub(" ", unicodedata.normalize("NFC", text)).split())
    return plain if any(c.isalnum() for c in plain) and plain not in _MISSING else ""


def clean_captions(texts: Iterable[str]) -> tuple[str, ...]:
    """Clean every caption and drop the empty ones."""
    return tuple(text for text in map(clean_caption, texts) if text)


def key_of(path: str) -> str:
    """Return an image's key: its stem in `[A-Za-z0-9_-]`, so that the only dot is the one before the ending.

    A stem with letters outside ASCII, or too long for a tar header, gets digits of its hash at the end: without them,
    `机场_1` and `港口_1` would have the same key.
    """
    stem = path.replace("\\", "/").rsplit("/", 1)[-1]
    stem = stem.rsplit(".", 1)[0] if "." in stem else stem
    key = re.sub(r"[^A-Za-z0-9_-]", "_", stem)
    if stem.isascii() and len(key) <= MAX_KEY:
        return key
    digest = hashlib.sha256(stem.encode("utf-8", "replace")).hexdigest()[:12]
    return f"{key[: MAX_KEY - 13]}_{digest}"


def source_of(key: str) -> tuple[str | None, float | None]:
    """Return source code and metres per pixel of a SkyScript key such as `a198234555_CH_19`, or two Nones."""
    match = _STEM.fullmatch(key)
    source = match.group(1) if match else None
    return (source, METRES_PER_PIXEL[source]) if source in METRES_PER_PIXEL else (None, None)
