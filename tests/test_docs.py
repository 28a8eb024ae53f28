"""The pages agree with the code."""

from __future__ import annotations

import ast
import os
import re
import shlex
import subprocess
import sys
import tomllib
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from typer.main import get_command

import dove_core
from docs.write_commands import COMMON
from dove_cli.main import app

ROOT = Path(__file__).parents[1]
README = (ROOT / "README.md").read_text()
PAGES = {
    str(path.relative_to(ROOT)): path.read_text()
    for path in (*sorted(ROOT.glob("*.md")), ROOT / "shards/README.md", *sorted(ROOT.glob("docs/**/*.md")))
}
BLOCK = re.compile(r"^( *)```([^\n]*)\n(.*?)^ *```$", re.MULTILINE | re.DOTALL)
COMMANDS: dict[str, Any] = dict(get_command(app).commands)  # type: ignore[attr-defined]
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]


PREFIX = r"(?:[A-Z_]+=\S* |srun .*?|.*-m (?:-- )?)?"
"""What may be before a command: a variable, a launcher, an interpreter."""


def lines_of(text: str) -> Iterator[str]:
    """Yield the lines of shell in the blocks of a page; in a block of output, those after a prompt."""
    for _, language, block in BLOCK.findall(text):
        for line in block.replace("\\\n", " ").splitlines():
            if language in ("", "sh") or line.strip().startswith("$ "):
                yield line.strip().removeprefix("$ ").split("#")[0]


def commands_in(text: str) -> Iterator[list[str]]:
    """Yield the words of each command of dove in the blocks of a page."""
    for line in lines_of(text):
        for part in line.split("&&"):
            if found := re.fullmatch(rf"{PREFIX}dove(?:_cli)? (.+)", part.strip()):
                yield shlex.split(re.split(r"[|>]", found[1])[0])


def parse(words: list[str]) -> None:
    """Parse a command as typer would, without running it."""
    if words == ["--version"]:
        return
    command, rest = COMMANDS[words[0]], words[1:]
    while hasattr(command, "commands"):  # a group
        command = command.commands[rest.pop(0)]
    command.make_context(words[0], rest)


def test_the_reference_pages_are_up_to_date():
    done = subprocess.run(
        [sys.executable, "docs/write_commands.py", "--check"], cwd=ROOT, capture_output=True, text=True,
        env={**os.environ, "PYTHONPATH": str(ROOT)},
    )  # fmt: skip
    assert done.returncode == 0, done.stderr


def test_the_common_options_of_the_reference_exist():
    for name, common in COMMON.items():
        command = get_command(app)
        for word in name.split()[1:]:
            command = command.commands[word]  # type: ignore[attr-defined]
        assert set(common.split()) <= {parameter.name for parameter in command.params}, name


def test_the_readme_is_short_and_its_links_exist():
    assert README.count("\n") <= 120
    for target in re.findall(r"\]\(([^)]+)\)", README):
        assert target.startswith("https://") or (ROOT / target).exists(), target


@pytest.mark.parametrize("page", sorted(PAGES))
def test_every_command_in_a_block_of_a_page_parses(page):
    for words in commands_in(PAGES[page]):
        parse(words)


@pytest.mark.parametrize("page", sorted(PAGES))
def test_no_command_in_a_block_of_a_page_is_left_unparsed(page):
    mentioned = re.compile(rf"\bdove(?:_cli)? (?:{'|'.join([*COMMANDS, '--version'])})(?![\w-])")
    count = sum(len(mentioned.findall(line)) for line in lines_of(PAGES[page]))
    assert count == len(list(commands_in(PAGES[page])))


def test_the_pages_have_commands():
    counts = {page: len(list(commands_in(text))) for page, text in PAGES.items()}
    assert sum(counts.values()) >= 120
    assert counts["README.md"] >= 8 and counts["docs/tutorials/geotiffs.md"] >= 10


@pytest.mark.parametrize("page", sorted(PAGES))
def test_every_command_within_a_line_names_options_that_exist(page):
    for text in re.findall(r"`dove ([^`]+)`", BLOCK.sub("", PAGES[page])):
        name, *rest = text.split()
        if name not in COMMANDS:
            assert name in ("COMMAND", "--help", "--version"), text
            continue
        command = COMMANDS[name]
        while hasattr(command, "commands") and rest and rest[0] in command.commands:
            command = command.commands[rest.pop(0)]
        known = {flag for one in command.params for flag in (*one.opts, *one.secondary_opts)} | {"--help"}
        assert {word for word in rest if re.fullmatch("--[a-z-]+", word)} <= known, text


