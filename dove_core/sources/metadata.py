"""Captions and metadata in the JSON and the text beside an image, in a tar or in a folder."""

from __future__ import annotations

import json
from collections.abc import Iterator
from contextlib import suppress
from pathlib import PurePosixPath
from typing import Any

from dove_core.data.caption_forms import caption_columns, encodable, texts_of
from dove_core.data.sample import Sample, clean_caption, source_of
from dove_core.data.sharding.meta import box_of
from dove_core.sources.source import time_in

MAX_TEXT = 2**20
"""Length of the longest JSON or text that is read."""


def sample_of(key: str, values: Any, text: str, field: str) -> Sample:
    """Return the metadata of an image, given the JSON that `dove shard` or img2dataset writes, and a text.

    The caption is the first one of `captions[field]`, other `captions`, `caption` and its like, and the text, in this
    order; a JSON that is a text or a list is captions itself. Values of another type than expected are ignored.
    """
    found = (caption for raw in _captions(values, text, field) if (caption := clean_caption(raw)))
    caption = next(found, "")
    values = values if isinstance(values, dict) else {}
    source, gsd = source_of(PurePosixPath(key).name)
    known_source, known_gsd, tags = values.get("source"), values.get("gsd"), values.get("tags")
    if isinstance(known_gsd, int | float) and known_gsd is not True and 0 < known_gsd < 1e6:
        gsd = float(known_gsd)
    return Sample(
        key,
        encodable(str(values.get("path", key))),
        {field: (caption,)} if caption else {},
        box=box_of(values.get("box")),
        time=time_in(values.get("time")),
        source=encodable(known_source) if isinstance(known_source, str) else source,
        gsd=gsd,
        tags={encodable(k): encodable(v) for k, v in tags.items() if isinstance(v, str)}
        if isinstance(tags, dict)
        else {},
    )


def _captions(values: Any, text: str, field: str) -> Iterator[str]:
    if isinstance(values, dict):
        by_field = values.get("captions")
        if isinstance(by_field, dict):
            for listed in (by_field.get(field), *(texts for _, texts in sorted(by_field.items()))):
                yield from texts_of(listed)
        for columns in caption_columns(name for name in values if values[name] is not by_field).values():
            yield from (one for name in columns for one in texts_of(values[name]))
        if isinstance(by_field, list | str):
            yield from texts_of(by_field)
    elif isinstance(values, list | str):
        yield from texts_of([values] if isinstance(values, str) else [one for one in values if isinstance(one, str)])
    yield from texts_of(text)


def json_in(data: bytes) -> Any:
    """Return the value of a JSON in any Unicode encoding; None if it is damaged."""
    try:
        return json.loads(data) if data else None
    except (ValueError, RecursionError):
        return None


def is_prose(text: str) -> bool:
    """Tell whether a text may be a caption: beside images there are also lists of boxes, made of numbers."""
    words = text.split()
    return 2 * sum(any(c.isalpha() for c in word) for word in words) > len(words)


def text_in(data: bytes) -> str:
    """Return a text in UTF-8, in UTF-16 with a mark, or else in Latin-1."""
    for encoding in ("utf-16",) if data.startswith((b"\xff\xfe", b"\xfe\xff")) else ("utf-8-sig",):
        with suppress(UnicodeDecodeError):
            return data.decode(encoding)
    return data.decode("latin-1")
