"""Who may import whom; what the library must not do; what start-up may cost."""

from __future__ import annotations

import ast
import subprocess
import sys
from pathlib import Path

import pytest

import dove_core

ROOT = Path(__file__).parents[1]
GROUND = {
    "errors", "events", "config", "bounds", "files", "places", "cache", "buckets", "processes", "executors",
}  # fmt: skip
MAY_IMPORT = {
    "errors": set(),
    "events": set(),
    "bounds": {"errors"},
    "machines": {"bounds", "errors"},
    "config": {"bounds", "errors", "machines"},
    "files": {"errors"},
    "places": {"buckets", "config", "errors", "files"},
    "cache": {"config", "errors", "files", "places"},
    "buckets": {"cache", "config", "errors", "files", "places"},
    "processes": {"errors"},
    "on_ray": {"config", "errors", "events", "processes"},
    "executors": {"config", "events", "on_ray", "processes"},
    "recipes": {"config", "errors"},
    "data": GROUND | {"data"},
    "model": GROUND | {"model"},
    "search": GROUND | {"data", "model", "search"},
    "evaluation": GROUND | {"data", "model", "search", "evaluation"},
    "training": GROUND | {"data", "model", "search", "evaluation", "training"},
}
MODULES = sorted(path.relative_to(ROOT) for path in ROOT.glob("dove_c*/**/*.py"))


def imports(path: Path) -> list[str]:
    found = []
    for node in ast.walk(ast.parse((ROOT / path).read_text())):
        if isinstance(node, ast.Import):
            found += [alias.name for alias in node.names]
        elif isinstance(node, ast.ImportFrom):
            found += [f"{node.module}.{alias.name}" for alias in node.names]
    return found


def floor(path: Path) -> str:
    return path.with_suffix("").parts[1]


@pytest.mark.parametrize("path", MODULES, ids=str)
def test_modules_import_only_what_lies_below_them(path):
    for name in imports(path):
        top, _, rest = name.partition(".")
        if path.parts[0] == "dove_cli":
            continue
        assert top not in ("dove_cli", "typer", "rich"), f"{path} imports {name}"
        if top == "dove_core" and floor(path) != "__init__":
            assert rest.split(".")[0] in MAY_IMPORT[floor(path)], f"{path} imports {name}"


@pytest.mark.parametrize("path", MODULES, ids=str)
def test_distribution_is_known_in_one_file_only(path):
    known = [name for name in imports(path) if name.startswith(("torch.distributed", "torch.multiprocessing"))]
    assert not known or path == Path("dove_core/training/world.py")


@pytest.mark.parametrize("path", [p for p in MODULES if p.parts[0] == "dove_core"], ids=str)
def test_the_library_never_prints_nor_reads_arguments(path):
    for node in ast.walk(ast.parse((ROOT / path).read_text())):
        assert not (isinstance(node, ast.Call) and getattr(node.func, "id", "") == "print"), f"{path} prints"
        assert not (isinstance(node, ast.Attribute) and node.attr == "argv"), f"{path} reads argv"


@pytest.mark.parametrize("path", MODULES, ids=str)
def test_files_and_functions_stay_short(path):
    text = (ROOT / path).read_text()
    assert text.count("\n") <= 320
    for node in ast.walk(ast.parse(text)):
        if isinstance(node, ast.FunctionDef):
            code = node.body[1:] if ast.get_docstring(node) else node.body
            lines = code[-1].end_lineno - code[0].lineno + 1 if code else 0
            assert lines <= 45, f"{path}: {node.name} has {lines} lines"


def test_help_imports_neither_torch_nor_other_heavy_packages():
    code = (
        "import sys, runpy; sys.argv = ['dove', '--help']\n"
        "try: runpy.run_module('dove_cli', run_name='__main__')\n"
        "except SystemExit: pass\n"
        "heavy = {'torch', 'torchvision', 'pandas', 'numpy', 'pyarrow', 'PIL', 'httpx'} & set(sys.modules)\n"
        "sys.exit(f'imported {heavy}' if heavy else 0)"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, cwd=ROOT)
    assert done.returncode == 0, done.stderr


def test_public_names_are_sorted_and_load_from_where_the_type_checker_sees_them():
    assert dove_core.__all__ == sorted(dove_core.__all__)
    seen = {}
    for node in ast.walk(ast.parse((ROOT / "dove_core/__init__.py").read_text())):
        if isinstance(node, ast.ImportFrom) and (node.module or "").startswith("dove_core."):
            seen |= {alias.name: node.module for alias in node.names}
    assert seen == dove_core._HOME
    for name in dove_core.__all__:
        assert getattr(dove_core, name) is not None
    with pytest.raises(AttributeError, match="no 'nonsense'"):
        dove_core.nonsense  # noqa: B018
