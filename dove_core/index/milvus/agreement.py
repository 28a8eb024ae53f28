"""Does a collection answer as the index does? Its answers to a sample of queries beside the exact ones, by filter."""

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
from dove_core.index.rows import UNKNOWN_SECOND, Row, RowTable, truths

_NEAR = 0.35
"""Standard deviation of what is added to a row's vector, as a share of its length, to make a query near the data."""

_TIE, _ALIKE = 1e-5, 1e-4
"""Cosines that differ by less count as equal for the order; scores, as the same vector's."""

_TASK = "asking both"

Random = np.random.Generator


@dataclass(frozen=True)
class Agreement:
    """What came of the queries under one kind of filter.

    `recall` is the share of the exact best hits that the collection found too. `wrong` counts hits that pass no filter,
    or have another score than their vector in the index.
    """

    filter: str
    queries: int
    recall: float
    wrong: int


def compare_answers(
    index_address: Address, address: str, config: VerifyConfig, *, report: Report = silent
) -> list[Agreement]:
    """Ask an index and a collection the same, without filters and with each kind that the index's rows allow.

    Half of the queries are vectors of the index with noise on them, half random directions. A filter is made from a row
    drawn among those of which is known what it filters by.

    Args:
        index_address: of the index.
        address: of the collection.
        config: how many queries, how many hits of each, and the seed.
        report: receives progress.

    Raises:
        SearchIndexError: the index is damaged; the server does not answer; the collection is of another model, or of
            another state of the index.
        UsageError: the address cannot be read, or pymilvus is not installed.
    """
    index, remote = SearchIndex(index_address), RemoteIndex.open(address)
    try:
        if (remote.fingerprint, remote.card.content) != (index.fingerprint, content_of(index)):
            message = f"{remote.name} holds another model's, or another state of, {index_address}"
            raise SearchIndexError(message, hint="`dove index push --overwrite` replaces it")
        random = np.random.default_rng(config.seed)
        kinds = {kind: _known(index.table, kind) for kind in _MADE}
        absent = [kind for kind, rows in kinds.items() if not len(rows)]
        if absent:
            report(Noted(f"left out, since no row says what they filter by: {', '.join(absent)}"))
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
        filters = _MADE[kind](row, random)
        keep = index.kept(filters)
        _, exact = index.search(query, config.top, keep=keep, exact=True)
        rows, scores = remote.search(query, config.top, keep=remote.kept(filters))
        inside = (rows >= 0) & (rows < len(index))
        rows, scores = rows[inside], scores[inside]
        own = index.vectors[rows].astype(np.float32) @ query
        right = (np.abs(own - scores) < _ALIKE) & (keep[rows] if keep is not None else True)
        wrong += int((~right).sum() + (~inside).sum())
        shares.append(min(1.0, float((right & (own >= exact[-1] - _TIE)).sum()) / len(exact)))
        report(Advanced(_TASK))
    return Agreement(kind, config.sample, float(np.mean(shares)), wrong)


def _query(index: SearchIndex, random: Random, *, near: bool) -> np.ndarray:
    direction = random.normal(size=index.manifest.dim) / math.sqrt(index.manifest.dim)
    if near:
        direction = index.vectors[int(random.integers(len(index)))].astype(np.float64) + _NEAR * direction
    query: np.ndarray = (direction / np.linalg.norm(direction)).astype(np.float32)
    return query


def _known(table: RowTable, kind: str) -> np.ndarray:
    """Return the rows of which is known what a kind of filter looks at."""
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
            return np.flatnonzero(truths(pc.match_substring_regex(table.column("source"), r"^[^,\s]+$")))
        case _:  # a tag that the option can say
            return np.flatnonzero(
                truths(pc.match_substring_regex(table.column("tags"), r'^\{"[^"\\,=\s]+": "[^"\\,\s]*"'))
            )


def _box_around(row: Row, random: Random) -> FilterConfig:
    west, south, east, north = row.box or (0.0, 0.0, 0.0, 0.0)
    wider = 10 ** random.uniform(-3, 1.5)
    sides = (
        _on_the_globe(west - wider),
        max(south - wider, -90.0),
        _on_the_globe(east + wider),
        min(north + wider, 90.0),
    )
    return FilterConfig(bbox=",".join(map(repr, map(float, sides))))


def _circle_around(row: Row, random: Random) -> FilterConfig:
    longitude, latitude = row.place or (0.0, 0.0)
    return FilterConfig(near=f"{latitude!r},{longitude!r}", within=f"{10 ** random.uniform(-1, 3.3):.3f}km")


def _first_tag(row: Row, random: Random) -> FilterConfig:
    key, value = next(iter(row.tags.items()))
    return FilterConfig(tag=f"{key}={value}" if random.random() < 0.5 else key)


def _on_the_globe(longitude: float) -> float:
    return longitude - 360 if longitude > 180 else longitude + 360 if longitude < -180 else longitude


_MADE: dict[str, Callable[[Row, Random], FilterConfig]] = {
    "none": lambda row, random: FilterConfig(),
    "bbox": _box_around,
    "near": _circle_around,
    "datetime": lambda row, random: FilterConfig(datetime=str(row.time)[:4]),
    "source": lambda row, random: FilterConfig(source=str(row.source)),
    "max-gsd": lambda row, random: FilterConfig(max_gsd=float(row.gsd or 0.0)),
    "tag": _first_tag,
}
