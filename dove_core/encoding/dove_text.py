"""The text side of DOVE, and ROAM over stored regions, in numpy.

Importing torch takes longer than answering a query, so a query does not import it. The arithmetic is the same as in
`model/textual.py` and `model/attention.py`; a test compares both.

Letters: T words, R regions, K images, D dimensions of an embedding, h heads, d dimensions of the space of words and
regions.
"""

from __future__ import annotations

import hashlib
import json
import math
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import NamedTuple

import numpy as np
from safetensors import SafetensorError, safe_open

from dove_core.config import ModelConfig
from dove_core.encoding.text_side import ScoreParts, WordAttention
from dove_core.errors import CheckpointError, UsageError, reason_of
from dove_core.files import parse_record, read_json, record_values
from dove_core.model.normalisation import IMAGENET, Normalisation
from dove_core.model.tokenizer import Tokenizer

FORMAT = 2
"""Version 2 has another IGA than version 1; weights of one cannot be used by the other."""

FAMILY = "dove"
WEIGHTS, CONFIG, VOCABULARY = "model.safetensors", "model.json", "vocabulary.json"
FILES = (WEIGHTS, CONFIG, VOCABULARY)
"""Files of a checkpoint and of a text side, in the order in which the fingerprint covers them."""

TEXT_WEIGHTS = ("text.", "guidance.")
"""Prefixes of the names of the weights of a text side."""

_HINT = "copy or train the checkpoint again; for an index, run `dove embed` again"
_EARLIER = "train it again with `dove train`, then run `dove embed` again; or use the version of dove that made it"
_SHORT, _SHOWN = 3, 80  # letters of words that are not suggested; characters of a query in a message
_ERF = np.vectorize(math.erf, otypes=[np.float64])


@dataclass(frozen=True)
class CaptionParts:
    """An encoded caption: `embedding (D,)` of length 1; IGA's `query (T, d)`, `weight (T,)` and `pooled (D,)`."""

    embedding: np.ndarray
    query: np.ndarray
    weight: np.ndarray
    pooled: np.ndarray


class _Parts(NamedTuple):
    """IGA's attention `(K, T, R)`, and the parts of ROAM's scores: of each word `(K, T)`, and of the image `(K,)`."""

    attention: np.ndarray
    by_word: np.ndarray
    image: np.ndarray


def config_values(config: ModelConfig, normalisation: Normalisation) -> dict[str, object]:
    """Return the content of `model.json`."""
    values = record_values(config, FORMAT)
    return {"format": values.pop("format"), "family": FAMILY, **values, **normalisation._asdict()}


def read_normalisation(folder: Path) -> Normalisation:
    """Read the normalisation of the image trunk from `model.json`; files of earlier versions have ImageNet's.

    Raises:
        CheckpointError: the file is missing or damaged, or a value is impossible.
    """
    values = read_json(folder / CONFIG, CheckpointError, hint=_HINT)
    mean, std = (values.get(name, own) for name, own in IMAGENET._asdict().items())
    numbers = all(
        isinstance(part, list | tuple) and len(part) == 3 and all(isinstance(x, int | float) for x in part)
        for part in (mean, std)
    )
    if not numbers or min(std) <= 0:
        raise CheckpointError(f"{folder / CONFIG}: mean and std must be three numbers each", hint=_HINT)
    return Normalisation(tuple(mean), tuple(std))


def read_config(folder: Path) -> ModelConfig:
    """Read the settings in `model.json`.

    Raises:
        CheckpointError: the file is missing, damaged, of another format, or has a setting out of bounds.
    """
    values = read_json(folder / CONFIG, CheckpointError, hint=_HINT)
    if isinstance(values, dict):
        for name in ("family", *Normalisation._fields):
            values.pop(name, None)
        if values.get("format") == 1:
            message = f"{folder / CONFIG} is of format 1: a model with the ROAM of an earlier version of dove"
            raise CheckpointError(message, hint=_EARLIER)
    try:
        return parse_record(values, str(folder / CONFIG), ModelConfig, FORMAT, CheckpointError, hint=_HINT)
    except UsageError as error:
        raise CheckpointError(f"{folder / CONFIG}: {error.message}", hint=_HINT) from error


def read_words(folder: Path) -> list[str]:
    """Read `vocabulary.json`.

    Raises:
        CheckpointError: the file is missing, damaged, or of another format.
    """
    path = folder / VOCABULARY
    content = read_json(path, CheckpointError, hint=_HINT)
    words = content.get("words") if isinstance(content, dict) and content.get("format") == FORMAT else None
    if not isinstance(words, list) or not all(isinstance(word, str) for word in words):
        raise CheckpointError(f"{path} is not a vocabulary of format {FORMAT}", hint=_HINT)
    return words


