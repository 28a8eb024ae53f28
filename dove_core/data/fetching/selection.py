"""Which files of a release the settings ask for, and whether whole archives or single members of them."""

from __future__ import annotations

import dataclasses
import re
from dataclasses import dataclass

from dove_core.bounds import option_name
from dove_core.config import FetchConfig
from dove_core.data.fetching.catalog import RELEASES, Release, RemoteFile
from dove_core.errors import UsageError

WHOLE_FROM = 0.4
"""From this share of an archive on, the whole of it is fetched: no requests for members, and there may be a sum."""

_CHOOSING = ("split", "captions", "parts", "meta", "limit")


@dataclass(frozen=True)
class Selection:
    """Files that are wanted, captions first.

    Attributes:
        files: in the release's order.
        is_by_member: archives are not wanted whole, only the members that the tables name.
        is_cut: the tables name more images than are wanted: shorter ones take their places.
        share: images that are wanted, as a share of those in the chosen archives, roughly.
        members: images in one archive, roughly.
    """

    files: tuple[RemoteFile, ...]
    is_by_member: bool
    is_cut: bool
    share: float
    members: int

    def of(self, kind: str) -> list[RemoteFile]:
        """Return the files of a kind."""
        return [file for file in self.files if file.kind == kind]


def find_release(name: str) -> Release:
    """Return a release by its name; case does not matter, and _ is as good as -.

    Raises:
        UsageError: there is none of that name.
    """
    release = RELEASES.get(name.lower().replace("_", "-"))
    if release is None:
        raise UsageError(f"there is no release {name!r}", hint=f"choose from sample, {', '.join(RELEASES)}")
    return release


def select(release: Release, config: FetchConfig) -> Selection:
    """Choose a release's files by the settings.

    Raises:
        UsageError: a setting is out of bounds, or the release has nothing to choose from.
    """
    parts_here = {file.part for file in release.files if file.part}
    has_tables = any(file.kind == "table" for file in release.files)
    if not (has_tables and parts_here):
        _refuse_choices(release, config)
        return Selection(release.files, False, False, 1.0, 0)
    parts = _parts(config.parts, parts_here, release)
    tables = [file for file in release.files if _is_chosen_table(file, config)]
    rows = sum(min(file.rows, config.limit or file.rows) for file in tables)
    share = min(1.0, rows / release.images) if release.images else 1.0
    if config.limit and release.images:  # all of a limit comes from the chosen parts
        share = min(1.0, share * len(parts_here) / len(parts))
    kinds = ("images", "meta") if config.meta else ("images",)
    files = tuple(file for file in release.files if file in tables or (file.kind in kinds and file.part in parts)
                  or file.kind == "other")  # fmt: skip
    narrowed = config.split != "all" or config.limit > 0
    is_cut = config.limit > 0 or parts != parts_here
    return Selection(files, narrowed and share < WHOLE_FROM, is_cut, share, release.images // len(parts_here))


def _is_chosen_table(file: RemoteFile, config: FetchConfig) -> bool:
    chosen = not file.captions or config.captions in file.captions
    return file.kind == "table" and chosen and config.split in ("all", file.split)


def _parts(text: str, known: set[int], release: Release) -> set[int]:
    if text.strip().lower() == "all":
        return known
    listed = ", ".join(map(str, sorted(known)))
    if not re.fullmatch(r"\s*\d+\s*(,\s*\d+\s*)*", text):
        raise UsageError(
            f"--parts {text!r} is not a list of numbers", hint=f"write all, or some of {listed}: --parts 2,3"
        )
    parts = {int(number) for number in text.split(",")}
    if parts - known:
        odd = ", ".join(map(str, sorted(parts - known)))
        raise UsageError(f"{release.name} has no part {odd}", hint=f"its parts are {listed}")
    return parts


def _refuse_choices(release: Release, config: FetchConfig) -> None:
    plain = FetchConfig()
    for field in dataclasses.fields(config):
        if field.name in _CHOOSING and getattr(config, field.name) != getattr(plain, field.name):
            option = option_name(field.name) if field.name != "meta" else "--no-meta"
            raise UsageError(
                f"{release.name} has nothing to choose from: {option} goes with skyscript", hint="leave it out"
            )
