"""Forms of ROAM compared on a frozen trunk, so that a run takes minutes on one CPU core.

    dove shard --captions dataset_rsicd.json --images RSICD_images.zip --name rsicd --image-size 160
    python -m benchmarks.imagenet_lite0 lite0.safetensors
    python -m benchmarks.roam_forms --shards shards/rsicd --weights lite0.safetensors now earlier --seeds 0 1 2

The trunk's maps of all images, of the training images in four rotations and mirrorings, are pooled once and stored in
`--cache` (0.6 GB for RSICD). Regions, text encoder and scores are the model's own, trained on them with the settings
below; a form replaces a part of the scores. Results are appended to a file of JSON lines; `--table` prints them.

The figures are mean recall on val after the last epoch, so nothing is selected on it: `global` by the cosine of
embeddings, `pair` by ROAM's scores, `sum` by both. Of 1,000 mosaics (see `benchmarks.pointing`): share of ROAM's
attention in the right quarter, how often its largest cell lies there, share of what `--explain` draws, and entropy.
`plain` is a dual encoder without regions: it has the first figure only.
"""

from __future__ import annotations

import argparse
import dataclasses
import importlib.util
import json
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from types import MethodType
from typing import NamedTuple

import numpy as np
import torch
from safetensors.torch import load_file
from tokenizers import Tokenizer as Subwords
from torch import Tensor, nn

from benchmarks.pointing import figures, mosaics
from benchmarks.roam_scores import FORMS, Earlier, Parts
from benchmarks.rsicd import last_stage, mean_of_states
from dove_core.answers.explain import above_uniform
from dove_core.config import ModelConfig
from dove_core.data.reader import Shards
from dove_core.encoding.preprocess import CenterSquare
from dove_core.evaluation.retrieval import recall
from dove_core.model.attention import InterModalGuidance
from dove_core.model.dove import Dove
from dove_core.model.tokenizer import Tokenizer
from dove_core.model.tokens import padded
from dove_core.training.average import WeightAverage
from dove_core.training.initial_weights import load_initial_weights
from dove_core.training.losses import infonce, negative_pairs
from dove_core.training.optimizer import decayed_by_shape, learning_rate_at, make_optimizer, set_learning_rate

MODEL = ModelConfig(
    backbone="timm:tf_efficientnet_lite0", image_size=160, embed_dim=128, region_grid=4, heads=4,
    caption_field="caption", word_dim=200, max_tokens=20,
)  # fmt: skip
BATCH, EPOCHS, RATE, DECAY, AVERAGE = 128, 6, 2e-3, 0.05, 0.99
TURNS: tuple[Callable[[Tensor], Tensor], ...] = (
    lambda x: x,
    lambda x: x.rot90(1, (2, 3)).flip(3),
    lambda x: x.rot90(2, (2, 3)),
    lambda x: x.rot90(3, (2, 3)).flip(3),
)


class Split(NamedTuple):
    """Pooled maps `(turns * N, F)` of N images, the captions of each, and the texts of mosaics with their quarters."""

    maps: np.ndarray
    captions: list[list[str]]
    quarters: list[int]


def word_vectors(words: Sequence[str]) -> Tensor:
    """Return initial embeddings `(words + 2, 256)` from the vectors of wordllama 0.4.0 (MIT; pip install wordllama).

    A word gets the mean of the vectors of its subwords. All are scaled to the variance of torch's initial embeddings.
    """
    found = importlib.util.find_spec("wordllama")  # not imported: only its files are needed
    if found is None or found.origin is None:
        raise SystemExit("--word-vectors needs the vectors of wordllama\nhint: pip install wordllama")
    folder = Path(found.origin).parent
    vectors = load_file(folder / "weights" / "l2_supercat_256.safetensors")["embedding.weight"].float()
    subwords = Subwords.from_file(str(folder / "tokenizers" / "l2_supercat_tokenizer_config.json"))
    each = [vectors[subwords.encode(word, add_special_tokens=False).ids].mean(dim=0) for word in words]
    rows = torch.stack([torch.zeros(256), torch.zeros(256), *each])
    return rows / rows[2:].std()


