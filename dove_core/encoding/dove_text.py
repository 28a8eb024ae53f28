"""The text side of a checkpoint, and ROAM over stored regions, in numpy alone.

A query asked once should not wait for torch to be imported: that takes longer than all the rest. The arithmetic is that
of `textual.py` and `attention.py`; a test holds both to the same numbers.

Letters: T words, R regions, K images, D embedding width, h heads, d = D / h.
"""

from __future__ import annotations

import hashlib
import json
import math
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path

import numpy as np
from safetensors import SafetensorError, safe_open
from safetensors.numpy import save_file

from dove_core.config import ModelConfig
from dove_core.errors import CheckpointError
from dove_core.files import read_json, read_record
from dove_core.model.tokenizer import Tokenizer

FORMAT = 1
WEIGHTS, CONFIG, VOCABULARY = "model.safetensors", "model.json", "vocabulary.json"
_PARTS = ("text.", "guidance.")
_HINT = "run `dove embed` again to write it anew"
_ERF = np.vectorize(math.erf, otypes=[np.float64])


@dataclass(frozen=True)
class PlainCaption:
    """What a caption brings: `embedding (D,)` of length 1, `pooled (D,)`, IGA's `query (h, T, d)`, `weight (h, T)`."""

    embedding: np.ndarray
    pooled: np.ndarray
    query: np.ndarray
    weight: np.ndarray


