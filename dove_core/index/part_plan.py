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

_AT_ONCE = 16
_PART = re.compile(r"part-(\d+)\.parquet")


@dataclass(frozen=True)
class PartPlan:
    """The parts that `out` needs, given by their marks; with `regions`, each part has a file of regions too."""

    out: Place
    marks: Sequence[PartMark]
    regions: bool

    def finished(self, number: int, facts: PartFacts | None, files: Container[str]) -> PartFacts | None:
        """Return the facts of a part if it is the planned one and complete, else None; `files` are those in `out`."""
        if facts is None or not 0 <= number < len(self.marks) or facts.mark != self.marks[number]:
            return None
        return facts if not self.regions or regions_name(number) in files else None

    def keep(self, own: Sequence[int], *, overwrite: bool) -> dict[int, PartFacts]:
        """Return the finished parts; remove outdated parts of `own`, and parts beyond the plan.

        Outdated parts of other shares stay: another process may be replacing them.

        Raises:
            SearchIndexError: a part is damaged or from another model, and `overwrite` is not set.
        """
        kept, mine, files = dict[int, PartFacts](), set(own), self.out.sizes()
        names = {int(match[1]): name for name in files if (match := _PART.fullmatch(name))}
        for number, found in self._facts(names, skip_damaged=overwrite).items():
            if facts := self.finished(number, found, files):
                kept[number] = facts
                continue
            if found and not overwrite:
                self._refuse_other_model(found)
            if number in mine or (mine and number >= len(self.marks)):
                self.out.remove(names[number])
                self.out.remove(regions_name(number))
        return kept

    def all(self) -> list[PartFacts | None]:
        """Return the facts of each part, None for those that are not finished."""
        files, numbers = self.out.sizes(), range(len(self.marks))
        found = self._facts({number: part_name(number) for number in numbers if part_name(number) in files})
        return [self.finished(number, found.get(number), files) for number in numbers]

    def whole(self, facts: Sequence[PartFacts | None]) -> list[PartFacts]:
        """Return the facts of all parts.

        Raises:
            DataError: parts are not finished; the message names them.
        """
        missing = [part_name(number) for number, one in enumerate(facts) if one is None]
        if missing:
            names = ", ".join(missing[:5]) + (" and more" if len(missing) > 5 else "")
            message = f"{self.out}: {len(missing)} of {len(facts)} parts are missing: {names}"
            raise DataError(message, hint="run the tasks that make them, or `dove embed` for all missing parts")
        return [one for one in facts if one]

    def _facts(self, names: Mapping[int, str], *, skip_damaged: bool = False) -> dict[int, PartFacts | None]:
        """Return the facts of some parts, None for missing ones; several are read at once, since buckets are slow."""

        def read(name: str) -> PartFacts | None:
            try:
                return read_facts(self.out, name)
            except SearchIndexError:
                if not skip_damaged:
                    raise
                return None

        with ThreadPoolExecutor(_AT_ONCE) as pool:
            return dict(zip(names, pool.map(read, names.values()), strict=True))

    def _refuse_other_model(self, found: PartFacts) -> None:
        theirs, ours = found.mark, self.marks[0] if self.marks else None
        if theirs and ours and theirs.fingerprint != ours.fingerprint:
            message = f"{self.out} was made by the model {theirs.fingerprint}, not by {ours.fingerprint}"
            raise SearchIndexError(message, hint="choose another folder with --out, or replace it with --overwrite")


def skipped_in(facts: Iterable[PartFacts]) -> Mapping[str, tuple[int, str]]:
    """Return what parts skipped, by reason: the number, and the first example."""
    total: dict[str, tuple[int, str]] = {}
    for one in facts:
        for reason, (count, example) in one.skipped.items():
            before, first = total.get(reason, (0, example))
            total[reason] = before + count, first
    return total