def test_every_command_in_the_demo_parses_and_the_page_of_the_demo_has_them():
    demo = (ROOT / "examples/demo.sh").read_text().replace("\\\n", " ")
    lines = [shlex.split(line)[1:] for line in re.findall(r"^(?:run )?(dove .+)$", demo, re.M)]
    assert len(lines) == 6
    for words in lines:
        parse(words)
    assert list(commands_in(PAGES["docs/start/demo.md"]))[:6] == lines


def test_the_command_of_the_systemd_unit_parses():
    unit = (ROOT / "docs/cluster/dove-serve.service").read_text()
    [line] = re.findall(r"^ExecStart=\S*/dove (.+)$", unit, re.M)
    parse(shlex.split(line))


@pytest.mark.parametrize("page", sorted(PAGES))
def test_what_other_commands_of_a_page_name_exists(page):
    text = PAGES[page]
    targets = re.findall(r"^([a-z-]+):", (ROOT / "Makefile").read_text(), re.M)
    for target in re.findall(r"^(?:\$ )?make ([a-z-]+)", text, re.M):
        assert target in targets, target
    for module in re.findall(r"python -m (benchmarks\.\w+)", text):
        assert (ROOT / f"{module.replace('.', '/')}.py").exists(), module
    for module, words in re.findall(r"python -m benchmarks\.(\w+)([^`\n#|>]*)", text):
        source = (ROOT / f"benchmarks/{module}.py").read_text()
        for flag in re.findall(r"(?<!\S)--[a-z-]+", words):
            assert f'"{flag}"' in source, (module, flag)
    for file in re.findall(r"python ((?:benchmarks|docs|examples)/\w+\.py)", text):
        assert (ROOT / file).exists(), file
    for extras in re.findall(r"pip install '(?:\.|dove-eo)\[([\w,]+)\]'", text):
        assert set(extras.split(",")) <= set(PROJECT["optional-dependencies"]), extras


@pytest.mark.parametrize("page", sorted(PAGES))
def test_python_on_a_page_is_valid_and_uses_public_names(page):
    for _, language, block in BLOCK.findall(PAGES[page]):
        if language == "python":
            tree = ast.parse(block)
            used = {
                node.attr
                for node in ast.walk(tree)
                if isinstance(node, ast.Attribute) and isinstance(node.value, ast.Name) and node.value.id == "dove"
            }
            assert used <= set(dove_core.__all__)


def test_every_public_name_is_in_the_reference():
    page = PAGES["docs/reference/api.md"]
    names = re.findall(r"^::: dove_core\.(\w+)$", page, re.M) + re.findall(r"`(\w+Config)`", page)
    assert sorted(names) == list(dove_core.__all__)


def test_every_message_in_the_troubleshooting_is_one_of_the_code():
    known = [re.compile(pattern, re.DOTALL) for pattern in _message_patterns()]
    messages = re.findall(r"^### `(.+)`$", PAGES["docs/help/troubleshooting.md"], re.M)
    assert len(messages) >= 30
    assert [message for message in messages if not any(pattern.fullmatch(message) for pattern in known)] == []


def _message_patterns() -> Iterator[str]:
    """Yield a pattern for each text of the code that has twelve fixed characters or more."""
    for path in (*ROOT.glob("dove_core/**/*.py"), *ROOT.glob("dove_cli/*.py")):
        for node in ast.walk(ast.parse(path.read_text())):
            if isinstance(node, ast.JoinedStr):
                parts = [value.value if isinstance(value, ast.Constant) else None for value in node.values]
            elif isinstance(node, ast.Constant) and isinstance(node.value, str):
                parts = [node.value]
            else:
                continue
            if sum(len(part) for part in parts if part) >= 12:
                yield "".join(".+" if part is None else re.escape(part) for part in parts)


def test_contributing_names_files_and_functions_that_exist():
    text = PAGES["CONTRIBUTING.md"]
    for file in re.findall(r"`((?:dove_core|dove_cli|tests|docs|benchmarks)/[\w/.]*)`", text):
        assert (ROOT / file).exists() or file == "dove_cli/NAME.py", file
    filters = (ROOT / "dove_core/index/filters.py").read_text()
    assert "def parse_interval(" in filters and "def _at_time(" in filters
    assert "def span_of(" in (ROOT / "dove_core/index/rows.py").read_text()


