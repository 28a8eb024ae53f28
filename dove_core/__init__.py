"""dove: find remote-sensing images with words.

The public names below load their module when first used: importing `dove_core` costs nothing, and no torch.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from dove_core.addresses import place_of as place_of
    from dove_core.answers.sheet import write_sheet as write_sheet
    from dove_core.config import (
        CacheConfig as CacheConfig,
        ComputeConfig as ComputeConfig,
        EmbedConfig as EmbedConfig,
        EvalConfig as EvalConfig,
        ExecutorConfig as ExecutorConfig,
        FetchConfig as FetchConfig,
        FilterConfig as FilterConfig,
        LaunchConfig as LaunchConfig,
        ModelConfig as ModelConfig,
        PushConfig as PushConfig,
        QueryConfig as QueryConfig,
        RankConfig as RankConfig,
        ShardConfig as ShardConfig,
        TrainConfig as TrainConfig,
        ZeroShotConfig as ZeroShotConfig,
    )
    from dove_core.data.fetching.catalog import RELEASES as RELEASES
    from dove_core.data.fetching.fetch import fetch as fetch
    from dove_core.data.fetching.plan import FetchPlan as FetchPlan, plan_fetch as plan_fetch
    from dove_core.data.loader import open_webdataset as open_webdataset
    from dove_core.data.manifest import read_manifest as read_manifest
    from dove_core.data.reader import Shards as Shards
    from dove_core.data.sample import Sample as Sample
    from dove_core.data.scenes import draw_release as draw_release
    from dove_core.data.sharding.shards import shard_captions as shard_captions, shard_release as shard_release
    from dove_core.encoding.embedder import Embedder as Embedder
    from dove_core.encoding.encoder import Encoder as Encoder, Reranker as Reranker
    from dove_core.encoding.load import load_encoder as load_encoder
    from dove_core.errors import DoveError as DoveError
    from dove_core.evaluation.compare import Comparison as Comparison, Difference as Difference, compare as compare
    from dove_core.evaluation.evaluate import Evaluation as Evaluation, evaluate as evaluate
    from dove_core.evaluation.measure import (
        EvaluationInput as EvaluationInput,
        EvaluationRecord as EvaluationRecord,
        EvaluationRequest as EvaluationRequest,
        measure as measure,
    )
    from dove_core.evaluation.report import write_report as write_report
    from dove_core.evaluation.retrieval import RetrievalScores as RetrievalScores, recall as recall
    from dove_core.evaluation.zero_shot import ZeroShot as ZeroShot, classify_split as classify_split
    from dove_core.index.disk import SearchIndex as SearchIndex
    from dove_core.index.embed import embed as embed
    from dove_core.index.milvus.push import push_index as push_index
    from dove_core.model.dove import Dove as Dove
    from dove_core.search.query import Hit as Hit, Question as Question, Searcher as Searcher
    from dove_core.training.loop import resume as resume, train as train
    from dove_core.training.trainer import TrainResult as TrainResult

_HOMES = {
    "addresses": "place_of",
    "config": "CacheConfig ComputeConfig EmbedConfig EvalConfig ExecutorConfig FetchConfig FilterConfig LaunchConfig "
    "ModelConfig PushConfig QueryConfig RankConfig ShardConfig TrainConfig ZeroShotConfig",
    "data.fetching.catalog": "RELEASES",
    "data.fetching.fetch": "fetch",
    "data.fetching.plan": "FetchPlan plan_fetch",
    "data.loader": "open_webdataset",
    "data.manifest": "read_manifest",
    "data.reader": "Shards",
    "data.sample": "Sample",
    "data.scenes": "draw_release",
    "data.sharding.shards": "shard_captions shard_release",
    "errors": "DoveError",
    "evaluation.compare": "Comparison Difference compare",
    "evaluation.evaluate": "Evaluation evaluate",
    "evaluation.measure": "EvaluationRecord EvaluationRequest EvaluationInput measure",
    "evaluation.report": "write_report",
    "evaluation.retrieval": "RetrievalScores recall",
    "evaluation.zero_shot": "ZeroShot classify_split",
    "encoding.encoder": "Encoder Reranker",
    "encoding.load": "load_encoder",
    "model.dove": "Dove",
    "index.embed": "embed",
    "encoding.embedder": "Embedder",
    "index.disk": "SearchIndex",
    "index.milvus.push": "push_index",
    "search.query": "Hit Question Searcher",
    "answers.sheet": "write_sheet",
    "training.loop": "resume train",
    "training.trainer": "TrainResult",
}
_HOME = {name: f"dove_core.{module}" for module, names in _HOMES.items() for name in names.split()}

__all__ = sorted(_HOME)


def __getattr__(name: str) -> Any:
    if name not in _HOME:
        raise AttributeError(f"dove_core has no {name!r}")
    return getattr(import_module(_HOME[name]), name)


def __dir__() -> list[str]:
    return list(__all__)
