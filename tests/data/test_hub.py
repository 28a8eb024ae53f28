"""Data sets of the Hugging Face Hub are fetched from a server that speaks its protocol."""

from __future__ import annotations

import random
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest

from dove_core.config import FetchConfig
from dove_core.data.fetching.catalog import RELEASES
from dove_core.data.fetching.fetch import fetch, plan_fetch
from dove_core.data.fetching.lookup import find_release
from dove_core.errors import DownloadError, UsageError
from dove_core.events import Event, Noted
from tests.data.mirror import QUICK, archive
from tests.http_server import Served, Server, serving
from tests.hub_server import STRANGER, TOKEN, HubServer, hub_serving, use_in_this_process

SPLITS = ("train", "valid", "test")
FILES = {
    f"data/{split}-00000-of-00001.parquet": b"PAR1" + random.Random(split).randbytes(200_000) + b"PAR1"
    for split in SPLITS
}
TRAIN, VALID, TEST = FILES
ZIP = archive({"RSICD/a.jpg": b"an image"})


@pytest.fixture(autouse=True)
def hub(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[HubServer]:
    with hub_serving() as server:
        monkeypatch.delenv("HF_TOKEN", raising=False)
        use_in_this_process(server, tmp_path / "home", monkeypatch)
        server.add("arampacha/rsicd", {**FILES, "README.md": b"# RSICD", ".gitattributes": b"*.parquet"})
        yield server


@pytest.fixture
def bucket() -> Iterator[Server]:
    """The server that has the zip."""
    with serving() as server:
        server.files["benchmark/RSICD.zip"] = Served(ZIP)
        yield server


def rsicd_on(bucket: Server):
    """Return the release with its second place on the test's server."""
    release = RELEASES["rsicd"]
    (other,) = release.alternatives
    return replace(release, alternatives=(replace(other, base_url=bucket.url()),))


def contents(folder: Path) -> dict[str, bytes]:
    return {str(path.relative_to(folder)): path.read_bytes() for path in folder.rglob("*.parquet")}


def gets(hub: HubServer) -> int:
    return sum(not asked.is_probe for asked in hub.blobs.asked)


def test_rsicd_comes_from_the_hub_at_the_repositorys_own_paths(hub, bucket, tmp_path):
    paths = fetch(rsicd_on(bucket), tmp_path / "rsicd", retry=QUICK)
    assert paths == [tmp_path / "rsicd" / path for path in FILES]
    assert contents(tmp_path / "rsicd") == FILES
    assert not bucket.asked
    assert fetch(rsicd_on(bucket), tmp_path / "rsicd", retry=QUICK) == paths
    assert gets(hub) == 3


def test_a_plan_shows_addresses_and_sizes_without_a_download(hub, tmp_path):
    plan = plan_fetch(RELEASES["rsicd"], tmp_path, retry=QUICK)
    addresses = [hub.url(f"datasets/arampacha/rsicd/resolve/main/{path}") for path in FILES]
    assert [file.address for file in plan.files] == addresses
    assert plan.to_come == sum(map(len, FILES.values()))
    assert plan.source == hub.url("datasets/arampacha/rsicd/resolve/main/")
    assert gets(hub) == 0


@pytest.mark.parametrize(("split", "path"), [("train", TRAIN), ("val", VALID), ("test", TEST)])
def test_a_split_is_chosen_by_the_names_of_files(tmp_path, split, path):
    fetch(RELEASES["rsicd"], tmp_path, FetchConfig(split=split), retry=QUICK)
    assert contents(tmp_path) == {path: FILES[path]}


def test_an_interrupted_file_resumes_although_both_hosts_have_other_etags(hub, tmp_path):
    hub.blob(FILES[TRAIN]).drops = [50_000] + [0] * QUICK.retries
    with pytest.raises(DownloadError, match="closed connection"):
        fetch(RELEASES["rsicd"], tmp_path, retry=QUICK)
    hub.blob(FILES[TRAIN]).etag = '"another one, as of another cache"'
    fetch(RELEASES["rsicd"], tmp_path, retry=QUICK)
    assert contents(tmp_path) == FILES
    assert sum(asked.sent for asked in hub.blobs.asked if not asked.is_probe) == sum(map(len, FILES.values()))


def test_a_file_that_was_replaced_in_the_repository_starts_over(hub, tmp_path):
    hub.blob(FILES[TRAIN]).drops = [50_000] + [0] * QUICK.retries
    with pytest.raises(DownloadError):
        fetch(RELEASES["rsicd"], tmp_path, FetchConfig(split="train"), retry=QUICK)
    newer = b"PAR1" + random.Random("newer").randbytes(200_000) + b"PAR1"
    hub.repositories.clear()
    hub.add("arampacha/rsicd", {TRAIN: newer})
    fetch(RELEASES["rsicd"], tmp_path, FetchConfig(split="train"), retry=QUICK)
    assert contents(tmp_path) == {TRAIN: newer}


@pytest.mark.parametrize("fault", ["missing", "gated", "silent"])
def test_the_next_place_is_tried_where_the_first_has_not_all_files(hub, bucket, tmp_path, monkeypatch, fault):
    if fault == "missing":
        del hub.repositories[0].files[TEST]
    elif fault == "gated":
        hub.repositories[0].is_gated = True
    else:
        with hub_serving() as gone:
            use_in_this_process(gone, tmp_path / "home", monkeypatch)
    events: list[Event] = []
    (path,) = fetch(rsicd_on(bucket), tmp_path / "rsicd", retry=QUICK, report=events.append)
    assert path == tmp_path / "rsicd/benchmark/RSICD.zip"
    assert path.read_bytes() == ZIP
    assert any(isinstance(event, Noted) and f"; trying {bucket.url()}" in event.message for event in events)


def test_if_no_place_has_it_the_error_is_that_of_the_first(hub, bucket, tmp_path):
    hub.repositories[0].is_gated = True
    bucket.files["benchmark/RSICD.zip"].status = 403
    with pytest.raises(DownloadError, match="is gated") as caught:
        fetch(rsicd_on(bucket), tmp_path / "rsicd", retry=QUICK)
    assert "HF_TOKEN" in caught.value.hint
    assert [asked.path for asked in bucket.asked] == ["/benchmark/RSICD.zip"]


def test_what_is_here_from_the_second_place_is_not_fetched_again_from_the_first(hub, bucket, tmp_path):
    hub.repositories[0].is_gated = True
    fetch(rsicd_on(bucket), tmp_path / "rsicd", retry=QUICK)
    hub.repositories[0].is_gated = False
    fetch(rsicd_on(bucket), tmp_path / "rsicd", retry=QUICK)
    assert not contents(tmp_path / "rsicd") and gets(hub) == 0


def test_a_folder_of_the_users_decides_between_the_places(hub, bucket, tmp_path):
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine/RSICD.zip").write_bytes(ZIP)
    fetch(rsicd_on(bucket), tmp_path / "rsicd", adopt=tmp_path / "mine", retry=QUICK)
    assert (tmp_path / "rsicd/benchmark/RSICD.zip").samefile(tmp_path / "mine/RSICD.zip")
    for path in FILES:
        (tmp_path / "mine" / Path(path).name).write_bytes(FILES[path])
    (tmp_path / "mine/RSICD.zip").unlink()
    fetch(rsicd_on(bucket), tmp_path / "other", adopt=tmp_path / "mine", retry=QUICK)
    assert contents(tmp_path / "other") == FILES
    assert gets(hub) == 0


def test_a_cut_parquet_file_is_not_adopted_where_the_server_says_no_length(hub, bucket, tmp_path, monkeypatch):
    (tmp_path / "mine").mkdir()
    for path in FILES:
        (tmp_path / "mine" / Path(path).name).write_bytes(FILES[path][:-5])
    with hub_serving() as gone:
        use_in_this_process(gone, tmp_path / "home", monkeypatch)
    bucket.files.clear()
    with pytest.raises(DownloadError, match=r"cannot be reached .*still missing: data/train"):
        fetch(rsicd_on(bucket), tmp_path / "rsicd", adopt=tmp_path / "mine", retry=QUICK)


def test_the_token_is_sent_to_the_hub_and_never_to_the_other_host(hub, tmp_path, monkeypatch):
    hub.repositories[0].is_gated = True
    monkeypatch.setenv("HF_TOKEN", TOKEN)
    fetch(RELEASES["rsicd"], tmp_path, retry=QUICK)
    assert contents(tmp_path) == FILES
    assert all(asked.headers["Authorization"] == f"Bearer {TOKEN}" for asked in hub.asked)
    assert hub.blobs.asked and not any("Authorization" in asked.headers for asked in hub.blobs.asked)


def test_a_mirror_never_sees_the_token(hub, tmp_path, monkeypatch):
    monkeypatch.setenv("HF_TOKEN", TOKEN)
    with serving() as mirror:
        mirror.files.update({path: Served(body) for path, body in FILES.items()})
        fetch(RELEASES["rsicd"], tmp_path, mirror=mirror.url(), retry=QUICK)
        assert mirror.asked and not any("Authorization" in asked.headers for asked in mirror.asked)
    assert not hub.asked


@pytest.mark.parametrize(
    ("token", "message", "hint"),
    [
        ("", r"arampacha/rsicd is gated.*\(401\)", "accept the terms at http"),
        (STRANGER, r"arampacha/rsicd is gated.*\(403\)", "set HF_TOKEN to a token of that account"),
        ("hf_wrong", r"does not accept the token .*\(401\)", "set HF_TOKEN to a valid token"),
    ],
)
def test_a_gated_repository_says_what_to_do(hub, tmp_path, monkeypatch, token, message, hint):
    hub.repositories[0].is_gated = True
    if token:
        monkeypatch.setenv("HF_TOKEN", token)
    with pytest.raises(DownloadError, match=message) as caught:
        fetch(RELEASES["rsicd"], tmp_path, mirror="hf://datasets/arampacha/rsicd", retry=QUICK)
    assert hint in caught.value.hint


def test_any_data_set_is_fetched_by_its_name(hub, tmp_path):
    files = {"en/train/0000.parquet": FILES[TRAIN], "en/validation/0000.parquet": FILES[VALID],
             "more/extra.parquet": FILES[TEST], "notes.txt": b"no image"}  # fmt: skip
    hub.add("some-lab/sat.pairs", files)
    release = find_release("hf:some-lab/sat.pairs")
    assert release.name == "some-lab-sat.pairs"
    assert {file.path: file.split for file in release.files} == {
        "en/train/0000.parquet": "train", "en/validation/0000.parquet": "val", "more/extra.parquet": "",
    }  # fmt: skip
    fetch(release, tmp_path / "all", retry=QUICK)
    assert contents(tmp_path / "all") == {path: body for path, body in files.items() if path.endswith("parquet")}
    fetch(release, tmp_path / "val", FetchConfig(split="val"), retry=QUICK)
    assert set(contents(tmp_path / "val")) == {"en/validation/0000.parquet"}
    with pytest.raises(UsageError, match="no files of split test") as caught:
        fetch(release, tmp_path / "test", FetchConfig(split="test"), retry=QUICK)
    assert "train, val" in caught.value.hint


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("hf:some-lab/none", r"has no dataset at .*some-lab/none, or it is private \(401\)"),
        ("hf:some-lab/pictures", r"pictures has no Parquet files; seen: a\.jpg, b\.jpg"),
    ],
)
def test_a_repository_without_what_is_needed_is_an_error_that_names_it(hub, name, message):
    hub.add("some-lab/pictures", {"a.jpg": b"", "b.jpg": b""})
    with pytest.raises(DownloadError, match=message) as caught:
        find_release(name)
    assert caught.value.hint


