"""Ablations of DOVE: trains variants on RSICD from scratch and compares them on its validation split.

    dove shard --captions dataset_rsicd.json --images RSICD_images.zip --name rsicd
    python -m benchmarks.rsicd --shards shards/rsicd --ring mini base no-fusion one-direction

Each variant differs from `base` as its name says: in a setting, or in a part of the model that is replaced here.
Results are appended to a file of JSON lines; `--table` prints them. The figures are mean recall on val: `global` by the
cosine of embeddings, `pair` by ROAM's scores of all pairs, `sum` by the sum of both. The last epoch is measured, so
nothing is selected on the split that is reported.
"""

from __future__ import annotations

import argparse
import contextlib
import dataclasses
import json
import tempfile
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any
from unittest.mock import patch

import torch
from torch import Tensor, nn
from torchvision.ops import roi_align

from dove_core.config import ComputeConfig, ModelConfig, TrainConfig
from dove_core.data.reader import Shards
from dove_core.encoding.embedder import Embedder
from dove_core.encoding.load import load_encoder
from dove_core.encoding.preprocess import jitter, normalise
from dove_core.evaluation.encode import encode_split
from dove_core.evaluation.retrieval import recall
from dove_core.events import Measured
from dove_core.model import visual
from dove_core.model.attention import GatedSelfAttention, InterModalGuidance, IntraModalFusion, attend_to, split_heads
from dove_core.model.backbone import make_trunk
from dove_core.model.dove import CaptionFeatures, Dove, ImageFeatures, _unit
from dove_core.model.textual import TextEncoder
from dove_core.model.visual import MultiScale
from dove_core.training.batches import Batch
from dove_core.training.loop import train
from dove_core.training.losses import negative_pairs
from dove_core.training.objective import Losses, Objective

RINGS = {
    "mini": {"image_size": 48, "region_grid": 4, "epochs": 6},
    "middle": {"image_size": 64, "region_grid": 4, "epochs": 8},
    "small": {"image_size": 96, "region_grid": 6, "epochs": 12},
}
MODEL = ModelConfig(backbone="resnet18", embed_dim=256, caption_field="caption")
TRAINING = TrainConfig(
    weights="none", batch_size=128, objective="infonce", lambda_g=1.0, learning_rate=1e-3, average=0.99,
    save_steps=0, validate_every=100,
)  # fmt: skip
SETTINGS: dict[str, dict[str, Any]] = {
    "base": {},
    "captions-2": {"captions_per_picture": 2},
    "captions-5": {"captions_per_picture": 5},
    "pairs-2": {"paired_captions": 2},
    "pairs-5": {"paired_captions": 5},
    "lambda-0": {"lambda_g": 0.0},
    "lambda-10": {"lambda_g": 10.0},
    "triplet-0.1": {"objective": "triplet", "margin": 0.1},
    "triplet-0.2": {"objective": "triplet"},
    "triplet-0.4": {"objective": "triplet", "margin": 0.4},
    "triplet-hardest": {"objective": "triplet", "negatives": "hardest"},
    "mission": {"objective": "triplet", "lambda_g": 10.0, "learning_rate": 2e-4, "average": 0.0},
    "grid-4": {"region_grid": 4},
    "grid-6": {"region_grid": 6},
    "grid-8": {"region_grid": 8},
    "no-average": {"average": 0.0},
    "rate-5e-4": {"learning_rate": 5e-4},
    "rate-2e-3": {"learning_rate": 2e-3},
    "no-turns": {"random_rotation": False},
    "no-crops": {"crop_scale": 1.0},
    "crops-0.3": {"crop_scale": 0.3},
    "jitter-0.3": {"jitter": 0.3},
    "decay-0.2": {"weight_decay": 0.2},
    "words-3": {"min_word_count": 3},
    "words-10": {"min_word_count": 10},
    "tokens-16": {"max_tokens": 16},
    "no-dropout": {"dropout": 0.0},
    "dropout-0.3": {"dropout": 0.3},
}


