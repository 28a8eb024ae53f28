"""Ctrl-C, kill and a full disk: what is here stays, and the next call resumes."""

from __future__ import annotations

import hashlib
import random
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import httpx
import pytest

from dove_core.data.fetching.download import download
from dove_core.data.fetching.servers import WebFile
from dove_core.data.fetching.transfers import Transfers
from dove_core.events import Advanced, Event
from tests.data.mirror import Mirror, jpeg, rows_of
from tests.data.test_subset import images
from tests.http_server import Served, Server, serving

ROOT = Path(__file__).parents[2]
ZIP = b"PK\x03\x04" + random.Random(1).randbytes(300_000)


@pytest.fixture
def server() -> Iterator[Server]:
    with serving() as running:
        yield running


@pytest.fixture(scope="module")
def client() -> Iterator[httpx.Client]:
    with httpx.Client(timeout=5, trust_env=False) as open_client:
        yield open_client


def test_ctrl_c_keeps_what_is_here(server, client, tmp_path):
    server.files["a.zip"] = Served(ZIP)

    def press(event: Event) -> None:
        if isinstance(event, Advanced):
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        download(WebFile(server.url("a.zip"), client), tmp_path / "a.zip", Transfers(report=press))
    kept = (tmp_path / "a.zip.part").read_bytes()
    assert kept and ZIP.startswith(kept)
    download(WebFile(server.url("a.zip"), client), tmp_path / "a.zip", Transfers())
    assert (tmp_path / "a.zip").read_bytes() == ZIP
    assert server.gets("a.zip")[1].headers.get("Range") == f"bytes={len(kept)}-"


SCRIPT = f"""
import sys
sys.path.insert(0, {str(ROOT)!r})
from pathlib import Path
import httpx
from dove_core.data.fetching.download import Partial, download
from dove_core.data.fetching.servers import WebFile
from dove_core.data.fetching.transfers import Transfers
from dove_core.errors import SpaceError
with httpx.Client(timeout=30, trust_env=False) as client:
    try:
        download(WebFile(sys.argv[1], client), Path(sys.argv[2]), Transfers())
    except SpaceError as error:
        kept = Partial(Path(sys.argv[2])).resumable()
        sys.exit(f"SpaceError {{error.message}} | {{error.hint}} | {{kept}}")
"""


@pytest.fixture
def script(tmp_path: Path) -> Path:
    path = tmp_path / "script.py"
    path.write_text(SCRIPT)
    return path


def test_a_killed_download_resumes(server, script, tmp_path):
    target, part = tmp_path / "a.zip", tmp_path / "a.zip.part"
    server.files["a.zip"] = Served(ZIP, stall_after=200_000)
    with subprocess.Popen([sys.executable, script, server.url("a.zip"), str(target)]) as process:
        deadline = time.monotonic() + 20
        while not (part.exists() and part.stat().st_size >= 150_000) and time.monotonic() < deadline:
            time.sleep(0.01)
        process.send_signal(signal.SIGKILL)
    assert process.returncode == -signal.SIGKILL
    assert not target.exists()
    kept = part.stat().st_size
    assert 150_000 <= kept < len(ZIP)

    server.files["a.zip"] = Served(ZIP)
    subprocess.run([sys.executable, script, server.url("a.zip"), str(target)], check=True)
    assert target.read_bytes() == ZIP
    again = server.gets("a.zip")[-1]
    assert again.headers.get("Range") == f"bytes={kept}-"
    assert again.sent == len(ZIP) - kept


def small_disk(folder: Path, command: str) -> subprocess.CompletedProcess[str]:
    """Run a shell command that sees a disk of 200 KiB at `folder`, which vanishes with it."""
    mounted = f"mount -t tmpfs -o size=200k tmpfs '{folder}' && {command}"
    spaces = ["unshare", "--user", "--map-root-user", "--mount", "sh", "-c", mounted]
    return subprocess.run(spaces, capture_output=True, text=True)


def test_a_full_disk_is_its_own_error_and_loses_nothing(server, script, tmp_path):
    disk = tmp_path / "disk"
    disk.mkdir()
    if shutil.which("unshare") is None or small_disk(disk, "true").returncode:
        pytest.skip("needs leave to mount a small disk")
    server.files["a.zip"] = Served(ZIP)
    run = f"'{sys.executable}' '{script}' {server.url('a.zip')} '{disk}/a.zip'"
    done = small_disk(disk, f"{{ {run}; mount -o remount,size=2m '{disk}'; {run}; md5sum '{disk}/a.zip'; }}")
    assert "SpaceError no space left" in done.stderr and "free some space" in done.stderr
    kept = int(done.stderr.rsplit("|", 1)[1])
    assert 0 < kept < 200 * 1024
    assert done.stdout.split()[0] == hashlib.md5(ZIP).hexdigest()
    assert server.gets("a.zip")[-1].headers.get("Range") == f"bytes={kept}-"


MEMBERS = f"""
import sys
sys.path.insert(0, {str(ROOT)!r})
from pathlib import Path
from dove_core.config import FetchConfig
from dove_core.data.fetching.fetch import fetch
from dove_core.errors import SpaceError
from tests.data.mirror import QUICK, tiny_release
try:
    fetch(tiny_release(sys.argv[1]), Path(sys.argv[2]), FetchConfig(split="test"), retry=QUICK)
except SpaceError as error:
    sys.exit(f"SpaceError {{error.message}}")
"""


def test_a_disk_that_fills_up_under_members_loses_nothing(server, tmp_path):
    disk, script = tmp_path / "disk", tmp_path / "script.py"
    disk.mkdir()
    script.write_text(MEMBERS)
    if shutil.which("unshare") is None or small_disk(disk, "true").returncode:
        pytest.skip("needs leave to mount a small disk")
    Mirror(server)
    run = f"NO_PROXY=127.0.0.1 '{sys.executable}' '{script}' {server.url()} '{disk}/tiny'"
    grow = f"mount -o remount,size=4m '{disk}'"
    done = small_disk(disk, f"{{ {run}; {grow}; {run} && cp -r '{disk}/tiny' '{tmp_path}/copy'; }}")
    assert "SpaceError no space left" in done.stderr
    assert images(tmp_path / "copy") == {(part, number): jpeg(part, number) for part, number in rows_of("test")}
