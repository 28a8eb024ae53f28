"""Command-line options from settings: a command that takes a settings object gets one option for each field.

Addresses are turned into paths and places here too; typer would turn `s3://bucket/folder` into a path.
"""

from __future__ import annotations

import dataclasses
import inspect
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import reduce, wraps
from operator import or_
from pathlib import Path
from types import UnionType
from typing import Annotated, Any, Generic, TypeVar, Union, get_args, get_origin, get_type_hints

import typer

from dove_core.addresses import path_of, place_of
from dove_core.bounds import option_name
from dove_core.config import CacheConfig
from dove_core.errors import DoveError
from dove_core.files import refused_by_system
from dove_core.places import Place

Command = Callable[..., None]
T = TypeVar("T")

JsonOption = Annotated[bool, typer.Option("--json", help="Write data as JSON to standard output.")]


@dataclass(frozen=True)
class Given(Generic[T]):
    """The settings of a type that were given on the command line; the others come from elsewhere, such as a recipe."""

    kind: type[T]
    values: dict[str, Any]

    def over(self, settings: Mapping[str, Any]) -> T:
        """Return the settings, with those given in place of others; settings of other types are left out.

        Raises:
            UsageError: a setting is not valid, or does not go with another.
        """
        own = {field.name for field in dataclasses.fields(self.kind)} & settings.keys()  # type: ignore[arg-type]
        return self.kind(**{name: settings[name] for name in own} | self.values)


def with_settings(command: Command, *, without: frozenset[str] = frozenset()) -> Command:
    """Replace each parameter of a settings type by options for its fields, `without` those the command cannot use.

    The command's signature says `model: ModelConfig`; typer sees `--backbone`, `--image-size` and so on, with defaults
    and help from the fields; the command is called with the object. A command that takes `Given[ModelConfig]`, which
    needs the parameter `context`, is called with those that were given. A parameter that is a `Path` takes a path or a
    `file://` address; a parameter that is a `Place` takes the address of a bucket too, whose copies go where the
    command's `CacheConfig` says.
    """
    hints = get_type_hints(command, include_extras=True)
    groups: dict[str, Any] = {name: kind for name, hint in hints.items() if (kind := _settings_type(hint)) is not None}
    parameters: list[inspect.Parameter] = []
    for parameter in inspect.signature(command).parameters.values():
        if parameter.name in groups:
            parameters.extend(option for option in _options(groups[parameter.name]) if option.name not in without)
        else:
            annotation = _as_text(hints[parameter.name])
            parameters.append(parameter.replace(annotation=annotation, kind=inspect.Parameter.KEYWORD_ONLY))

    @wraps(command)
    def flat(**values: Any) -> None:
        for name, kind in groups.items():
            names = [field.name for field in dataclasses.fields(kind) if field.name in values]
            own = {field: values.pop(field) for field in names}
            is_partial = get_origin(hints[name]) is Given
            values[name] = Given(kind, given(values["context"], (kind,))) if is_partial else kind(**own)
        cache = next((value for value in values.values() if isinstance(value, CacheConfig)), CacheConfig())
        for name in values.keys() - groups.keys():
            if (kinds := _kinds(hints[name])) & _PLACES:
                values[name] = _placed(values[name], option_name(name), cache, may_be_remote=Place in kinds)
        command(**values)

    flat.__signature__ = inspect.Signature(parameters)  # type: ignore[attr-defined]
    flat.__annotations__ = {parameter.name: parameter.annotation for parameter in parameters}
    return flat


def with_exit_codes(command: Command, fail: Callable[[DoveError], int], interrupted: Callable[[], int]) -> Command:
    """Turn errors that a user can act on, refusals of the system, and Ctrl-C into exit codes."""

    @wraps(command)
    def guarded(**values: Any) -> None:
        try:
            command(**values)
        except DoveError as error:
            raise typer.Exit(fail(error)) from None
        except OSError as error:
            if (known := refused_by_system(error)) is None:
                raise
            raise typer.Exit(fail(known)) from None
        except KeyboardInterrupt:
            raise typer.Exit(interrupted()) from None

    return guarded


def given(context: typer.Context, kinds: tuple[type, ...]) -> dict[str, Any]:
    """Return the settings of these types that were given on the command line."""
    names = [field.name for kind in kinds for field in dataclasses.fields(kind)]
    written = [name for name in names if getattr(context.get_parameter_source(name), "name", "") == "COMMANDLINE"]
    return {name: context.params[name] for name in written}


def _settings_type(hint: Any) -> Any:
    """Return the type of settings that a parameter takes whole or as `Given`; None for another parameter."""
    kind = get_args(hint)[0] if get_origin(hint) is Given else hint
    return kind if dataclasses.is_dataclass(kind) else None


_PLACES = frozenset({Path, Place})


def _kinds(annotation: Any) -> set[Any]:
    """Return the plain types in an annotation."""
    if get_origin(annotation) is Annotated:
        return _kinds(get_args(annotation)[0])
    inner = get_args(annotation)
    return set().union(*map(_kinds, inner)) if inner else {annotation}


def _as_text(annotation: Any) -> Any:
    """Return an annotation with `str` in place of paths and places."""
    origin, inner = get_origin(annotation), get_args(annotation)
    if origin is Annotated:
        if _kinds(inner[0]) & _PLACES:
            inner[1].metavar = inner[1].metavar or "PATH"
        return Annotated[_as_text(inner[0]), inner[1]]
    if origin in (Union, UnionType):
        return reduce(or_, dict.fromkeys(map(_as_text, inner)))
    if inner:
        return origin[tuple(map(_as_text, inner))]
    return str if annotation in _PLACES else annotation


def _placed(value: Any, option: str, cache: CacheConfig, *, may_be_remote: bool) -> Any:
    """Return the path of an address, or its place if it may be remote; of a list, each of them.

    Raises:
        UsageError: the text is the address of a bucket, and a path is needed.
    """
    if value is None:
        return None
    if not isinstance(value, str):
        return type(value)(_placed(one, option, cache, may_be_remote=may_be_remote) for one in value)
    place = place_of(value, cache)
    return place if may_be_remote else path_of(place, needed_by=option)


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
