"""Files found by the ends of their paths."""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Callable
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from dove_core.data.sample import IMAGE_ENDINGS
from dove_core.data.sharding.caption_table import replace_where

_ODD = re.compile(r"\\|//|/$|^/|(?:^|/)\.\.?(?:/|$)")
_ENDING = r"\.(?:" + "|".join(ending[1:] for ending in IMAGE_ENDINGS) + ")$"
_ROWS_AT_ONCE = 50_000


class NameLookup:
    """Finds files whose path ends with a given path, or the other way round.

    Loosely, small and capital letters are the same, and so are the endings of images: `x.JPG`, `x.tif` and `x` fit
    `x.jpg`.
    """

    def __init__(self, names: Any, full_names: Callable[[np.ndarray], list[str]], *, loose: bool = False) -> None:
        """Sort the files by their base names.

        Args:
            names: Arrow strings, normalised.
            full_names: returns names with what comes before them, given their numbers.
            loose: how names are compared.
        """
        self._full_names, self._loose = full_names, loose
        bases = self._formed(bases_of(names))
        bases = bases.combine_chunks() if isinstance(bases, pa.ChunkedArray) else bases
        encoded = bases.dictionary_encode() if len(bases) else pa.array([], pa.large_string()).dictionary_encode()
        self._bases = encoded.dictionary
        codes = encoded.indices.to_numpy()
        self._by_base = np.argsort(codes, kind="stable")
        self._starts = np.searchsorted(codes[self._by_base], np.arange(len(self._bases) + 1))

    def find(self, paths: Any) -> tuple[np.ndarray, dict[int, str]]:
        """Return the number of the file that fits each path, -1 if none does, and why.

        Args:
            paths: Arrow array of strings from a caption table.
        """
        wanted = self._formed(_relative(paths))
        bases = bases_of(wanted)
        codes = pc.fill_null(pc.index_in(bases, value_set=self._bases), -1).to_numpy()
        entry, problems = np.full(len(wanted), -1, np.int64), dict[int, str]()
        # Nearly every base name is there once: those rows are compared in blocks, the others one by one.
        many = np.diff(self._starts)[codes] != 1 if len(self._bases) else np.ones(len(codes), bool)
        single = np.flatnonzero((codes >= 0) & ~many)
        for start in range(0, len(single), _ROWS_AT_ONCE):
            rows = single[start : start + _ROWS_AT_ONCE]
            first = self._by_base[self._starts[codes[rows]]]
            entry[rows] = first
            names = self._names_of(first)
            for row, path, name in zip(rows.tolist(), wanted.take(pa.array(rows)).to_pylist(), names, strict=True):
                if not _fit(path, name):
                    entry[row], problems[row] = -1, _no_file(paths, row)
        for row in np.flatnonzero((codes < 0) | many).tolist():
            entry[row], problem = self._choose(paths, row, wanted[row].as_py(), int(codes[row]))
            if problem:
                problems[row] = problem
        return entry, problems

    def _choose(self, paths: Any, row: int, wanted: str, code: int) -> tuple[int, str | None]:
        """Return the best of several files with a row's base name, or why there is none."""
        if not wanted:
            return -1, f"{paths[row].as_py()!r} is not a path inside an image folder"
        called = self._by_base[self._starts[code] : self._starts[code + 1]] if code >= 0 else self._by_base[:0]
        names = zip(called.tolist(), self._names_of(called), strict=True)
        fits = {entry: name for entry, name in names if _fit(wanted, name)}
        if not fits:
            return -1, _no_file(paths, row)
        depth = min(name.count("/") for name in fits.values())
        best = [entry for entry, name in fits.items() if name.count("/") == depth]
        # Equal names in a zip are one file, written again: the last one counts.
        different = dict(zip(self._full_names(np.array(best)), best, strict=True))
        if len(different) > 1:
            return -1, f"{len(different)} files fit {paths[row].as_py()!r}: {', '.join(sorted(different)[:3])}"
        return best[-1], None

    def _names_of(self, entries: np.ndarray) -> list[str]:
        names = self._full_names(entries)
        return self._formed(pa.array(names, pa.large_string())).to_pylist() if self._loose else names

    def _formed(self, names: Any) -> Any:
        return pc.replace_substring_regex(pc.utf8_lower(names), _ENDING, "") if self._loose else names


def normalised(names: Any) -> Any:
    """Return names of files in NFC with plain slashes; a name with `..` becomes empty."""
    return replace_where(names, _is_odd(names), _normal, names)


def _relative(paths: Any) -> Any:
    """Return paths as `normalised` does, but what comes before a `..` and the `..` are left out."""
    return replace_where(paths, _is_odd(paths), _without_parents, paths)


def bases_of(paths: Any) -> Any:
    """Return the last component of each path."""
    return pc.replace_substring_regex(paths, "(?s)^.*/", "")


def _is_odd(paths: Any) -> Any:
    return pc.or_(pc.match_substring_regex(paths, _ODD.pattern), pc.invert(pc.string_is_ascii(paths)))


def _normal(path: str) -> str:
    names = _parts(path)
    return "" if ".." in names else "/".join(names)


def _without_parents(path: str) -> str:
    kept: list[str] = []
    for name in _parts(path):
        if name == "..":
            del kept[-1:]
        else:
            kept.append(name)
    return "/".join(kept)


def _parts(path: str) -> list[str]:
    path = unicodedata.normalize("NFC", path)
    return [name for name in path.replace("\\", "/").split("/") if name not in ("", ".")]


def _fit(path: str, name: str) -> bool:
    """Tell whether one of two paths is the end of the other, at a folder's border.

    The first folder of `name` is the zip or folder that holds the file; what is inside it is enough if it has a folder.
    """
    inside = name.partition("/")[2]
    is_end = f"/{path}".endswith((f"/{name}", f"/{inside}") if "/" in inside else f"/{name}")
    return is_end or f"/{name}".endswith(f"/{path}")


def _no_file(paths: Any, row: int) -> str:
    return f"no file fits {paths[row].as_py()!r}"
