"""A folder of images as an input of `dove embed`, subfolders included."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path, PurePosixPath

from dove_core.data.reader import Record
from dove_core.data.sample import Sample, source_of
from dove_core.data.samples import Unusable
from dove_core.data.sharding.archives import IMAGE_ENDINGS, JUNK, files_below
from dove_core.data.sharding.image import MAX_IMAGE_BYTES
from dove_core.places import Folder
from dove_core.sources.source import TOO_LARGE, EarlierPart, FileFacts, Input, Source, digest_of

UNREADABLE = "unreadable file"


class ImageFolder(Source):
    """The images below a folder, sorted by path; a part has `part_size` of them."""

    def __init__(self, root: Path, part_size: int, field: str) -> None:
        """List the files with the ending of an image, except hidden ones.

        Raises:
            DataError: the folder cannot be read.
        """
        self.root, self._folder, self._field, self._size = Folder(root), root, field, part_size
        self._files = sorted(
            file for file in files_below(root) if file[0].lower().endswith(IMAGE_ENDINGS) and not JUNK.search(file[0])
        )
        self._groups = self._grouped(self._files)

    def __len__(self) -> int:
        """Count the images."""
        return len(self._files)

    def inputs(self) -> Sequence[Input]:
        """Return the input of each part; its digest covers names, sizes and modification times."""
        return [Input(group[0][0], digest_of(*group), len(group), group) for group in self._groups]

    def open(self, part: int) -> FolderSamples:
        """Return the images of a part."""
        return FolderSamples(self._folder, [name for name, _, _ in self._groups[part]])

    def continue_from(self, earlier: Sequence[EarlierPart]) -> None:
        """Keep each group of files; one of which files have gone or changed has the others; new files come last.

        A file that could not be used is tried again when its group changes.
        """
        plain = {digest_of(*group): group for group in self._groups}
        left, groups = dict.fromkeys(self._files), list[list[FileFacts]]()
        for part in earlier:
            files = part.files or plain.get(part.digest, ())
            group = [file for file in files if file in left]
            if len(group) < len(files):
                group = [file for file in group if file[0] in part.usable]
            for file in group:
                del left[file]
            groups += [group] if group else []
        self._groups = groups + self._grouped(list(left))

    def field(self, part: int) -> str:
        """Return the caption field of the model; a folder has no captions."""
        return self._field

    def _grouped(self, files: list[FileFacts]) -> list[list[FileFacts]]:
        return [files[start : start + self._size] for start in range(0, len(files), self._size)]


class FolderSamples:
    """The images of one part."""

    strict = False

    def __init__(self, root: Path, names: Sequence[str]) -> None:
        self._root, self._names = root, names

    def __len__(self) -> int:
        """Count the images."""
        return len(self._names)

    def read(self, number: int) -> Record | Unusable:
        """Read an image; its key is its path below the folder."""
        name = self._names[number]
        try:
            with (self._root / name).open("rb") as stream:
                data = stream.read(MAX_IMAGE_BYTES + 1)
        except OSError as error:
            return Unusable(UNREADABLE, f"{name}: {error.strerror}")
        if len(data) > MAX_IMAGE_BYTES:
            return Unusable(TOO_LARGE, name)
        source, gsd = source_of(PurePosixPath(name).stem)
        return Record(number, name, 0, len(data), data, Sample(name, name, {}, source=source, gsd=gsd))
