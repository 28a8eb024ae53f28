"""From an index and the inputs of a call to the parts that the index is to have, and what has changed."""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Iterable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, replace

from dove_core.addresses import follow_path, path_between, place_of
from dove_core.errors import SearchIndexError
from dove_core.events import Updated
from dove_core.index.manifest import IndexedInput, IndexManifest
from dove_core.index.part_plan import PartPlan, PlannedPart, facts_of
from dove_core.index.parts import PartFacts, PartMark, part_name, read_contents, read_part
from dove_core.places import Place
from dove_core.sources.groups import InputGroup
from dove_core.sources.source import EarlierPart, Source

_HINT = "add the new input with --add, replace the old one with --replace, or choose another folder with --out"


@dataclass(frozen=True)
class Matched:
    """The groups of a call, each with the number of the index's input that it is, None for a new one.

    `cuts` are the options by which their scenes are cut into tiles. `others` are the inputs of the index that the call
    does not name, and that stay.
    """

    groups: Sequence[InputGroup]
    numbers: Sequence[int | None]
    cuts: Sequence[str]
    others: Sequence[int]


def match_inputs(
    out: Place, old: IndexManifest | None, groups: Sequence[InputGroup], cuts: Sequence[str], *, add: bool,
    replace_all: bool,
) -> Matched:  # fmt: skip
    """Find the inputs of a call among those of the index.

    Raises:
        SearchIndexError: they are others, and neither `add` nor `replace_all` is set; or their tiles would be cut in
            another way, and `replace_all` is not set.
    """
    known = old.known if old else []
    found, numbers = list[InputGroup](), list[int | None]()
    for group in groups:
        number = next((k for k, one in enumerate(known) if k not in numbers and _is_same(out, one, group)), None)
        if add and number is not None and group.kind:
            earlier = [follow_path(out, path) for path in known[number].paths]
            there = [place for place in earlier if place.parent.has(_name(place))]
            group = replace(group, places=tuple({one.resolved: one for one in (*there, *group.places)}.values()))
        found.append(group)
        numbers.append(number)
    if not replace_all:
        for number, cut in zip(numbers, cuts, strict=True):
            _require_same_cut(out, known, number, cut)
    others = [k for k in range(len(known)) if k not in numbers]
    if add:
        return Matched(found, numbers, cuts, others)
    is_other = None in numbers or others or any(map(lambda g, k: _drops(out, known, g, k), found, numbers))
    if known and is_other and not replace_all:
        theirs = ", ".join(_described(out, one) for one in known)
        message = f"{out} was made from {theirs}, not from {', '.join(map(str, groups))}"
        raise SearchIndexError(message, hint=_HINT)
    return Matched(found, numbers, cuts, [])


@dataclass(frozen=True)
class Outline:
    """The parts that the opened sources need, the inputs of the index, and the parts of inputs that are not opened."""

    plan: PartPlan
    inputs: Sequence[IndexedInput]
    others: Mapping[int, int]
    """Number of rows of each part of the other inputs, by its number."""
    lost: Sequence[int]
    """Numbers of the parts that the index has and that cannot be read."""

    def counts(self, facts: Sequence[PartFacts]) -> dict[int, int]:
        """Return the number of rows of each part of the index, by its number, when all planned ones are made."""
        made = {part.number: one.rows for part, one in zip(self.plan.parts, facts, strict=True)}
        return {**self.others, **made}


def outline(
    out: Place, old: IndexManifest | None, matched: Matched, sources: Sequence[Source], fingerprint: str, regions: bool
) -> Outline:
    """Plan the parts of an index: those of the index so far that still fit keep their numbers.

    Without an index so far, parts are numbered from 0 as in the order of the sources.
    """
    reusable = old if old and old.fingerprint == fingerprint else None
    number, new_input = (old.next_part, len(old.known)) if old else (0, 0)
    planned, inputs = list[PlannedPart](), {k: old.known[k] for k in matched.others} if old else {}
    lost = list[int]()
    called = zip(matched.groups, matched.numbers, matched.cuts, sources, strict=True)
    for k, (group, at, cut, source) in enumerate(called):
        numbers = reusable.known[at].parts if reusable and at is not None else []
        earlier = _earlier_parts(out, numbers)
        lost += [part for part in numbers if part not in earlier]
        source.continue_from([one for _, one in earlier.values()])
        there = {(facts.mark.input, facts.mark.digest): n for n, (facts, _) in earlier.items() if facts.mark}
        bases = {file: n for n, (_, one) in earlier.items() for file in one.files if file.name in one.usable}
        mine = []
        for part, one in enumerate(source.inputs()):
            mark, kept = PartMark(fingerprint, one.name, one.digest), there.pop((one.name, one.digest), None)
            base = bases.get(one.files[0]) if one.files and kept is None else None
            planned.append(PlannedPart(number if kept is None else kept, mark, k, part, one.files, base))
            number += kept is None
            mine.append(planned[-1].number)
        root = path_between(out, source.root)
        paths = [path_between(out, place) for place in group.places]
        absolute = [str(place.absolute) for place in group.places]
        inputs[new_input + k if at is None else at] = IndexedInput(group.kind, paths, absolute, root, "", mine, cut)
    ordered = [inputs[k] for k in sorted(inputs)]
    rows = old.rows_of if old else {}
    others = {part: rows[part] for k in matched.others for part in inputs[k].parts}
    return Outline(PartPlan(out, planned, regions), _with_prefixes(out, ordered), others, lost)


