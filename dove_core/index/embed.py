"""From images to an index: embedding parts are made first, then the index from all of them."""

from __future__ import annotations

import dataclasses
import os
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass

from dove_core.addresses import Address, path_of, place_of
from dove_core.config import ComputeConfig, EmbedConfig, ExecutorConfig
from dove_core.data.sample import IMAGE_ENDINGS
from dove_core.encoding.compute import settings_for_tasks
from dove_core.encoding.encoder import Encoder
from dove_core.encoding.load import load_encoder
from dove_core.errors import DataError, UsageError
from dove_core.events import Noted, Report, Saved, Skipped, Started, Updated, silent
from dove_core.executors import LOCAL, Executor, executing
from dove_core.index.build import Draft, is_sound, publish, remove_left_over
from dove_core.index.disk import SearchIndex
from dove_core.index.export import export_clip_retrieval
from dove_core.index.known import KnownImages
from dove_core.index.locks import writing
from dove_core.index.manifest import IndexManifest, manifest_if_any
from dove_core.index.nearest import FEW
from dove_core.index.part_plan import PartPlan, other_model, skipped_in
from dove_core.index.parts import PartFacts, part_name
from dove_core.index.tasks import TASK, Job, embed_parts
from dove_core.index.update import Matched, Outline, count_changes, match_inputs, outline
from dove_core.places import Place
from dove_core.processes import EVERYTHING, Share
from dove_core.sources.groups import InputGroup, cut_by, group_inputs, open_groups, settings_of
from dove_core.sources.source import Source, digest_of


def embed(
    checkpoint: Address,
    source: Address | Sequence[Address],
    out: Address,
    embedding: EmbedConfig = EmbedConfig(),
    compute: ComputeConfig = ComputeConfig(),
    *,
    share: Share = EVERYTHING,
    add: bool = False,
    replace: bool = False,
    overwrite: bool = False,
    execution: ExecutorConfig = LOCAL,
    report: Report = silent,
) -> SearchIndex | None:
    """Embed all images and make the index, or bring it up to date; parts of an interrupted call are kept.

    Only images that the index does not have are encoded. Until it is complete, readers find the index as it was.

    Args:
        checkpoint: folder of the model.
        source: one input or several: shards (a split, or a release with all its splits), tar files, Parquet files with
            images inside, folders of images, or GeoTIFF scenes. Shards may be in a bucket.
        out: folder of the index; it may be in a bucket.
        embedding: tile and batch size, number of processes, and the like.
        compute: device and precision.
        share: the parts that this call makes, if several machines share the work.
        add: keep the inputs that the index has, and add these.
        replace: let these inputs replace those that the index has.
        overwrite: replace an index of another model, whatever its inputs.
        execution: local processes, or Ray.
        report: receives progress, and what has changed.

    Returns:
        The index; None if parts of other shares are missing.

    Raises:
        UsageError: a setting is invalid for this source, or there are too few GPUs.
        CheckpointError: the checkpoint is missing or damaged.
        DataError: images are missing, shards are damaged, no image is usable, or parts are missing with `share.none`.
        SearchIndexError: `out` has an index of another model, of other inputs, or of tiles cut in another way, or
            another process writes it.
        SpaceError: the disk is full; finished parts are kept.

    >>> index = dove.embed("runs/shapes/best", "shards/shapes/test", "index/test")
    >>> dove.open_index("index/test")
    <index index/test: 12 images>
    """
    target = place_of(out)
    if embedding.layout == "clip-retrieval":
        path_of(target, needed_by="--layout clip-retrieval: --out")
    if add and (replace or overwrite):
        raise UsageError("--add keeps what --replace and --overwrite remove", hint="give one of them")
    sources = [source] if isinstance(source, str | os.PathLike | Place) else source
    groups = group_inputs([place_of(one) for one in sources])
    with executing(execution) as executor:
        compute = settings_for_tasks(executor, compute, embedding.gpus)
        call = _Call(
            place_of(checkpoint), groups, target, embedding, compute, share, add, replace or overwrite, overwrite,
            executor, report,
        )  # fmt: skip
        return call.run()


