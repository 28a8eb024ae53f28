"""Which module may import which; what the library must not do; what start-up may cost."""

from __future__ import annotations

import ast
import inspect
import re
import subprocess
import sys
from pathlib import Path

import pytest

import dove_core

ROOT = Path(__file__).parents[1]
CORE = ROOT / "dove_core"

GROUND = [
    "allocator",
    "errors",
    "bounds",
    "machines",
    "query_config",
    "serve_config",
    "train_config",
    "config",
    "events",
    "names",
    "files",
    "places",
    "cache",
    "buckets",
    "addresses",
    "processes",
    "on_ray",
    "executors",
    "recipes",
]
"""Modules of `dove_core` itself, bottom up: each imports only those to its left."""

ROOMS = {
    "data": "",
    "model": "",
    "encoding": "data model",
    "pretrained": "data encoding",
    "sources": "data",
    "index": "data encoding sources",
    "search": "encoding index",
    "review": "index search",
    "answers": "encoding index review search",
    "serve": "answers encoding index review search",
    "evaluation": "data encoding",
    "training": "data encoding evaluation model",
}
"""Rooms of `dove_core`, bottom up, and those that each imports besides the ground and itself."""

FAMILIES = re.compile(r"(model|encoding\.(dove|clip)\w*)\b")
"""What only `encoding`, `pretrained` and `training` know: networks, and the families that come with this package."""

MODULES = sorted(path.relative_to(ROOT) for path in ROOT.glob("dove_c*/**/*.py"))
OF_CORE = [path for path in MODULES if path.parts[0] == "dove_core"]
PACKAGES = sorted(path.parent for path in CORE.glob("*/**/__init__.py") if path.parent.name != "recipes")


def imports(path: Path) -> list[str]:
    """Return every name that a module imports, at its top or in a function."""
    found = []
    for node in ast.walk(ast.parse((ROOT / path).read_text())):
        if isinstance(node, ast.Import):
            found += [alias.name for alias in node.names]
        elif isinstance(node, ast.ImportFrom):
            found += [f"{node.module}.{alias.name}" for alias in node.names]
    return found


def imports_of_core(path: Path) -> list[str]:
    """Return what a module imports of `dove_core`, from there on: `data.reader.Shards`."""
    return [name.removeprefix("dove_core.") for name in imports(path) if name.startswith("dove_core.")]


def listed(package: Path) -> list[str]:
    """Return the modules that a package's docstring lists, bottom up."""
    text = ast.get_docstring(ast.parse((package / "__init__.py").read_text()), clean=False) or ""
    return re.findall(r"^    (\w+) {2,}\S", text, re.MULTILINE)


@pytest.mark.parametrize("path", OF_CORE, ids=str)
def test_a_module_imports_only_rooms_below_its_own(path):
    room = path.with_suffix("").parts[1]
    if room == "__init__":
        return
    for name in imports_of_core(path):
        other = name.split(".")[0]
        if room in GROUND:
            assert other in GROUND[: GROUND.index(room)], f"{path} imports {name}"
        else:
            assert other in (*GROUND, room, *ROOMS[room].split()), f"{path} imports {name}"


@pytest.mark.parametrize("package", PACKAGES, ids=lambda package: str(package.relative_to(ROOT)))
def test_a_module_imports_only_those_that_its_package_lists_above_it(package):
    order, prefix = listed(package), ".".join(package.relative_to(CORE).parts) + "."
    here = {path.stem for path in package.glob("*.py")} | {path.parent.name for path in package.glob("*/__init__.py")}
    assert sorted(order) == sorted(here - {"__init__"}), f"{package} lists other modules than it has"
    for place, own in enumerate(order):
        files = [package / f"{own}.py"] if (package / f"{own}.py").exists() else (package / own).rglob("*.py")
        for file in files:
            for name in imports_of_core(file.relative_to(ROOT)):
                if name.startswith(prefix):
                    other = name.removeprefix(prefix).split(".")[0]
                    assert other in order[:place] or other == own, f"{file.relative_to(ROOT)} imports {name}"


@pytest.mark.parametrize("path", OF_CORE, ids=str)
def test_a_model_is_known_behind_the_seam_alone(path):
    if path.parts[1] not in ("__init__.py", "model", "encoding", "pretrained", "training"):
        assert not [name for name in imports_of_core(path) if FAMILIES.match(name)]


@pytest.mark.parametrize("path", OF_CORE, ids=str)
def test_the_library_imports_no_command_line(path):
    assert not [name for name in imports(path) if name.split(".")[0] in ("dove_cli", "typer", "rich")]


@pytest.mark.parametrize("path", MODULES, ids=str)
def test_distribution_is_known_in_one_file_only(path):
    known = [name for name in imports(path) if name.startswith(("torch.distributed", "torch.multiprocessing"))]
    assert not known or path == Path("dove_core/training/world.py")


@pytest.mark.parametrize("path", OF_CORE, ids=str)
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


def test_public_functions_have_one_argument_name_for_each_class_of_settings():
    names = {
        "CacheConfig": "cache", "ComputeConfig": "compute", "EmbedConfig": "embedding", "EvalConfig": "evaluation",
        "ExecutorConfig": "execution", "FetchConfig": "fetching", "FilterConfig": "filters", "FineTuneConfig": "tuning",
        "LaunchConfig": "launching", "ModelConfig": "model", "PushConfig": "pushing",
        "QueryConfig": "query", "RankConfig": "ranking", "ServeConfig": "serving",
        "ShardConfig": "sharding", "TrainConfig": "training", "VerifyConfig": "verification",
        "ZeroShotConfig": "zero_shot",
    }  # fmt: skip
    assert set(names) == {name for name in dove_core.__all__ if name.endswith("Config")}
    for public in dove_core.__all__:
        value = getattr(dove_core, public)
        for one in [value, *(getattr(value, name) for name in (vars(value) if inspect.isclass(value) else ()))]:
            arguments = inspect.signature(one).parameters.values() if callable(one) else ()
            for argument in arguments:
                assert names.get(argument.annotation, argument.name) == argument.name, f"{public}: {argument}"


def test_no_two_classes_have_one_name():
    names: dict[str, Path] = {}
    for path in OF_CORE:
        for node in ast.walk(ast.parse((ROOT / path).read_text())):
            if isinstance(node, ast.ClassDef):
                assert node.name not in names, f"{node.name}: {names[node.name]} and {path}"
                names[node.name] = path


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
