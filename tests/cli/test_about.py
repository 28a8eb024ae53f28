"""`dove --version`, and what an unexpected error says."""

from __future__ import annotations

import re
import subprocess
import sys
import tomllib
from importlib.metadata import PackageNotFoundError, PathDistribution
from pathlib import Path

import pytest

from dove_cli import about
from tests.cli.test_commands import dove

ROOT = Path(__file__).parents[2]
BUG = """
import sys
import dove_cli.main as main
main.app = main.typer.Typer(pretty_exceptions_enable=False)
main.app.command()(lambda: 1 / 0)
sys.argv = ["dove"]
main.run()
"""


def installed(tmp_path: Path, *lines: str):
    """Return a function that gives the metadata of a distribution with these further lines."""
    folder = tmp_path / "dove_eo-7.1.0.dist-info"
    folder.mkdir()
    (folder / "METADATA").write_text(
        "\n".join(["Metadata-Version: 2.1", "Name: dove-eo", "Version: 7.1.0", *lines, ""])
    )
    return lambda name: PathDistribution(folder).metadata


def test_the_version_is_that_of_pyproject():
    declared = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["version"]
    assert dove("--version") == (0, f"dove {declared}\n", "")


def test_an_unexpected_error_shows_its_traceback_and_asks_for_a_report():
    done = subprocess.run([sys.executable, "-c", BUG], capture_output=True, text=True, cwd=ROOT)
    assert done.returncode == 1
    assert "ZeroDivisionError: division by zero" in done.stderr
    assert re.search(r"please report it.*\ndove \d+\.\d+\.\d+, Python 3\.\d+", done.stderr)


def test_the_report_names_the_address_of_the_project_if_there_is_one(tmp_path, monkeypatch):
    lines = ("Project-URL: Homepage, https://dove.example", "Project-URL: Issues, https://dove.example/issues")
    monkeypatch.setattr(about, "metadata", installed(tmp_path, *lines))
    assert "please report it at https://dove.example/issues, with" in about.bug_report()


def test_without_an_address_the_report_names_none(tmp_path, monkeypatch):
    monkeypatch.setattr(about, "metadata", installed(tmp_path))
    assert "please report it, with the command" in about.bug_report()


def test_a_copy_that_pip_did_not_install_has_no_version(monkeypatch):
    def missing(name: str):
        raise PackageNotFoundError(name)

    monkeypatch.setattr(about, "metadata", missing)
    assert about.version() == "unknown"
    assert "dove unknown" in about.bug_report()


@pytest.mark.parametrize("command", ["fetch", "shard", "export"])
def test_the_help_shows_the_whole_default_of_out(command):
    _, out, _ = dove(command, "--help")
    assert re.search(r"(data/RELEASE|shards/RELEASE|export/NAME)", re.sub(r"[\s│]+", " ", out))
