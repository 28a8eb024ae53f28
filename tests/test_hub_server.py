"""The Hub's own client works against the server that our tests use as the Hub."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from tests.hub_server import STRANGER, TOKEN, HubServer, hub_serving

LARGE, SMALL = bytes(range(256)) * 40, b"few bytes"


@pytest.fixture
def hub():
    with hub_serving() as server:
        server.add("owner/set", {"a/large.bin": LARGE, "small.txt": SMALL, "b.txt": b"b", "c.txt": b"c", "d.txt": b"d"})
        server.add("owner/net", {"weights.pt": LARGE, "open_clip_config.json": b"{}"}, kind="model")
        server.add("owner/closed", {"weights.pt": LARGE}, kind="model", is_gated=True)
        yield server


def client(hub: HubServer, home: Path, code: str, **variables: str) -> Any:
    """Run lines with the Hub's client in a process of its own; return what they assign to `result`."""
    lines = f"import json, huggingface_hub as hub\nfrom pathlib import Path\n{code}\nprint(json.dumps(result))"
    environment = {**os.environ, **hub.environment(home), **variables}
    done = subprocess.run([sys.executable, "-c", lines], capture_output=True, text=True, env=environment)
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout.splitlines()[-1])


def caught(call: str) -> str:
    return f"try:\n    {call}\n    result = 'nothing'\nexcept Exception as error:\n    result = type(error).__name__"


def test_its_client_downloads_small_and_large_files_into_its_cache(hub, tmp_path):
    code = (
        "paths = [hub.hf_hub_download('owner/set', name, repo_type='dataset') for name in ('a/large.bin', 'small.txt')]"
        "\npaths.append(hub.hf_hub_download('owner/net', 'weights.pt'))"
        "\nresult = [Path(path).read_bytes().hex() for path in paths]"
    )
    assert client(hub, tmp_path, code) == [LARGE.hex(), SMALL.hex(), LARGE.hex()]
    code = "result = Path(hub.hf_hub_download('owner/set', 'a/large.bin', repo_type='dataset')).read_bytes().hex()"
    asked = len(hub.asked)
    assert client(hub, tmp_path, code, HF_HUB_OFFLINE="1") == LARGE.hex()
    assert len(hub.asked) == asked


def test_its_client_lists_files_over_several_answers(hub, tmp_path):
    code = "result = sorted(hub.HfApi().list_repo_files('owner/set', repo_type='dataset'))"
    assert client(hub, tmp_path, code) == ["a/large.bin", "b.txt", "c.txt", "d.txt", "small.txt"]
    code = "result = [one.rfilename for one in hub.HfApi().model_info('owner/net').siblings]"
    assert client(hub, tmp_path, code) == ["open_clip_config.json", "weights.pt"]


@pytest.mark.parametrize(
    ("call", "token", "error"),
    [
        ("hub.hf_hub_download('owner/closed', 'weights.pt')", "", "GatedRepoError"),
        ("hub.hf_hub_download('owner/closed', 'weights.pt')", STRANGER, "GatedRepoError"),
        ("hub.hf_hub_download('owner/closed', 'weights.pt')", TOKEN, "nothing"),
        ("hub.hf_hub_download('owner/none', 'weights.pt')", "", "RepositoryNotFoundError"),
        ("hub.hf_hub_download('owner/none', 'weights.pt')", TOKEN, "RepositoryNotFoundError"),
        ("hub.hf_hub_download('owner/net', 'none.pt')", "", "RemoteEntryNotFoundError"),
        ("hub.HfApi().dataset_info('owner/net')", "", "RepositoryNotFoundError"),
        ("hub.HfApi().model_info('owner/net')", "hf_wrong", "HfHubHTTPError"),
    ],
)  # fmt: skip
def test_its_client_understands_refusals(hub, tmp_path, call, token, error):
    assert client(hub, tmp_path, caught(call), **({"HF_TOKEN": token} if token else {})) == error
    assert not any("Authorization" in asked.headers for asked in hub.blobs.asked)
