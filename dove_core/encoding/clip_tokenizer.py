"""Texts to the tokens of a model of the family `clip`, by the library tokenizers and without torch."""

from __future__ import annotations

import html
import string
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from dove_core.encoding.clip_config import HINT, INSTALL, TOKENIZER, ClipConfig
from dove_core.errors import CheckpointError, UsageError

_WITHOUT_PUNCTUATION = str.maketrans("", "", string.punctuation)


class ClipTokenizer:
    """Texts to tokens as open_clip makes them: cleaned, cut into subwords, padded to one length L.

    `tokenizer.json` has the subwords, the first and last token of a text, and the token that pads it. Cleaning follows
    open_clip's `SimpleTokenizer` and `HFTokenizer`. `content` is the file.

    Raises:
        CheckpointError: `tokenizer.json` is missing or damaged.
        UsageError: the library tokenizers is not installed.
    """

    def __init__(self, folder: Path, config: ClipConfig) -> None:
        try:
            from tokenizers import Tokenizer  # noqa: PLC0415  # of an extra
        except ImportError as error:
            raise UsageError("a CLIP model needs the library tokenizers", hint=INSTALL) from error
        self._clean, self._length, path = config.clean, config.context_length, folder / TOKENIZER
        try:
            self.content = path.read_bytes()
            tokenizer: Any = Tokenizer.from_buffer(self.content)
            self._padding = int(tokenizer.padding["pad_id"])
        except Exception as error:  # the library raises a plain Exception
            raise CheckpointError(f"{path} cannot be read: {error}", hint=HINT) from error
        tokenizer.no_padding()
        tokenizer.no_truncation()
        self._tokenizer = tokenizer

    def encode(self, texts: Sequence[str], *, whole: bool = True) -> np.ndarray:
        """Return the tokens `(C, L)` int64 of texts; of a longer text the first L - 1 tokens and the last remain.

        If they need not be `whole`, they are as long as the longest text.
        """
        rows = [self._cut(text) for text in texts]
        tokens = np.full((len(rows), self._length if whole else max(map(len, rows))), self._padding, np.int64)
        for row, numbers in zip(tokens, rows, strict=True):
            row[: len(numbers)] = numbers
        return tokens

    def _cut(self, text: str) -> list[int]:
        encoded = self._tokenizer.encode(clean(text, self._clean))
        numbers: list[int] = encoded.ids[: self._length]
        if len(encoded) > len(numbers) and encoded.special_tokens_mask[-1]:
            numbers[-1] = encoded.ids[-1]
        return numbers

    def excess(self, text: str) -> int:
        """Return how many tokens of a text are not read."""
        return max(0, len(self._tokenizer.encode(clean(text, self._clean))) - self._length)


def clean(text: str, how: str) -> str:
    """Return a text as the tokenizer expects it.

    >>> clean("  Two &amp;  three ", "lower")
    'two & three'
    >>> clean("A river_bank, wide.", "canonicalize")
    'a river bank wide'
    """
    if not (text.isascii() and text.isprintable() and "&" not in text):  # such a text ftfy does not change
        import ftfy  # noqa: PLC0415  # of an extra, and rarely needed

        text = html.unescape(html.unescape(ftfy.fix_text(text)))
    if how == "canonicalize":
        return " ".join(text.replace("_", " ").translate(_WITHOUT_PUNCTUATION).lower().split())
    text = " ".join(text.split())
    return text.lower() if how == "lower" else text


def write_clip_tokenizer(path: Path) -> None:
    """Write CLIP's own byte-pair encoding, which comes with open_clip, as a file of the library tokenizers.

    Its pattern cuts a text into contractions, runs of letters, single digits, and runs of other characters.
    """
    from open_clip.tokenizer import SimpleTokenizer  # noqa: PLC0415  # of an extra
    from tokenizers import AddedToken, Regex, Tokenizer, models, pre_tokenizers, processors  # noqa: PLC0415

    source = SimpleTokenizer()
    tokenizer = Tokenizer(models.BPE(source.encoder, list(source.bpe_ranks), end_of_word_suffix="</w>"))
    words = Regex(r"'s|'t|'re|'ve|'m|'ll|'d|\p{L}+|\p{N}|[^\s\p{L}\p{N}]+")
    tokenizer.pre_tokenizer = pre_tokenizers.Sequence(
        [
            pre_tokenizers.Split(words, "removed", invert=True),
            pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False),
        ]
    )
    first, last = ("<start_of_text>", "<end_of_text>")
    tokenizer.add_special_tokens([AddedToken(token, special=True, normalized=False) for token in (first, last)])
    ends = [(token, source.encoder[token]) for token in (first, last)]
    tokenizer.post_processor = processors.TemplateProcessing(single=f"{first} $A {last}", special_tokens=ends)
    tokenizer.enable_padding(pad_id=0, pad_token="!")  # open_clip pads with zeros
    tokenizer.save(str(path))
