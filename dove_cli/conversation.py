"""`dove query` alone on a terminal: type, look, refine."""

from __future__ import annotations

import dataclasses
from pathlib import Path
from typing import TYPE_CHECKING, Any, get_type_hints

from dove_cli.answers import Outputs, show
from dove_cli.render import fail, note, reporting
from dove_core.bounds import option_name
from dove_core.config import FilterConfig, QueryConfig, RankConfig
from dove_core.errors import DoveError, UsageError

if TYPE_CHECKING:
    from dove_core.search.query import Hit, Searcher

_HELP = """\
words             look for them
:like 3           more like hit 3 (:unlike 3: less); together with the words
:sheet FILE.png   the hits in a file (:html, :geojson, :geoparquet, :copy-to, :explain)
:top 20           any option of `dove query` that has a value; without a value: back to its default
:show             what is set
:reset            forget words, examples and settings
:quit             leave (or Ctrl-D)"""
_FILES = {field.name for field in dataclasses.fields(Outputs)}
_KINDS = (QueryConfig, FilterConfig, RankConfig)


def converse(searcher: Searcher, settings: QueryConfig, filters: FilterConfig, rank: RankConfig) -> None:
    """Answer line after line until the end."""
    talk = _Talk(searcher, settings, filters, rank)
    note(f"{len(searcher.index)} images; type words, or :help")
    while True:
        try:
            line = input("dove> ").strip()
        except EOFError:
            note("")
            return
        if line in (":quit", ":q", ":exit"):
            return
        try:
            talk.hear(line)
        except DoveError as error:
            fail(error)


class _Talk:
    """What was said so far."""

    def __init__(self, searcher: Searcher, *settings: Any) -> None:
        self._searcher, self._first = searcher, settings
        self._like: list[str] = []
        self._unlike: list[str] = []
        self._forget()

    def hear(self, line: str) -> None:
        """Do what a line says."""
        if not line:
            return
        if not line.startswith(":"):
            self._text, self._like, self._unlike = line, [], []
            self._answer()
            return
        word, _, value = line[1:].partition(" ")
        name, value = word.replace("-", "_"), value.strip()
        if name in ("help", "h"):
            note(_HELP)
        elif name == "reset":
            self._forget()
        elif name == "show":
            self._say_settings()
        elif name in ("like", "unlike"):
            (self._like if name == "like" else self._unlike).append(self._key(value))
            self._answer()
        elif name in _FILES:
            self._write(name, value)
        else:
            self._set(name, value)
            if self._text or self._like:
                self._answer()

    def _forget(self) -> None:
        self._settings = {type(config): config for config in self._first}
        self._text = ""
        self._like, self._unlike = [], []
        self._hits: list[Hit] = []

    def _answer(self) -> None:
        from dove_core.search.question import Question

        question = Question(self._text, None, tuple(self._like), tuple(self._unlike))
        query, filters, rank = (self._settings[kind] for kind in _KINDS)
        with reporting() as report:
            self._hits = self._searcher.answer(question, query, rank, filters, report=report)
        show(self._hits, False)

    def _key(self, value: str) -> str:
        if value.isdigit() and 0 < int(value) <= len(self._hits):
            return self._hits[int(value) - 1].row.key
        if value and not value.isdigit():
            return value
        raise UsageError(f"{value or 'nothing'} is no hit", hint="say the number of a hit, or a key: :like 3")

    def _write(self, name: str, value: str) -> None:
        if not value:
            raise UsageError(f":{name} needs a path", hint=f"such as :{name} answer")
        if not self._hits:
            raise UsageError("there are no hits to write", hint="ask first")
        Outputs(**{name: Path(value)}).write(self._text, self._hits, self._searcher, self._text)

    def _set(self, name: str, value: str) -> None:
        for kind in _KINDS:
            known = {field.name: field for field in dataclasses.fields(kind)}
            if name in known:
                chosen = _parse(value, get_type_hints(kind)[name], name) if value else known[name].default
                changed = dataclasses.replace(self._settings[kind], **{name: chosen})
                self._settings[kind] = changed
                return
        raise UsageError(f":{name} is not known", hint="see :help")

    def _say_settings(self) -> None:
        for config in self._settings.values():
            for field in dataclasses.fields(config):
                if (value := getattr(config, field.name)) != field.default:
                    note(f":{option_name(field.name)[2:]} {value}")
        note(f"words: {self._text or 'none'}; like: {', '.join(self._like) or 'none'}; unlike: "
             f"{', '.join(self._unlike) or 'none'}")  # fmt: skip


def _parse(value: str, kind: Any, name: str) -> Any:
    try:
        if kind is bool:
            return {"yes": True, "on": True, "true": True, "no": False, "off": False, "false": False}[value.lower()]
        return kind(value) if kind in (int, float) else value
    except (ValueError, KeyError):
        raise UsageError(
            f":{option_name(name)[2:]} {value} is not understood", hint="see `dove query --help`"
        ) from None
