"""The dialogue of `dove query` without arguments on a terminal: ask, look at the hits, change the question."""

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
words             search for them
:like 3           search for images like hit 3, together with the words (:unlike 3: unlike it)
:sheet FILE.png   write the hits to a file (also :html, :geojson, :geoparquet, :copy-to, :explain)
:top 20           set an option of `dove query`; without a value: set it to its default
:show             show the words, examples and options of the next search
:reset            forget the words, examples and options
:quit             leave (or Ctrl-D)"""
_FILES = {field.name for field in dataclasses.fields(Outputs)}
_KINDS = (QueryConfig, FilterConfig, RankConfig)


def converse(searcher: Searcher, settings: QueryConfig, filters: FilterConfig, rank: RankConfig) -> None:
    """Read lines from the terminal and answer them until the user leaves."""
    dialogue = _Dialogue(searcher, settings, filters, rank)
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
            dialogue.run(line)
        except DoveError as error:
            fail(error)


class _Dialogue:
    """The words, examples and settings of the next search, and the hits of the last one."""

    def __init__(self, searcher: Searcher, *settings: Any) -> None:
        self._searcher, self._first = searcher, settings
        self._like: list[str] = []
        self._unlike: list[str] = []
        self._reset()

    def run(self, line: str) -> None:
        """Run one line: words, or a command that starts with a colon."""
        if not line:
            return
        if not line.startswith(":"):
            self._text, self._like, self._unlike = line, [], []
            self._search()
            return
        word, _, value = line[1:].partition(" ")
        name, value = word.replace("-", "_"), value.strip()
        if name in ("help", "h"):
            note(_HELP)
        elif name == "reset":
            self._reset()
        elif name == "show":
            self._show_settings()
        elif name in ("like", "unlike"):
            (self._like if name == "like" else self._unlike).append(self._key(value))
            self._search()
        elif name in _FILES:
            self._write(name, value)
        else:
            self._set(name, value)
            if self._text or self._like:
                self._search()

    def _reset(self) -> None:
        self._settings = {type(config): config for config in self._first}
        self._text = ""
        self._like, self._unlike = [], []
        self._hits: list[Hit] = []

    def _search(self) -> None:
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
        hint = "give the number of a hit, or the key of an image: :like 3"
        raise UsageError(f"there is no hit {value}" if value else "the number of a hit is missing", hint=hint)

    def _write(self, name: str, value: str) -> None:
        command = f":{name.replace('_', '-')}"
        if not value:
            raise UsageError(f"{command} needs a path", hint=f"for example {command} answer")
        if not self._hits:
            raise UsageError("there are no hits to write", hint="search for something first: type words")
        Outputs(**{name: Path(value)}).write(self._text, self._hits, self._searcher, self._text)

    def _set(self, name: str, value: str) -> None:
        for kind in _KINDS:
            known = {field.name: field for field in dataclasses.fields(kind)}
            if name in known:
                chosen = _parse(value, get_type_hints(kind)[name], name) if value else known[name].default
                changed = dataclasses.replace(self._settings[kind], **{name: chosen})
                self._settings[kind] = changed
                return
        raise UsageError(f":{name.replace('_', '-')} is not a command or an option", hint="type :help")

    def _show_settings(self) -> None:
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
        expected = {bool: "on or off", int: "a whole number"}.get(kind, "a number")
        message = f":{option_name(name)[2:]} {value} is not valid: expected {expected}"
        raise UsageError(message, hint="`dove query --help` lists the options") from None
