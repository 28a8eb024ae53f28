"""The text side of a model of the family `clip`, by onnxruntime and tokenizers, without torch."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np

from dove_core.encoding.clip_config import FILES, INSTALL, TEXT_TOWER, ClipConfig, read_config
from dove_core.encoding.clip_tokenizer import ClipTokenizer
from dove_core.errors import CheckpointError, UsageError
from dove_core.files import fingerprint_of_files

_HINT = "run `dove embed` again, which exports the text tower"


class ClipText:
    """A `TextSide`: the text tower in ONNX where an index has it; from a checkpoint, the whole model."""

    reranker = None

    def __init__(self, folder: Path) -> None:
        self.config: ClipConfig = read_config(folder)
        self._folder, self._tokenizer = folder, ClipTokenizer(folder, self.config)

    def encode(self, text: str) -> np.ndarray:
        """Return the embedding `(D,)` float32 of a text, of length 1.

        Raises:
            CheckpointError: a file is missing or damaged.
            UsageError: onnxruntime, or open_clip, is not installed.
        """
        embedding: np.ndarray = self._run([text])[0]
        return embedding

    def notes(self, text: str) -> list[str]:
        """Say which part of a text the model does not read."""
        excess = self._tokenizer.excess(text)
        if not excess:
            return []
        return [f"the model reads {self.config.context_length} tokens: the last {excess} of the query were cut"]

    def knows(self, text: str) -> bool:
        """Tell whether a text is more than spaces: tokens are pieces of words, down to single bytes."""
        return bool(text.strip())

    def digest(self) -> str:
        """Return the fingerprint of the checkpoint."""
        if self._has_tower:
            return str(self._session.get_modelmeta().custom_metadata_map.get("fingerprint", ""))
        return fingerprint_of_files(self._folder, FILES)

    @property
    def _has_tower(self) -> bool:
        return (self._folder / TEXT_TOWER).exists()

    @cached_property
    def _run(self) -> Callable[[Sequence[str]], np.ndarray]:
        """Return what turns texts into embeddings `(C, D)`."""
        if self._has_tower:
            return self._by_session
        from dove_core.encoding.clip import load_clip  # noqa: PLC0415  # torch

        encoder = load_clip(self._folder)
        return lambda texts: encoder.encode_texts(texts).detach().numpy()

    def _by_session(self, texts: Sequence[str]) -> np.ndarray:
        rows = [self._session.run(None, {"tokens": row[None]})[0] for row in self._tokenizer.encode(texts)]
        embeddings: np.ndarray = np.concatenate(rows).astype(np.float32)
        return embeddings

    @cached_property
    def _session(self) -> Any:
        try:
            import onnxruntime as ort  # noqa: PLC0415  # of an extra
        except ImportError as error:
            raise UsageError("a query of a CLIP model needs onnxruntime", hint=INSTALL) from error
        options = ort.SessionOptions()
        options.log_severity_level = 3
        # Packing the weights copies all of them; for one query it takes longer than it saves.
        options.add_session_config_entry("session.disable_prepacking", "1")
        path = self._folder / TEXT_TOWER
        try:
            return ort.InferenceSession(str(path), options, providers=["CPUExecutionProvider"])
        except Exception as error:  # onnxruntime's errors have no common base class
            raise CheckpointError(f"{path} cannot be read: {str(error).splitlines()[0]}", hint=_HINT) from error
