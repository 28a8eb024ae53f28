"""Members of a remote zip become plain files, each whole or absent."""

from __future__ import annotations

import json
import os
import zipfile
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest

from dove_core.config import FetchConfig, ShardConfig
from dove_core.data.fetching.fetch import fetch
from dove_core.data.fetching.members import KeptDirectory, MemberFetch, runs_of
from dove_core.data.fetching.origins import opened
from dove_core.data.fetching.transfers import Transfers
from dove_core.data.sharding.shards import shard_release
from dove_core.data.zips import ZipDirectory
from dove_core.errors import DataError
from tests.data.mirror import QUICK, Mirror, archive, jpeg, rows_of, stem
from tests.http_server import Served, Server, serving

TEST = FetchConfig(split="test")


@pytest.fixture(autouse=True)
def direct(monkeypatch: pytest.MonkeyPatch) -> None:
    """Keep a proxy of this machine out of the way: the server is here."""
    monkeypatch.setenv("NO_PROXY", "127.0.0.1")


@pytest.fixture
def server() -> Iterator[Server]:
    with serving() as running:
        yield running


def bring(server: Server, folder: Path, members: dict[str, bytes]) -> None:
    """Fetch all members of an archive that is made of these."""
    server.files["images2.zip"] = Served(archive(members, method=zipfile.ZIP_DEFLATED))
    transfers = Transfers(4, QUICK)
    with opened(server.url(), 4) as origin_of:
        origin = origin_of("images2.zip")
        version = origin.examine().version
        directory = KeptDirectory(folder / ".fetch", "images2", version).fetch(origin, transfers)
        one = MemberFetch(origin, version, directory, np.arange(len(directory)), folder / "images2", transfers)
        transfers.at_once(one.bring, one.begin())
        one.finish()


def test_names_outside_ascii_folders_and_empty_members_are_kept(server, tmp_path):
    bring(server, tmp_path, {"images2/äöü.jpg": b"one", "images2/a/b.jpg": b"two", "images2/images2/empty.jpg": b""})
    found = {path.relative_to(tmp_path).as_posix(): path.read_bytes() for path in tmp_path.glob("images2/**/*.jpg")}
    assert found == {"images2/äöü.jpg": b"one", "images2/a/b.jpg": b"two", "images2/empty.jpg": b""}


@pytest.mark.parametrize(
    "name", ["images2/../../evil.jpg", "/evil.jpg", "images2/..", "a\\..\\evil.jpg", "../evil.jpg"]
)
def test_a_name_that_leads_out_of_the_folder_is_refused(server, tmp_path, name):
    with pytest.raises(DataError, match="not a valid path"):
        bring(server, tmp_path / "in" / "out", {"images2/good.jpg": b"good", name: b"evil"})
    assert not list(tmp_path.rglob("*evil*"))


def test_what_an_interrupted_call_left_is_checked_by_crc_and_a_finished_folder_by_length(server, tmp_path):
    mirror = Mirror(server)
    fetch(mirror.release(), tmp_path, TEST, retry=QUICK)
    path, note = tmp_path / "images2" / f"{stem(2, 15)}.jpg", tmp_path / "images2.subset.json"
    assert json.loads(note.read_text()) == {
        "format": 1, "mark": '"one"', "size": len(mirror.bodies["images2.zip"]),
    }  # fmt: skip
    zeros = bytes(len(jpeg(2, 15)))
    path.write_bytes(zeros)
    fetch(mirror.release(), tmp_path, TEST, retry=QUICK)
    assert path.read_bytes() == zeros
    note.unlink()
    server.asked.clear()
    fetch(mirror.release(), tmp_path, TEST, retry=QUICK)
    assert path.read_bytes() == jpeg(2, 15)
    assert 0 < mirror.sent() < 10_000


def test_a_file_that_was_deleted_or_cut_is_fetched_again(server, tmp_path):
    mirror = Mirror(server)
    fetch(mirror.release(), tmp_path, TEST, retry=QUICK)
    (tmp_path / "images2" / f"{stem(2, 15)}.jpg").unlink()
    os.truncate(tmp_path / "images3" / f"{stem(3, 20)}.jpg", 100)
    server.asked.clear()
    fetch(mirror.release(), tmp_path, TEST, retry=QUICK)
    assert (tmp_path / "images2" / f"{stem(2, 15)}.jpg").read_bytes() == jpeg(2, 15)
    assert (tmp_path / "images3" / f"{stem(3, 20)}.jpg").read_bytes() == jpeg(3, 20)
    assert 0 < mirror.sent() < 10_000


