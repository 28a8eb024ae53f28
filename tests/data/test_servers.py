"""Mirrors that are not web servers: folders of this machine, and buckets through fsspec."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path

import pytest

from dove_core.buckets import file_system
from dove_core.config import FetchConfig
from dove_core.data.fetching.fetch import fetch, plan_fetch
from dove_core.data.fetching.origins import opened
from dove_core.data.fetching.transfers import ChangedError
from dove_core.errors import DownloadError, UsageError
from tests.data.mirror import QUICK, Mirror, jpeg, rows_of
from tests.data.test_subset import images
from tests.http_server import serving
from tests.s3_server import BUCKET, s3_environment, s3_serving


@pytest.fixture(scope="module")
def mirror() -> Iterator[Mirror]:
    with serving() as server:
        yield Mirror(server)


@pytest.fixture
def copy(mirror: Mirror, tmp_path: Path) -> Path:
    """A folder with the whole release."""
    for name, body in mirror.bodies.items():
        (tmp_path / "copy" / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / "copy" / name).write_bytes(body)
    return tmp_path / "copy"


@pytest.mark.parametrize("scheme", ["", "file://"])
def test_a_folder_is_a_mirror(mirror, copy, tmp_path, scheme):
    fetch(mirror.release(), tmp_path / "out", mirror=f"{scheme}{copy}", retry=QUICK)
    for name, body in mirror.bodies.items():
        assert "laion" in name or (tmp_path / "out" / name).read_bytes() == body


def test_a_file_that_changes_while_it_is_read_is_noticed(copy):
    with opened(str(copy), 4) as origin_of:
        origin = origin_of("images2.zip")
        version = origin.examine().version
        os.utime(copy / "images2.zip", (1, 1))
        with pytest.raises(ChangedError), origin.answer(0, 10, version):
            pass


def test_what_a_folder_lacks_is_missing(mirror, copy, tmp_path):
    (copy / "meta2.zip").unlink()
    plan = plan_fetch(mirror.release(), tmp_path / "out", FetchConfig(), mirror=str(copy), retry=QUICK)
    assert {planned.file.path: planned.remote.presence for planned in plan.files}["meta2.zip"] == "missing"
    with pytest.raises(DownloadError, match=r"meta2\.zip does not exist"):
        plan.check()


def test_an_unknown_protocol_is_a_usage_error():
    with pytest.raises(UsageError, match="unknown protocol"), opened("nonsense://bucket/folder", 1):
        pass


def test_a_missing_package_is_named_with_the_command_that_installs_it():
    try:
        import gcsfs  # noqa: F401  # pyright: ignore

        pytest.skip("gcsfs is installed")
    except ImportError:
        pass
    with pytest.raises(UsageError) as caught, opened("gs://bucket/folder", 1):
        pass
    assert caught.value.hint == "pip install gcsfs"


@pytest.fixture
def bucket(mirror: Mirror) -> Iterator[str]:
    """The release in a bucket of a server on this machine."""
    pytest.importorskip("s3fs")
    pytest.importorskip("moto")
    with s3_serving() as address, s3_environment(address):
        files = file_system("s3://")
        for name, body in mirror.bodies.items():
            files.pipe_file(f"{BUCKET}/sky/{name}", body)
        yield f"s3://{BUCKET}/sky"


def test_a_bucket_is_a_mirror(mirror, bucket, tmp_path):
    config = FetchConfig(split="test")
    fetch(mirror.release(), tmp_path / "some", config, mirror=bucket, retry=QUICK)
    assert images(tmp_path / "some") == {(part, number): jpeg(part, number) for part, number in rows_of("test")}
    fetch(mirror.release(), tmp_path / "whole", mirror=bucket, retry=QUICK)
    for name, body in mirror.bodies.items():
        assert "laion" in name or (tmp_path / "whole" / name).read_bytes() == body
    with opened(bucket, 4) as origin_of:
        assert origin_of("none.zip").examine().presence == "missing"
