"""Comparison of a collection with its index: recall and scores of sample queries, for each kind of filter."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import pyarrow.compute as pc

from dove_core.addresses import Address
from dove_core.config import FilterConfig, VerifyConfig
from dove_core.errors import SearchIndexError
from dove_core.events import Advanced, Noted, Report, Started, silent
from dove_core.index.disk import SearchIndex
from dove_core.index.milvus.push import content_of
from dove_core.index.milvus.remote import RemoteIndex
from dove_core.index.rows import UNKNOWN_SECOND, Row, RowTable, as_bools

_NEAR = 0.35
"""Standard deviation of the noise that makes a query from a vector, relative to the vector's length."""

_TIE, _ALIKE = 1e-5, 1e-4
"""Cosines with a smaller difference count as tied; scores with a smaller difference count as equal."""

_TASK = "comparing answers"

Random = np.random.Generator


@dataclass(frozen=True)
class Agreement:
    """The results of the queries with one kind of filter.

    `recall` is the share of the exact best hits that the collection found. `wrong` counts hits that do not pass the
    filter, or whose score differs from that of their vector in the index.
    """

    filter: str
    queries: int
    recall: float
    wrong: int


def compare_answers(
    index_address: Address, address: str, config: VerifyConfig, *, report: Report = silent
) -> list[Agreement]:
    """Send the same queries to an index and a collection, without filters and with each kind of filter.

    Half of the queries are vectors of the index with noise, half are random directions. Each filter is made from the
    metadata of a random row. Kinds of filters for which no row has metadata are left out.

    Args:
        index_address: of the index.
        address: of the collection.
        config: number of queries, number of hits of each, and the seed.
        report: receives progress.

    Raises:
        SearchIndexError: the index is damaged; the server does not answer; the collection is of another model or
            another version of the index.
        UsageError: the address is invalid, or pymilvus is not installed.
    """
    index, remote = SearchIndex(index_address), RemoteIndex.open(address)
    try:
        if (remote.fingerprint, remote.card.content) != (index.fingerprint, content_of(index)):
            message = f"{remote.name} has another model or another version of {index_address}"
            raise SearchIndexError(message, hint="replace it with `dove index push --overwrite`")
        random = np.random.default_rng(config.seed)
        kinds = {kind: _rows_with(index.table, kind) for kind in _FILTERS}
        absent = [kind for kind, rows in kinds.items() if not len(rows)]
        if absent:
            report(Noted(f"filters left out because no row has their values: {', '.join(absent)}"))
        present = [kind for kind in kinds if kind not in absent]
        report(Started(_TASK, len(present) * config.sample, "queries"))
        return [_agreement(index, remote, kind, kinds[kind], random, config, report) for kind in present]
    finally:
        remote.close()


def _agreement(
    index: SearchIndex, remote: RemoteIndex, kind: str, known: np.ndarray, random: Random, config: VerifyConfig,
    report: Report,
) -> Agreement:  # fmt: skip
    shares, wrong = [], 0
    for number in range(config.sample):
        query = _query(index, random, near=number % 2 == 0)
        row = index.rows([int(random.choice(known))])[0]
        filters = _FILTERS[kind](row, random)
        keep = index.kept(filters)
        _, exact = index.search(query, config.top, keep=keep, exact=True)
        rows, scores = remote.search(query, config.top, keep=remote.kept(filters))
        inside = (rows >= 0) & (rows < len(index))
        rows, scores = rows[inside], scores[inside]
        cosines = index.vectors_of(rows.tolist()).astype(np.float32) @ query
        right = (np.abs(cosines - scores) < _ALIKE) & (keep[rows] if keep is not None else True)
        wrong += int((~right).sum() + (~inside).sum())
        shares.append(min(1.0, float((right & (cosines >= exact[-1] - _TIE)).sum()) / len(exact)))
        report(Advanced(_TASK))
    return Agreement(kind, config.sample, float(np.mean(shares)), wrong)


def _query(index: SearchIndex, random: Random, *, near: bool) -> np.ndarray:
    direction = random.normal(size=index.manifest.dim) / math.sqrt(index.manifest.dim)
    if near:
        direction = index.vectors_of([int(random.integers(len(index)))])[0].astype(np.float64) + _NEAR * direction
    query: np.ndarray = (direction / np.linalg.norm(direction)).astype(np.float32)
    return query


def _rows_with(table: RowTable, kind: str) -> np.ndarray:
    """Return the rows that have a value for a kind of filter."""
    match kind:
        case "none":
            return np.arange(len(table))
        case "bbox" | "near":
            return np.flatnonzero(~np.isnan(table.numbers("xmin")))
        case "datetime":
            return np.flatnonzero(table.numbers("first_second") != UNKNOWN_SECOND)
        case "max-gsd":
            return np.flatnonzero(~np.isnan(table.numbers("gsd")))
        case "source":
            return np.flatnonzero(as_bools(pc.match_substring_regex(table.column("source"), r"^[^,\s]+$")))
        case _:  # tags without the characters that --tag uses
            return np.flatnonzero(
                as_bools(pc.match_substring_regex(table.column("tags"), r'^\{"[^"\\,=\s]+": "[^"\\,\s]*"'))
            )


def _box_around(row: Row, random: Random) -> FilterConfig:
    west, south, east, north = row.box or (0.0, 0.0, 0.0, 0.0)
    margin = 10 ** random.uniform(-3, 1.5)
    sides = (
        _wrapped(west - margin),
        max(south - margin, -90.0),
        _wrapped(east + margin),
        min(north + margin, 90.0),
    )
    return FilterConfig(bbox=",".join(map(repr, map(float, sides))))


def _circle_around(row: Row, random: Random) -> FilterConfig:
    longitude, latitude = row.place or (0.0, 0.0)
    return FilterConfig(near=f"{latitude!r},{longitude!r}", within=f"{10 ** random.uniform(-1, 3.3):.3f}km")


def _first_tag(row: Row, random: Random) -> FilterConfig:
    key, value = next(iter(row.tags.items()))
    return FilterConfig(tag=f"{key}={value}" if random.random() < 0.5 else key)


def _wrapped(longitude: float) -> float:
    return longitude - 360 if longitude > 180 else longitude + 360 if longitude < -180 else longitude


_FILTERS: dict[str, Callable[[Row, Random], FilterConfig]] = {
    "none": lambda row, random: FilterConfig(),
    "bbox": _box_around,
    "near": _circle_around,
    "datetime": lambda row, random: FilterConfig(datetime=str(row.time)[:4]),
    "source": lambda row, random: FilterConfig(source=str(row.source)),
    "max-gsd": lambda row, random: FilterConfig(max_gsd=float(row.gsd or 0.0)),
    "tag": _first_tag,
}
