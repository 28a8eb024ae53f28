"""The pages agree with the code."""

from __future__ import annotations

import re
import shlex
import subprocess
import sys
from pathlib import Path

from typer.main import get_command

from dove_cli.main import app

ROOT = Path(__file__).parents[1]
README = (ROOT / "README.md").read_text()


def test_the_command_reference_is_up_to_date():
    done = subprocess.run(
        [sys.executable, "docs/write_commands.py", "--check"], cwd=ROOT, capture_output=True, text=True
    )
    assert done.returncode == 0, done.stderr


def test_the_readme_is_short_and_its_links_exist():
    assert README.count("\n") <= 150
    for target in re.findall(r"\]\(([^)]+)\)", README):
        assert target.startswith("https://") or (ROOT / target).exists(), target


def test_every_command_in_the_readme_and_the_demo_parses():
    demo = (ROOT / "examples/demo.sh").read_text().replace("\\\n", " ")
    lines = re.findall(r"^(?:\$ |run )?(dove .+)$", README + "\n" + demo, re.M)
    assert len(lines) >= 15
    commands = get_command(app).commands  # type: ignore[attr-defined]
    for line in lines:
        for part in line.split("#")[0].split("&&"):
            _, name, *words = shlex.split(part)
            command = commands[name]
            while hasattr(command, "commands"):  # a group
                command = command.commands[words.pop(0)]
            command.make_context(name, words)


def test_the_demo_is_a_valid_shell_script():
    assert subprocess.run(["sh", "-n", "examples/demo.sh"], cwd=ROOT).returncode == 0
