"""Files that the user has already are adopted, and only the rest is fetched."""

from __future__ import annotations

import hashlib
import zipfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from dove_core.config import FetchConfig, ShardConfig
from dove_core.data.fetching.fetch import fetch, plan_fetch
from dove_core.data.sharding.shards import shard_release
from dove_core.errors import DownloadError, UsageError
from dove_core.events import Event, Noted
from tests.data.mirror import QUICK, Mirror, tiny_release
from tests.http_server import serving


@pytest.fixture(autouse=True)
def direct(monkeypatch: pytest.MonkeyPatch) -> None:
    """Keep a proxy of this machine out of the way: the server is here."""
    monkeypatch.setenv("NO_PROXY", "127.0.0.1")


@pytest.fixture
def mirror() -> Iterator[Mirror]:
    with serving() as server:
        yield Mirror(server)


def have(mirror: Mirror, folder: Path, *names: str) -> Path:
    """Put some files of the release flat into a folder, as a browser would."""
    folder.mkdir()
    for name in names:
        (folder / Path(name).name).write_bytes(mirror.bodies[name])
    return folder


def bring(tiny: Mirror, folder: Path, config: FetchConfig = FetchConfig(), **settings) -> list[Event]:
    events: list[Event] = []
    release = settings.pop("release", tiny.release())
    fetch(release, folder, config, retry=QUICK, report=events.append, **settings)
    return events


def test_zips_are_linked_and_only_the_rest_is_fetched(mirror, tmp_path):
    mine = have(mirror, tmp_path / "mine", "images2.zip", "meta3.zip", "dataframe/Tiny_val.csv")
    bring(mirror, tmp_path / "out", adopt=mine)
    for name, body in mirror.bodies.items():
        assert "laion" in name or (tmp_path / "out" / name).read_bytes() == body
    assert (tmp_path / "out/images2.zip").samefile(mine / "images2.zip")
    fetched = {asked.path for asked in mirror.server.asked if not asked.is_probe}
    assert fetched == {"/images3.zip", "/meta2.zip", "/dataframe/Tiny_train.csv", "/dataframe/Tiny_test.csv"}


def test_an_unpacked_folder_stands_for_its_zip(mirror, tmp_path):
    mine = tmp_path / "mine"
    with zipfile.ZipFile(mirror_zip(mirror, tmp_path, "images2.zip")) as packed:
        packed.extractall(mine)
    bring(mirror, tmp_path / "out", adopt=mine)
    assert mirror.server.gets("images2.zip") == []
    assert not (tmp_path / "out/images2.zip").exists()
    shard_release(tmp_path / "out", tmp_path / "shards", ShardConfig(max_bad=0))
    mirror.server.asked.clear()
    bring(mirror, tmp_path / "out")
    assert mirror.sent() == 0


def mirror_zip(mirror: Mirror, folder: Path, name: str) -> Path:
    (folder / f"source-{name}").write_bytes(mirror.bodies[name])
    return folder / f"source-{name}"


def test_a_subset_comes_out_of_what_was_adopted(mirror, tmp_path):
    mine = have(mirror, tmp_path / "mine", "images2.zip", "images3.zip", "meta2.zip", "meta3.zip")
    bring(mirror, tmp_path / "out", FetchConfig(limit=5), adopt=mine)
    assert mirror.sent("images") == mirror.sent("meta") == 0
    manifests = shard_release(tmp_path / "out", tmp_path / "shards", ShardConfig(max_bad=0))
    assert [manifest.samples for manifest in manifests] == [5, 5, 5]


def test_a_file_of_another_length_is_not_adopted_but_fetched(mirror, tmp_path):
    mine = have(mirror, tmp_path / "mine", "images2.zip")
    (mine / "images2.zip").write_bytes(mirror.bodies["images2.zip"][:-9])
    bring(mirror, tmp_path / "out", adopt=mine)
    assert (tmp_path / "out/images2.zip").read_bytes() == mirror.bodies["images2.zip"]


