"""Recipes: TOML files with settings of a model and its training that work well for a data set.

A recipe has up to three tables, `[model]`, `[training]` and `[tuning]`, with the fields of `ModelConfig`, `TrainConfig`
and `FineTuneConfig`; all others keep their defaults. The recipes in this folder are given by name, any other by its
path.
"""

from __future__ import annotations

import dataclasses
import tomllib
from pathlib import Path
from typing import Any

from dove_core.config import FineTuneConfig, ModelConfig, TrainConfig
from dove_core.errors import UsageError, reason_of

_HOME = Path(__file__).parent
_TABLES = {"model": ModelConfig, "training": TrainConfig, "tuning": FineTuneConfig}


def recipe_names() -> list[str]:
    """Return the names of the recipes that come with dove."""
    return sorted(path.stem for path in _HOME.glob("*.toml"))


def read_recipe(name: str) -> dict[str, Any]:
    """Return the settings of a recipe by their fields' names.

    Args:
        name: one of `recipe_names()`, or the path of a TOML file.

    Raises:
        UsageError: there is no such recipe, or it has an unknown table or setting, or an invalid value.
    """
    path = Path(name) if name.endswith(".toml") else _HOME / f"{name}.toml"
    try:
        content = tomllib.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        hint = f"choose one of {', '.join(recipe_names())}, or give the path of a .toml file"
        raise UsageError(f"--recipe {name}: there is no such recipe", hint=hint) from None
    except (OSError, ValueError) as error:
        raise UsageError(f"--recipe {name} cannot be read: {reason_of(error)}", hint="expected a TOML file") from error
    settings: dict[str, Any] = {}
    for table, values in content.items():
        kind = _TABLES.get(table)
        if kind is None or not isinstance(values, dict):
            raise UsageError(
                f"--recipe {name} has {table!r}", hint="expected the tables [model], [training] and [tuning]"
            )
        known = {field.name: field for field in dataclasses.fields(kind)}
        if unknown := [key for key in values if key not in known]:
            hint = f"the settings of [{table}] are {', '.join(known)}"
            raise UsageError(f"--recipe {name}: there is no setting {unknown[0]!r} in [{table}]", hint=hint)
        _check(name, kind, values)
        settings |= values
    return settings


def _check(name: str, kind: type[Any], values: dict[str, Any]) -> None:
    try:
        kind(**values)
    except UsageError as error:
        raise UsageError(f"--recipe {name}: {error.message}", hint=error.hint) from error
