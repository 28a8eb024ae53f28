"""How processes that train together tell the one that started them why they ended: files in a folder of the launch."""

from __future__ import annotations

import os
import pickle
import traceback
from contextlib import suppress
from pathlib import Path

from dove_core.errors import TrainingError
from dove_core.training.meeting import GO_ON
from dove_core.training.pulse import LostError

_END, _SIGNALLED = "end", "signalled"
_LOST = f"{LostError.__module__}.{LostError.__qualname__}: "


class Ending:
    """What ended a launch for good, and what made single processes fail."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder

    def note(self, error: BaseException) -> None:
        """Note an error, or an interrupt, that starting again would not mend; the first one counts."""
        whole = self._folder / f"{_END}-{os.getpid()}"
        whole.write_bytes(pickle.dumps(error))
        with suppress(FileExistsError):
            os.link(whole, self._folder / _END)

    def find(self) -> BaseException | None:
        """Return what was noted, if anything was."""
        path = self._folder / _END
        if not path.exists():
            return None
        error: BaseException = pickle.loads(path.read_bytes())  # our own processes wrote it
        return error

    def note_signal(self) -> None:
        """Note that somebody told the launcher to end."""
        (self._folder / _SIGNALLED).touch()

    def signalled(self) -> bool:
        """Tell whether somebody told the launcher to end: what it sends to its processes by itself means no end."""
        return (self._folder / _SIGNALLED).exists()

    def note_failure(self, rank: int) -> None:
        """Keep the traceback of the exception under way, which may be a bug."""
        (self._folder / f"failed-{rank}").write_text(traceback.format_exc(), encoding="utf-8")

    def failures(self) -> list[str]:
        """Return what made processes fail so far, a line each; whoever asked first has told it."""
        lines = []
        for path in sorted(self._folder.glob("failed-*")):
            text = path.read_text(encoding="utf-8").rstrip()
            lines.append(f"training process {path.name.removeprefix('failed-')} failed: {text.splitlines()[-1]}")
            path.unlink()
        return lines

    def failure(self, rank: int, code: int) -> Exception:
        """Return the error that says why process `rank` ended with `code`: killed, or with a traceback."""
        told = self._folder / f"failed-{rank}"
        if code == 1 and told.exists():
            text = told.read_text(encoding="utf-8")
            *_, last = text.rstrip().splitlines()
            if last.startswith(_LOST):
                return TrainingError(last.removeprefix(_LOST), hint=GO_ON)
            return RuntimeError(f"a training process failed:\n{text}")
        message = f"training process {rank} ended with code {code}"
        return TrainingError(message, hint="out of memory? Try a smaller --batch-size; --resume goes on from last/")
