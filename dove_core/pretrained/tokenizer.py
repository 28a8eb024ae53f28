"""The tokenizer of a repository of the Hub, with the token that pads a text written into it."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from dove_core.errors import CheckpointError
from dove_core.files import read_json, write_json

TOKENIZER, SETTINGS = "tokenizer.json", "tokenizer_config.json"
_HINT = "only tokenizers in the form of the library tokenizers can be used"


def pad_tokenizer(file: Path, settings: Path, target: Path) -> Path:
    """Write a `tokenizer.json` to `target` that says how texts are padded, and return it.

    Repositories have that in `settings` only, their `tokenizer_config.json`.

    Raises:
        CheckpointError: a file is damaged, or names no token for padding.
    """
    content, facts = (read_json(path, CheckpointError, hint=_HINT) for path in (file, settings))
    token = facts.get("pad_token") if isinstance(facts, dict) else None
    name = token.get("content") if isinstance(token, dict) else token
    number = _number_of(name, content) if isinstance(content, dict) else None
    if number is None:
        raise CheckpointError(f"{settings} and {file} do not say which token pads a text", hint=_HINT)
    content["padding"] = {
        "strategy": "BatchLongest", "direction": "Right", "pad_to_multiple_of": None, "pad_id": number,
        "pad_type_id": 0, "pad_token": name,
    }  # fmt: skip
    write_json(target, content)
    return target


def _number_of(token: Any, content: Mapping[str, Any]) -> int | None:
    """Return the number of a token: an added one, or one of the vocabulary, a mapping or a list of pairs."""
    added = {one["content"]: one["id"] for one in content.get("added_tokens", ())}
    vocabulary = content.get("model", {}).get("vocab", {})
    if isinstance(vocabulary, list):
        vocabulary = {pair[0]: number for number, pair in enumerate(vocabulary)}
    found: int | None = added.get(token, vocabulary.get(token))
    return found
