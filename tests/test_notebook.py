"""The notebook runs top to bottom on the built-in release, and is kept with its outputs."""

from __future__ import annotations

import ast
import json
import re
from pathlib import Path

import nbformat
import pytest
from nbclient import NotebookClient

from docs.site.notebook_page import MARK, cells
from tests.cli.test_commands import dove

NOTEBOOK = Path(__file__).parents[1] / "examples" / "retrieval_demo.ipynb"


def test_the_notebook_is_kept_with_the_outputs_of_one_run():
    notebook = nbformat.read(NOTEBOOK, as_version=4)
    nbformat.validate(notebook)
    code = [cell for cell in notebook.cells if cell.cell_type == "code"]
    assert [cell.execution_count for cell in code] == list(range(1, len(code) + 1))
    for cell in code:
        assert bool(cell.outputs) == shows_something(cell.source), cell.source
        assert {output.output_type for output in cell.outputs} <= {"stream", "display_data", "execute_result"}
        assert all(output.get("name", "stdout") == "stdout" for output in cell.outputs)  # no warnings
    assert NOTEBOOK.stat().st_size < 1_500_000


def shows_something(source: str) -> bool:
    """Return whether a cell prints, displays, or ends with an expression."""
    tree = ast.parse(source.replace("%matplotlib inline", ""))
    called = {node.func for node in ast.walk(tree) if isinstance(node, ast.Call)}
    names = {func.id if isinstance(func, ast.Name) else getattr(func, "attr", "") for func in called}
    return isinstance(tree.body[-1], ast.Expr) or bool(names & {"print", "display", "show"})


def test_the_outputs_have_no_absolute_path():
    for output in outputs_of(nbformat.read(NOTEBOOK, as_version=4)):
        texts = [
            output.get("text", ""),
            *(text for kind, text in output.get("data", {}).items() if "image" not in kind),
        ]
        for text in texts:
            plain = re.sub(r"data:image/\w+;base64,[\w+/=]+", "", text)
            assert not re.search(r"(?<![\w.<:/])/\w+/|[A-Z]:\\\\|file:", plain), plain[:500]


def outputs_of(notebook: nbformat.NotebookNode) -> list[nbformat.NotebookNode]:
    return [output for cell in notebook.cells for output in cell.get("outputs", [])]


def test_the_page_of_the_notebook_has_every_cell_and_every_image():
    notebook = json.loads(NOTEBOOK.read_text())
    page = "\n".join(cells(notebook))
    sources = ["".join(cell["source"]) for cell in notebook["cells"] if cell["cell_type"] == "code"]
    assert all(source in page for source in sources)
    assert page.count('<img class="output"') == 3
    assert MARK in (NOTEBOOK.parents[1] / "docs/tutorials/notebook.md").read_text()


@pytest.mark.slow
def test_every_cell_runs_and_images_are_drawn(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("DOVE_DEMO", str(tmp_path))
    small = ("--backbone", "resnet18", "--image-size", "32", "--weights", "none", "--region-grid", "2")
    for words in (
        ("fetch", "sample"),
        ("shard",),
        ("train", *small, "--embed-dim", "32", "--heads", "4", "--epochs", "1", "--objective", "infonce"),
        ("embed",),
    ):
        code, _, err = dove(*words)
        assert code == 0, err
    notebook = nbformat.read(NOTEBOOK, as_version=4)
    NotebookClient(
        notebook, timeout=300, kernel_name="python3", resources={"metadata": {"path": str(tmp_path)}}
    ).execute()
    outputs = outputs_of(notebook)
    assert sum("image/png" in output.get("data", {}) for output in outputs) == 3  # attention, recall, locations
    shown = [output["data"]["text/html"] for output in outputs if "<img" in output.get("data", {}).get("text/html", "")]
    assert [html.count('<img src="data:image/jpeg;base64,') for html in shown[:4]] == [6, 6, 6, 6]
    assert len(shown) >= 7
    text = "".join(output.get("text", "") for output in outputs)
    assert "pairwise   mean recall" in text
    assert "its own caption:" in text
    assert (tmp_path / "answers" / "river.png").exists()
