"""A hit's picture, read straight from where it lies."""

from __future__ import annotations

from pathlib import Path

from dove_core.errors import SearchIndexError


def read_picture(root: Path, shard: str, offset: int, size: int) -> bytes:
    """Read the bytes of a picture that lies in a tar below `root`.

    Raises:
        SearchIndexError: the tar is not there any more, or shorter than before.
    """
    path = root / shard
    try:
        with path.open("rb") as stream:
            stream.seek(offset)
            data = stream.read(size)
    except OSError as error:
        hint = "pictures are read from the shards that were embedded: bring them back, or run `dove embed` again"
        raise SearchIndexError(f"{path} cannot be read: {error}", hint=hint) from error
    if len(data) < size:
        raise SearchIndexError(f"{path} is shorter than when it was embedded", hint="run `dove embed` again")
    return data