@pytest.mark.parametrize("name", ["hf:", "hf:rsicd", "hf:a/b/c", "hf:a b/c"])
def test_a_name_that_is_no_repository_is_a_usage_error(hub, name):
    with pytest.raises(UsageError, match="is not OWNER/NAME"):
        find_release(name)
    assert not hub.asked


def in_cache(hub: HubServer, *paths: str) -> dict[str, Path]:
    import huggingface_hub

    return {path: Path(huggingface_hub.hf_hub_download("arampacha/rsicd", path, repo_type="dataset")) for path in paths}


def test_files_in_the_hubs_cache_are_linked_not_fetched(hub, tmp_path):
    cached = in_cache(hub, TRAIN, VALID)
    before = gets(hub)
    plan = plan_fetch(RELEASES["rsicd"], tmp_path / "rsicd", retry=QUICK)
    assert [file.state for file in plan.files] == ["adoptable", "adoptable", "absent"]
    fetch(RELEASES["rsicd"], tmp_path / "rsicd", retry=QUICK)
    assert contents(tmp_path / "rsicd") == FILES
    assert all((tmp_path / "rsicd" / path).samefile(cached[path]) for path in cached)
    assert not any((tmp_path / "rsicd" / path).is_symlink() for path in cached)
    assert gets(hub) == before + 1