def test_the_decisions_are_numbered_without_gaps_and_the_index_lists_all_of_them():
    records = sorted(path for path in (ROOT / "docs/decisions").glob("*.md") if path.name != "index.md")
    assert [path.name[:5] for path in records] == [f"{number:04}-" for number in range(1, len(records) + 1)]
    rows = re.findall(r"^\| (\d{4}) \| \[(.+)\]\((.+)\) \| ([\w ]+) \|$", PAGES["docs/decisions/index.md"], re.M)
    listed = [
        (file, [f"# {number}. {title}", "", f"{area}. [All decisions](index.md)"]) for number, title, file, area in rows
    ]
    assert listed == [(path.name, path.read_text().splitlines()[:3]) for path in records]


@pytest.mark.parametrize("page", sorted(page for page in PAGES if re.match(r"docs/decisions/\d", page)))
def test_a_decision_is_short_and_has_its_four_parts(page):
    text = PAGES[page]
    assert re.findall(r"^## (.+)$", text, re.M) == ["Context", "Decision", "Why", "Measured"]
    assert 10 <= text.count("\n") <= 40


def test_every_mention_of_a_decision_in_the_code_is_a_file_that_exists():
    for path in (*ROOT.glob("dove_core/**/*.py"), *ROOT.glob("dove_cli/*.py"), *ROOT.glob("benchmarks/*.py")):
        for mentioned in re.findall(r"docs/decisions[\w/.-]*\w", path.read_text()):
            assert (ROOT / mentioned).is_file(), (path, mentioned)


def test_every_model_and_recipe_is_on_its_page():
    from dove_core.pretrained.catalog import MODELS
    from dove_core.recipes import recipe_names

    page = PAGES["docs/start/which-model.md"]
    [row] = re.findall(r"`skyclip-vit-l14-top30`, (.+?) \|", page)
    named = {
        *re.findall(r"`([a-z][\w-]+)`", page),
        *(f"skyclip-vit-l14{end}" for end in re.findall("`(-top[^`]+)`", row)),
    }
    named |= {"skyclip-vit-l14-top30-laion", "skyclip-vit-l14-top30-multi"} if "-top30-laion" in row else set()
    assert set(MODELS) <= named
    for name in recipe_names():
        assert f"`{name}`" in PAGES["docs/reference/configuration.md"]


def test_the_planner_computes_with_the_figures_of_its_table():
    page = PAGES["docs/performance/planner.md"]
    table, script = page.split("<script>")
    for figure in ("15.2", "38.8", "11.9", "9.11"):
        assert figure in table and figure in script and figure in PAGES["docs/results.md"]
    assert "1.68" in table and "cpu: 3.36" in script  # one core; the planner counts pairs of cores
    assert "7,960" in table and "7960" in script and "9,950" in PAGES["docs/scale.md"]
    assert "2,618" in table and "2618" in script and "3,080" in PAGES["docs/scale.md"]
    for figure in ("146", "374", "1,273", "23 s", "21 ms"):
        assert figure in table
    for figure in ("146e-6", "374e6", "1273", "1100", "23e-6", "21e-9"):
        assert figure in script


def test_the_version_is_the_same_in_all_files():
    assert f"\nversion: {PROJECT['version']}\n" in (ROOT / "CITATION.cff").read_text()
    assert f"dove {PROJECT['version']}\n" in PAGES["docs/start/install.md"]
    assert f"## {PROJECT['version']}" in (ROOT / "CHANGELOG.md").read_text()


def test_the_demo_is_a_valid_shell_script():
    assert subprocess.run(["sh", "-n", "examples/demo.sh"], cwd=ROOT).returncode == 0


@pytest.mark.slow
def test_the_site_is_built_without_a_warning_and_loads_nothing_from_elsewhere(tmp_path):
    pytest.importorskip("material", reason="needs pip install '.[docs]'")
    pytest.importorskip("mkdocstrings", reason="needs pip install '.[docs]'")
    done = subprocess.run(
        [sys.executable, "-m", "mkdocs", "build", "--strict", "--quiet", "--site-dir", str(tmp_path / "site")],
        cwd=ROOT, capture_output=True, text=True, env={**os.environ, "NO_MKDOCS_2_WARNING": "1"},
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    assert "WARNING" not in done.stderr
    pages = list((tmp_path / "site").rglob("*.html"))
    assert len(pages) >= 30
    loaded = re.compile(r"<(?:script|link|img|iframe|source)\b[^>]*?(?:src|href)=[\"']?(?:https?:)?//[^\"'> ]+")
    for page in pages:
        assert loaded.findall(page.read_text()) == [], page
        assert "unpkg.com" not in page.read_text(), page  # scripts that would load others
