"""Which files of a release the settings ask for, as whole archives or as single members of them."""

from __future__ import annotations

import dataclasses
import re
from dataclasses import dataclass

from dove_core.bounds import option_name
from dove_core.config import FetchConfig
from dove_core.data.fetching.catalog import Release, RemoteFile
from dove_core.errors import UsageError

_WHOLE_FROM = 0.4
"""From this share of the images on, whole archives are fetched: fewer requests, and an MD5 may be published."""

_CHOOSING = ("split", "captions", "parts", "meta", "limit")


@dataclass(frozen=True)
class FileSelection:
    """Files that are wanted, captions first.

    Attributes:
        files: in the release's order.
        is_by_member: only the members that the tables name are wanted, not whole archives.
        is_cut: the tables name more images than are wanted: shorter ones take their places.
        share: approximate share of the chosen archives' images that is wanted.
        members: approximate number of images in one archive.
    """

    files: tuple[RemoteFile, ...]
    is_by_member: bool
    is_cut: bool
    share: float
    members: int

    def of(self, kind: str) -> list[RemoteFile]:
        """Return the files of a kind."""
        return [file for file in self.files if file.kind == kind]


def select(release: Release, config: FetchConfig) -> FileSelection:
    """Choose a release's files by the settings.

    Raises:
        UsageError: the release has no such archives, or is only fetched as a whole.
    """
    known = {file.archive for file in release.files if file.archive}
    has_tables = any(file.kind == "table" for file in release.files)
    if not (has_tables and known):
        return FileSelection(_whole_files(release, config), False, False, 1.0, 0)
    archives = _archives(config.parts, known, release)
    tables = [file for file in release.files if _is_chosen_table(file, config)]
    rows = sum(min(file.rows, config.limit or file.rows) for file in tables)
    share = min(1.0, rows / release.images) if release.images else 1.0
    if config.limit and release.images:  # all images of a limit are from the chosen archives
        share = min(1.0, share * len(known) / len(archives))
    kinds = ("images", "meta") if config.meta else ("images",)
    files = tuple(file for file in release.files if file in tables or (file.kind in kinds and file.archive in archives)
                  or file.kind == "other")  # fmt: skip
    narrowed = config.split != "all" or config.limit > 0
    is_cut = config.limit > 0 or archives != known
    return FileSelection(files, narrowed and share < _WHOLE_FROM, is_cut, share, release.images // len(known))


def _is_chosen_table(file: RemoteFile, config: FetchConfig) -> bool:
    chosen = not file.captions or config.captions in file.captions
    return file.kind == "table" and chosen and config.split in ("all", file.split)


def _archives(text: str, known: set[int], release: Release) -> set[int]:
    """Return the numbers of archives that `--parts` names."""
    if text.strip().lower() == "all":
        return known
    listed = ", ".join(map(str, sorted(known)))
    if not re.fullmatch(r"\s*\d+\s*(,\s*\d+\s*)*", text):
        hint = f"write all, or some of {listed}: --parts 2,3"
        raise UsageError(f"--parts {text!r} is not a list of numbers", hint=hint)
    numbers = {int(number) for number in text.split(",")}
    if numbers - known:
        unknown = ", ".join(map(str, sorted(numbers - known)))
        raise UsageError(f"{release.name} has no archive {unknown}", hint=f"its archives are {listed}")
    return numbers


def _whole_files(release: Release, config: FetchConfig) -> tuple[RemoteFile, ...]:
    """Return the files of a release that has no archives to choose from, but perhaps files for each split."""
    plain, has_splits = FetchConfig(), any(file.split for file in release.files)
    for field in dataclasses.fields(config):
        is_possible = field.name not in _CHOOSING or (field.name == "split" and has_splits)
        if not is_possible and getattr(config, field.name) != getattr(plain, field.name):
            option = option_name(field.name) if field.name != "meta" else "--no-meta"
            what = "has its captions and images in the same files" if has_splits else "is fetched as a whole"
            message = f"{release.name} {what}: {option} works with skyscript only"
            raise UsageError(message, hint=f"leave {option} out")
    chosen = tuple(file for file in release.files if config.split in ("all", file.split))
    if not chosen:
        splits = sorted({file.split for file in release.files if file.split})
        raise UsageError(
            f"{release.name} has no files of split {config.split}", hint=f"its splits: {', '.join(splits)}"
        )
    return chosen
