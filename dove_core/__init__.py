"""dove: find remote-sensing images with words.

Open an index and search it; `search` takes words, an image, examples and filters as keyword arguments:

    >>> import dove_core as dove
    >>> index = dove.open_index("index/shapes")
    >>> hits = index.search("a red circle", top=5)
    >>> hits.to_pandas().columns[:4].tolist()
    ['rank', 'score', 'key', 'caption']
    >>> hits.sheet("circles.png")

Everything that the commands of `dove` do is a function here, with the same settings and defaults: `fetch`,
`fetch_model`, `shard_release`, `train`, `evaluate`, `embed`, `push_index`. Settings are objects that check their values
when they are made, such as `TrainConfig(epochs=5)`; all of them can be left out. Errors that a user can act on are
`DoveError`s.

A public name loads its module when it is first used, so importing `dove_core` is fast and imports no torch.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from dove_core.addresses import place_of as place_of
    from dove_core.answers.hits import Hits as Hits
    from dove_core.answers.image_index import ImageIndex as ImageIndex, open_index as open_index
    from dove_core.config import (
        CacheConfig as CacheConfig,
        ComputeConfig as ComputeConfig,
        EmbedConfig as EmbedConfig,
        EvalConfig as EvalConfig,
        ExecutorConfig as ExecutorConfig,
        FetchConfig as FetchConfig,
        FilterConfig as FilterConfig,
        FineTuneConfig as FineTuneConfig,
        LaunchConfig as LaunchConfig,
        ModelConfig as ModelConfig,
        PushConfig as PushConfig,
        QueryConfig as QueryConfig,
        RankConfig as RankConfig,
        ServeConfig as ServeConfig,
        ShardConfig as ShardConfig,
        TrainConfig as TrainConfig,
        VerifyConfig as VerifyConfig,
        ZeroShotConfig as ZeroShotConfig,
    )
    from dove_core.data.fetching.catalog import RELEASES as RELEASES
    from dove_core.data.fetching.fetch import fetch as fetch
    from dove_core.data.fetching.lookup import find_release as find_release
    from dove_core.data.fetching.plan import FetchPlan as FetchPlan, plan_fetch as plan_fetch
    from dove_core.data.loader import open_webdataset as open_webdataset
    from dove_core.data.manifest import read_manifest as read_manifest
    from dove_core.data.reader import Shards as Shards
    from dove_core.data.sample import Sample as Sample
    from dove_core.data.scenes import draw_release as draw_release
    from dove_core.data.sharding.shards import shard_captions as shard_captions, shard_release as shard_release
    from dove_core.encoding.clip_export import export_open_clip as export_open_clip
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
    from dove_core.index.embed import embed as embed
    from dove_core.index.milvus.push import push_index as push_index
    from dove_core.index.rows import Row as Row
    from dove_core.index.verify import verify_index as verify_index
    from dove_core.pretrained.fetch import fetch_model as fetch_model
    from dove_core.review.learn import LearnedSearch as LearnedSearch
    from dove_core.review.marks import Mark as Mark
    from dove_core.review.store import Marks as Marks
    from dove_core.search.query import Hit as Hit, Searcher as Searcher
    from dove_core.search.question import Question as Question
    from dove_core.serve.server import web_app as web_app
    from dove_core.training.loop import resume as resume, train as train
    from dove_core.training.result import TrainResult as TrainResult

_HOMES = {
    "addresses": "place_of",
    "answers.hits": "Hits",
    "answers.image_index": "ImageIndex open_index",
    "config": "CacheConfig ComputeConfig EmbedConfig EvalConfig ExecutorConfig FetchConfig FilterConfig FineTuneConfig "
    "LaunchConfig ModelConfig PushConfig QueryConfig RankConfig ServeConfig ShardConfig TrainConfig VerifyConfig "
    "ZeroShotConfig",
    "data.fetching.catalog": "RELEASES",
    "data.fetching.fetch": "fetch",
    "data.fetching.lookup": "find_release",
    "data.fetching.plan": "FetchPlan plan_fetch",
    "data.loader": "open_webdataset",
    "data.manifest": "read_manifest",
    "data.reader": "Shards",
    "data.sample": "Sample",
    "data.scenes": "draw_release",
    "data.sharding.shards": "shard_captions shard_release",
    "encoding.embedder": "Embedder",
    "encoding.encoder": "Encoder Reranker",
    "encoding.clip_export": "export_open_clip",
    "encoding.load": "load_encoder",
    "errors": "DoveError",
    "evaluation.compare": "Comparison Difference compare",
    "evaluation.evaluate": "Evaluation evaluate",
    "evaluation.measure": "EvaluationInput EvaluationRecord EvaluationRequest measure",
    "evaluation.report": "write_report",
    "evaluation.retrieval": "RetrievalScores recall",
    "evaluation.zero_shot": "ZeroShot classify_split",
    "index.embed": "embed",
    "index.milvus.push": "push_index",
    "index.rows": "Row",
    "index.verify": "verify_index",
    "pretrained.fetch": "fetch_model",
    "review.learn": "LearnedSearch",
    "review.marks": "Mark",
    "review.store": "Marks",
    "search.query": "Hit Searcher",
    "search.question": "Question",
    "serve.server": "web_app",
    "training.loop": "resume train",
    "training.result": "TrainResult",
}
_HOME = {name: f"dove_core.{module}" for module, names in _HOMES.items() for name in names.split()}

__all__ = sorted(_HOME)


def __getattr__(name: str) -> Any:
    if name not in _HOME:
        raise AttributeError(f"dove_core has no {name!r}")
    return getattr(import_module(_HOME[name]), name)


def __dir__() -> list[str]:
    return list(__all__)
