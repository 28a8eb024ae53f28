"""Several inputs of one call: each folder is one, and all files of one kind are one."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

from dove_core.config import EmbedConfig
from dove_core.data.manifest import MANIFEST
from dove_core.events import Report
from dove_core.places import Folder, Place
from dove_core.sources.open import TABLES, TARS, open_source, scenes_in
from dove_core.sources.source import Source
from dove_core.sources.tiles import ENDINGS as SCENES

_MOST_NAMED = 3


@dataclass(frozen=True)
class InputGroup:
    """A folder or bucket, with an empty kind, or files of the kind `.tar`, `.parquet`, or `.tif` for all others."""

    kind: str
    places: tuple[Place, ...]

    def __str__(self) -> str:
        names = ", ".join(map(str, self.places[:_MOST_NAMED]))
        return names if len(self.places) <= _MOST_NAMED else f"{names} and {len(self.places) - _MOST_NAMED} more"


def group_inputs(places: Sequence[Place]) -> list[InputGroup]:
    """Divide the inputs of a call into groups, each of which becomes one source; a place given twice counts once."""
    found: dict[str, list[Place]] = {}
    for place in {place.resolved: place for place in places}.values():
        kind = _kind(place)
        found.setdefault(kind or f"/{place}", []).append(place)
    return [InputGroup("" if key.startswith("/") else key, tuple(group)) for key, group in found.items()]


def settings_of(groups: Sequence[InputGroup], settings: EmbedConfig) -> list[EmbedConfig]:
    """Return the settings of each group; with `settings.tile`, only groups with scenes are cut into tiles."""
    plain = replace(settings, tile=0, stride=0, bands="")
    cut = [_has_scenes(group) for group in groups] if settings.tile else []
    return [settings if not any(cut) or cut[k] else plain for k in range(len(groups))]


def cut_by(settings: EmbedConfig) -> str:
    """Return the options that decide how scenes are cut, such as `--tile 256 --bands 4,3,2`."""
    given = {"--tile": settings.tile, "--stride": settings.stride, "--bands": settings.bands}
    return " ".join(f"{option} {value}" for option, value in given.items() if value)


def open_groups(
    groups: Sequence[InputGroup], settings: Sequence[EmbedConfig], field: str, report: Report
) -> list[Source]:
    """Open the sources of some groups, each with its settings.

    Raises:
        UsageError, DataError: as `open_source`.
    """
    return [open_source(group.places, own, field, report) for group, own in zip(groups, settings, strict=True)]


def _kind(place: Place) -> str:
    """Return the kind of a file, `.tif` if it is no archive; empty for other places and what does not exist."""
    if not isinstance(place, Folder) or not place.path.is_file():
        return ""
    ending = place.path.suffix.lower()
    return ending if ending in (*TARS, *TABLES) else SCENES[0]


def _has_scenes(group: InputGroup) -> bool:
    place = group.places[0]
    if group.kind or not isinstance(place, Folder):
        return group.kind == SCENES[0]
    has_manifest = place.has(MANIFEST) or any(place.path.glob(f"*/{MANIFEST}"))
    return not has_manifest and place.path.is_dir() and bool(scenes_in(place.path)[0])
