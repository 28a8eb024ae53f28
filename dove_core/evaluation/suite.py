"""SkyScript's benchmark sets, downloaded by `dove fetch benchmarks`, and the settings to measure each with.

Prompts, caption prefix and the seven sets of the average are those of SkyScript's evaluation (arXiv 2312.12856).
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from types import MappingProxyType
from typing import Any

from dove_core.config import EvalConfig, ZeroShotConfig
from dove_core.errors import DataError

_PROMPTS = ("a satellite photo of {c}.", "a satellite image of {c}")


@dataclass(frozen=True)
class BenchmarkSet:
    """A zip; `kind` is `scene` (classification), `attribute` (fine-grained classification) or `retrieval`."""

    kind: str
    templates: tuple[str, ...] = _PROMPTS


def _attribute(thing: str) -> BenchmarkSet:
    return BenchmarkSet("attribute", tuple(prompt.replace("{c}", f"{thing}, {{c}}") for prompt in _PROMPTS))


_OUT_OF_DOMAIN = ("aid", "eurosat", "fmow", "millionaid", "nwpu", "patternnet", "rsicb256")
SETS: Mapping[str, BenchmarkSet] = MappingProxyType(
    {
        "SkyScript_cls": BenchmarkSet("scene"),
        **{name: BenchmarkSet("scene") for name in _OUT_OF_DOMAIN},
        "roof_shape": _attribute("building"),
        "smoothness": _attribute("road"),
        "surface": _attribute("road"),
        **{name: BenchmarkSet("retrieval") for name in ("RSICD", "RSITMD", "ucmcaptions")},
    }
)
"""All sets by the stem of their zips, in the order of SkyScript's tables."""

CAPTION_PREFIX = "a satellite image. "


def find_sets(folder: Path) -> dict[str, Path]:
    """Return the zips or unpacked folders of benchmark sets in a folder or its `benchmark/`, by name.

    Raises:
        DataError: none is found.
    """
    found = {}
    for name in SETS:
        places = [place / f"{name}{end}" for place in (folder, folder / "benchmark") for end in (".zip", "")]
        if there := next((path for path in places if path.exists()), None):
            found[name] = there
    if not found:
        hint = "download them to data/benchmarks with `dove fetch benchmarks`"
        raise DataError(f"{folder} has none of {', '.join(SETS)}", hint=hint)
    return found


def settings_for(name: str, evaluation: EvalConfig, zero_shot: ZeroShotConfig) -> tuple[EvalConfig, ZeroShotConfig]:
    """Return SkyScript's settings for a set; settings that differ from their default are kept."""
    evaluation_default, zero_shot_default = EvalConfig(), ZeroShotConfig()
    if evaluation.protocol == evaluation_default.protocol:
        evaluation = replace(evaluation, protocol="unique-text")
    if evaluation.prefix == evaluation_default.prefix and evaluation.protocol == "unique-text":
        evaluation = replace(evaluation, prefix=CAPTION_PREFIX)
    if zero_shot.templates == zero_shot_default.templates:
        zero_shot = replace(zero_shot, templates="|".join(SETS[name].templates))
    return evaluation, zero_shot


def missing(results: Sequence[Mapping[str, Any]]) -> list[str]:
    """Return which of the seven sets of the average are not in the results."""
    return [name for name in _OUT_OF_DOMAIN if name not in {result["dataset"] for result in results}]


def average(results: Sequence[Mapping[str, Any]]) -> dict[str, Any] | None:
    """Return the mean accuracy over the seven out-of-domain scene sets, by row; None unless all seven are measured."""
    if missing(results):
        return None
    chosen = [result for result in results if result["dataset"] in _OUT_OF_DOMAIN]
    rows = chosen[0]["metrics"]
    means = {
        row: {name: sum(result["metrics"][row][name] for result in chosen) / len(chosen) for name in rows[row]}
        for row in rows
    }
    return {
        "dataset": "average of 7 out-of-domain scene sets",
        "model": chosen[0]["model"],
        "task": "zeroshot_classification",
        "sets": list(_OUT_OF_DOMAIN),
        "metrics": means,
    }