def test_an_older_version_in_the_cache_is_left_there(hub, tmp_path):
    in_cache(hub, TRAIN)
    newer = FILES[TRAIN][:-5] + b"!PAR1"
    hub.repositories.clear()
    hub.add("arampacha/rsicd", {**FILES, TRAIN: newer})
    fetch(RELEASES["rsicd"], tmp_path / "rsicd", retry=QUICK)
    assert contents(tmp_path / "rsicd") == {**FILES, TRAIN: newer}


def test_without_a_network_the_cache_is_enough_and_else_the_switch_is_named(hub, bucket, tmp_path, monkeypatch):
    in_cache(hub, *FILES)
    asked = len(hub.asked)
    use_in_this_process(hub, tmp_path / "home", monkeypatch, offline=True)
    fetch(rsicd_on(bucket), tmp_path / "rsicd", retry=QUICK)
    assert contents(tmp_path / "rsicd") == FILES
    use_in_this_process(hub, tmp_path / "empty", monkeypatch, offline=True)
    with pytest.raises(DownloadError, match="HF_HUB_OFFLINE switches the Hub off"):
        fetch(RELEASES["rsicd"], tmp_path / "other", mirror="hf://datasets/arampacha/rsicd", retry=QUICK)
    with pytest.raises(DownloadError, match=r"HF_HUB_OFFLINE .*cannot be asked for"):
        find_release("hf:arampacha/rsicd")
    assert len(hub.asked) == asked and not bucket.asked


def test_a_repository_of_the_hub_can_be_a_mirror(hub, tmp_path):
    hub.add("me/copy", FILES)
    fetch(RELEASES["rsicd"], tmp_path, mirror="hf://datasets/me/copy", retry=QUICK)
    assert contents(tmp_path) == FILES
    with pytest.raises(UsageError, match="not the address of a repository"):
        fetch(RELEASES["rsicd"], tmp_path, mirror="hf://a/b/c", retry=QUICK)


def test_a_file_that_is_no_parquet_is_refused(hub, tmp_path):
    hub.repositories.clear()
    hub.add("arampacha/rsicd", {**FILES, TEST: b"version https://git-lfs.github.com/spec/v1" + b" " * 2000})
    with pytest.raises(DownloadError, match="not the start of a Parquet file"):
        fetch(RELEASES["rsicd"], tmp_path, mirror="hf://datasets/arampacha/rsicd", retry=QUICK)
