"""How the server is run: settings, workers, signals, logs, metrics, and indexes that are made again while it serves."""

from __future__ import annotations

import json
import os
import re
import shutil
import signal
import socket
import subprocess
import sys
import threading
import time
from pathlib import Path

import httpx
import pytest

from dove_core.config import ServeConfig
from dove_core.errors import UsageError
from dove_core.serve.server import serve, web_app
from tests.serve.conftest import fetch, make_index, send, served

WORDS = "a red circle on grey ground"


def search(process, **parameters):
    return fetch(f"{process.url}/search", params={"q": WORDS, **parameters}, timeout=60)


def resident(process):
    """Return the memory of a server in MB, without mapped files."""
    status = Path(f"/proc/{process.running.pid}/status").read_text()
    return int(re.search(r"RssAnon:\s+(\d+)", status)[1]) / 1000


def test_dove_serve_without_an_argument_serves_the_only_index(trained, tmp_path):
    make_index(tmp_path / "index/mine", trained / "best", count=6)
    with served(tmp_path) as process:
        assert re.fullmatch(r"http://127\.0\.0\.1:\d+", process.url)
        assert search(process).json()["features"][0]["collection"] == "mine"
        modules = Path(f"/proc/{process.running.pid}/maps").read_text()
        assert "libtorch" not in modules  # a question in words needs no torch
        assert process.end() == 0
    assert "using index/mine" in process.err.read_text()
    log = [line for line in process.lines() if line["path"] == "/search"]
    assert [(line["method"], line["status"], line["client"]) for line in log] == [("GET", 200, "127.0.0.1")]
    assert log[0]["ms"] > 0
    assert WORDS not in process.out.read_text()


def test_a_process_that_serves_encodes_questions_with_one_thread(indexed):
    code = """if True:
        from threadpoolctl import threadpool_info
        from dove_core.config import ServeConfig
        from dove_core.serve.server import _AppOf, _AppOfWorker
        _AppOfWorker(_AppOf(["index/places"], ServeConfig(), None, None, ""))()
        print([one["num_threads"] for one in threadpool_info() if one["user_api"] == "blas"])
    """
    several = {**os.environ, "OPENBLAS_NUM_THREADS": "3", "MKL_NUM_THREADS": "3"}
    done = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, cwd=indexed, env=several, check=True
    )
    threads = json.loads(done.stdout)
    assert threads and set(threads) == {1}


def test_several_workers_share_the_socket_and_the_counts_and_end_together(indexed, tmp_path):
    with served(tmp_path, str(indexed / "index/places"), "--workers", "2", "--no-access-log") as process:
        for _ in range(20):
            assert search(process).status_code == 200
        counts = fetch(f"{process.url}/metrics").text
        assert 'dove_requests_total{method="GET",route="/search",status="200"} 20.0' in counts
        assert 'dove_images{index="places"} 24.0' in counts
        children = Path(f"/proc/{process.running.pid}/task/{process.running.pid}/children").read_text().split()
        assert process.end() == 0
        for _ in range(100):  # a helper of Python ends a moment later
            if not any(Path(f"/proc/{child}").exists() for child in children):
                break
            time.sleep(0.1)
        assert not any(Path(f"/proc/{child}").exists() for child in children)
    assert process.out.read_text() == ""


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_requests_in_flight_are_answered_before_the_server_ends(indexed, tmp_path, number):
    with served(tmp_path, str(indexed / "index/places")) as process:
        answers = []
        asking = [threading.Thread(target=lambda: answers.append(search(process, rerank=24))) for _ in range(4)]
        for thread in asking:
            thread.start()
        time.sleep(2)  # they wait for the whole model, which is loaded now
        assert process.end(number) == 0
        for thread in asking:
            thread.join()
    assert [answer.status_code for answer in answers] == [200] * 4


