"""Which parts of an index to be are finished, which are of no use, and what they left out."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from dove_core.errors import DataError, SearchIndexError
from dove_core.search.parts import PartFacts, PartMark, part_name, read_facts
from dove_core.search.regions import regions_name


@dataclass(frozen=True)
class PartPlan:
    """The parts that a folder is to hold, by their marks; with `regions`, each with a file of regions beside it."""

    out: Path
    marks: Sequence[PartMark]
    regions: bool

    def finished(self, number: int, found: PartFacts | None) -> PartFacts | None:
        """Return what a part says of itself if it is the planned one, and whole."""
        if found is None or not 0 <= number < len(self.marks) or found.mark != self.marks[number]:
            return None
        return found if not self.regions or (self.out / regions_name(number)).exists() else None

    def keep(self, own: Sequence[int], *, overwrite: bool) -> dict[int, PartFacts]:
        """Return the parts that are finished; remove those of `own` that are of no use, and those of a larger plan.

        Others' parts are theirs to remove: they may be making them anew just now.

        Raises:
            SearchIndexError: a part is damaged, or another model's, and `overwrite` is not set.
        """
        kept, mine = dict[int, PartFacts](), set(own)
        for path in sorted(self.out.glob("part-[0-9]*.parquet")):
            number = int(path.stem.removeprefix("part-"))
            try:
                found = read_facts(path)
            except SearchIndexError:
                if not overwrite:
                    raise
                found = None
            if facts := self.finished(number, found):
                kept[number] = facts
                continue
            if found and not overwrite:
                self._refuse_other_model(found)
            if number in mine or (mine and number >= len(self.marks)):
                path.unlink(missing_ok=True)
                (self.out / regions_name(number)).unlink(missing_ok=True)
        return kept

    def all(self) -> list[PartFacts | None]:
        """Return what each part says of itself, None for those that are not finished."""
        numbers = range(len(self.marks))
        return [self.finished(number, read_facts(self.out / part_name(number))) for number in numbers]

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
