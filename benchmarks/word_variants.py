"""How much retrieval falls where all words of the queries are in the other number: `airports` for `airport`.

    python -m benchmarks.word_variants runs/NAME/best --shards shards/rsicd/val

Every noun of every caption is swapped: a plural for its singular, a singular for its plural. Printed is text-to-image
R@10 over all captions, in percent, of the captions as written and swapped, for a vocabulary that reads unknown words as
known ones (`dove_core/model/spelling.py`) and for one that does not.
"""

from __future__ import annotations

import argparse
import re
from collections.abc import Sequence
from pathlib import Path
from unittest.mock import patch

import numpy as np

from dove_core.config import ComputeConfig
from dove_core.data.reader import Shards
from dove_core.encoding.embedder import Embedder
from dove_core.encoding.load import load_encoder
from dove_core.evaluation.encode import encode_split
from dove_core.model.tokenizer import Tokenizer

NO_NOUNS = """
a about above across after all along alongside also among an and another are around as at away back bare be beautiful
been behind beside besides between beyond big black blue bottom brown both but by can close coarse colorful curved
dark deep dense different dotted down dry each east eight eighteen eleven empty every few five flat four from full go
goes grey gray green half has have her here high higher his huge in inside into irregular is it its large left light
little located long lots low lush made many medium middle more most much narrow near nearby neat neatly next nine no
north not of off old on one only open orange orderly other out outside over parallel pink planted purple quite
rectangular red residential right round rows scattered semicircular seven several shallow shaped short six small some
south sparse square straight surrounded tall ten that the their them there they thick this three through tidy tiny to
together top towards triangular turquoise twelve two under up various very vast was we well were west when where which
while white whose wide winding with without yellow
"""
"""Words of RSICD that are not nouns, if they are frequent; rare ones are swapped too, which makes the test harder."""

_NO_NOUNS = frozenset(NO_NOUNS.split())
IRREGULAR = {"people": "person", "person": "people", "men": "man", "man": "men", "leaf": "leaves", "leaves": "leaf"}


def other_number(word: str) -> str:
    """Return the plural of a singular noun, and the singular of a plural one."""
    if word in _NO_NOUNS or len(word) < 3 or not word.isalpha() or word.endswith(("ed", "ing", "ly")):
        return word
    if word in IRREGULAR:
        return IRREGULAR[word]
    if re.search("[^aeiou]ies$", word):
        return f"{word[:-3]}y"
    if re.search("(?:ss|sh|ch|x|z)es$", word):
        return word[:-2]
    if word.endswith("s") and not word.endswith(("ss", "us", "is")):
        return word[:-1]
    if re.search("[^aeiou]y$", word):
        return f"{word[:-1]}ies"
    return f"{word}es" if re.search("(?:s|sh|ch|x|z)$", word) else f"{word}s"


def swapped(caption: str) -> str:
    """Return a caption with every noun in the other number."""
    return re.sub(r"\w+", lambda match: other_number(match[0].lower()), caption)


def recall_at_10(embedder: Embedder, images: np.ndarray, captions: Sequence[str], owners: np.ndarray) -> float:
    """Return text-to-image R@10 in percent; an image that scores as high as the right one is before it."""
    different = list(dict.fromkeys(captions))
    texts = embedder.describe_texts(different, exact=False).embedding.float().cpu().numpy()
    numbers = {caption: number for number, caption in enumerate(different)}
    scores = images @ texts[[numbers[caption] for caption in captions]].T
    right = scores[owners, np.arange(len(captions))]
    return float(100 * ((scores >= right).sum(axis=0) <= 10).mean())


def main() -> None:
    """Measure one checkpoint on one split."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("checkpoint", type=Path)
    parser.add_argument("--shards", type=Path, default=Path("shards/rsicd/val"))
    arguments = parser.parse_args()
    embedder, split = Embedder(load_encoder(arguments.checkpoint), ComputeConfig(workers=1)), Shards(arguments.shards)
    encoded = encode_split(embedder, split, batch_size=64)
    images = encoded.images.embedding.float().cpu().numpy()
    captions = [encoded.caption_texts[number] for number in encoded.distinct]
    others = [swapped(caption) for caption in captions]
    print(f"{len(captions)} captions, {sum(map(str.__ne__, captions, others))} of them changed, such as: {others[0]}")
    for name, read in (("not read as others", lambda *_: ()), ("read as others", Tokenizer._stand_in)):
        with patch.object(Tokenizer, "_stand_in", read):
            before, after = (recall_at_10(embedder, images, texts, encoded.owners) for texts in (captions, others))
        fall = 100 * (before - after) / before
        print(f"unknown words {name}: as written {before:.2f}, swapped {after:.2f}, falls by {fall:.1f} %")


if __name__ == "__main__":
    main()
