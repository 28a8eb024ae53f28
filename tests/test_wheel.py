"""The wheel that pip builds, installed into a new environment, runs from `dove fetch sample` to `dove query`."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import sysconfig
import tomllib
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
PACKAGES = ("dove_cli", "dove_core")
TINY = [
    "--backbone", "resnet18", "--image-size", "32", "--embed-dim", "32", "--heads", "4", "--word-dim", "16",
    "--region-grid", "2", "--weights", "none", "--batch-size", "16", "--workers", "0", "--max-steps", "4",
]  # fmt: skip


def run(*command: str | Path, cwd: Path) -> str:
    environment = {name: value for name, value in os.environ.items() if name != "PYTHONPATH"}
    done = subprocess.run([*map(str, command)], cwd=cwd, capture_output=True, text=True, env=environment)
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


def build_wheel(folder: Path) -> Path:
    """Build from a copy: setuptools would put files of earlier builds in `build/` of the checkout into the wheel."""
    for name in PACKAGES:
        shutil.copytree(ROOT / name, folder / "source" / name, ignore=shutil.ignore_patterns("__pycache__"))
    for name in ("pyproject.toml", "README.md"):
        shutil.copy(ROOT / name, folder / "source")
    run(sys.executable, "-m", "pip", "wheel", "--quiet", "--no-deps", "-w", folder, folder / "source", cwd=folder)
    [wheel] = folder.glob("*.whl")
    return wheel


def install(wheel: Path, folder: Path) -> Path:
    """Install a wheel alone into a new environment, and return its folder of packages.

    Dependencies come from the present environment, since torch and its libraries have 5 GB: a .pth file adds the
    folder of its packages behind the new one. Python does not read .pth files there, so the checkout that is
    installed in the present environment in editable form is not found.
    """
    run(sys.executable, "-m", "venv", "--without-pip", folder, cwd=folder.parent)
    python = folder / "bin" / "python"
    run(sys.executable, "-m", "pip", "--quiet", "--python", python, "install", "--no-deps", wheel, cwd=folder)
    packages = Path(run(python, "-c", "import sysconfig; print(sysconfig.get_path('purelib'))", cwd=folder).strip())
    (packages / "dependencies.pth").write_text(sysconfig.get_path("purelib") + "\n")
    return packages


def files_of(folder: Path) -> set[str]:
    found = (path for name in PACKAGES for path in (folder / name).rglob("*") if path.is_file())
    return {str(path.relative_to(folder)) for path in found if "__pycache__" not in path.parts}


@pytest.mark.slow
def test_a_built_wheel_runs_from_fetch_to_query(tmp_path):
    wheel = build_wheel(tmp_path)
    assert wheel.name.startswith("dove_eo-")
    packages = install(wheel, tmp_path / "env")
    assert files_of(packages) == files_of(ROOT)
    assert {"dove_core/py.typed", "dove_cli/py.typed", "dove_core/answers/page.html.j2"} <= files_of(packages)

    home = tmp_path / "home"
    home.mkdir()
    code = (
        "import dove_cli, dove_core; from dove_core.evaluation.provenance import versions;"
        "print(dove_cli.__file__, dove_core.__file__, versions()['dove'])"
    )
    *imported, version = run(tmp_path / "env/bin/python", "-c", code, cwd=home).split()
    assert imported == [str(packages / name / "__init__.py") for name in PACKAGES]
    assert version == tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["version"]

    dove = tmp_path / "env" / "bin" / "dove"
    run(dove, "fetch", "sample", cwd=home)
    run(dove, "shard", cwd=home)
    run(dove, "train", "--device", "cpu", *TINY, cwd=home)
    run(dove, "embed", "--device", "cpu", "--checkpoint", "runs/sample/last", cwd=home)
    hits = run(dove, "query", "airport runway", "--top", "3", "--json", "--html", "hits.html", cwd=home)
    assert len(hits.splitlines()) == 3
    assert "airport runway" in (home / "hits.html").read_text()
