"""`dove fetch` of data sets of the Hugging Face Hub as a user runs it: in its own process, with the Hub's variables."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from tests.data.test_hub import FILES, TRAIN
from tests.hub_server import TOKEN, hub_serving

ROOT = Path(__file__).parents[2]
RUN = "import runpy, sys; sys.argv[0] = 'dove'; runpy.run_module('dove_cli', run_name='__main__')"


@pytest.fixture
def hub():
    with hub_serving() as server:
        server.add("arampacha/rsicd", FILES)
        yield server


@pytest.fixture
def fetch(hub, tmp_path):
    """Run `dove fetch`; return exit code, standard output and standard error."""

    def run(*words: str, before: str = "", **variables: str) -> tuple[int, str, str]:
        environment = {name: value for name, value in os.environ.items() if not name.startswith("HF_")}
        environment |= {**hub.environment(tmp_path / "home"), "PYTHONPATH": str(ROOT), **variables}
        command = [sys.executable, "-c", before + RUN, "fetch", *words]
        done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, env=environment)
        return done.returncode, done.stdout, done.stderr

    return run


def test_rsicd_is_planned_checked_and_fetched(hub, fetch, tmp_path):
    code, out, err = fetch("rsicd", "--dry-run")
    root = hub.url("datasets/arampacha/rsicd/resolve/main/")
    assert (code, out.splitlines()[0]) == (0, f"from {root}"), err
    assert f"200.0 kB  to fetch  data/rsicd/{TRAIN}" in out
    assert not (tmp_path / "data").exists()
    code, out, _ = fetch("rsicd", "--check")
    assert (code, out.splitlines()[0].split()) == (0, ["present", root + TRAIN, str(len(FILES[TRAIN]))])
    code, out, err = fetch("rsicd", "--yes", "--json")
    assert code == 0, err
    assert json.loads(out)["files"] == {f"data/rsicd/{path}": len(body) for path, body in FILES.items()}
    assert "here  data/rsicd" in fetch("rsicd", "--dry-run")[1]


def test_any_data_set_is_fetched_by_split(hub, fetch, tmp_path):
    code, _, err = fetch("hf:arampacha/rsicd", "--split", "train")
    assert code == 0, err
    found = [path.name for path in (tmp_path / "data/arampacha-rsicd").rglob("*.parquet")]
    assert found == [Path(TRAIN).name]
    code, _, err = fetch("hf:arampacha/none")
    assert code == 3 and "neither a model nor a data set arampacha/none" in err and "hint: check the spelling" in err


def test_a_token_and_offline_mode_are_those_of_the_hubs_client(hub, fetch):
    hub.repositories[0].is_gated = True
    code, _, err = fetch("hf:arampacha/rsicd")
    assert code == 3 and "is gated" in err and "hint: accept the terms at" in err
    assert fetch("hf:arampacha/rsicd", HF_TOKEN=TOKEN)[0] == 0
    asked = len(hub.asked)
    code, _, err = fetch("hf:arampacha/rsicd", HF_HUB_OFFLINE="1")
    assert code == 3 and "HF_HUB_OFFLINE switches the Hub off" in err
    assert len(hub.asked) == asked


@pytest.mark.parametrize("name", ["rsicd", "hf:arampacha/rsicd"])
def test_without_its_client_the_extra_is_named(fetch, name):
    code, _, err = fetch(name, before="import sys; sys.modules['huggingface_hub'] = None; ")
    assert code == 2
    assert "hint: pip install 'dove-eo[hub]'" in err
