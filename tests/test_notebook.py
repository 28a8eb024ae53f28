"""The notebook runs top to bottom on the built-in release."""

from __future__ import annotations

from pathlib import Path

import nbformat
import pytest
from nbclient import NotebookClient

from tests.cli.test_commands import dove

NOTEBOOK = Path(__file__).parents[1] / "examples" / "retrieval_demo.ipynb"


def test_the_notebook_is_kept_without_outputs():
    notebook = nbformat.read(NOTEBOOK, as_version=4)
    nbformat.validate(notebook)
    for cell in notebook.cells:
        assert cell.cell_type == "markdown" or (cell.outputs == [] and cell.execution_count is None)


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
    outputs = [output for cell in notebook.cells for output in cell.get("outputs", [])]
    assert sum("image/png" in output.get("data", {}) for output in outputs) == 3  # attention, recall, locations
    shown = [output["data"]["text/html"] for output in outputs if "<img" in output.get("data", {}).get("text/html", "")]
    assert [html.count('<img src="data:image/jpeg;base64,') for html in shown[:4]] == [6, 6, 6, 6]
    assert len(shown) >= 7
    text = "".join(output.get("text", "") for output in outputs)
    assert "pairwise   mean recall" in text
    assert "its own caption:" in text
    assert (tmp_path / "answers" / "river.png").exists()
