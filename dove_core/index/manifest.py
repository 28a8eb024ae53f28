"""`index.json`: the rows of an index, the files that have them, and the inputs they are from.

The rows are in segments: a folder with vectors, metadata and codes of some parts. A segment never changes; an update
adds one, and a new `index.json` replaces the old one at once. So a reader sees the old index or the new one.
"""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass
from typing import Any

from dove_core.errors import SearchIndexError, reason_of
from dove_core.events import Noted, Report
from dove_core.files import json_bytes, parse_record, record_values
from dove_core.places import Place

FORMAT, _OLDER = 3, 2
MANIFEST, WORDS = "index.json", "words"
HINT = "an index is a folder such as index/NAME, made by `dove embed`"


@dataclass(frozen=True)
class IndexedInput:
    """An input of an index: its addresses, its parts, and where its files are.

    Paths are relative to the index; those in another bucket or on another machine are absolute. `absolute` are the
    addresses as they were when the index was made, in case it is moved alone.
    """

    kind: str
    """Empty for a folder or bucket; the ending of files that were given one by one; `?` if it is not known."""

    paths: list[str]
    absolute: list[str]
    root: str
    prefix: str
    """What comes before the names of its files in rows, which are relative to the root of the first input."""

    parts: list[int]
    cut: str | None = None
    """The options that cut its scenes into tiles; empty if they were not cut, None if it is not known."""


@dataclass(frozen=True)
class IndexManifest:
    """The content of `index.json`.

    `parts` are the numbers of the parts in the order of the rows, and `counts` their numbers of rows. Of each segment
    there are the name of its folder, empty for that of the index, and its number of parts.
    """

    fingerprint: str
    dim: int
    counts: list[int]
    checkpoint: str
    shards: str
    parts: list[int]
    segments: list[list[Any]]
    inputs: list[dict[str, Any]]
    words: str
    next_part: int
    next_segment: int

    @property
    def known(self) -> list[IndexedInput]:
        """Return the inputs."""
        return [IndexedInput(**one) for one in self.inputs]

    @property
    def rows_of(self) -> dict[int, int]:
        """Return the number of rows of each part, by its number."""
        return dict(zip(self.parts, self.counts, strict=True))

    @property
    def segment_parts(self) -> list[tuple[str, list[int]]]:
        """Return the name of each segment, and the numbers of its parts."""
        found, start = list[tuple[str, list[int]]](), 0
        for name, count in self.segments:
            found.append((name, self.parts[start : start + count]))
            start += count
        return found

    @property
    def prefixes(self) -> dict[int, str]:
        """Return what comes before the names of files of each part, by its number."""
        return {part: one.prefix for one in self.known for part in one.parts}


def manifest_bytes(manifest: IndexManifest) -> bytes:
    """Return a manifest as the bytes of `index.json`."""
    return json_bytes(record_values(manifest, FORMAT))


def input_values(one: IndexedInput) -> dict[str, Any]:
    """Return an input as an element of `IndexManifest.inputs`."""
    return asdict(one)


def read_manifest(place: Place) -> IndexManifest:
    """Read the manifest of an index; one of an earlier version is brought into the present form.

    Raises:
        SearchIndexError: it is missing, damaged, or of another version.
        UsageError, DownloadError: the bucket cannot be read.
    """
    found, problem = _read(place)
    if found is None:
        raise SearchIndexError(problem, hint=HINT)
    return found


def manifest_if_any(place: Place, report: Report) -> IndexManifest | None:
    """Return the manifest of an index; None if it is missing, or damaged, which is reported.

    Raises:
        SearchIndexError: it may not be read, or is of a version that this one does not know.
        UsageError, DownloadError: the bucket cannot be read.
    """
    found, problem = _read(place)
    if found is None and place.has(MANIFEST):
        report(Noted(f"{problem}; the index is made again from its parts"))
    return found


def _read(place: Place) -> tuple[IndexManifest | None, str]:
    """Return the manifest, or None and what is wrong with it.

    Raises:
        SearchIndexError: it may not be read, or is of a version that this one does not know.
        UsageError, DownloadError: the bucket cannot be read.
    """
    where = place.where(MANIFEST)
    try:
        with place.local_path(MANIFEST) as path:
            values = json.loads(path.read_bytes())
    except FileNotFoundError:
        return None, f"{where} does not exist"
    except PermissionError as error:
        hint = "ask its owner for the right to read it"
        raise SearchIndexError(f"{place} cannot be read: {error.strerror}", hint=hint) from error
    except (OSError, ValueError, RecursionError) as error:
        return None, f"{where} cannot be read: {reason_of(error)}"
    try:
        if isinstance(values, dict) and values.get("format") == _OLDER:
            values = _renewed(values)
        return _checked(parse_record(values, where, IndexManifest, FORMAT, SearchIndexError, hint=HINT)), ""
    except (TypeError, ValueError, KeyError) as error:
        return None, f"{where} is damaged: {error!r}"


def _checked(manifest: IndexManifest) -> IndexManifest:
    """Return a manifest whose lists fit together.

    Raises:
        ValueError: they do not.
    """
    inputs = sorted(part for one in manifest.known for part in one.parts)
    if len(manifest.parts) != len(manifest.counts) or inputs != sorted(manifest.parts):
        raise ValueError("its lists of parts differ")
    if sum(count for _, count in manifest.segments) != len(manifest.parts):
        raise ValueError("its segments do not have its parts")
    return manifest


def _renewed(old: dict[str, Any]) -> dict[str, Any]:
    """Return the values of a manifest of format 2, whose files are all in the folder of the index."""
    numbers = list(range(len(old["counts"])))
    root = str(old["shards"])
    only = IndexedInput("?", [root], [], root, "", numbers)
    return {
        **old, "format": FORMAT, "parts": numbers, "segments": [["", len(numbers)]], "inputs": [input_values(only)],
        "words": WORDS, "next_part": len(numbers), "next_segment": 1,
    }  # fmt: skip
