"""`dove shard` on damaged input, and `dove train` under Ctrl-C."""

from __future__ import annotations

import io
import json
import os
import signal
import subprocess
import sys
import time
import zipfile
from pathlib import Path

import pytest

from tests.cli.test_commands import SMALL_OPTIONS, dove
from tests.made import draw_shape, make_karpathy


@pytest.fixture
def empty(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    return tmp_path


def damage(path: Path, name: str) -> None:
    """Flip one byte in the middle of a stored member."""
    with zipfile.ZipFile(path) as archive:
        info = archive.getinfo(name)
        place = info.header_offset + 30 + len(info.filename) + info.file_size // 2
    data = bytearray(path.read_bytes())
    data[place] ^= 0xFF
    path.write_bytes(data)


def make_zip_and_csv(folder: Path, count: int) -> tuple[Path, Path]:
    rows, images = ["filepath,title"], folder / "pictures.zip"
    with zipfile.ZipFile(images, "w") as archive:
        for k in range(count):
            stream = io.BytesIO()
            draw_shape("red", "circle", shift=k % 5).save(stream, "JPEG")
            archive.writestr(f"{k}.jpg", stream.getvalue())
            rows.append(f"{k}.jpg,red circle {k}")
    (folder / "rows.csv").write_text("\n".join(rows))
    return folder / "rows.csv", images


@pytest.mark.parametrize("trouble", ["damaged picture", "no caption", "missing picture"])
def test_a_few_bad_rows_are_left_out_and_counted_and_many_are_an_error(empty, trouble):
    captions, images = make_zip_and_csv(empty, 20)
    if trouble == "damaged picture":
        damage(images, "7.jpg")
    elif trouble == "no caption":
        captions.write_text(captions.read_text().replace("red circle 7\n", " . \n"))
    else:
        captions.write_text(captions.read_text().replace("\n7.jpg", "\nnone.jpg"))
    words = ["shard", "--captions", str(captions), "--images", str(images), "--name", "own"]
    code, _, err = dove(*words)
    assert code == 4, err
    assert f"1 {trouble}" in err
    assert "--max-bad" in err.split("hint: ")[1]
    code, out, err = dove(*words, "--max-bad", "0.05", "--json")
    assert code == 0, err
    assert f"left out 1 ({trouble})" in err
    found = json.loads(out)
    assert found["samples"] == 19
    assert found["counts"][trouble] == 1


def test_the_error_names_an_unreadable_zip_or_a_table_without_paths(empty):
    captions, images = make_zip_and_csv(empty, 3)
    images.write_bytes(images.read_bytes()[:500])
    code, _, err = dove("shard", "--captions", str(captions), "--images", str(images), "--name", "own")
    assert code == 4
    assert "pictures.zip" in err
    captions.write_text("a,b\n1,2\n")
    code, _, err = dove("shard", "--captions", str(captions), "--images", str(images), "--name", "own")
    assert code == 4
    assert "a, b" in err


@pytest.mark.parametrize("processes", [1, pytest.param(2, marks=pytest.mark.slow)])
def test_ctrl_c_stops_training_with_130_and_keeps_finished_files(empty, processes):
    captions, images = make_karpathy(empty / "source", {"train": 48})
    assert dove("shard", "--captions", str(captions), "--images", str(images), "--name", "s")[0] == 0
    command = [sys.executable, "-m", "dove_cli", "train", *SMALL_OPTIONS, "--gpus", str(processes), "--epochs", "500"]
    environment = {**os.environ, "PYTHONPATH": str(Path(__file__).parents[2])}
    run = subprocess.Popen(command, stderr=subprocess.PIPE, text=True, env=environment, start_new_session=True)
    assert run.stderr is not None
    while not (empty / "runs/s/best").exists():
        assert run.poll() is None
        time.sleep(0.1)
    os.killpg(run.pid, signal.SIGINT)
    error = run.communicate(timeout=60)[1]
    assert run.returncode == 130, error
    assert "interrupted" in error
    steps = json.loads((empty / "runs/s/metrics.jsonl").read_text().splitlines()[-1])["steps"]
    code, _, err = dove(
        "train", "--resume", "--max-steps", str(steps + 8), "--device", "cpu", "--workers", "0", "--epochs", "600"
    )
    assert code == 0, err


@pytest.mark.parametrize("ends", [pytest.param("by itself", marks=pytest.mark.slow), "by SIGTERM to all"])
def test_training_with_workers_ends_and_leaves_no_process(empty, ends):
    captions, images = make_karpathy(empty / "source", {"train": 48})
    assert dove("shard", "--captions", str(captions), "--images", str(images), "--name", "s")[0] == 0
    command = [sys.executable, "-m", "dove_cli", "train", *SMALL_OPTIONS, "--workers", "2"]
    command += ["--epochs", "1" if ends == "by itself" else "500"]
    environment = {**os.environ, "PYTHONPATH": str(Path(__file__).parents[2])}
    run = subprocess.Popen(command, stderr=subprocess.PIPE, text=True, env=environment, start_new_session=True)
    if ends != "by itself":
        while not (empty / "runs/s/best").exists():
            assert run.poll() is None
            time.sleep(0.1)
        os.killpg(run.pid, signal.SIGTERM)
    error = run.communicate(timeout=120)[1]
    assert run.returncode == (0 if ends == "by itself" else 130), error
    assert (empty / "runs/s/last/training.pt").exists()