def test_settings_for_pages_elsewhere_and_proxies_have_their_effect(indexed, tmp_path):
    options = ["--allow-origins", "https://browser.example", "--root-path", "/images"]
    basemap = "http://tiles.local/{z}/{x}/{y}.png"
    with served(tmp_path, str(indexed / "index/places"), *options, "--basemap", basemap) as process:
        root = process.url
        page = fetch(f"{root}/", headers={"origin": "https://browser.example"})
        assert page.headers["access-control-allow-origin"] == "https://browser.example"
        assert "access-control-allow-origin" not in fetch(root, headers={"origin": "https://other.example"}).headers
        assert "img-src 'self' data: blob: http://tiles.local;" in page.headers["content-security-policy"]
        assert page.json()["dove:basemap"] == basemap
        [item] = fetch(f"{root}/search?q=red&limit=1").json()["features"]
        assert item["assets"]["image"]["href"].startswith(f"{root}/images/collections/places/")


@pytest.mark.parametrize(
    ("values", "words"),
    [
        ({"host": "0.0.0.0"}, "lets other machines in"),
        ({"port": 70000}, "--port 70000 is out of range"),
        ({"workers": 0}, "--workers 0 is out of range"),
        ({"basemap": "tiles.local/{z}/{x}/{y}"}, "not a valid address of tiles"),
        ({"basemap": "http://tiles.local/"}, "not a valid address of tiles"),
        ({"root_path": "images"}, "not a valid path"),
        ({"allow_origins": "browser.example"}, "not a valid origin"),
        ({"allow_origins": "https://a.b; script-src *"}, "not a valid origin"),
        ({"max_upload": 0.0}, "--max-upload 0.0 is out of range"),
        ({"max_pixels": 2000.0}, "--max-pixels 2000.0 is out of range"),
        ({"client_timeout": 0.0}, "--client-timeout 0.0 is out of range"),
    ],
)
def test_an_invalid_setting_is_an_error(values, words):
    with pytest.raises(UsageError) as caught:
        ServeConfig(**values)
    assert words in caught.value.message
    assert caught.value.hint


def test_a_server_that_cannot_start_says_why(indexed, tmp_path):
    places = indexed / "index/places"
    for name, content in (("missing", None), ("short", "abc"), ("words", "two words of a secret")):
        if content is not None:
            (tmp_path / name).write_text(content)
        with pytest.raises(UsageError, match="--token-file") as caught:
            web_app([places], ServeConfig(token_file=str(tmp_path / name)))
        assert "openssl rand" in caught.value.hint
    with pytest.raises(UsageError, match="two indexes have the name places"):
        web_app([places, shutil.copytree(places, tmp_path / "places")])
    with pytest.raises(UsageError, match="for one index only"):
        web_app([places, indexed / "index/more"], shards=tmp_path)
    with socket.create_server(("127.0.0.1", 0)) as taken, pytest.raises(UsageError, match="cannot be served: Address"):
        serve([places], ServeConfig(port=taken.getsockname()[1]))