class Unpack(nn.Module):
    """Stands for `Pooling`: splits stored rows `(B, F)` into the means of all maps and the regions of all but one."""

    def __init__(self, widths: Sequence[int], regions: int) -> None:
        super().__init__()
        self.widths, self.regions = tuple(widths), regions
        self.parts = [*widths, *(regions * width for width in widths[1:])]

    def forward(self, rows: Tensor) -> tuple[list[Tensor], list[Tensor]]:
        parts = rows.split(self.parts, dim=1)
        count = len(self.widths)
        return list(parts[:count]), [part.unflatten(1, (self.regions, -1)) for part in parts[count:]]


class FrozenDove(Dove):
    """DOVE on stored maps of its trunk, with one of the forms of ROAM."""

    def __init__(self, words: Sequence[str], form: str, vectors: bool) -> None:
        super().__init__(dataclasses.replace(MODEL, word_dim=256) if vectors else MODEL, len(words) + 2)
        if vectors:
            self.text.embedding.weight.data.copy_(word_vectors(words))
        self.form = FORMS[form]
        widths = self.trunk.widths
        self.trunk, self.pooling = nn.Identity(), Unpack(widths, MODEL.region_grid**2)  # type: ignore[assignment]
        if form == "plain":
            self.text.forward = MethodType(mean_of_states, self.text)  # type: ignore[method-assign]
            self.multiscale.forward = MethodType(last_stage, self.multiscale)  # type: ignore[method-assign]
        if form == "earlier":
            self.guidance = Earlier(MODEL.embed_dim, MODEL.heads, MODEL.dropout)  # type: ignore[assignment]

    def _score_tile(self, *parts: Tensor) -> Tensor:
        return self.form(self, Parts(*parts))

    def attention(self, key: Tensor, query: Tensor, weight: Tensor) -> Tensor:
        """Return the attention of one caption's words on one image `(R,)`."""
        if isinstance(self.guidance, Earlier):
            return self.guidance.over_regions(key, query, weight).mean(dim=1)[0, 0]
        guide: InterModalGuidance = self.guidance
        each = (guide.log_sharpness.exp() * torch.einsum("ctd,brd->ctbr", query, key)).softmax(dim=-1)
        return torch.einsum("ctbr,ct->cbr", each.float(), weight)[0, 0]


def store(shards: Path, weights: str, cache: Path, count: int) -> None:
    """Pool the trunk's maps of both splits and of the mosaics, and store them as float16."""
    cache.mkdir(parents=True, exist_ok=True)
    model = Dove(MODEL, 2).eval()
    load_initial_weights(model.trunk, weights, "auto")
    for name in ("train", "val"):
        records = [Shards(shards / name).read(k) for k in range(len(Shards(shards / name)))]
        texts = [list(record.sample.captions["caption"]) for record in records]
        save(cache / name, model, [record.image for record in records], TURNS[: 4 if name == "train" else 1], texts, [])
    drawn = list(mosaics(Shards(shards / "val"), "caption", count, 0))
    texts, quarters = [[one.caption] for one in drawn], [one.quarter for one in drawn]
    save(cache / "mosaics", model, [one.data for one in drawn], TURNS[:1], texts, quarters)


def save(
    to: Path, model: Dove, images: list[bytes], turns: Sequence[Callable[[Tensor], Tensor]],
    texts: list[list[str]], quarters: list[int],
) -> None:  # fmt: skip
    """Save a `Split`: its maps as npy, the rest as JSON."""
    fit = CenterSquare(MODEL.image_size, model.trunk.normalisation)
    pixels = torch.stack([fit.fit(image, str(to)) for image in images])
    rows = [pooled(model, fit, turn(pixels[k : k + 64])) for turn in turns for k in range(0, len(pixels), 64)]
    np.save(to.with_suffix(".npy"), np.concatenate(rows))
    to.with_suffix(".json").write_text(json.dumps({"captions": texts, "quarters": quarters}))


