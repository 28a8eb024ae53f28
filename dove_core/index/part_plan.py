"""Which parts of an index to be are finished, which are of no use, and what they left out."""

from __future__ import annotations

import re
from collections.abc import Container, Iterable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass

from dove_core.errors import DataError, SearchIndexError
from dove_core.index.parts import PartFacts, PartMark, part_name, read_facts
from dove_core.index.regions import regions_name
from dove_core.places import Place

_AT_ONCE = 16
_PART = re.compile(r"part-(\d+)\.parquet")


@dataclass(frozen=True)
class PartPlan:
    """The parts that a folder is to hold, by their marks; with `regions`, each with a file of regions beside it."""

    out: Place
    marks: Sequence[PartMark]
    regions: bool

    def finished(self, number: int, found: PartFacts | None, there: Container[str]) -> PartFacts | None:
        """Return what a part says of itself if it is the planned one, and whole; `there` are the files in `out`."""
        if found is None or not 0 <= number < len(self.marks) or found.mark != self.marks[number]:
            return None
        return found if not self.regions or regions_name(number) in there else None

    def keep(self, own: Sequence[int], *, overwrite: bool) -> dict[int, PartFacts]:
        """Return the parts that are finished; remove those of `own` that are of no use, and those of a larger plan.

        Others' parts are theirs to remove: they may be making them anew just now.

        Raises:
            SearchIndexError: a part is damaged, or another model's, and `overwrite` is not set.
        """
        kept, mine, there = dict[int, PartFacts](), set(own), self.out.sizes()
        names = {int(match[1]): name for name in there if (match := _PART.fullmatch(name))}
        for number, found in self._facts(names, damaged_too=overwrite).items():
            if facts := self.finished(number, found, there):
                kept[number] = facts
                continue
            if found and not overwrite:
                self._refuse_other_model(found)
            if number in mine or (mine and number >= len(self.marks)):
                self.out.remove(names[number])
                self.out.remove(regions_name(number))
        return kept

    def all(self) -> list[PartFacts | None]:
        """Return what each part says of itself, None for those that are not finished."""
        there, numbers = self.out.sizes(), range(len(self.marks))
        found = self._facts({number: part_name(number) for number in numbers if part_name(number) in there})
        return [self.finished(number, found.get(number), there) for number in numbers]

    def whole(self, facts: Sequence[PartFacts | None]) -> list[PartFacts]:
        """Return the facts of all parts.

        Raises:
            DataError: some are not finished; the message names them.
        """
        missing = [part_name(number) for number, one in enumerate(facts) if one is None]
        if missing:
            names = ", ".join(missing[:5]) + (" and more" if len(missing) > 5 else "")
            message = f"{self.out}: {len(missing)} of {len(facts)} parts are not there yet: {names}"
            raise DataError(message, hint="run the tasks that make them, or `dove embed` for all that is missing")
        return [one for one in facts if one]

    def _facts(self, names: Mapping[int, str], *, damaged_too: bool = False) -> dict[int, PartFacts | None]:
        """Return what some parts say of themselves; several are read at once, since a bucket takes its time."""

        def read(name: str) -> PartFacts | None:
            try:
                return read_facts(self.out, name)
            except SearchIndexError:
                if not damaged_too:
                    raise
                return None

        with ThreadPoolExecutor(_AT_ONCE) as pool:
            return dict(zip(names, pool.map(read, names.values()), strict=True))

    def _refuse_other_model(self, found: PartFacts) -> None:
        theirs, ours = found.mark, self.marks[0] if self.marks else None
        if theirs and ours and theirs.fingerprint != ours.fingerprint:
            message = f"{self.out} was made by the model {theirs.fingerprint}, not by {ours.fingerprint}"
            raise SearchIndexError(message, hint="name another folder with --out, or make it anew with --overwrite")


def left_out(facts: Iterable[PartFacts]) -> Mapping[str, tuple[int, str]]:
    """Add up what parts left out, by reason: how many, and the first example."""
    total: dict[str, tuple[int, str]] = {}
    for one in facts:
        for reason, (count, example) in one.skipped.items():
            before, first = total.get(reason, (0, example))
            total[reason] = before + count, first
    return total
