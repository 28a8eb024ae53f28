"""A zip that grows member by member is one that every reader reads, at any size."""

from __future__ import annotations

import zipfile
import zlib
from pathlib import Path

from dove_core.data.fetching.answers import Version
from dove_core.data.fetching.subset_zip import Record, SubsetZip, local_header

VERSION = Version('"one"', 123)


def record(name: str, data: bytes, header: int) -> tuple[Record, bytes]:
    made = Record(name, zipfile.ZIP_STORED, zlib.crc32(data), len(data), len(data), header)
    return made, local_header(made) + data


def test_names_outside_ascii_and_empty_members_are_kept(tmp_path: Path):
    subset = SubsetZip(tmp_path / "a.zip")
    subset.begin(VERSION)
    records = []
    with subset.growing() as stream:
        for name, data in (("images2/äöü.jpg", b"one"), ("images2/empty.jpg", b"")):
            made, raw = record(name, data, stream.tell())
            records.append(made)
            stream.write(raw)
    assert subset.begun() == records
    subset.finish(records)
    with zipfile.ZipFile(tmp_path / "a.zip") as made:
        assert {name: made.read(name) for name in made.namelist()} == {
            "images2/äöü.jpg": b"one",
            "images2/empty.jpg": b"",
        }
    assert subset.finished() == records and subset.version() == VERSION


def test_more_members_than_16_bits_count_are_no_limit(tmp_path: Path):
    subset = SubsetZip(tmp_path / "a.zip")
    subset.begin(VERSION)
    records = []
    with subset.growing() as stream:
        for number in range(70_000):
            made, raw = record(f"{number}.jpg", b"x", stream.tell())
            records.append(made)
            stream.write(raw)
    subset.finish(records)
    with zipfile.ZipFile(tmp_path / "a.zip") as made:
        assert len(made.namelist()) == 70_000
        assert made.read("69999.jpg") == b"x"
    assert subset.finished() == records


def test_members_beyond_4_gib_are_found(tmp_path: Path):
    subset = SubsetZip(tmp_path / "a.zip")
    subset.begin(VERSION)
    with subset.part.open("ab") as sparse:
        sparse.truncate(5 * 2**30)
    made, raw = record("far.jpg", b"away", 5 * 2**30)
    with subset.growing() as stream:
        assert stream.tell() == made.header
        stream.write(raw)
    subset.finish([made])
    with zipfile.ZipFile(tmp_path / "a.zip") as far:
        assert far.read("far.jpg") == b"away"
    assert subset.finished() == [made]
    (tmp_path / "a.zip").unlink()