def count_changes(out: Place, old: IndexManifest, counts: Mapping[int, int], name: str) -> Updated:
    """Compare the images of an index so far with those of its new parts; images of lost parts count as added."""
    before, after = _contents_of(out, set(old.parts) - counts.keys()), _contents_of(out, counts.keys() - set(old.parts))
    kept = sum(rows for part, rows in old.rows_of.items() if part in counts)
    changed, came, went = 0, Counter[bytes | None](), Counter[bytes | None]()
    for key in before.keys() | after.keys():
        there, here = before[key], after[key]
        same = there & here
        kept += same.total()
        there, here = there - same, here - same
        both = min(there.total(), here.total())
        changed += both
        came.update(list(here.elements())[both:])
        went.update(list(there.elements())[both:])
    moved = sum(count for content, count in (came & went).items() if content)
    return Updated(name, came.total() - moved, changed, went.total() - moved, moved, kept)


def _contents_of(out: Place, parts: Iterable[int]) -> defaultdict[str, Counter[bytes | None]]:
    found = defaultdict[str, Counter[bytes | None]](Counter)
    for part in sorted(parts):
        with suppress(SearchIndexError, FileNotFoundError), out.local_path(part_name(part)) as path:
            keys = read_part(path, ["key"])["key"].to_pylist()
            for key, content in zip(keys, read_contents(path), strict=True):
                found[key][content] += 1
    return found


def _earlier_parts(out: Place, numbers: Sequence[int]) -> dict[int, tuple[PartFacts, EarlierPart]]:
    """Return the facts of parts that exist, and their files if they are of a folder."""
    found = {}
    names = [part_name(number) for number in numbers]
    for number, name, facts in zip(numbers, names, facts_of(out, names, skip_damaged=True), strict=True):
        if facts is None or facts.mark is None:
            continue
        usable = set[str]()
        if facts.files and facts.skipped:
            with out.local_path(name) as path:
                usable = set(read_part(path, ["shard"])["shard"].to_pylist())
        elif facts.files:
            usable = {file.name for file in facts.files}
        found[number] = facts, EarlierPart(facts.mark.digest, facts.files, usable)
    return found


def _with_prefixes(out: Place, inputs: Sequence[IndexedInput]) -> list[IndexedInput]:
    """Return inputs with what comes before the names of their files in rows."""
    if not inputs:
        return []
    first = follow_path(out, inputs[0].root)
    roots = [follow_path(out, one.root) for one in inputs]
    prefixes = ["" if root == first else f"{path_between(first, root)}/" for root in roots]
    return [replace(one, prefix=prefix) for one, prefix in zip(inputs, prefixes, strict=True)]


def _is_same(out: Place, known: IndexedInput, group: InputGroup) -> bool:
    """Tell whether a group of a call is this input of an index; the files of one kind are one input."""
    if known.kind == "?":  # of an earlier version
        return _root_of(group).resolved == follow_path(out, known.root).resolved
    if known.kind or group.kind:
        return known.kind == group.kind
    return group.places[0].resolved in _places_of(out, known)


def _require_same_cut(out: Place, known: Sequence[IndexedInput], number: int | None, cut: str) -> None:
    """Refuse to replace the tiles of an input by others.

    Raises:
        SearchIndexError: they were cut in another way.
    """
    before = known[number].cut if number is not None else None
    if number is None or before is None or before == cut:
        return
    name = _described(out, known[number])
    theirs, ours = (f"with {one}" if one else "without --tile" for one in (before, cut))
    again = f"give {before}" if before else "leave out --tile"
    raise SearchIndexError(
        f"{out} has {name} {theirs}; this call is {ours}",
        hint=f"{again}, replace what the index has with --replace, or choose another folder with --out",
    )


def _drops(out: Place, known: Sequence[IndexedInput], group: InputGroup, number: int | None) -> bool:
    """Tell whether a call leaves out files of an input that still exist, or has none of them."""
    if number is None or known[number].kind in ("", "?"):
        return False
    files, given = _places_of(out, known[number]), {place.resolved for place in group.places}
    return not files & given or any(file.parent.has(_name(file)) for file in files - given)


def _places_of(out: Place, known: IndexedInput) -> set[Place]:
    """Return where the places of an input are, and where they were when the index was made."""
    relative = {follow_path(out, path).resolved for path in known.paths}
    return relative | {place_of(path, out.cache).resolved for path in known.absolute}


def _root_of(group: InputGroup) -> Place:
    return group.places[0] if not group.kind else group.places[0].parent


def _described(out: Place, known: IndexedInput) -> str:
    return str(InputGroup(known.kind, tuple(follow_path(out, path) for path in known.paths)))


def _name(place: Place) -> str:
    return place.url.rsplit("/", 1)[-1]
