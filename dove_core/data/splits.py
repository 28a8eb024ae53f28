"""The split that the name of a file, of a folder, or a value in a table stands for."""

from __future__ import annotations

import re
from collections.abc import Iterable
from pathlib import PurePosixPath

SPLITS = {
    "train": "train", "training": "train", "trainset": "train", "trainval": "train", "restval": "train",
    "trn": "train",
    "val": "val", "valid": "val", "validation": "val", "validate": "val", "valset": "val", "dev": "val",
    "devset": "val", "eval": "val", "evaluation": "val", "evaluate": "val", "minival": "val",
    "test": "test", "testing": "test", "testset": "test", "tst": "test",
}  # fmt: skip
"""Words for splits in lower case, and the splits they become here."""

ORDER = ("train", "val", "test")
"""The usual splits, in the order in which they are made."""

SPLIT_COLUMNS = ("split", "splits", "data_split", "dataset_split", "subset", "partition", "set", "phase", "usage")
"""Names of the column or the key that has the split of a row, best first."""

_BY_LENGTH = sorted(SPLITS, key=len, reverse=True)


def _any(words: Iterable[str]) -> str:
    return "|".join(words)


# A change between small and capital letters ends a word too: RSICDtest, TestSet, testA; but not contest or trains.
_WORD = re.compile(
    rf"(?<![a-zß-öø-ÿ])({_any(_BY_LENGTH)})(?![a-zß-öø-ÿ])"
    rf"|({_any(word.capitalize() for word in _BY_LENGTH)})(?![a-zß-öø-ÿ])"
    rf"|(?<![A-Z])({_any(word.upper() for word in _BY_LENGTH)})(?![A-Z])"
)
_LAST = re.compile(rf"(?i)(?:^|.*[\W_])({_any(_BY_LENGTH)})(?:(?:19|20)\d\d)?")


def split_named(text: str) -> str:
    """Return the split that a whole text stands for, in any case; "" if it is not one of the usual words.

    >>> split_named("Validation"), split_named("fold 3")
    ('val', '')
    """
    return SPLITS.get(re.sub(r"[\W_]+", "", text).lower(), "")


def split_in(path: str) -> str:
    """Return the split in the name of a file, or else in that of the nearest folder; "" if there is none.

    A file's name has it as a word anywhere: `val2014.csv`, `rsicd test.csv`, `RSICDtest.csv`. A folder's name is the
    word or ends with it: `test/captions.csv`, `rsicd_val/0000.parquet`.

    >>> split_in("data/valid-00000-of-00001.parquet"), split_in("test/0000.parquet"), split_in("0000.parquet")
    ('val', 'test', '')
    """
    file = PurePosixPath(path)
    if match := _WORD.search(file.name.removesuffix(file.suffix)):
        return SPLITS[match[match.lastindex or 0].lower()]
    folders = (_LAST.fullmatch(part) for part in reversed(file.parent.parts))
    return next((SPLITS[match[1].lower()] for match in folders if match), "")


def in_order(splits: Iterable[str]) -> list[str]:
    """Return the names of splits: train, val and test first, then the others sorted."""
    return sorted(splits, key=lambda split: (ORDER.index(split) if split in ORDER else len(ORDER), split))