class PlainText:
    """A checkpoint's words without torch."""

    def __init__(self, config: ModelConfig, tokenizer: Tokenizer, weights: Mapping[str, np.ndarray]) -> None:
        self.config, self.tokenizer, self._weights = config, tokenizer, weights

    @classmethod
    def open(cls, folder: Path) -> PlainText:
        """Read the text side from a checkpoint's folder, or from what `copy_text_side` wrote.

        Raises:
            CheckpointError: a file is missing or damaged.
        """
        config = read_record(folder / CONFIG, ModelConfig, FORMAT, CheckpointError, hint=_HINT)
        content = read_json(folder / VOCABULARY, CheckpointError, hint=_HINT)
        try:
            return cls(config, Tokenizer(content["words"], config.max_tokens), _read(folder / WEIGHTS))
        except (KeyError, TypeError) as error:
            raise CheckpointError(f"{folder / VOCABULARY} is not a vocabulary: {error}", hint=_HINT) from error

    def digest(self) -> str:
        """Return 16 hexadecimal digits that are the same for a checkpoint and for the copy of its text side."""
        digest = hashlib.sha256(json.dumps([asdict(self.config), list(self.tokenizer.words)]).encode())
        for name in sorted(self._weights):
            values = np.ascontiguousarray(self._weights[name])
            digest.update(f"{name}{values.dtype}{values.shape}".encode())
            digest.update(values.tobytes())
        return digest.hexdigest()[:16]

    def embed(self, text: str) -> PlainCaption:
        """Encode one caption.

        Raises:
            CheckpointError: the file of weights lacks one.
        """
        try:
            words = self._words(np.array(self.tokenizer.encode(text)))
            pooled = words.mean(axis=0)
            query = (
                self._heads(self._linear("guidance.query", words)) * (self.config.embed_dim / self.config.heads) ** -0.5
            )
            weight = _softmax(self._linear("guidance.word_weight", words).T)
        except KeyError as error:
            raise CheckpointError(f"the weights of the text side lack {error}", hint=_HINT) from error
        return PlainCaption(pooled / np.linalg.norm(pooled), pooled, query, weight)

    def attend(self, caption: PlainCaption, regions: np.ndarray) -> np.ndarray:
        """Return how each word attends to the regions `V_R (K, R, D)` of images: `(K, h, T, R)`, sums of one."""
        key, _ = self._keys_and_values(regions)
        return _softmax(np.einsum("htd,krhd->khtr", caption.query, key, optimize=True))

    def score(self, caption: PlainCaption, regions: np.ndarray, fused: np.ndarray) -> np.ndarray:
        """Return ROAM's scores `(K,)` of a caption with images.

        Args:
            caption: from `embed`.
            regions: `V_R (K, R, D)`.
            fused: `v_MR (K, D)`, of length 1.
        """
        key, value = self._keys_and_values(regions)
        attention = _softmax(np.einsum("htd,krhd->khtr", caption.query, key, optimize=True))
        over_regions = np.einsum("ht,khtr->khr", caption.weight, attention)
        mixed = np.einsum("khr,krhd->khd", over_regions, value).reshape(len(regions), -1)
        base = self._norm("guidance.norm", caption.pooled + self._linear("guidance.out", mixed))
        guided = base + self._linear("guidance.mlp.3", _gelu(self._linear("guidance.mlp.0", base)))
        scores: np.ndarray = (fused * guided).sum(axis=-1) / np.linalg.norm(guided, axis=-1)
        return scores

    def _keys_and_values(self, regions: np.ndarray) -> list[np.ndarray]:
        """Return IGA's keys and values `(K, R, h, d)` of regions `(K, R, D)`."""
        shape = (*regions.shape[:2], self.config.heads, -1)
        return [part.reshape(shape) for part in np.split(self._linear("guidance.key_value", regions), 2, axis=-1)]

    def _words(self, numbers: np.ndarray) -> np.ndarray:
        """Return `T_G (T, D)`."""
        embedded = self._weights["text.embedding.weight"][numbers]
        ahead = self._gru(embedded, "")
        back = self._gru(embedded[::-1], "_reverse")[::-1]
        ahead = self._gated("text.forward_attention", ahead)
        back = self._gated("text.backward_attention", back)
        crossed = self._norm("text.mlp.0", ahead * _softmax(back) + back * _softmax(ahead))
        return self._linear("text.mlp.3", _gelu(self._linear("text.mlp.1", crossed)))

    def _gru(self, inputs: np.ndarray, direction: str) -> np.ndarray:
        """Return the states `(T, D)` of one direction (Cho et al. 2014, as torch numbers the gates: r, z, n)."""
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
        """Gated self-attention of `(T, D)`, as `GatedSelfAttention`."""
        query, key, value = (self._heads(part) for part in np.split(self._linear(f"{name}.project", x), 3, axis=-1))
        both = self._linear(f"{name}.gate_query", query) * self._linear(f"{name}.gate_key", key)
        query_gate, key_gate = np.split(_sigmoid(self._linear(f"{name}.gate", both)), 2, axis=-1)
        attention = (query * query_gate) @ (key * key_gate).transpose(0, 2, 1) * query.shape[-1] ** -0.5
        mixed = (_softmax(attention) @ value).transpose(1, 0, 2).reshape(x.shape)
        return self._norm(f"{name}.norm", x + self._linear(f"{name}.out", mixed))

    def _heads(self, x: np.ndarray) -> np.ndarray:
        """Turn `(T, D)` into `(h, T, d)`."""
        return x.reshape(len(x), self.config.heads, -1).transpose(1, 0, 2)

    def _linear(self, name: str, x: np.ndarray) -> np.ndarray:
        result: np.ndarray = x @ self._weights[f"{name}.weight"].T + self._weights[f"{name}.bias"]
        return result

    def _norm(self, name: str, x: np.ndarray) -> np.ndarray:
        centred = x - x.mean(axis=-1, keepdims=True)
        scaled = centred / np.sqrt((centred**2).mean(axis=-1, keepdims=True) + 1e-5)
        result: np.ndarray = scaled * self._weights[f"{name}.weight"] + self._weights[f"{name}.bias"]
        return result


def copy_text_side(checkpoint: Path, folder: Path) -> None:
    """Copy what `PlainText.open` reads from a checkpoint into an existing folder.

    Raises:
        CheckpointError: the checkpoint's weights cannot be read.
    """
    save_file(_read(checkpoint / WEIGHTS), folder / WEIGHTS)
    for name in (CONFIG, VOCABULARY):
        content = read_json(checkpoint / name, CheckpointError, hint=_HINT)
        (folder / name).write_text(json.dumps(content, ensure_ascii=False), "utf-8")


def _read(path: Path) -> dict[str, np.ndarray]:
    try:
        with safe_open(path, framework="numpy") as weights:
            return {name: weights.get_tensor(name) for name in weights.keys() if name.startswith(_PARTS)}  # noqa: SIM118
    except (OSError, SafetensorError) as error:
        raise CheckpointError(f"{path} cannot be read: {error}", hint=_HINT) from error


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