def test_of_a_renewed_archive_only_the_members_that_differ_are_fetched(server, tmp_path):
    mirror = Mirror(server)
    fetch(mirror.release(), tmp_path, TEST, retry=QUICK)
    with zipfile.ZipFile(tmp_path / "source.zip", "w") as made:
        for part, number in rows_of("test", (2,)):
            made.writestr(f"images2/{stem(part, number)}.jpg", jpeg(part, 19 if number == 15 else number))
        made.writestr("images2/padding.jpg", bytes(200_000))
    server.files["images2.zip"] = Served((tmp_path / "source.zip").read_bytes(), etag='"two"')
    server.asked.clear()
    fetch(mirror.release(), tmp_path, TEST, retry=QUICK)
    assert (tmp_path / "images2" / f"{stem(2, 15)}.jpg").read_bytes() == jpeg(2, 19)
    assert mirror.sent("images2") < 70_000  # the end of the zip with the directory, and one member


def older_subset(mirror: Mirror, folder: Path, count: int) -> None:
    """Put a release into a folder as earlier versions of dove left it: smaller zips with some members."""
    for part in (2, 3):
        images = {f"images{part}/{stem(part, n)}.jpg": jpeg(part, n) for n in range(10, 10 + count)}
        (folder / f"images{part}.zip").write_bytes(archive(images))
        (folder / f"images{part}.zip.subset.json").write_text(json.dumps({"format": 1, "mark": '"one"', "size": 9}))
        (folder / f"images{part}.zip.subset.part").write_bytes(b"left over")


def test_a_smaller_zip_of_an_earlier_version_is_sharded_as_before(server, tmp_path):
    mirror = Mirror(server)
    (tmp_path / "new").mkdir()
    (tmp_path / "old" / "dataframe").mkdir(parents=True)
    fetch(mirror.release(), tmp_path / "new", FetchConfig(split="test", meta=False), retry=QUICK)
    older_subset(mirror, tmp_path / "old", 20)
    (tmp_path / "old/dataframe/Tiny_test.csv").write_bytes(mirror.bodies["dataframe/Tiny_test.csv"])
    for name in ("new", "old"):
        shard_release(tmp_path / name, tmp_path / f"{name}-shards", ShardConfig(shard_size=16, max_bad=0))
    new = {path.name: path.read_bytes() for path in (tmp_path / "new-shards/test").glob("*.tar")}
    assert len(new) == 3
    assert new == {path.name: path.read_bytes() for path in (tmp_path / "old-shards/test").glob("*.tar")}


def test_a_smaller_zip_of_an_earlier_version_is_unpacked_and_only_the_rest_is_fetched(server, tmp_path):
    mirror = Mirror(server)
    older_subset(mirror, tmp_path, 15)
    fetch(mirror.release(), tmp_path, TEST, retry=QUICK)
    found = {path.read_bytes() for path in tmp_path.glob("images*/*.jpg")}
    assert found == {jpeg(part, number) for part, number in rows_of("test")}
    assert not list(tmp_path.glob("images*.zip*"))
    rest = sum(len(jpeg(part, number)) for part in (2, 3) for number in range(25, 30))
    assert rest < mirror.sent("images") < 1.3 * rest + 2 * 67_000


def directory_of(lengths: list[int]) -> ZipDirectory:
    """Return a directory of stored members of these lengths, one behind the other."""
    ends = np.cumsum(lengths)
    numbers = np.array(lengths)
    zeros = np.zeros(len(lengths), dtype=np.int64)
    names = np.array([f"{n}.jpg" for n in range(len(lengths))])
    return ZipDirectory(names, ends - numbers, ends, numbers - 40, numbers - 40, zeros, zeros, int(ends[-1]), "")


def test_neighbours_come_in_one_request_and_a_tenth_of_the_bytes_may_be_waste():
    directory = directory_of([1000, 1000, 50, 1000, 50_000, 1000])
    runs = runs_of(directory, np.array([0, 1, 3, 5]))
    assert [(run.start, run.end, run.members.tolist()) for run in runs] == [
        (0, 3050, [0, 1, 3]),
        (53_050, 54_050, [5]),
    ]


def test_a_run_is_never_longer_than_four_mib():
    runs = runs_of(directory_of([2**20] * 10), np.arange(10))
    assert [len(run.members) for run in runs] == [4, 4, 2]
