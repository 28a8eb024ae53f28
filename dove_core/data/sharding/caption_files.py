"""A caption file of any form, read as one table for each of its splits."""

from __future__ import annotations

from pathlib import Path

from dove_core.data.csv_tables import CSV_ENDINGS
from dove_core.data.file_kinds import refuse_other_kind
from dove_core.data.sharding.caption_rows import divide
from dove_core.data.sharding.caption_table import CaptionTable, checked_split
from dove_core.data.sharding.csv_captions import read_csv_rows
from dove_core.data.sharding.json_captions import JSON_ENDINGS, read_json_rows
from dove_core.errors import DataError
from dove_core.events import Report, silent

_HINT = "expected captions in a .csv, .tsv, .json, .jsonl or .parquet; save a spreadsheet as CSV in UTF-8"
_HEAD = 512


def read_captions(file: Path, split: str | None = None, report: Report = silent) -> list[CaptionTable]:
    """Read the captions of every split in a CSV or JSON, or of one.

    Args:
        file: its ending says the form.
        split: the split of a file that does not say one; else the only one to read.
        report: receives the columns that were read, how the split was chosen, and rows that are left out.

    Raises:
        DataError: the file is missing, damaged or of another form, or has no row of `split`.
        UsageError: `split` cannot be the name of a folder.
    """
    if split is not None:
        checked_split(split)
    ending = file.suffix.lower()
    if ending in JSON_ENDINGS:
        return divide(read_json_rows(file), split, report)
    if ending in CSV_ENDINGS:
        return divide(read_csv_rows(file), split, report)
    if file.is_file():
        with file.open("rb") as stream:
            refuse_other_kind(file, stream.read(_HEAD), hint=_HINT)
    raise DataError(f"{file} is not a .csv, .tsv, .json, .jsonl or .parquet", hint=_HINT)
