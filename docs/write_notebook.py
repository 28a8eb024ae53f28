"""Run the notebook on the demo and keep its outputs: `make demo && python docs/write_notebook.py`."""

from __future__ import annotations

import base64
import io
from pathlib import Path

import nbformat
from nbclient import NotebookClient
from PIL import Image

NOTEBOOK = Path(__file__).parents[1] / "examples" / "retrieval_demo.ipynb"
WIDTH = 900
"""Pixels of the widest image that is kept."""


def main() -> None:
    """Run every cell in the folder of the notebook, and write it with smaller images."""
    notebook = nbformat.read(NOTEBOOK, as_version=4)
    folder = {"metadata": {"path": str(NOTEBOOK.parent)}}
    NotebookClient(notebook, timeout=600, kernel_name="python3", resources=folder, record_timing=False).execute()
    notebook.metadata.pop("language_info", None)  # the version of this Python
    for cell in notebook.cells:
        for output in cell.get("outputs", []):
            shrink(output.get("data", {}))
    nbformat.write(notebook, NOTEBOOK)
    print(f"saved {NOTEBOOK}: {NOTEBOOK.stat().st_size / 1e3:.0f} kB")


def shrink(data: dict[str, str]) -> None:
    """Replace the image of an output by one with 64 colours; the text about an image is left out."""
    if "image/png" not in data:
        return
    image = Image.open(io.BytesIO(base64.b64decode(data["image/png"]))).convert("RGB")
    image.thumbnail((WIDTH, 4 * WIDTH))
    written = io.BytesIO()
    image.quantize(64).save(written, "PNG", optimize=True)
    data["image/png"] = base64.b64encode(written.getvalue()).decode()
    data.pop("image/jpeg", None)
    data.pop("text/plain", None)  # it may hold an address in memory


if __name__ == "__main__":
    main()
