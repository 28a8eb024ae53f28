"""A hook of mkdocs: the page of the notebook shows its cells with the outputs that are kept in the file."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

NOTEBOOK = Path(__file__).parents[2] / "examples" / "retrieval_demo.ipynb"
MARK = "<!-- cells of the notebook -->"


def on_page_markdown(markdown: str, **_: Any) -> str:
    """Put the cells in the place of the mark."""
    return (
        markdown.replace(MARK, "\n\n".join(cells(json.loads(NOTEBOOK.read_text())))) if MARK in markdown else markdown
    )


def cells(notebook: dict[str, Any]) -> Iterator[str]:
    """Yield each cell and each output as Markdown; headings go one level down."""
    for cell in notebook["cells"]:
        source = "".join(cell["source"])
        if cell["cell_type"] == "markdown":
            yield re.sub(r"^#", "##", source, flags=re.MULTILINE)
            continue
        yield f"```python\n{source}\n```"
        for output in cell["outputs"]:
            yield shown(output)


def shown(output: dict[str, Any]) -> str:
    """Return one output: HTML, an image or text, the first that it has."""
    data = {kind: "".join(lines) for kind, lines in output.get("data", {}).items()}
    if "text/html" in data:
        html = re.sub(r"\n\s*", "\n", re.sub(r"<style.*?</style>", "", data["text/html"], flags=re.DOTALL))
        return f'<div class="output">{html.strip()}</div>'
    if "image/png" in data:
        return f'<img class="output" alt="output of the cell" src="data:image/png;base64,{data["image/png"].strip()}">'
    return f"```text\n{data.get('text/plain', ''.join(output.get('text', []))).rstrip()}\n```"
