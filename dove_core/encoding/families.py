"""The families of models: the name in a checkpoint's `model.json` to the code that loads it.

DOVE comes with this package. Another package adds a family by an entry point of the group `dove.families`, named as in
`model.json`, which gives an object with the attributes of `Family`:

    [project.entry-points."dove.families"]
    mine = "my_package:family"
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Protocol

from dove_core.encoding.dove_text import CONFIG, FAMILY, FILES, DoveText
from dove_core.errors import CheckpointError
from dove_core.files import read_json

if TYPE_CHECKING:
    from dove_core.encoding.encoder import Encoder
    from dove_core.encoding.text_side import TextSide

GROUP = "dove.families"
_HINT = "a checkpoint is a folder such as runs/NAME/best, made by `dove train`"


class Family(Protocol):
    """Loads the checkpoints of one kind of model."""

    @property
    def files(self) -> Sequence[str]:
        """The files of a checkpoint, which its fingerprint covers in this order."""
        ...

    def load(self, folder: Path, fingerprint: str) -> Encoder:
        """Load a checkpoint on the CPU.

        Raises:
            CheckpointError: a file is missing, damaged, or does not fit the others.
        """
        ...

    def load_text_side(self, folder: Path) -> TextSide:
        """Load the text side from a checkpoint, or from what `Encoder.save_text_side` wrote, without torch.

        Raises:
            CheckpointError: a file is missing or damaged.
        """
        ...


class DoveFamily:
    """DOVE: weights, configuration and vocabulary."""

    files = FILES

    def load(self, folder: Path, fingerprint: str) -> Encoder:
        """Load a checkpoint on the CPU."""
        from dove_core.encoding.dove import DoveEncoder, read_checkpoint  # noqa: PLC0415  # torch

        return DoveEncoder(read_checkpoint(folder, fingerprint))

    def load_text_side(self, folder: Path) -> TextSide:
        """Load the text side in numpy."""
        return DoveText.open(folder)


def family_of(folder: Path) -> Family:
    """Return the family of the checkpoint, or of the text side, in a folder; one that does not say it is DOVE's.

    Raises:
        CheckpointError: there is no `model.json`, it is damaged, or its family is not installed.
    """
    content = read_json(folder / CONFIG, CheckpointError, hint=_HINT)
    if not isinstance(content, dict):
        raise CheckpointError(f"{folder / CONFIG} does not hold an object", hint=_HINT)
    return family_named(str(content.get("family", FAMILY)), folder / CONFIG)


def family_named(name: str, file: Path) -> Family:
    """Return a family by its name; `file` is where the name is from, for the error.

    Raises:
        CheckpointError: it is not installed.
    """
    if name == FAMILY:
        return DoveFamily()
    from importlib.metadata import entry_points  # noqa: PLC0415  # a query with DOVE does without

    found = entry_points(group=GROUP)
    if name not in found.names:
        known = ", ".join(sorted({FAMILY, *found.names}))
        message = f"{file}: the model family {name!r} is not installed"
        raise CheckpointError(message, hint=f"installed: {known}; install the package that brings it")
    family: Family = found[name].load()
    return family