def test_a_file_with_another_sum_than_the_published_one_is_an_error(mirror, tmp_path):
    mine = have(mirror, tmp_path / "mine", "images2.zip")
    body = bytearray(mirror.bodies["images2.zip"])
    body[5000] ^= 1
    (mine / "images2.zip").write_bytes(body)
    release = mirror.release({"images2.zip": hashlib.md5(mirror.bodies["images2.zip"]).hexdigest()})
    with pytest.raises(DownloadError, match="a third party"):
        bring(mirror, tmp_path / "out", release=release, adopt=mine)
    assert not (tmp_path / "out/images2.zip").exists()
    bring(mirror, tmp_path / "out", FetchConfig(checksum=False), release=release, adopt=mine)
    assert (tmp_path / "out/images2.zip").read_bytes() == bytes(body)


def test_where_the_server_is_out_of_reach_what_is_here_is_adopted_and_the_rest_is_named(mirror, tmp_path):
    with serving() as gone:
        base = gone.url()
    mine = have(mirror, tmp_path / "mine", "images2.zip", "dataframe/Tiny_val.csv")
    events: list[Event] = []
    with pytest.raises(DownloadError) as caught:
        fetch(tiny_release(base), tmp_path / "out", retry=QUICK, adopt=mine, report=events.append)
    assert "cannot be reached" in caught.value.message and "images3.zip" in caught.value.message
    assert (tmp_path / "out/images2.zip").read_bytes() == mirror.bodies["images2.zip"]
    assert any(isinstance(event, Noted) and event.message.startswith("adopted") for event in events)


def test_where_everything_is_adopted_no_server_is_needed(mirror, tmp_path):
    with serving() as gone:
        base = gone.url()
    mine = have(mirror, tmp_path / "mine", *(name for name in mirror.bodies if "laion" not in name))
    fetch(tiny_release(base), tmp_path / "out", retry=QUICK, adopt=mine)
    shard_release(tmp_path / "out", tmp_path / "shards", ShardConfig(max_bad=0))


def test_without_a_server_a_web_page_saved_as_a_table_is_not_adopted(mirror, tmp_path):
    with serving() as gone:
        base = gone.url()
    mine = have(mirror, tmp_path / "mine", *mirror.bodies)
    (mine / "Tiny_val.csv").write_text("<html>not found</html>")
    with pytest.raises(DownloadError, match=r"Tiny_val\.csv"):
        fetch(tiny_release(base), tmp_path / "out", retry=QUICK, adopt=mine)


def test_where_everything_is_adopted_a_limit_needs_no_server(mirror, tmp_path):
    with serving() as gone:
        base = gone.url()
    mine = have(mirror, tmp_path / "mine", *(name for name in mirror.bodies if "laion" not in name))
    fetch(tiny_release(base), tmp_path / "out", FetchConfig(limit=5), retry=QUICK, adopt=mine)
    manifests = shard_release(tmp_path / "out", tmp_path / "shards", ShardConfig(max_bad=0))
    assert [manifest.samples for manifest in manifests] == [5, 5, 5]


def test_the_plan_says_what_would_be_adopted_and_touches_nothing(mirror, tmp_path):
    mine = have(mirror, tmp_path / "mine", "images2.zip")
    plan = plan_fetch(mirror.release(), tmp_path / "out", FetchConfig(), adopt=mine, retry=QUICK)
    states = {planned.file.path: (planned.state, planned.to_come) for planned in plan.files}
    assert states["images2.zip"] == ("adoptable", 0)
    assert states["images3.zip"] == ("absent", len(mirror.bodies["images3.zip"]))
    assert not (tmp_path / "out").exists()


def test_a_place_that_is_not_a_folder_is_a_usage_error(mirror, tmp_path):
    with pytest.raises(UsageError, match="not a folder"):
        bring(mirror, tmp_path / "out", adopt=tmp_path / "none")
