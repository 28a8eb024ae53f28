"""Our zip directories against Python's own zipfile, on good archives and on damaged ones."""

from __future__ import annotations

import io
import os
import random
import struct
import zipfile
from contextlib import suppress
from pathlib import Path

import pytest

from dove_core.data.zips import Read, ZipDirectory, content, read_directory, record_length
from dove_core.errors import DataError


def reader(data: bytes) -> Read:
    return lambda offset, length: data[offset : offset + length]


def directory_of(data: bytes) -> ZipDirectory:
    return read_directory(reader(data), len(data), "a.zip")


def member(data: bytes, directory: ZipDirectory, i: int) -> bytes:
    header, end, packed = int(directory.header[i]), int(directory.end[i]), int(directory.packed[i])
    record = reader(data)(header, record_length(header, end, packed))
    return content(record, packed, int(directory.size[i]), int(directory.crc[i]), int(directory.method[i]), "member")


def made(
    *, comment: bytes = b"", prefix: bytes = b"", method: int = zipfile.ZIP_STORED, unseekable: bool = False
) -> bytes:
    stream = io.BytesIO()
    stream.write(prefix)
    target = Unseekable(stream) if unseekable else stream
    with zipfile.ZipFile(target, "w", method) as archive:  # type: ignore[arg-type]
        archive.writestr("images2/", b"")
        for i in range(20):
            archive.writestr(f"images2/a{i}_CH_19.jpg", random.Random(i).randbytes(100 * i))
        archive.writestr("images2/城市 é.jpg", b"city")
        archive.comment = comment
    return stream.getvalue()


class Unseekable:
    """A stream that cannot go back, so that zipfile writes sizes behind the data, in descriptors."""

    def __init__(self, stream: io.BytesIO) -> None:
        self.stream = stream

    def write(self, data: bytes) -> int:
        return self.stream.write(data)

    def flush(self) -> None:
        pass


@pytest.mark.parametrize(
    "archive",
    [
        made(),
        made(method=zipfile.ZIP_DEFLATED),
        made(method=zipfile.ZIP_BZIP2),
        made(comment=b"a comment with PK in it " * 100),
        made(prefix=b"#!/bin/sh\n" * 99),
        made(unseekable=True, method=zipfile.ZIP_DEFLATED),
    ],
    ids=["stored", "deflated", "bzip2", "comment", "prefix", "descriptors"],
)
def test_every_entry_is_the_one_that_zipfile_sees(archive):
    directory = directory_of(archive)
    with zipfile.ZipFile(io.BytesIO(archive)) as other:
        entries = other.infolist()
        assert directory.names.to_pylist() == [entry.filename for entry in entries]
        assert directory.header.tolist() == [entry.header_offset for entry in entries]
        assert directory.size.tolist() == [entry.file_size for entry in entries]
        assert directory.packed.tolist() == [entry.compress_size for entry in entries]
        assert directory.crc.tolist() == [entry.CRC for entry in entries]
        assert directory.method.tolist() == [entry.compress_type for entry in entries]
        assert directory.start == other.start_dir
        for i, entry in enumerate(entries):
            assert member(archive, directory, i) == other.read(entry)


def test_zip64_members_beyond_four_gibibytes_are_found(tmp_path: Path):
    path = tmp_path / "large.zip"
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("first.jpg", b"first")
        with path.open("r+b") as hole:  # a hole in the file costs no room on the disk
            hole.truncate(5 * 2**30)
        archive.fp.seek(5 * 2**30)  # type: ignore[union-attr]
        archive.start_dir = 5 * 2**30
        archive.writestr("far.jpg", b"far away")
    with path.open("rb") as stream:
        directory = read_directory(lambda at, n: os.pread(stream.fileno(), n, at), path.stat().st_size, "large.zip")
        assert directory.names.to_pylist() == ["first.jpg", "far.jpg"]
        assert directory.header.tolist() == [0, 5 * 2**30]
        record = os.pread(stream.fileno(), 1000, int(directory.header[1]))
        assert content(record, 8, 8, int(directory.crc[1]), 0, "far.jpg") == b"far away"


def test_more_than_65535_members_are_counted():
    stream = io.BytesIO()
    with zipfile.ZipFile(stream, "w") as archive:
        for i in range(66_000):
            archive.writestr(str(i), b"")
    assert len(directory_of(stream.getvalue())) == 66_000


@pytest.mark.parametrize("cut", [0, 10, 21, 200, 3000])
def test_a_truncated_archive_is_an_error(cut):
    with pytest.raises(DataError, match=r"a\.zip cannot be read as a zip"):
        directory_of(made()[:cut])


def test_nonsense_is_a_data_error_and_nothing_else():
    archive = made(method=zipfile.ZIP_DEFLATED)
    for seed in range(500):
        dice = random.Random(seed)
        damaged = bytearray(archive)
        for _ in range(dice.choice((1, 3, 30))):
            # Mostly in the directory, where lengths and offsets are.
            at = (
                dice.randrange(len(damaged) - 2000, len(damaged))
                if dice.random() < 0.8
                else dice.randrange(len(damaged))
            )
            damaged[at] = dice.randrange(256)
        data = bytes(damaged)
        try:
            directory = directory_of(data)
        except DataError:
            continue
        for i in range(len(directory)):
            with suppress(DataError):
                assert len(member(data, directory, i)) == directory.size[i]


def test_a_member_that_unpacks_to_more_than_its_size_is_damaged_and_never_unpacked():
    stream = io.BytesIO()
    with zipfile.ZipFile(stream, "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("bomb.jpg", bytes(50_000_000))
    data = bytearray(stream.getvalue())
    at = data.rfind(b"PK\x01\x02")
    struct.pack_into("<I", data, at + 24, 10)
    with pytest.raises(DataError, match=r"length or CRC"):
        member(bytes(data), directory_of(bytes(data)), 0)


def test_an_encrypted_member_and_an_unknown_method_are_named():
    data = bytearray(made())
    directory = directory_of(bytes(data))
    struct.pack_into("<H", data, int(directory.header[3]) + 6, 1)
    with pytest.raises(DataError, match="encrypted"):
        member(bytes(data), directory, 3)
    with pytest.raises(DataError, match="method 97"):
        content(bytes(data)[int(directory.header[4]) :], 300, 300, 0, 97, "x")