@dataclass(frozen=True)
class _Call:
    """The arguments of a call of `embed`."""

    checkpoint: Place
    groups: Sequence[InputGroup]
    out: Place
    embedding: EmbedConfig
    compute: ComputeConfig
    share: Share
    add: bool
    replace: bool
    overwrite: bool
    executor: Executor
    report: Report

    def run(self) -> SearchIndex | None:
        """Open the inputs, wait for no other writer, and make the index."""
        encoder = load_encoder(self.checkpoint)
        if self.embedding.regions and encoder.reranker is None:
            message = f"--regions: a model of the family {encoder.family!r} has no regions to store"
            raise UsageError(message, hint="remove --regions")
        old = manifest_if_any(self.out, self.report)
        if old and old.fingerprint != encoder.fingerprint and not self.overwrite:
            raise other_model(self.out, old.fingerprint, encoder.fingerprint)
        settings = settings_of(self.groups, self.embedding)
        cuts = [cut_by(one) for one in settings]
        matched = match_inputs(self.out, old, self.groups, cuts, add=self.add, replace_all=self.replace)
        sources = open_groups(matched.groups, settings, encoder.caption_field, self.report)
        self.out.make()
        with writing(self.out, self._work(encoder), shared=self.share.count > 1 or self.share.none) as lock:
            if manifest_if_any(self.out.fresh, silent) == old:
                self.out.sweep()
                made = self._make_parts(encoder, old, matched, sources)
                if made is None:
                    return None
                with lock.alone():
                    manifest = self._publish(encoder, old, *made)
                    if self.embedding.layout == "clip-retrieval":
                        export_clip_retrieval(path_of(self.out, needed_by="--layout"), manifest)
                self.report(Saved(str(self.out)))
                return SearchIndex(self.out.fresh)
        return self.run()  # another process has written the index since

    def _work(self, encoder: Encoder) -> str:
        settings = dataclasses.replace(self.embedding, gpus=1, batch_size=1)
        inputs = [str(place) for group in self.groups for place in group.places]
        return digest_of(encoder.fingerprint, inputs, settings, self.add, self.replace)

    def _make_parts(
        self, encoder: Encoder, old: IndexManifest | None, matched: Matched, sources: Sequence[Source]
    ) -> tuple[Outline, dict[int, int]] | None:
        """Make the parts of this share; return what the index is to have, None if parts of others are missing."""
        out, report, share = self.out, self.report, self.share
        known = KnownImages(out) if old and is_sound(out, encoder.fingerprint) else None
        regions = self.embedding.regions or (known is not None and known.index.regions is not None)
        if known and regions and known.index.regions is None:
            known = None  # its images have no regions
        outlined = outline(out, old, matched, sources, encoder.fingerprint, regions)
        if outlined.lost:
            names = ", ".join(part_name(number) for number in outlined.lost[:5])
            report(Noted(f"{out}: missing or damaged, and made again: {names}{', ...' * (len(outlined.lost) > 5)}"))
        plan, own = outlined.plan, share.of(len(outlined.plan.parts))
        kept = plan.keep(overwrite=self.overwrite)
        if not share.none:
            counts = [one.count for source in sources for one in source.inputs()]
            report(_started([counts[k] for k in own], [kept[k] for k in own if k in kept]))
            images = sum(count or 0 for count in counts)
            job = Job(self.checkpoint, sources, plan, self.embedding, self.compute, images, known)
            embed_parts(job, encoder, [k for k in own if k not in kept], self.executor, report)
            out.sweep()  # of workers that were killed
        facts = plan.all()
        _report_skipped(facts, own, report)
        try:
            whole = plan.whole(facts)
        except DataError as error:
            if share.none or share.count == 1:
                raise
            report(Noted(f"{error.message}; the last task, or `dove embed --finish`, makes the index"))
            return None
        rows = outlined.counts(whole)
        if not sum(rows.values()):
            raise _nothing_usable(matched.groups, facts)
        _report_uncaptioned(plan, sources, whole, report)
        return outlined, rows

    def _publish(
        self, encoder: Encoder, old: IndexManifest | None, outlined: Outline, rows: dict[int, int]
    ) -> IndexManifest:
        """Make the index from its parts, unless another task has done it or nothing has changed."""
        out, report = self.out.fresh, self.report  # parts have been made since the first request
        draft = Draft(
            outlined.inputs, rows, self.checkpoint, outlined.inputs[0].root, old, is_sound(out, encoder.fingerprint)
        )
        now = manifest_if_any(out.fresh, silent)
        if now and draft.is_made(out, now):
            remove_left_over(out, now)
            if now == old:
                report(Updated(str(out), 0, 0, 0, 0, sum(rows.values())))
            return now
        report(Noted(_space_needed(sum(rows.values()), encoder.dim)))
        if old:
            report(count_changes(out, old, rows, str(out)))
        return publish(out, encoder, draft)


def _space_needed(rows: int, dim: int) -> str:
    """Return a message with the disk space and memory needed to make an index."""
    disk, memory = rows * (2 * dim + dim // 8 + 8 + 200), rows * (dim // 8 + 8) * (rows > FEW) + 400 * dim * 1000
    return f"making an index of {rows} rows needs about {disk / 1e9:.2f} GB of disk, {memory / 1e9:.2f} GB of memory"


def _started(counts: Sequence[int | None], kept: Sequence[PartFacts]) -> Started:
    done = sum(one.images for one in kept)
    return Started(TASK, None if None in counts else sum(count or 0 for count in counts), "images", done=done)


def _report_skipped(facts: Sequence[PartFacts | None], own: Sequence[int], report: Report) -> None:
    """Report the skipped images of all parts if all are finished, else those of this share."""
    chosen = facts if all(facts) else [facts[number] for number in own]
    for reason, (count, example) in skipped_in(one for one in chosen if one).items():
        report(Skipped(TASK, reason, count, example))


def _report_uncaptioned(plan: PartPlan, sources: Sequence[Source], facts: Sequence[PartFacts], report: Report) -> None:
    """Report the number of images without a caption, unless their source is of a kind that often has none at all."""
    rows, without = Counter[int](), Counter[int]()
    for part, one in zip(plan.parts, facts, strict=True):
        rows[part.source] += one.rows
        without[part.source] += one.without_caption
    some = [k for k, source in enumerate(sources) if without[k] and (source.has_captions or without[k] < rows[k])]
    if some:
        report(Noted(f"{sum(without[k] for k in some)} of {sum(rows[k] for k in some)} images have no caption"))


def _nothing_usable(groups: Sequence[InputGroup], facts: Sequence[PartFacts | None]) -> DataError:
    reasons = skipped_in(one for one in facts if one).items()
    why = "; ".join(f"{reason} ({count}), such as {name}" for reason, (count, name) in reasons)
    message = f"{groups[0]} has no usable images" + (f": {why}" if why else "")
    return DataError(
        message, hint=f"expected images whose names end in {' '.join(IMAGE_ENDINGS)}, or GeoTIFFs with --tile 256"
    )
