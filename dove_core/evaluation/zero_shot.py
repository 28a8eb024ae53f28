"""Zero-shot classification: the class whose prompts fit an image best, without training on the classes."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from dove_core.addresses import Address, place_of
from dove_core.config import ComputeConfig, RankConfig, ZeroShotConfig
from dove_core.data.reader import Shards
from dove_core.encoding.checkpoint import checkpoint_here
from dove_core.encoding.embedder import Embedder
from dove_core.encoding.encoder import Features, join
from dove_core.encoding.load import load_encoder
from dove_core.errors import DataError, UsageError, reason_of
from dove_core.evaluation.classification import ClassificationScores, class_vectors, classify, write_prompts
from dove_core.evaluation.provenance import provenance_of
from dove_core.evaluation.rows import TIE
from dove_core.events import Advanced, Noted, Report, Started, silent
from dove_core.places import Place


@dataclass(frozen=True)
class ZeroShot:
    """Classification scores of a checkpoint on a split; the rows are `global` and `pairwise`.

    Image number `numbers[k]` of the split has the class number `labels[k]`.

    >>> labels = dove.ZeroShotConfig(label_field="label")
    >>> dove.classify_split("runs/shapes/best", "shards/labels/test", labels).images
    24
    """

    dataset: str
    split: str
    model: str
    classes: tuple[str, ...]
    templates: tuple[str, ...]
    images: int
    rank_by: str
    provenance: Mapping[str, Any]
    rows: Mapping[str, ClassificationScores]
    numbers: np.ndarray
    labels: np.ndarray
    notes: tuple[str, ...] = ()

    def to_json(self) -> dict[str, Any]:
        """Return JSON with the names of CLIP_benchmark; its `metrics` are flat, ours have a block for each row."""
        return {
            "dataset": self.dataset,
            "split": self.split,
            "model": self.model,
            "task": "zeroshot_classification",
            "ties": "pessimistic",
            "classes": list(self.classes),
            "templates": list(self.templates),
            "pictures": self.images,
            **({"notes": list(self.notes)} if self.notes else {}),
            "rank_by": self.rank_by,
            **self.provenance,
            "metrics": {name: scores.to_json() for name, scores in self.rows.items()},
            "confusion": {name: scores.confusion.tolist() for name, scores in self.rows.items()},
        }


def classify_split(
    checkpoint: Address,
    shards: Address,
    zero_shot: ZeroShotConfig,
    ranking: RankConfig = RankConfig(),
    compute: ComputeConfig = ComputeConfig(),
    *,
    batch_size: int = 64,
    pairwise: bool = True,
    command: str = "",
    report: Report = silent,
) -> ZeroShot:
    """Classify the labelled images of a split by prompts for their classes.

    The row `global` compares the embedding of an image with the mean embedding of a class's prompts. The row `pairwise`
    averages the pair scores of an image with the prompts; with `rank_by` "sum" the global score is added. It needs
    `pairwise` and a model with a reranker.

    Raises:
        UsageError: a template has no place for the class.
        CheckpointError: the checkpoint is missing or damaged.
        DataError: the shards are missing or damaged, or have no labels in the field.

    >>> labels = dove.ZeroShotConfig(label_field="label", templates="a {c} on grey ground")
    >>> dove.classify_split("runs/shapes/best", "shards/labels/test", labels).classes
    ('circle', 'cross', 'square', 'stripe')
    """
    templates, listed = templates_of(zero_shot), _listed_classes(zero_shot)
    model, split = place_of(checkpoint), Shards(shards)
    embedder = Embedder(load_encoder(model), compute)
    exact = pairwise and embedder.encoder.reranker is not None
    images, names, numbers = _encode(embedder, split, zero_shot.label_field, batch_size, exact, report)
    classes = listed or sorted(set(names))
    notes = _notes_on(model, classes)
    for message in notes:
        report(Noted(message))
    labels = _numbered(names, classes, zero_shot)
    prompts = [text for texts in write_prompts(classes, templates) for text in texts]
    texts = embedder.describe_texts(prompts, exact=exact)
    shape = (len(classes), len(templates), -1)
    vectors = class_vectors(texts.embedding.float().cpu().numpy().reshape(shape))
    whole = images.embedding.float().cpu().numpy() @ vectors.T
    scores = {"global": whole}
    if exact:
        report(Started("scoring pairs", len(names) * len(prompts), "pairs"))
        pairs = embedder.score_pairs(images, texts, lambda count: report(Advanced("scoring pairs", count)))
        means = pairs.numpy().reshape(len(names), len(classes), -1).mean(axis=2)
        scores["pairwise"] = means + whole if ranking.rank_by == "sum" else means
    return ZeroShot(
        dataset=split.manifest.release,
        split=split.manifest.split,
        model=embedder.encoder.fingerprint,
        classes=tuple(classes),
        templates=templates,
        images=len(names),
        rank_by=ranking.rank_by,
        provenance=provenance_of(model, split, command),
        rows={name: classify(found, labels, tie=TIE) for name, found in scores.items()},
        numbers=numbers,
        labels=labels,
        notes=tuple(notes),
    )


def _notes_on(model: Place, classes: Sequence[str]) -> list[str]:
    """Return notes about the words of class names.

    Raises:
        DataError: the model knows no word of any class name.
    """
    with checkpoint_here(model) as (folder, family):
        words = family.load_text_side(folder)
        unknown = [name for name in classes if not words.knows(name)]
        notes = [f"class {name!r}: {message}" for name in classes for message in words.notes(name)]
    hint = "name the classes with words of the captions that the model was trained on"
    if len(unknown) == len(classes):
        raise DataError(f"the model knows no word of any class name, such as {unknown[0]!r}", hint=hint)
    if unknown:
        listed = ", ".join(unknown)
        notes.append(f"{len(unknown)} of {len(classes)} classes cannot be recognised, no word is known: {listed}")
    return notes


def templates_of(zero_shot: ZeroShotConfig) -> tuple[str, ...]:
    """Return the templates, split at `|`.

    Raises:
        UsageError: a template has no `{c}`.
    """
    templates = tuple(zero_shot.templates.split("|"))
    if wrong := [template for template in templates if "{c}" not in template]:
        raise UsageError(f"--templates: {wrong[0]!r} has no {{c}}", hint="write {c} where the class name goes")
    return templates


def read_class_names(file: Path) -> list[str]:
    """Return the class names in a file, one a line.

    Raises:
        DataError: the file is missing or not a text, has fewer than two names, or has a name twice.
    """
    hint = "write at least two class names, one in each line"
    try:
        lines = [line.strip() for line in file.read_text("utf-8-sig").splitlines()]
    except (OSError, UnicodeDecodeError) as error:
        raise DataError(f"{file} cannot be read: {reason_of(error)}", hint=hint) from error
    names = [line for line in lines if line]
    if len(names) < 2 or len(set(names)) < len(names):
        twice = sorted({name for name in names if names.count(name) > 1})
        message = f"{file} has {', '.join(twice)} twice" if twice else f"{file} has {len(names)} classes"
        raise DataError(message, hint=hint)
    return names


def _listed_classes(zero_shot: ZeroShotConfig) -> list[str]:
    return read_class_names(Path(zero_shot.class_names)) if zero_shot.class_names else []


def _numbered(names: list[str], classes: list[str], zero_shot: ZeroShotConfig) -> np.ndarray:
    """Return the class number of each image."""
    numbers = {name: number for number, name in enumerate(classes)}
    if unknown := sorted(set(names) - set(numbers)):
        message = f"{len(unknown)} labels are not in {zero_shot.class_names}, such as {unknown[0]!r}"
        raise DataError(message, hint=f"write labels as in its lines; the first line is {classes[0]!r}")
    return np.array([numbers[name] for name in names])


def _encode(
    embedder: Embedder, shards: Shards, field: str, batch_size: int, exact: bool, report: Report
) -> tuple[Features, list[str], np.ndarray]:
    """Encode the images that have a label; return their features, class names and image numbers."""
    report(Started("encoding", len(shards), "images"))
    batches: list[Features] = []
    names: list[str] = []
    numbers: list[int] = []
    for records, features in embedder.embed_shards(shards, batch_size=batch_size, exact=exact):
        labels = [record.sample.captions.get(field, ()) for record in records]
        for record, own in zip(records, labels, strict=True):
            if len(set(own)) > 1:
                message = f"{record.sample.path} has several labels: {', '.join(sorted(set(own)))}"
                raise DataError(message, hint="give each image one label")
        kept = [k for k, own in enumerate(labels) if own]
        batches.append(features.rows(kept))
        names += [labels[k][0] for k in kept]
        numbers += [records[k].number for k in kept]
        report(Advanced("encoding", len(records)))
    if not names:
        fields = ", ".join(shards.manifest.caption_fields)
        message = f"{shards.folder} has no labels in the field {field!r}"
        hint = f"fields with captions: {fields}; `dove shard` makes shards of a CSV with the columns filepath,label"
        raise DataError(message, hint=hint)
    return join(batches), names, np.array(numbers)
