"""Model families: from the name in a checkpoint's `model.json` to the code that loads it.

DOVE and CLIP are part of this package. Another package adds a family with an entry point in the group
`dove.families`. Its name is the one in `model.json`; its value is an object that implements `Family`:

    [project.entry-points."dove.families"]
    mine = "my_package:family"
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol

from dove_core.encoding import clip_config
from dove_core.encoding.dove_text import CONFIG, FAMILY, FILES, DoveText
from dove_core.errors import CheckpointError
from dove_core.files import read_json

if TYPE_CHECKING:
    from dove_core.encoding.encoder import Encoder
    from dove_core.encoding.text_side import TextSide

GROUP = "dove.families"
HINT = "a checkpoint is a folder such as runs/NAME/best or models/NAME, made by `dove train` or `dove fetch NAME`"


class Family(Protocol):
    """What loads the checkpoints of one kind of model."""

    @property
    def files(self) -> Sequence[str]:
        """Names of the files of a checkpoint, in the order in which the fingerprint covers them."""
        ...

    @property
    def has_reranker(self) -> bool:
        """Tell whether its models have exact scores of pairs, `Encoder.reranker`."""
        ...

    def load(self, folder: Path, fingerprint: str) -> Encoder:
        """Load a checkpoint on the CPU.

        Raises:
            CheckpointError: a file is missing, damaged, or does not match the others.
        """
        ...

    def load_text_side(self, folder: Path) -> TextSide:
        """Load the text side, without torch, from a checkpoint or from files of `Encoder.save_text_side`.

        Raises:
            CheckpointError: a file is missing or damaged.
        """
        ...


class DoveFamily:
    """The family DOVE: a checkpoint has weights, configuration and vocabulary."""

    files, has_reranker = FILES, True

    def load(self, folder: Path, fingerprint: str) -> Encoder:
        """Load a checkpoint on the CPU."""
        from dove_core.encoding.dove import DoveEncoder, read_checkpoint  # noqa: PLC0415  # torch

        return DoveEncoder(read_checkpoint(folder), fingerprint)

    def load_text_side(self, folder: Path) -> TextSide:
        """Load the text side in numpy."""
        return DoveText.open(folder)


class ClipFamily:
    """The family CLIP: any model that open_clip can build."""

    files, has_reranker = clip_config.FILES, False

    def load(self, folder: Path, fingerprint: str) -> Encoder:
        """Load a checkpoint on the CPU."""
        from dove_core.encoding.clip import load_clip  # noqa: PLC0415  # torch

        return load_clip(folder, fingerprint)

    def load_text_side(self, folder: Path) -> TextSide:
        """Load the text side in onnxruntime."""
        from dove_core.encoding.clip_text import ClipText  # noqa: PLC0415  # not needed for DOVE

        return ClipText(folder)


_OWN: Mapping[str, Family] = {FAMILY: DoveFamily(), clip_config.FAMILY: ClipFamily()}


def family_of(folder: Path) -> Family:
    """Return the family of the checkpoint or text side in a folder; without a name in `model.json` it is DOVE.

    Raises:
        CheckpointError: `model.json` is missing or damaged, or its family is not installed.
    """
    return family_in(read_json(folder / CONFIG, CheckpointError, hint=HINT), str(folder / CONFIG))


def family_in(content: Any, where: str) -> Family:
    """Return the family that the content of `model.json` names; `where` is the file, for the message.

    Raises:
        CheckpointError: the content is not an object, or the family is not installed.
    """
    if not isinstance(content, dict):
        raise CheckpointError(f"{where} is not a JSON object", hint=HINT)
    name = str(content.get("family", FAMILY))
    if name in _OWN:
        return _OWN[name]
    from importlib.metadata import entry_points  # noqa: PLC0415  # not needed for DOVE and CLIP

    installed = entry_points(group=GROUP)
    if name not in installed.names:
        names = ", ".join(sorted({*_OWN, *installed.names}))
        message = f"{where}: the model family {name!r} is not installed"
        raise CheckpointError(message, hint=f"install the package that has it; installed: {names}")
    family: Family = installed[name].load()
    return family
