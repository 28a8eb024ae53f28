"""A folder of images as an input of `dove embed`, subfolders included; `KEY.json` and `KEY.txt` belong to `KEY.jpg`."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path, PurePosixPath

from dove_core.data.reader import Record
from dove_core.data.sample import IMAGE_ENDINGS, Sample, source_of
from dove_core.data.samples import Unusable
from dove_core.data.sharding.archives import JUNK, files_below
from dove_core.data.sharding.image import MAX_IMAGE_BYTES
from dove_core.names import real_name
from dove_core.places import Folder
from dove_core.sources.metadata import MAX_TEXT, is_prose, json_in, sample_of, text_in
from dove_core.sources.source import TOO_LARGE, EarlierPart, FileFacts, Input, Source, digest_of

UNREADABLE = "unreadable file"
_BESIDE = (".json", ".txt")
_File = tuple[str, int, int]
"""Name, size and modification time of a file."""


class ImageFolder(Source):
    """The images below a folder, sorted by path; a part has `part_size` of them."""

    def __init__(self, root: Path, part_size: int, field: str) -> None:
        """List the files with the ending of an image, except hidden ones.

        Raises:
            DataError: the folder cannot be read.
        """
        self.root, self._folder, self._field, self._size = Folder(root), root, field, part_size
        files = [file for file in files_below(root) if not JUNK.search(file[0])]
        self._beside: dict[str, list[_File]] = {}
        for file in sorted(files):
            if file[0].lower().endswith(_BESIDE):
                self._beside.setdefault(_stem(file[0]), []).append(file)
        images = sorted(file for file in files if file[0].lower().endswith(IMAGE_ENDINGS))
        self._files = [FileFacts(*file, self._digest_beside(file[0])) for file in images]
        self._groups = self._grouped(self._files)

    def __len__(self) -> int:
        """Count the images."""
        return len(self._files)

    def example(self) -> str:
        """Return the name of the first image."""
        return self._files[0].name

    def inputs(self) -> Sequence[Input]:
        """Return the input of each part; its digest covers names, sizes and modification times."""
        return [Input(group[0].name, self._digest(group), len(group), group) for group in self._groups]

    def open(self, part: int) -> FolderSamples:
        """Return the images of a part."""
        group = self._groups[part]
        texts: dict[str, list[str]] = {_stem(file.name): [] for file in group}
        for text, _, _ in self._texts(group):
            texts[_stem(text)].append(text)
        return FolderSamples(self._folder, [file.name for file in group], texts, self._field)

    def continue_from(self, earlier: Sequence[EarlierPart]) -> None:
        """Keep each group of files; one of which files have gone or changed has the others; new files come last.

        A file that could not be used is tried again when its group changes.
        """
        plain = {self._digest(group): group for group in self._groups}
        left, groups = dict.fromkeys(self._files), list[list[FileFacts]]()
        for part in earlier:
            files = part.files or plain.get(part.digest, ())
            group = [file for file in files if file in left]
            if len(group) < len(files):
                group = [file for file in group if file.name in part.usable]
            for file in group:
                del left[file]
            groups += [group] if group else []
        self._groups = groups + self._grouped(list(left))

    def field(self, part: int) -> str:
        """Return the caption field of the model."""
        return self._field

    def _grouped(self, files: list[FileFacts]) -> list[list[FileFacts]]:
        return [files[start : start + self._size] for start in range(0, len(files), self._size)]

    def _digest(self, group: Sequence[FileFacts]) -> str:
        return digest_of(*((file.name, file.size, file.time) for file in group), *self._texts(group))

    def _digest_beside(self, name: str) -> str:
        texts = self._beside.get(_stem(name))
        return digest_of(*texts)[:16] if texts else ""

    def _texts(self, group: Sequence[FileFacts]) -> list[_File]:
        """Return the files with captions and metadata beside some images, each once."""
        stems = dict.fromkeys(_stem(file.name) for file in group)
        return [file for stem in stems for file in self._beside.get(stem, ())]


class FolderSamples:
    """The images of one part."""

    strict = False

    def __init__(self, root: Path, names: Sequence[str], texts: Mapping[str, Sequence[str]], field: str) -> None:
        self._root, self._names, self._texts, self._field = root, names, texts, field

    def __len__(self) -> int:
        """Count the images."""
        return len(self._names)

    def read(self, number: int) -> Record | Unusable:
        """Read an image; its key is its path below the folder."""
        name = self._names[number]
        try:
            with (self._root / real_name(name)).open("rb") as stream:
                data = stream.read(MAX_IMAGE_BYTES + 1)
        except OSError as error:
            return Unusable(UNREADABLE, f"{name}: {error.strerror}")
        if len(data) > MAX_IMAGE_BYTES:
            return Unusable(TOO_LARGE, name)
        return Record(number, name, 0, len(data), data, self._sample(name))

    def _sample(self, name: str) -> Sample:
        """Return the metadata of an image, of the JSON and the text beside it if there are any."""
        values, text = None, ""
        for beside in self._texts.get(_stem(name), ()):
            try:
                with (self._root / real_name(beside)).open("rb") as stream:
                    data = stream.read(MAX_TEXT + 1)
            except OSError:
                continue
            if len(data) > MAX_TEXT:
                continue
            if beside.lower().endswith(".txt"):
                text = text_in(data) if is_prose(text_in(data)) else ""
            else:
                values = json_in(data)
        sample = sample_of(name, values, text, self._field)
        source, gsd = source_of(PurePosixPath(name).stem)
        return replace(sample, path=name, source=sample.source or source, gsd=sample.gsd or gsd)


def _stem(name: str) -> str:
    return name.rpartition(".")[0]
