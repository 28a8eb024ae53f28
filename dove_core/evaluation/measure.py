"""Measurements of `dove eval`: on shards, on images in other forms, or on a suite of sets."""

from __future__ import annotations

from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Any

from dove_core.addresses import Address, place_of
from dove_core.config import ComputeConfig, EvalConfig, ExecutorConfig, RankConfig, ZeroShotConfig
from dove_core.data.reader import Shards
from dove_core.errors import UsageError
from dove_core.evaluation.evaluate import Evaluation, evaluate
from dove_core.evaluation.material import ShardedInput, sharded
from dove_core.evaluation.recorded import measure_once
from dove_core.evaluation.report import Section, section_of
from dove_core.evaluation.suite import find_sets, settings_for
from dove_core.evaluation.zero_shot import ZeroShot, classify_split
from dove_core.events import Report, silent
from dove_core.executors import executing
from dove_core.files import LocalPath
from dove_core.places import Place


@dataclass(frozen=True)
class EvaluationRequest:
    """A checkpoint and the settings to measure it with; `command` is the user's command, for the record.

    `force` and `with_section` measure even if the run folder has the result; `with_section` also makes a page section.

    >>> dove.EvaluationRequest("runs/shapes/best", dove.EvalConfig(rerank=5)).evaluation.rerank
    5
    """

    checkpoint: Address
    evaluation: EvalConfig = field(default_factory=EvalConfig)
    zero_shot: ZeroShotConfig = field(default_factory=ZeroShotConfig)
    ranking: RankConfig = field(default_factory=RankConfig)
    compute: ComputeConfig = field(default_factory=ComputeConfig)
    execution: ExecutorConfig = field(default_factory=ExecutorConfig)
    command: str = ""
    force: bool = False
    with_section: bool = False


@dataclass(frozen=True)
class EvaluationInput:
    """The data: shards, or images (with captions and a split, if they have these), or a folder of a suite's sets.

    >>> dove.EvaluationInput(images="images", captions="dataset_shapes.json", split="test").split
    'test'
    """

    shards: Address | None = None
    images: LocalPath | None = None
    captions: LocalPath | None = None
    split: str = ""
    suite: LocalPath | None = None


@dataclass(frozen=True)
class EvaluationRecord:
    """A result as JSON; `was_known` if it is from the run folder; a section of a page, if requested.

    >>> request = dove.EvaluationRequest("runs/shapes/best")
    >>> (record,) = dove.measure(request, dove.EvaluationInput(shards="shards/shapes/test"))
    >>> record.result["task"]
    'retrieval'
    """

    result: dict[str, Any]
    was_known: bool
    section: Section | None


def measure(request: EvaluationRequest, data: EvaluationInput, *, report: Report = silent) -> list[EvaluationRecord]:
    """Measure on any input; return one result, or one for each set of a suite.

    Raises:
        UsageError: the input is empty.
        DoveError: as documented at the functions below.

    >>> data = dove.EvaluationInput(images="images", captions="dataset_shapes.json", split="test")
    >>> (record,) = dove.measure(dove.EvaluationRequest("runs/shapes/best"), data)
    >>> list(record.result["metrics"])
    ['global', 'reranked', 'pairwise']
    """
    if data.suite:
        return measure_suite(request, Path(data.suite), report=report)
    if data.images:
        captions = None if data.captions is None else Path(data.captions)
        return [measure_images(request, Path(data.images), captions, split=data.split, report=report)]
    if data.shards:
        return [measure_shards(request, data.shards, report=report)]
    raise UsageError("the evaluation input is empty", hint="give shards, images or a suite")


def measure_shards(request: EvaluationRequest, shards: Address, *, report: Report = silent) -> EvaluationRecord:
    """Measure retrieval on a split, or classification if `zero_shot.label_field` is set.

    Raises:
        UsageError: `zero_shot` has class names, but no label field.
        CheckpointError: the checkpoint is missing or damaged, or returns vectors that are not finite.
        DataError: the shards are missing or damaged, or lack captions or labels.
    """
    if request.zero_shot.class_names and not request.zero_shot.label_field:
        message = f"--class-names {request.zero_shot.class_names}: there are no labels, and captions have no classes"
        raise UsageError(message, hint="name the caption field or CSV column of the labels with --label-field")
    sections: list[Section] = []
    checkpoint, split = place_of(request.checkpoint), place_of(shards)

    def measure_now() -> dict[str, Any]:
        measured = _measure(request, split, report)
        if request.with_section:
            sections.append(section_of(measured, Shards(split)))
        return measured.to_json()

    force = request.force or request.with_section
    result, was_known = measure_once(checkpoint, split, _settings(request), measure_now, force=force)
    if was_known:
        result |= {"command": request.command, "checkpoint": str(checkpoint), "shards": str(split)}
    return EvaluationRecord(result, was_known, sections[0] if sections else None)


def measure_images(
    request: EvaluationRequest, images: Path, captions: Path | None = None, *, split: str = "", report: Report = silent
) -> EvaluationRecord:
    """Measure on images with captions or labels, or in folders named after classes; see `material` for the forms.

    Raises:
        DoveError: as in `sharded` and `measure_shards`.
    """
    label = request.zero_shot.label_field
    names = Path(request.zero_shot.class_names) if request.zero_shot.class_names else None
    with sharded(images, captions, split=split, label_field=label, class_names=names, report=report) as found:
        measured = measure_shards(_fitted(request, found), found.shards, report=report)
    result = {**measured.result, "shards": str(images)}  # the temporary shards are deleted
    section = measured.section and replace(measured.section, result=result)
    return replace(measured, result=result, section=section)


def measure_suite(request: EvaluationRequest, folder: Path, *, report: Report = silent) -> list[EvaluationRecord]:
    """Measure the SkyScript benchmark sets in a folder, each with SkyScript's settings.

    Raises:
        DoveError: as in `find_sets` and `measure_images`.
    """
    measured = []
    with executing(request.execution):  # one cluster for all sets
        for name, place in find_sets(folder).items():
            evaluation, zero_shot = settings_for(name, request.evaluation, request.zero_shot)
            own = replace(request, evaluation=evaluation, zero_shot=zero_shot)
            record = measure_images(own, place, report=report)
            record.result["dataset"] = name  # not the name of a link's target
            measured.append(record)
    return measured


def _fitted(request: EvaluationRequest, data: ShardedInput) -> EvaluationRequest:
    """Return the request with the label field and the class names of the data."""
    names = request.zero_shot.class_names or data.class_names
    labels = replace(request.zero_shot, label_field=data.label_field, class_names=names)
    return replace(request, zero_shot=labels)


def _measure(request: EvaluationRequest, shards: Place, report: Report) -> Evaluation | ZeroShot:
    checkpoint, evaluation, ranking, compute = request.checkpoint, request.evaluation, request.ranking, request.compute
    if request.zero_shot.label_field:
        return classify_split(
            checkpoint, shards, request.zero_shot, ranking, compute, batch_size=evaluation.batch_size,
            pairwise=evaluation.pairwise, command=request.command, report=report,
        )  # fmt: skip
    return evaluate(
        checkpoint, shards, evaluation, ranking, compute,
        execution=request.execution, command=request.command, report=report,
    )  # fmt: skip


def _settings(request: EvaluationRequest) -> dict[str, Any]:
    """Return all settings that the measurement reads, by name."""
    common = asdict(request.ranking) | asdict(request.compute)
    if request.zero_shot.label_field:
        return asdict(request.zero_shot) | {"pairwise": request.evaluation.pairwise} | common
    return asdict(request.evaluation) | common