def without_attention(self: IntraModalFusion, regions: Tensor, scales: Tensor) -> Tensor:
    """IFA as a plain mean over regions and scales."""
    return self.out(torch.cat((regions, scales), dim=1).mean(dim=1))


def without_gates(self: GatedSelfAttention, x: Tensor, mask: Tensor | None = None) -> Tensor:
    """Plain self-attention."""
    query, key, value = (split_heads(part, self.heads) for part in self.project(x).chunk(3, dim=-1))
    attend = None if mask is None else mask[:, None, None, :]
    mixed = attend_to(query, key, value, attend)
    return self.norm(x + self.dropout(self.out(mixed.transpose(1, 2).flatten(2))))


def states(self: TextEncoder, tokens: Tensor, lengths: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """Return the GRU's states of both directions `(C, T, D)` and the mask."""
    mask = torch.arange(tokens.shape[1], device=tokens.device) < lengths.to(tokens.device)[:, None]
    packed = torch.nn.utils.rnn.pack_padded_sequence(
        self.dropout(self.embedding(tokens)), lengths, batch_first=True, enforce_sorted=False
    )
    with torch.autocast("cuda", enabled=False):  # as in TextEncoder
        both, _ = torch.nn.utils.rnn.pad_packed_sequence(self.gru(packed)[0], batch_first=True)
    ahead, back = both.chunk(2, dim=-1)
    return ahead, back, mask


def one_direction(self: TextEncoder, tokens: Tensor, lengths: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """DTGA over the forward states alone."""
    ahead, _, mask = states(self, tokens, lengths)
    words = self.mlp(self.forward_attention(ahead, mask))
    return words, (words * mask[..., None]).sum(dim=1) / mask.sum(dim=1, keepdim=True), mask


def mean_of_states(self: TextEncoder, tokens: Tensor, lengths: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """Both directions added and averaged over the words, without any attention."""
    ahead, back, mask = states(self, tokens, lengths)
    words = ahead + back
    return words, (words * mask[..., None]).sum(dim=1) / mask.sum(dim=1, keepdim=True), mask


def last_stage(self: MultiScale, means: list[Tensor]) -> tuple[Tensor, Tensor]:
    """The image's vector from the last stage alone."""
    scales = torch.stack([project(mean) for project, mean in zip(self.project, means, strict=True)], dim=1)
    return scales, self.out(scales[:, -1])


def global_term(self: Objective, batch: Batch, counts: Sequence[int]) -> Losses:
    """The global term alone; pairs are not scored in training."""
    pixels = jitter(batch.pixels, self._training.jitter) if self._training.jitter else batch.pixels
    images = self.model.encode_images(normalise(pixels, *self.model.trunk.normalisation))
    captions = self.model.encode_captions(batch.tokens, batch.lengths)
    scores = images.embedding @ captions.embedding[batch.rows].flatten(0, 1).T
    whole = self._rank(scores, negative_pairs(batch.images, batch.captions), 1)
    return Losses(whole, torch.zeros_like(whole), whole)


class Nothing(nn.Module):
    """A module that returns zeros."""

    def forward(self, x: Tensor) -> Tensor:
        """Return zeros."""
        return torch.zeros_like(x)


def without_mlp(self: InterModalGuidance, dim: int, heads: int, dropout: float) -> None:
    """IGA that ends with the norm."""
    GUIDANCE(self, dim, heads, dropout)
    self.mlp = Nothing()


def word_by_word(
    self: InterModalGuidance, key: Tensor, value: Tensor, query: Tensor, weight: Tensor, pooled: Tensor
) -> Tensor:
    """IGA that projects, normalises and transforms every word, and pools last."""
    attention = torch.einsum("chtd,bhrd->bchtr", query, key).softmax(dim=-1)
    guided = torch.einsum("bchtr,bhrd->bcthd", attention, value).flatten(3)
    base = self.norm(pooled[:, None] + self.out(guided))
    shares = weight.mean(dim=1)
    return torch.einsum("ct,bctd->bcd", shares, base + self.mlp(base))


def on_own_maps(boxes: Tensor, size: int, stride: int) -> Tensor:
    """RoIAlign on each stage's own map, without bringing them to one resolution first."""
    n = -(-size // stride)
    units = torch.eye(n * n).view(1, n * n, n, n)
    boxed: Tensor = roi_align(units, [boxes], 1, 1 / stride, sampling_ratio=4, aligned=True)
    return boxed.flatten(1)


def with_second_trunk(self: Dove, config: ModelConfig, words: int) -> None:
    """Build a model with a second trunk for the regions."""
    BUILD(self, config, words)
    self.region_trunk = make_trunk(config.backbone, config.image_size)


def by_two_trunks(self: Dove, pixels: Tensor) -> ImageFeatures:
    """Scales from one trunk, regions from the other."""
    scales, whole = self.multiscale(self.pooling(self.trunk(pixels))[0])
    regions = self.regions(self.pooling(self.region_trunk(pixels))[1])
    return ImageFeatures(_unit(whole), _unit(self.fusion(regions, scales)), *self.guidance.prepare_regions(regions))


def with_own_words(self: InterModalGuidance, dim: int, heads: int, dropout: float) -> None:
    """IGA that pools the words of a caption with its own weights and projection."""
    GUIDANCE(self, dim, heads, dropout)
    self.gather = nn.Linear(dim, dim)


def own_words(self: Dove, tokens: Tensor, lengths: Tensor) -> CaptionFeatures:
    """Caption features where `pooled` is not that of the global vector."""
    words, pooled, mask = self.text(tokens, lengths)
    query, weight = self.guidance.prepare_words(words, mask)
    own = self.guidance.gather(torch.einsum("cht,ctd->cd", weight, words) / weight.shape[1])
    return CaptionFeatures(_unit(pooled), query, weight, own, lengths.cpu())


def late(
    self: Dove, fused: Tensor, key: Tensor, value: Tensor, query: Tensor, weight: Tensor, pooled: Tensor
) -> Tensor:
    """Score a pair by the cosine of `v_MR` and the caption, plus that of each word and the regions it attends to."""
    (b, h, r, d), (c, _, t, _) = key.shape, query.shape
    flat = query.transpose(0, 1).reshape(h, c * t, d)
    logits = (flat @ key.permute(1, 3, 0, 2).reshape(h, d, b * r)).view(h, c, t, b, r)
    cosines = (_unit(flat) @ _unit(value).permute(1, 3, 0, 2).reshape(h, d, b * r)).view(h, c, t, b, r)
    by_word = (logits.softmax(dim=-1) * cosines).sum(dim=-1)
    return fused @ _unit(pooled).T + torch.einsum("hctb,cht->bc", by_word, weight) / h


GUIDANCE, BUILD = InterModalGuidance.__init__, Dove.__init__
PARTS: dict[str, list[tuple[Any, str, Callable[..., Any]]]] = {
    "no-fusion": [(IntraModalFusion, "forward", without_attention)],
    "no-gates": [(GatedSelfAttention, "forward", without_gates)],
    "one-direction": [(TextEncoder, "forward", one_direction)],
    "global-only": [(Objective, "forward", global_term)],
    "plain": [
        (Objective, "forward", global_term),
        (TextEncoder, "forward", mean_of_states),
        (MultiScale, "forward", last_stage),
    ],
    "own-words": [(InterModalGuidance, "__init__", with_own_words), (Dove, "encode_captions", own_words)],
    "late": [
        (InterModalGuidance, "__init__", with_own_words),
        (Dove, "encode_captions", own_words),
        (Dove, "_score_tile", late),
    ],
    "no-mlp": [(InterModalGuidance, "__init__", without_mlp)],
    "pooled-after": [(InterModalGuidance, "forward", word_by_word)],
    "own-maps": [(visual, "region_weights", on_own_maps)],
    "separate-trunk": [(Dove, "__init__", with_second_trunk), (Dove, "encode_images", by_two_trunks)],
}  # fmt: skip


def measure(shards: Path, names: str, seed: int, ring: str) -> dict[str, Any]:
    """Train one variant, or several joined by `+`, and return its recall on val and its speed."""
    changes: dict[str, Any] = {**RINGS[ring], "seed": seed}
    with contextlib.ExitStack() as stack, tempfile.TemporaryDirectory() as folder:
        for name in names.split("+"):
            changes |= SETTINGS.get(name, {})
            for kind, attribute, function in PARTS.get(name, []):
                stack.enter_context(patch.object(kind, attribute, function))
        model, training = (
            dataclasses.replace(base, **{k: v for k, v in changes.items() if hasattr(base, k)})
            for base in (MODEL, TRAINING)
        )
        began, compute = time.perf_counter(), ComputeConfig(workers=1)
        train(shards / "train", Path(folder) / "run", model, training, compute, report=print_epoch)
        seconds = time.perf_counter() - began
        found = mean_recalls(Path(folder) / "run" / "last", shards / "val", compute)
    images = training.epochs * len(Shards(shards / "train"))
    return {"ring": ring, "variant": names, "seed": seed, **found, "pictures_per_second": images / seconds}


def mean_recalls(checkpoint: Path, split: Path, compute: ComputeConfig) -> dict[str, float]:
    """Return the mean recall of each ranking."""
    embedder = Embedder(load_encoder(checkpoint), compute)
    encoded = encode_split(embedder, Shards(split), batch_size=64, exact=True)
    whole = (encoded.images.embedding @ encoded.captions.embedding.T).float().cpu()
    pairs = embedder.score_pairs(encoded.images, encoded.captions)
    ways = {"global": whole, "pair": pairs, "sum": whole + pairs}
    return {k: recall(v.numpy()[:, encoded.distinct], encoded.owners).mean_recall for k, v in ways.items()}


def print_epoch(event: Any) -> None:
    """Print the loss of an epoch."""
    if isinstance(event, Measured) and event.final:
        print(f"  epoch {event.values['epoch']}: loss {event.values['loss']:.3f}", flush=True)


def table(results: Path) -> None:
    """Print all results as a Markdown table, with the mean over the seeds of a variant."""
    rows: dict[tuple[str, str], list[dict[str, Any]]] = {}
    for line in results.read_text().splitlines():
        row = json.loads(line)
        rows.setdefault((row["ring"], row["variant"]), []).append(row)
    print("| ring | variant | seeds | global | pair | sum | images/s |\n| --- | --- | --- | --- | --- | --- | --- |")
    for (ring, variant), found in rows.items():
        whole, pair, both, speed = (
            sum(row[key] for row in found) / len(found) for key in ("global", "pair", "sum", "pictures_per_second")
        )
        print(f"| {ring} | {variant} | {len(found)} | {whole:.2f} | {pair:.2f} | {both:.2f} | {speed:.0f} |")


def main() -> None:
    """Train the given variants and print all results."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    known = ", ".join([*SETTINGS, *PARTS])
    parser.add_argument("variants", nargs="*", help=f"of {known}; join several with +")
    parser.add_argument("--shards", type=Path, default=Path("shards/rsicd"))
    parser.add_argument("--ring", choices=RINGS, default="mini")
    parser.add_argument("--seeds", type=int, nargs="+", default=[0])
    parser.add_argument("--results", type=Path, default=Path("rsicd.jsonl"))
    parser.add_argument("--table", action="store_true", help="print the results and train nothing")
    arguments = parser.parse_args()
    if unknown := {name for names in arguments.variants for name in names.split("+")} - {*SETTINGS, *PARTS}:
        parser.error(f"unknown: {', '.join(sorted(unknown))}")
    for seed in [] if arguments.table else arguments.seeds:
        for names in arguments.variants:
            print(f"{arguments.ring} {names}, seed {seed}", flush=True)
            row = measure(arguments.shards, names, seed, arguments.ring)
            with arguments.results.open("a") as stream:
                stream.write(json.dumps(row) + "\n")
    table(arguments.results)


if __name__ == "__main__":
    main()
