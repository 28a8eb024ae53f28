"""Parquet files with images inside as an input of `dove embed`."""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial
from pathlib import Path

from dove_core.data.parquet_images import ImageParquet, RowReader, describe_parquet, row_address, row_name
from dove_core.data.reader import Record
from dove_core.data.sample import Sample, clean_captions, key_of, source_of
from dove_core.data.samples import Unusable
from dove_core.data.sharding.image import MAX_IMAGE_BYTES
from dove_core.errors import DataError, reason_of
from dove_core.events import Noted, Report, Skipped
from dove_core.places import Folder
from dove_core.processes import OwnFile
from dove_core.sources.source import TOO_LARGE, Input, Source, digest_of

NO_IMAGE, DAMAGED, UNUSABLE = "no image in the row", "damaged Parquet file", "Parquet file without images"


class ParquetFiles(Source):
    """Several files; a part has `part_size` rows of one file."""

    has_captions = True

    def __init__(self, root: Path, files: Sequence[Path], part_size: int, field: str, report: Report) -> None:
        """Read the footer of every file; those that are damaged or have no images are skipped.

        Args:
            root: a folder that contains all files.
            files: the files, in the order of the parts.
            part_size: rows in a part.
            field: the caption field of the model; captions of other fields are used if there are none of it.
            report: receives skipped files, and the chosen columns.

        Raises:
            DataError: no file can be used.
        """
        self.root, self._folder, self._field, self._size = Folder(root), root, field, part_size
        self._files, errors = list[tuple[str, ImageParquet, str]](), list[DataError]()
        for path in files:
            name = path.relative_to(root).as_posix()
            try:
                file = describe_parquet(path)
            except DataError as error:
                errors.append(error)
            else:
                self._files.append((name, file, digest_of(name, file.size, file.modified)))
        if errors and not self._files:
            raise errors[0]
        if errors:
            report(Skipped("embedding", UNUSABLE, len(errors), errors[0].message))
        for columns in dict.fromkeys(str(file.columns) for _, file, _ in self._files):
            report(Noted(columns))
        self._parts = [
            (number, start)
            for number, (_, file, _) in enumerate(self._files)
            for start in range(0, len(file), part_size)
        ]

    def inputs(self) -> Sequence[Input]:
        """Return the rows of each part; the digest covers name, size and modification time of the file."""
        return [self._input(number, start) for number, start in self._parts]

    def open(self, part: int) -> ParquetSamples:
        """Return the rows of a part."""
        number, start = self._parts[part]
        name, file, _ = self._files[number]
        return ParquetSamples(self._folder, name, range(len(file))[start : start + self._size], self._field)

    def field(self, part: int) -> str:
        """Return the caption field of the model."""
        return self._field

    def _input(self, number: int, start: int) -> Input:
        name, file, digest = self._files[number]
        rows = range(len(file))[start : start + self._size]
        return Input(f"{name}#rows={rows.start}-{rows.stop}", digest, len(rows))


class ParquetSamples:
    """The rows of one part."""

    strict = False

    def __init__(self, root: Path, name: str, rows: range, field: str) -> None:
        self._path, self._name, self._rows, self._field = root / name, name, rows, field
        self._file = OwnFile(partial(RowReader, self._path, name, texts=True))

    def __len__(self) -> int:
        """Count the rows."""
        return len(self._rows)

    def read(self, number: int) -> Record | Unusable:
        """Read an image with its captions; its key is that of a shard of `dove shard`."""
        row = self._rows[number]
        address = row_address(self._name, row)
        try:
            reader = self._file.get()
            values = reader.read(row)
        except DataError as error:
            return Unusable(DAMAGED, error.message)
        except OSError as error:
            return Unusable(DAMAGED, f"{self._path}: {reason_of(error)}")
        image = reader.columns.image_in(values)
        if not image:
            return Unusable(NO_IMAGE, address)
        if len(image) > MAX_IMAGE_BYTES:
            return Unusable(TOO_LARGE, address)
        name = reader.columns.name_in(values) or row_name(self._name, row)
        key = key_of(name)
        source, gsd = source_of(key)
        captions = self._captions(reader.columns.captions_in(values))
        return Record(number, address, 0, 0, image, Sample(key, name, captions, source=source, gsd=gsd))

    def _captions(self, raw: dict[str, list[str]]) -> dict[str, tuple[str, ...]]:
        """Return the captions of the model's field, or else of the first field with one."""
        fields = {name: clean_captions(texts) for name, texts in raw.items()}
        found = fields.get(self._field) or next(filter(None, fields.values()), ())
        return {self._field: found} if found else {}
