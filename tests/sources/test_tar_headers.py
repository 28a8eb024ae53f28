"""`tar_headers` finds the same members as `tarfile`."""

from __future__ import annotations

import io
import os
import random
import tarfile
from pathlib import Path

import pytest

from dove_core.errors import DataError
from dove_core.sources.tar_headers import Member, members

FORMATS = {"ustar": tarfile.USTAR_FORMAT, "gnu": tarfile.GNU_FORMAT, "pax": tarfile.PAX_FORMAT}


def parsed(path: Path) -> list[Member]:
    file = os.open(path, os.O_RDONLY)
    try:
        return list(members(file))
    finally:
        os.close(file)


def expected(path: Path) -> list[Member]:
    with tarfile.open(path, "r:", encoding="utf-8", errors="replace") as tar:
        return [Member(m.name, m.offset_data, m.size) for m in tar if m.isreg()]


def write(path: Path, form: int, seed: int) -> Path:
    dice = random.Random(seed)
    with tarfile.open(path, "w", format=form) as tar:
        for k in range(60):
            long = form != tarfile.USTAR_FORMAT
            folder = dice.choice(("", "a/", "b" * dice.randrange(1, 90) + "/", "港" * 25 + "/" if long else "c/"))
            member = tarfile.TarInfo(f"{folder}{k:03d}{'x' * dice.choice((0, 3, 300 if long else 50))}.jpg")
            member.size = dice.choice((0, 1, 511, 512, 513, 5000))
            member.mtime = dice.choice((0, 1_600_000_000, 1.5)) if form == tarfile.PAX_FORMAT else 7
            member.type = dice.choice((tarfile.REGTYPE,) * 6 + (tarfile.DIRTYPE, tarfile.SYMTYPE, tarfile.CONTTYPE))
            if member.issym():
                member.linkname = "y" * dice.choice((5, 300 if long else 20))
            if not member.isreg():
                member.size = 0
            if form == tarfile.PAX_FORMAT and dice.random() < 0.2:
                member.pax_headers = {"comment": "a b=c\n" * dice.randrange(200), "SCHILY.xattr.user.a": "é"}
            tar.addfile(member, io.BytesIO(dice.randbytes(member.size)))
    return path


@pytest.mark.parametrize("seed", range(5))
@pytest.mark.parametrize("form", FORMATS)
def test_members_of_every_format_have_the_offsets_that_tarfile_finds(tmp_path, form, seed):
    path = write(tmp_path / "a.tar", FORMATS[form], seed)
    assert parsed(path) == expected(path)
    assert len(parsed(path)) > 20


@pytest.mark.parametrize("form", FORMATS)
def test_a_truncated_tar_yields_its_complete_members_and_then_an_error(tmp_path, form):
    path = write(tmp_path / "a.tar", FORMATS[form], 1)
    whole, data, dice = parsed(path), path.read_bytes(), random.Random(2)
    end = whole[-1].offset
    for cut in sorted(dice.randrange(1, end) for _ in range(120)):
        path.write_bytes(data[:cut])
        found, file = [], os.open(path, os.O_RDONLY)
        try:
            found.extend(members(file))
            message = ""
        except DataError as error:
            message = error.message
        finally:
            os.close(file)
        complete = [member for member in whole if member.offset + member.size <= cut]
        found_whole = [member for member in found if member.size]
        assert found_whole == [member for member in complete if member.size][: len(found_whole)]
        assert len(found_whole) >= len([member for member in complete if member.size])
        in_padding = any(0 <= cut - member.offset - member.size < 512 for member in complete)
        assert message or cut % 512 == 0 or in_padding, "without an error, a tar ends between two members"


@pytest.mark.parametrize("seed", range(40))
def test_damage_is_an_error_or_harmless_and_never_gives_an_offset_outside_the_file(tmp_path, seed):
    path = write(tmp_path / "a.tar", tarfile.PAX_FORMAT, seed)
    dice, data = random.Random(seed), bytearray(path.read_bytes())
    for _ in range(dice.choice((1, 30))):
        data[dice.randrange(len(data))] = dice.randrange(256)
    path.write_bytes(data)
    file = os.open(path, os.O_RDONLY)
    try:
        for member in members(file):
            assert member.offset + member.size <= len(data)
    except DataError as error:
        assert error.message
    finally:
        os.close(file)


def test_sizes_beyond_eight_gigabytes_are_read(tmp_path):
    for form in (tarfile.GNU_FORMAT, tarfile.PAX_FORMAT):
        member = tarfile.TarInfo("a.jpg")
        member.size = 9 * 2**30
        path = tmp_path / "a.tar"
        header = member.tobuf(form)
        with path.open("wb") as stream:
            stream.write(header)
            stream.truncate(len(header) + member.size + 1024)  # a hole
        assert parsed(path) == [Member("a.jpg", len(header), 9 * 2**30)]


@pytest.mark.parametrize(
    ("data", "message"),
    [
        (b"<html>" * 200, "no valid header at byte 0"), (b"x", "the header at byte 0 is truncated"), (b"", None),
        (bytes(1024), None),
    ],
)  # fmt: skip
def test_a_file_that_is_not_a_tar_is_an_error(tmp_path, data, message):
    (tmp_path / "a.tar").write_bytes(data)
    if message is None:
        assert parsed(tmp_path / "a.tar") == []
        return
    with pytest.raises(DataError, match=message):
        parsed(tmp_path / "a.tar")