@torch.inference_mode()
def pooled(model: Dove, fit: CenterSquare, pixels: Tensor) -> np.ndarray:
    """Return `(B, F)` as `Unpack` splits it."""
    means, regions = model.pooling(model.trunk(fit.normalise(pixels)))
    return torch.cat([part.flatten(1) for part in (*means, *regions)], dim=1).half().numpy()


def load(cache: Path, name: str) -> Split:
    found = json.loads((cache / f"{name}.json").read_text())
    return Split(np.load(cache / f"{name}.npy", mmap_mode="r"), found["captions"], found["quarters"])


def rows_of(split: Split, which: np.ndarray) -> Tensor:
    return torch.from_numpy(np.ascontiguousarray(split.maps[which])).float()


def trained(split: Split, tokenizer: Tokenizer, form: str, vectors: bool, seed: int) -> FrozenDove:
    """Train a form for `EPOCHS` and return the averaged weights."""
    torch.manual_seed(seed)
    random, count = np.random.default_rng(seed), len(split.captions)
    model = FrozenDove(tokenizer.words, form, vectors).train()
    temperature = nn.Parameter(torch.full((2,), float(np.log(0.07))))
    numbers = {text: k for k, text in enumerate(dict.fromkeys(text for texts in split.captions for text in texts))}
    optimizer = make_optimizer(decayed_by_shape([*model.parameters(), temperature], DECAY), learning_rate=RATE)
    average, steps, step = WeightAverage(model, AVERAGE), count // BATCH, 0
    for _ in range(EPOCHS):
        order = random.permutation(count)[: steps * BATCH].reshape(steps, BATCH)
        for images in order:
            set_learning_rate(optimizer, learning_rate_at(step / (steps * EPOCHS), warmup=0.05, highest=RATE))
            chosen = [str(random.choice(split.captions[k])) for k in images]
            turned = images + count * random.integers(len(TURNS), size=BATCH)
            loss = loss_of(model, temperature, rows_of(split, turned), images, chosen, numbers, tokenizer)
            optimizer.zero_grad()
            loss.backward()
            nn.utils.clip_grad_norm_(model.parameters(), 1.0)
            optimizer.step()
            step += 1
            average.update(model, step)
    return average.model  # type: ignore[return-value]


def loss_of(
    model: FrozenDove, temperature: Tensor, rows: Tensor, images: np.ndarray, texts: list[str],
    numbers: dict[str, int], tokenizer: Tokenizer,
) -> Tensor:  # fmt: skip
    distinct = list(dict.fromkeys(texts))
    own = torch.tensor([distinct.index(text) for text in texts])
    with torch.autocast("cpu", torch.bfloat16):
        seen, said, pairs = model(rows, *padded([tokenizer.encode(text) for text in distinct]))
    negative = negative_pairs(torch.from_numpy(images), torch.tensor([[numbers[text] for text in texts]]))
    heat = temperature.exp().clamp(min=0.01)
    whole = (seen.embedding @ said.embedding.T)[:, own]
    return infonce(pairs.float()[:, own], negative, temperature=heat[0]) + infonce(whole, negative, temperature=heat[1])


