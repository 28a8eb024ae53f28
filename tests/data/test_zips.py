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


def with_zip64_end(data: bytes, prefix: bytes = b"") -> bytes:
    """Return a zip whose end record is one of Zip64, as large archives have it, behind some other bytes."""
    at = data.rfind(b"PK\x05\x06")
    count, length, offset = struct.unpack_from("<HII", data, at + 10)
    end = struct.pack("<4sQHHIIQQQQ", b"PK\x06\x06", 44, 45, 45, 0, 0, count, count, length, offset)
    locator = struct.pack("<4sIQI", b"PK\x06\x07", 0, at, 1)
    plain = struct.pack("<4sHHHHIIH", b"PK\x05\x06", 0, 0, 0xFFFF, 0xFFFF, 0xFFFFFFFF, 0xFFFFFFFF, 0)
    return prefix + data[:at] + end + locator + plain


AROUND = {
    "Zip64": with_zip64_end(made()),
    "Zip64 behind other bytes": with_zip64_end(made(), b"#!/bin/sh\n" * 10),
    "an end record's mark in the comment": made(comment=b"made by PK\x05\x06 tool, " * 3),
    "foreign bytes at the end": made() + b"\r\n" * 10,
    "many foreign bytes at the end": made() + b"\0" * 70_000,
}


@pytest.mark.parametrize("archive", AROUND.values(), ids=AROUND.keys())
def test_what_is_around_a_zip_does_not_matter(archive: bytes) -> None:
    plain, directory = directory_of(made()), directory_of(archive)
    assert directory.names.equals(plain.names)
    for i in range(len(plain)):
        assert member(archive, directory, i) == member(made(), plain, i)


OTHERS = {
    "RAR": (b"Rar!\x1a\x07\x00" + b"\0" * 100, "a RAR archive", "unrar x a.zip"),
    "gzip": (b"\x1f\x8b" + b"\0" * 100, "compressed by gzip", "tar -xf a.zip"),
    "a tar": (b"x.jpg".ljust(257, b"\0") + b"ustar\0" + b"\0" * 300, "a tar", "tar -xf a.zip"),
    "a pointer": (b"version https://git-lfs.github.com/spec/v1\noid sha256:4d7a\n", "a pointer of Git LFS", "git lfs"),
    "a page": (b"<!DOCTYPE html><title>Virus scan warning</title>", "a web page", "fetch it again"),
    "nothing": (b"", "empty", "fetch it again"),
}


@pytest.mark.parametrize(("data", "kind", "advice"), OTHERS.values(), ids=OTHERS.keys())
def test_a_file_of_another_kind_is_called_what_it_is(data: bytes, kind: str, advice: str) -> None:
    with pytest.raises(DataError, match=f"a.zip cannot be read as a zip: it is {kind}") as caught:
        directory_of(data)
    assert advice in caught.value.hint


def test_the_last_file_of_several_is_one_alone() -> None:
    data = bytearray(made())
    struct.pack_into("<HH", data, data.rfind(b"PK\x05\x06") + 4, 2, 2)
    with pytest.raises(DataError, match="it is the last of 3 files of one zip"):
        directory_of(bytes(data[len(data) // 2 :]))


@pytest.mark.parametrize("prefix", [0, 1])
def test_offsets_that_lost_their_upper_bits_are_found_again(tmp_path: Path, prefix: int) -> None:
    """Archives of macOS over 4 GB have no Zip64: offsets are modulo 2**32. Holes of a sparse file stand for members."""
    data = made()
    end = data.rfind(b"PK\x05\x06")
    length, start = struct.unpack_from("<II", data, end + 12)
    bodies, directory = data[:start], bytearray(data[start:end])
    places, new, gap = [], 0, 2**31 - 5000
    with (tmp_path / "mac.zip").open("wb") as file:
        at = 0
        while at < len(directory):
            n, extra, comment = struct.unpack_from("<HHH", directory, at + 28)
            old = struct.unpack_from("<I", directory, at + 42)[0]
            following = [o for o in offsets_in(bytes(directory)) if o > old]
            body = bodies[old : min(following, default=start)]
            file.seek(prefix * 2**32 + new)
            file.write(body)
            places.append(prefix * 2**32 + new)
            struct.pack_into("<I", directory, at + 42, new % 2**32 if not prefix else new)
            new += len(body) + (gap if not prefix and len(places) % 5 == 0 else 0)
            at += 46 + n + extra + comment
        end_record = struct.pack("<4sHHHHIIH", b"PK\x05\x06", 0, 0, len(places), len(places), length, new % 2**32, 0)
        file.seek(prefix * 2**32 + new)
        file.write(bytes(directory) + end_record)
    with (tmp_path / "mac.zip").open("rb") as file:

        def read(offset: int, length: int) -> bytes:
            return os.pread(file.fileno(), length, offset)

        found = read_directory(read, os.fstat(file.fileno()).st_size, "mac.zip")
        assert found.header.tolist() == places
        plain = directory_of(data)
        for i in range(len(plain)):
            record = read(int(found.header[i]), 4000)
            facts = (int(one[i]) for one in (found.packed, found.size, found.crc, found.method))
            assert content(record, *facts, "member") == member(data, plain, i)


def offsets_in(directory: bytes) -> list[int]:
    found, at = [], 0
    while at < len(directory):
        n, extra, comment = struct.unpack_from("<HHH", directory, at + 28)
        found.append(struct.unpack_from("<I", directory, at + 42)[0])
        at += 46 + n + extra + comment
    return found
