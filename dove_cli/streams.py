"""Standard output and standard error that cannot break a command: closed pipes, full disks, terminals without Unicode.

A reader that has enough, such as `head`, ends the command with exit code 0. A disk that is full behind standard output
is an error with its own exit code. Characters that the terminal's encoding lacks are written as `\\u673a`.
"""

from __future__ import annotations

import errno
import io
import os
import sys
from collections.abc import Callable
from typing import Any

from dove_core.errors import SpaceError

_FULL = (errno.ENOSPC, errno.EDQUOT)
_HINT = "free some space, or write to another disk"


class _Output(io.TextIOWrapper):
    """Standard output: errors of writing are `SystemExit(0)` for a closed pipe, and `SpaceError` for a full disk."""

    def write(self, text: str) -> int:
        """Write a text."""
        return int(self._guarded(super().write, text))

    def flush(self) -> None:
        """Write what is buffered."""
        self._guarded(super().flush)

    def _guarded(self, action: Callable[..., Any], *values: Any) -> Any:
        try:
            return action(*values)
        except OSError as error:
            _discard(self)  # or the text that is left would fail again when Python ends
            if isinstance(error, BrokenPipeError):
                raise SystemExit(0) from None
            if error.errno in _FULL:
                raise SpaceError("no space left while writing standard output", hint=_HINT) from error
            raise


class _Errors(io.TextIOWrapper):
    """Standard error: if it cannot be written any more, the command continues without messages."""

    def write(self, text: str) -> int:
        """Write a text, or discard it if the stream is closed."""
        try:
            return super().write(text)
        except OSError:
            _discard(self)
            return len(text)

    def flush(self) -> None:
        """Write what is buffered, or discard it if the stream is closed."""
        try:
            super().flush()
        except OSError:
            _discard(self)


def protect_streams() -> None:
    """Replace `sys.stdout` and `sys.stderr`; text for closed ones goes nowhere."""
    for name, kind in (("stdout", _Output), ("stderr", _Errors)):
        stream = getattr(sys, name)
        if stream is None:
            setattr(sys, name, open(os.devnull, "w", encoding="utf-8"))  # noqa: PTH123, SIM115  # until the process ends
        elif isinstance(stream, io.TextIOWrapper):
            is_terminal, encoding = stream.isatty(), stream.encoding
            stream.flush()
            made = kind(stream.detach(), encoding, "backslashreplace", None, is_terminal or name == "stderr")
            setattr(sys, name, made)


def _discard(stream: io.TextIOWrapper) -> None:
    """Let all further text of a stream go nowhere."""
    nowhere = os.open(os.devnull, os.O_WRONLY)
    os.dup2(nowhere, stream.fileno())
    os.close(nowhere)