@torch.inference_mode()
def measured(model: FrozenDove, tokenizer: Tokenizer, val: Split, drawn: Split) -> dict[str, float]:
    """Return mean recall on val, and the figures of the pointing game."""
    distinct = list(dict.fromkeys(text for texts in val.captions for text in texts))
    place = {text: k for k, text in enumerate(distinct)}
    columns = np.array([place[text] for texts in val.captions for text in texts])
    owners = np.repeat(np.arange(len(val.captions)), [len(texts) for texts in val.captions])
    with torch.autocast("cpu", torch.bfloat16):
        images = model.encode_images(rows_of(val, np.arange(len(val.captions))))
        captions = model.encode_captions(*padded([tokenizer.encode(text) for text in distinct]))
        pairs = model.score_pairs(images, captions).float()
    whole = (images.embedding @ captions.embedding.T).float()
    is_plain = model.form is FORMS["plain"]
    ways = {"global": whole} if is_plain else {"global": whole, "pair": pairs, "sum": whole + pairs}
    found = {name: recall(scores.numpy()[:, columns], owners).mean_recall for name, scores in ways.items()}
    return found if is_plain else found | pointed(model, tokenizer, drawn)


def pointed(model: FrozenDove, tokenizer: Tokenizer, drawn: Split) -> dict[str, float]:
    attention, shown = [], []
    grid = MODEL.region_grid
    images = model.encode_images(rows_of(drawn, np.arange(len(drawn.captions))))
    for k, ([text], quarter) in enumerate(zip(drawn.captions, drawn.quarters, strict=True)):
        said = model.encode_captions(*padded([tokenizer.encode(text)]))
        whole = model.attention(images.key[k : k + 1], said.query, said.weight).float().view(grid, grid).numpy()
        attention.append(figures(whole, quarter))
        shown.append(figures(above_uniform(whole), quarter).share)
    share, hit, entropy = np.mean(attention, axis=0).tolist()
    return {"share": share, "largest": hit, "drawn": float(np.mean(shown)), "entropy": entropy}


def table(results: Path) -> None:
    """Print all results as a Markdown table."""
    names = ("global", "pair", "sum", "share", "largest", "drawn", "entropy")
    print(f"| form | seed | {' | '.join(names)} | s |\n| {'--- | ' * (len(names) + 3)}")
    for line in results.read_text().splitlines():
        row = json.loads(line)
        figures_of = [row.get(name) for name in names]
        values = " | ".join("" if x is None else f"{x:.2f}" if x > 1 else f"{x:.3f}" for x in figures_of)
        print(f"| {row['form']} | {row['seed']} | {values} | {row['seconds']:.0f} |")


def main() -> None:
    """Train the given forms and print all results."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("forms", nargs="*", choices=[*FORMS, []], help=f"of {', '.join(FORMS)}")
    parser.add_argument("--shards", type=Path, default=Path("shards/rsicd"))
    parser.add_argument(
        "--weights", default="imagenet", help="file of the trunk's weights, or imagenet to download them"
    )
    parser.add_argument("--cache", type=Path, default=Path("roam_forms"))
    parser.add_argument("--mosaics", type=int, default=1000)
    parser.add_argument("--word-vectors", action="store_true", help="begin with the word vectors of wordllama")
    parser.add_argument("--seeds", type=int, nargs="+", default=[0])
    parser.add_argument("--results", type=Path, default=Path("roam_forms.jsonl"))
    parser.add_argument("--table", action="store_true", help="print the results and train nothing")
    arguments = parser.parse_args()
    if not arguments.table and not (arguments.cache / "mosaics.json").exists():
        store(arguments.shards, arguments.weights, arguments.cache, arguments.mosaics)
    for seed in [] if arguments.table else arguments.seeds:
        train, val, drawn = (load(arguments.cache, name) for name in ("train", "val", "mosaics"))
        words = Tokenizer.learn(
            (text for texts in train.captions for text in texts), min_count=1, max_tokens=MODEL.max_tokens
        )
        for form in arguments.forms:
            began = time.perf_counter()
            model = trained(train, words, form, arguments.word_vectors, seed)
            seconds = time.perf_counter() - began
            name = f"{form}+vectors" if arguments.word_vectors else form
            row = {"form": name, "seed": seed, **measured(model, words, val, drawn), "seconds": seconds}
            with arguments.results.open("a") as stream:
                stream.write(json.dumps(row) + "\n")
    table(arguments.results)


if __name__ == "__main__":
    main()
