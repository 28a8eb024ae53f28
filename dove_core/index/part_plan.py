"""The parts that an index needs: which are finished, which are outdated, and what they skipped."""

from __future__ import annotations

import re
from collections.abc import Container, Iterable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass

from dove_core.errors import DataError, SearchIndexError
from dove_core.index.parts import PartFacts, PartMark, part_name, read_facts
from dove_core.index.regions import regions_name
from dove_core.places import Place
from dove_core.sources.source import FileFacts

_AT_ONCE = 16
_PART = re.compile(r"(?:part|regions)-(\d+)\.(?:parquet|npy)")


@dataclass(frozen=True)
class PlannedPart:
    """A part: the number of its file, its mark, its input (a source and a part of it), and its files if of a folder.

    If `base` is not None, it has the rows of these files in the part with that number.
    """

    number: int
    mark: PartMark
    source: int = 0
    part: int = 0
    files: Sequence[FileFacts] = ()
    base: int | None = None


@dataclass(frozen=True)
class PartPlan:
    """The parts that `out` needs; with `regions`, each part has a file of regions too.

    Parts are known by their position in the plan, which is not the number of their file.
    """

    out: Place
    parts: Sequence[PlannedPart]
    regions: bool

    def finished(self, position: int, facts: PartFacts | None, files: Container[str]) -> PartFacts | None:
        """Return the facts of a part if it is the planned one and complete, else None; `files` are those in `out`."""
        part = self.parts[position]
        if facts is None or facts.mark != part.mark:
            return None
        return facts if not self.regions or regions_name(part.number) in files else None

    def keep(self, *, overwrite: bool) -> dict[int, PartFacts]:
        """Return the finished parts by position; others are replaced when they are made.

        Raises:
            SearchIndexError: a part is damaged or from another model, and `overwrite` is not set.
        """
        kept, files = dict[int, PartFacts](), self.out.sizes()
        names = {k: part_name(part.number) for k, part in enumerate(self.parts) if part_name(part.number) in files}
        for position, found in self._facts(names, skip_damaged=overwrite).items():
            if facts := self.finished(position, found, files):
                kept[position] = facts
            elif found and not overwrite:
                self._refuse_other_model(found)
        return kept

    def all(self) -> list[PartFacts | None]:
        """Return the facts of each part, None for those that are not finished."""
        files, positions = self.out.sizes(), range(len(self.parts))
        names = {k: part_name(self.parts[k].number) for k in positions}
        found = self._facts({k: name for k, name in names.items() if name in files})
        return [self.finished(k, found.get(k), files) for k in positions]

    def whole(self, facts: Sequence[PartFacts | None]) -> list[PartFacts]:
        """Return the facts of all parts.

        Raises:
            DataError: parts are not finished; the message names them.
        """
        missing = [part_name(self.parts[k].number) for k, one in enumerate(facts) if one is None]
        if missing:
            names = ", ".join(missing[:5]) + (" and more" if len(missing) > 5 else "")
            message = f"{self.out}: {len(missing)} of {len(facts)} parts are missing: {names}"
            raise DataError(message, hint="run the tasks that make them, or `dove embed` for all missing parts")
        return [one for one in facts if one]

    def _facts(self, names: Mapping[int, str], *, skip_damaged: bool = False) -> dict[int, PartFacts | None]:
        return dict(zip(names, facts_of(self.out, list(names.values()), skip_damaged=skip_damaged), strict=True))

    def _refuse_other_model(self, found: PartFacts) -> None:
        theirs, ours = found.mark, self.parts[0].mark if self.parts else None
        if theirs and ours and theirs.fingerprint != ours.fingerprint:
            raise other_model(self.out, theirs.fingerprint, ours.fingerprint)


def facts_of(place: Place, names: Sequence[str], *, skip_damaged: bool = False) -> list[PartFacts | None]:
    """Return the facts of some parts, None for missing ones; several are read at once, since buckets are slow.

    Raises:
        SearchIndexError: a part is damaged, and `skip_damaged` is not set.
    """

    def read(name: str) -> PartFacts | None:
        try:
            return read_facts(place, name)
        except SearchIndexError:
            if not skip_damaged:
                raise
            return None

    with ThreadPoolExecutor(_AT_ONCE) as pool:
        return list(pool.map(read, names))


def number_of(name: str) -> int | None:
    """Return the number of a part whose file, or file of regions, has this name; None for other files."""
    match = _PART.fullmatch(name)
    return int(match[1]) if match else None


def other_model(place: Place, theirs: str, ours: str) -> SearchIndexError:
    """Return the error for an index of another model."""
    message = f"{place} was made by the model {theirs}, not by {ours}"
    return SearchIndexError(message, hint="choose another folder with --out, or replace it with --overwrite")


def skipped_in(facts: Iterable[PartFacts]) -> Mapping[str, tuple[int, str]]:
    """Return what parts skipped, by reason: the number, and the first example."""
    total: dict[str, tuple[int, str]] = {}
    for one in facts:
        for reason, (count, example) in one.skipped.items():
            before, first = total.get(reason, (0, example))
            total[reason] = before + count, first
    return total
