"""Settings of queries: how an index is searched, filtered, ranked, checked, and pushed to Milvus."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from dove_core.bounds import Settings, setting as _setting


@dataclass(frozen=True)
class QueryConfig(Settings):
    """How the index is searched.

    >>> dove.QueryConfig(top=5).rerank
    0
    """

    top: int = _setting(10, "Number of hits.", low=1)
    rerank: int = _setting(
        0, "Rank this many of the best hits again by pairwise scores; 0: rank by embeddings alone.", low=0
    )
    exact: bool = _setting(False, "Compare with every vector, instead of preselecting with compressed codes; slower.")
    min_score: float = _setting(-2.0, "Leave out hits with a lower score.", low=-2, high=2)
    dedup: bool = _setting(False, "Show only the best of nearly equal images and of footprints that overlap by half.")


@dataclass(frozen=True)
class FilterConfig(Settings):
    """Filters: images that a query may find.

    >>> dove.FilterConfig(bbox="5,45,11,48", datetime="2019/..").bbox
    '5,45,11,48'
    """

    bbox: str = _setting(
        "", "Bounding box W,S,E,N in degrees that footprints intersect; W > E crosses the antimeridian."
    )
    near: str = _setting(
        "", "Point LAT,LON in degrees, with --within: footprints whose centre is at most that far away."
    )
    within: str = _setting("", "Largest distance from --near, such as 25km, 500m, 3mi or 2nmi.")
    datetime: str = _setting("", "Acquisition time, such as 2018-01-01/2020-12-31, ../2019 or 2020.")
    source: str = _setting("", "Source codes of SkyScript, such as CH,US.")
    max_gsd: float = _setting(0.0, "Largest ground sample distance in metres per pixel; 0: any.", low=0)
    tag: str = _setting("", "OpenStreetMap tags that an image must all have, such as highway=motorway,bridge.")


@dataclass(frozen=True)
class RankConfig(Settings):
    """Score for ranking again.

    >>> dove.RankConfig(rank_by="pair").rank_by
    'pair'
    """

    rank_by: Literal["pair", "sum"] = _setting(
        "sum", "Score for ranking again: pair, the pairwise score alone; sum, its sum with the global score."
    )


@dataclass(frozen=True)
class PushConfig(Settings):
    """How Milvus searches the collection.

    >>> dove.PushConfig(vector_index="hnsw").vector_index
    'hnsw'
    """

    vector_index: Literal["flat", "hnsw"] = _setting(
        "flat", "Index type in Milvus: flat compares with every vector; hnsw is faster and may miss some hits."
    )


@dataclass(frozen=True)
class VerifyConfig(Settings):
    """How much of an index is checked.

    >>> dove.VerifyConfig(sample=1000).sample
    1000
    """

    sample: int = _setting(64, "Rows to check; with --against, queries for each kind of filter.", low=1)
    top: int = _setting(10, "With --against: hits of each query to compare.", low=1, high=1000)
    seed: int = _setting(0, "Seed of the random sample.", low=0)