class DoveText:
    """A `TextSide` and `TextReranker`: DOVE's text encoder and ROAM without torch."""

    def __init__(self, config: ModelConfig, tokenizer: Tokenizer, weights: Mapping[str, np.ndarray]) -> None:
        self.config, self.tokenizer, self._weights = config, tokenizer, weights

    @classmethod
    def open(cls, folder: Path) -> DoveText:
        """Read the text side from a checkpoint, or from files of `DoveEncoder.save_text_side`.

        Raises:
            CheckpointError: a file is missing or damaged.
        """
        config = read_config(folder)
        return cls(config, Tokenizer(read_words(folder), config.max_tokens), _read(folder / WEIGHTS))

    @property
    def reranker(self) -> DoveText:
        """The text side itself, with ROAM's scores over stored regions."""
        return self

    def digest(self) -> str:
        """Return 16 hexadecimal digits; equal for a checkpoint and a copy of its text side."""
        digest = hashlib.sha256(json.dumps([asdict(self.config), list(self.tokenizer.words)]).encode())
        for name in sorted(self._weights):
            values = np.ascontiguousarray(self._weights[name])
            digest.update(f"{name}{values.dtype}{values.shape}".encode())
            digest.update(values.tobytes())
        return digest.hexdigest()[:16]

    def notes(self, text: str) -> list[str]:
        """Say which words are read as others, which are not known, and how many are after the last that is read."""
        readings = self.tokenizer.readings(text)
        others = dict.fromkeys(f"{one.text} as {' '.join(one.words)}" for one in readings if one.is_other)
        found = [f"words read as others that the model has learned: {', '.join(others)}"] if others else []
        if unknown := self.tokenizer.unknown_words(text):
            found.append(f"words that the model has not learned: {', '.join(map(self._with_suggestions, unknown))}")
        known, most = sum(len(one.words) for one in readings), self.config.max_tokens
        if known > most:
            found.append(f"the model reads {most} words: the last {known - most} of the query were cut")
        return found

    def knows(self, text: str) -> bool:
        """Tell whether a word of a text is known, or is read as one that is."""
        return any(one.words for one in self.tokenizer.readings(text))

    def _with_suggestions(self, word: str) -> str:
        found = self.tokenizer.suggestions(word)
        return f"{word} (did you mean {' or '.join(found)}?)" if found else word[:_SHOWN]

    def encode(self, text: str) -> np.ndarray:
        """Return the embedding `(D,)` of a text.

        Raises:
            UsageError: the text has no words, or the model knows none of them.
            CheckpointError: a weight is missing.
        """
        if not self.knows(text):
            words = self.tokenizer.unknown_words(text)
            near = list(dict.fromkeys(other for word in words for other in self.tokenizer.suggestions(word)))
            usual = [word for word in self.tokenizer.words if len(word) > _SHORT][:20]
            hint = f"did you mean {' or '.join(near[:5])}?" if near else f"use words such as: {', '.join(usual)}"
            shown = text if len(text) <= _SHOWN else f"{text[:_SHOWN]}..."
            message = f"the model knows no word of {shown!r}" if words else "the query has no words"
            raise UsageError(message, hint=hint)
        return self.describe(text).embedding

    def describe(self, text: str) -> CaptionParts:
        """Encode a caption; its words may be unknown.

        Raises:
            CheckpointError: a weight is missing.
        """
        try:
            words = self._words(np.array(self.tokenizer.encode(text)))
            weight = _softmax(self._linear("guidance.word_weight", words)[:, 0])
            pooled = self._linear("guidance.out", weight @ words)
            query = self._linear("guidance.query", words)
        except KeyError as error:
            raise CheckpointError(f"the weights of the text side lack {error}", hint=_HINT) from error
        return CaptionParts(_unit(words.mean(axis=0)), _unit(query), weight, _unit(pooled))

    def attention(self, text: str, regions: np.ndarray, fused: np.ndarray) -> WordAttention:
        """Return the attention of each word to images, and what each adds to ROAM's scores.

        The maps do not include the region in the middle of the image, if the model has one.

        Args:
            text: a query.
            regions: `V_R (K, R, D)`.
            fused: `v_MR (K, D)`.

        Raises:
            UsageError: the text has no words.
        """
        words = self.tokenizer.read(text)
        if not words:
            raise UsageError("the query has no words", hint="give a query with at least one word")
        caption, grid = self.describe(text), self.config.region_grid
        attention, by_word, image = self._parts(caption, regions, fused)
        maps = attention[:, :, : grid * grid].reshape(len(regions), -1, grid, grid)
        whole = np.einsum("t,ktyx->kyx", caption.weight, maps)
        return WordAttention(words, caption.weight, maps, whole, ScoreParts(by_word, image))

    def score(self, text: str, regions: np.ndarray, fused: np.ndarray) -> np.ndarray:
        """Return ROAM's scores `(K,)` of a text with images.

        Args:
            text: a caption.
            regions: `V_R (K, R, D)`.
            fused: `v_MR (K, D)`.
        """
        _, by_word, image = self._parts(self.describe(text), regions, fused)
        scores: np.ndarray = by_word.sum(axis=1) + image
        return scores

    def _parts(self, caption: CaptionParts, regions: np.ndarray, fused: np.ndarray) -> _Parts:
        """Compute `InterModalGuidance` for one caption, and share its scores out among the words."""
        cosines = np.einsum("td,krd->ktr", caption.query, _unit(self._linear("guidance.key", regions)), optimize=True)
        attention = _softmax(np.exp(self._weights["guidance.log_sharpness"]) * cosines)
        value = self._linear("guidance.value", regions)
        guided = fused + np.einsum("t,ktr,krd->kd", caption.weight, attention, value, optimize=True)
        length = np.linalg.norm(guided, axis=-1)
        fits = cosines + (value @ caption.pooled / length[:, None])[:, None]
        by_word = 0.5 * caption.weight * (attention * fits).sum(axis=-1)
        return _Parts(attention, by_word, 0.5 * fused @ caption.pooled / length)

    def _words(self, numbers: np.ndarray) -> np.ndarray:
        """Return `T_G (T, D)`."""
        embedded = self._weights["text.embedding.weight"][numbers]
        forward = self._gated("text.forward_attention", self._gru(embedded, ""))
        backward = self._gated("text.backward_attention", self._gru(embedded[::-1], "_reverse")[::-1])
        crossed = self._norm("text.mlp.0", forward * _softmax(backward) + backward * _softmax(forward))
        return self._linear("text.mlp.3", _gelu(self._linear("text.mlp.1", crossed)))

    def _gru(self, inputs: np.ndarray, direction: str) -> np.ndarray:
        """Return the states `(T, D)` of one direction (Cho et al. 2014; order of the gates as in torch: r, z, n)."""
        of_input, of_state, input_bias, state_bias = (
            self._weights[f"text.gru.{name}_l0{direction}"] for name in ("weight_ih", "weight_hh", "bias_ih", "bias_hh")
        )
        from_input = inputs @ of_input.T + input_bias
        state, states = np.zeros(of_state.shape[1], np.float32), []
        for step in from_input:
            (r, z, n), (of_r, of_z, of_n) = np.split(step, 3), np.split(of_state @ state + state_bias, 3)
            keep = _sigmoid(z + of_z)
            state = (1 - keep) * np.tanh(n + _sigmoid(r + of_r) * of_n) + keep * state
            states.append(state)
        return np.stack(states)

    def _gated(self, name: str, x: np.ndarray) -> np.ndarray:
        """Apply gated self-attention to `(T, D)`, as `GatedSelfAttention`."""
        query, key, value = (self._heads(part) for part in np.split(self._linear(f"{name}.project", x), 3, axis=-1))
        both = self._linear(f"{name}.gate_query", query) * self._linear(f"{name}.gate_key", key)
        query_gate, key_gate = np.split(_sigmoid(self._linear(f"{name}.gate", both)), 2, axis=-1)
        attention = (query * query_gate) @ (key * key_gate).transpose(0, 2, 1) * query.shape[-1] ** -0.5
        mixed = (_softmax(attention) @ value).transpose(1, 0, 2).reshape(x.shape)
        return self._norm(f"{name}.norm", x + self._linear(f"{name}.out", mixed))

    def _heads(self, x: np.ndarray) -> np.ndarray:
        """Split `(T, D)` into heads `(h, T, d)`."""
        return x.reshape(len(x), self.config.heads, -1).transpose(1, 0, 2)

    def _linear(self, name: str, x: np.ndarray) -> np.ndarray:
        result: np.ndarray = x @ self._weights[f"{name}.weight"].T + self._weights[f"{name}.bias"]
        return result

    def _norm(self, name: str, x: np.ndarray) -> np.ndarray:
        centred = x - x.mean(axis=-1, keepdims=True)
        scaled = centred / np.sqrt((centred**2).mean(axis=-1, keepdims=True) + 1e-5)
        result: np.ndarray = scaled * self._weights[f"{name}.weight"] + self._weights[f"{name}.bias"]
        return result


def _read(path: Path) -> dict[str, np.ndarray]:
    try:
        with safe_open(path, framework="numpy") as weights:
            return {name: weights.get_tensor(name) for name in weights.keys() if name.startswith(TEXT_WEIGHTS)}  # noqa: SIM118
    except (OSError, SafetensorError) as error:
        raise CheckpointError(f"{path} cannot be read: {reason_of(error)}", hint=_HINT) from error


def _unit(x: np.ndarray) -> np.ndarray:
    result: np.ndarray = x / np.maximum(np.linalg.norm(x, axis=-1, keepdims=True), 1e-12)
    return result


def _sigmoid(x: np.ndarray) -> np.ndarray:
    result: np.ndarray = 0.5 * (1 + np.tanh(0.5 * x))  # never overflows
    return result


def _softmax(x: np.ndarray) -> np.ndarray:
    powers = np.exp(x - x.max(axis=-1, keepdims=True))
    result: np.ndarray = powers / powers.sum(axis=-1, keepdims=True)
    return result


def _gelu(x: np.ndarray) -> np.ndarray:
    result: np.ndarray = (0.5 * x * (1 + _ERF(x / math.sqrt(2)))).astype(np.float32)
    return result