def exercise(process, trained, folder, requests):
    """Ask from 8 clients while the index is made again; return the statuses, and the memory before and after."""
    statuses, problems, stop = [], [], threading.Event()

    def ask(number):
        with httpx.Client(base_url=process.url, timeout=60) as client:
            for k in range(requests // 8):
                path = ("/search?limit=5&q=", "/search?limit=5&filter=gsd<5&q=", "/collections/changing/items?limit=")[
                    k % 3
                ]
                answer = client.get(path + (WORDS if path.endswith("q=") else "7"))
                statuses.append(answer.status_code)
                if answer.status_code != 200:
                    problems.append(answer.text)

    def make():
        k = 0
        while not stop.is_set():
            k += 1
            make_index(folder, trained / "best", count=24 + k % 2, shift=k)
            stop.wait(1.5)

    for _ in range(50):
        search(process)
    before = resident(process)
    threads = [threading.Thread(target=ask, args=(k,)) for k in range(8)]
    making = threading.Thread(target=make)
    for thread in [*threads, making]:
        thread.start()
    for thread in threads:
        thread.join()
    stop.set()
    making.join()
    return statuses, problems, before, resident(process)


@pytest.mark.parametrize("requests", [400, pytest.param(10_000, marks=pytest.mark.slow)])
def test_an_index_is_made_again_while_it_is_served(trained, tmp_path, requests):
    folder = make_index(tmp_path / "index/changing", trained / "best")
    with served(tmp_path) as process:
        statuses, problems, before, after = exercise(process, trained, folder, requests)
        assert problems == []
        assert statuses == [200] * (requests // 8 * 8)
        assert after - before < 40
        make_index(folder, trained / "best", count=23)
        for _ in range(100):
            if fetch(f"{process.url}/collections/changing").json()["dove:count"] == 23:
                break
            time.sleep(0.1)
        assert fetch(f"{process.url}/search?limit=100").json()["numberMatched"] == 23
        assert "dove_index_changes_total" in fetch(f"{process.url}/metrics").text
        (folder / "index.json").write_text("{}")  # damaged: the old state is served on
        time.sleep(1.5)
        assert search(process).status_code == 200
    assert "Traceback" not in process.err.read_text()
    assert "cannot be opened" in process.err.read_text()


def test_an_index_whose_images_are_gone_says_so_and_names_no_file_of_the_machine(trained, tmp_path):
    folder = make_index(tmp_path / "index/places", trained / "best", count=6)
    with served(tmp_path) as process:
        shutil.rmtree(folder / "images")
        answer = fetch(f"{process.url}/collections/places/images/plain")
        assert answer.status_code == 503
        assert str(tmp_path) not in answer.text
        assert search(process).status_code == 200
    assert "00000.tar cannot be read" in process.err.read_text()


def test_marks_that_cannot_be_used_are_said_without_a_file_name(trained, tmp_path):
    make_index(tmp_path / "index/places", trained / "best", count=6)
    with served(tmp_path) as process:
        (tmp_path / "index/places.marks.sqlite").write_bytes(b"not a database " * 500)
        address, mark = f"{process.url}/collections/places/marks", {"key": "plain", "query": "red"}
        for answer in (
            fetch(address), search(process, marks=True), send(address, json={**mark, "verdict": "confirm"})
        ):  # fmt: skip
            assert answer.status_code == 503
            assert str(tmp_path) not in answer.text
        assert search(process).status_code == 200
    assert "places.marks.sqlite cannot be read as marks" in process.err.read_text()
    assert "Traceback" not in process.err.read_text()


def test_a_worker_that_is_killed_is_replaced_without_an_error(indexed, tmp_path):
    def workers(process):
        own = Path(f"/proc/{process.running.pid}/task/{process.running.pid}/children").read_text().split()
        return {child for child in own if "tracker_fd" in Path(f"/proc/{child}/cmdline").read_text()}

    with served(tmp_path, str(indexed / "index/places"), "--workers", "2") as process:
        assert search(process).status_code == 200
        before = workers(process)
        os.kill(int(min(before)), signal.SIGKILL)
        for _ in range(300):
            assert search(process).status_code == 200
            if len(workers(process)) == 2 and workers(process) != before:
                break
            time.sleep(0.1)
        assert len(workers(process) - before) == 1
        assert process.end() == 0
    assert "Traceback" not in process.err.read_text()


def test_the_examples_for_systemd_and_docker_start_commands_that_parse():
    from typer.main import get_command

    from dove_cli.main import app

    folder = Path(__file__).parents[2] / "docs/cluster"
    [unit] = re.findall(r"^ExecStart=/opt/dove/bin/dove serve (.*)$", (folder / "dove-serve.service").read_text(), re.M)
    [entry] = re.findall(r"^ENTRYPOINT (\[.*\])$", (folder / "Dockerfile").read_text(), re.M)
    command = get_command(app).commands["serve"]
    for words in (unit.split(), json.loads(entry)[2:]):
        assert command.make_context("serve", words).params["token_file"].endswith("/token")
