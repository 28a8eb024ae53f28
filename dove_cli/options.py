"""Options made from settings: a command that takes a settings object gets one option for each of its fields."""

from __future__ import annotations

import dataclasses
import inspect
from collections.abc import Callable
from functools import wraps
from typing import Annotated, Any, get_type_hints

import typer

from dove_core.bounds import option_name
from dove_core.errors import DoveError

Command = Callable[..., None]

JsonOption = Annotated[bool, typer.Option("--json", help="Write data as JSON to standard output.")]


def with_settings(command: Command, *, without: frozenset[str] = frozenset()) -> Command:
    """Replace each parameter of a settings type by the options of its fields, `without` some that it cannot use.

    The command's signature says `model: ModelConfig`; typer sees `--backbone`, `--image-size` and so on, with defaults
    and help from the fields; the command is called with the object.
    """
    hints = get_type_hints(command, include_extras=True)
    groups: dict[str, Any] = {name: kind for name, kind in hints.items() if dataclasses.is_dataclass(kind)}
    parameters: list[inspect.Parameter] = []
    for parameter in inspect.signature(command).parameters.values():
        if parameter.name in groups:
            parameters.extend(option for option in _options(groups[parameter.name]) if option.name not in without)
        else:
            parameters.append(parameter.replace(annotation=hints[parameter.name], kind=inspect.Parameter.KEYWORD_ONLY))

    @wraps(command)
    def flat(**values: Any) -> None:
        for name, kind in groups.items():
            names = [field.name for field in dataclasses.fields(kind) if field.name in values]
            values[name] = kind(**{field: values.pop(field) for field in names})
        command(**values)

    flat.__signature__ = inspect.Signature(parameters)  # type: ignore[attr-defined]
    flat.__annotations__ = {parameter.name: parameter.annotation for parameter in parameters}
    return flat


def ends_well(command: Command, fail: Callable[[DoveError], int], interrupted: Callable[[], int]) -> Command:
    """Turn the errors a user can act on, and Ctrl-C, into exit codes."""

    @wraps(command)
    def guarded(**values: Any) -> None:
        try:
            command(**values)
        except DoveError as error:
            raise typer.Exit(fail(error)) from None
        except KeyboardInterrupt:
            raise typer.Exit(interrupted()) from None

    return guarded


def given(context: typer.Context, kinds: tuple[type, ...]) -> dict[str, Any]:
    """Return the settings of some types that were written on the command line, not left at their defaults."""
    names = [field.name for kind in kinds for field in dataclasses.fields(kind)]
    written = [name for name in names if getattr(context.get_parameter_source(name), "name", "") == "COMMANDLINE"]
    return {name: context.params[name] for name in written}


def _options(kind: Any) -> list[inspect.Parameter]:
    panel = (kind.__doc__ or "").split(".")[0].split(";")[0]
    hints = get_type_hints(kind)
    return [
        inspect.Parameter(
            field.name,
            inspect.Parameter.KEYWORD_ONLY,
            default=field.default,
            annotation=Annotated[
                hints[field.name], typer.Option(_flag(field), help=_help(field), rich_help_panel=panel)
            ],
        )
        for field in dataclasses.fields(kind)
    ]


def _flag(field: dataclasses.Field[Any]) -> str:
    option = option_name(field.name)
    return f"{option}/--no-{option[2:]}" if isinstance(field.default, bool) else option


def _help(field: dataclasses.Field[Any]) -> str:
    bounds = [
        f"{sign} {field.metadata[name]:g}"
        for name, sign in (("low", ">="), ("above", ">"), ("high", "<="))
        if field.metadata.get(name) is not None
    ]
    return str(field.metadata["help"]) + (f" ({', '.join(bounds)})" if bounds else "")
