"""What marks of an analyst gain: mean average precision over scene classes, after some marks and by text alone.

    dove embed VAL_IMAGES --checkpoint RUN --out index/val
    python -m benchmarks.review --index index/val

The class of an image is the start of its file name (`airport_1.jpg`); images without one are left out everywhere. For
each class an analyst asks for its name and marks the first hits, right or wrong by their class: half of the marks on
the hits of the text, half on the hits after learning from these (with `--rounds 1`: all on those of the text). Text
alone and marks are compared on the same images, none of which is marked:

- `rest`: all images that the analyst did not mark, ranked by both;
- `half`: the images are split at random, once for each seed; the analyst sees one half, and both rank the other.
"""

from __future__ import annotations

import argparse
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from dove_core.index.disk import SearchIndex
from dove_core.review.learn import learn

WORDS = {
    "bareland": "bare land", "baseballfield": "baseball field", "denseresidential": "dense residential",
    "mediumresidential": "medium residential", "sparseresidential": "sparse residential",
    "railwaystation": "railway station", "storagetanks": "storage tanks",
}  # fmt: skip
PROMPTS = ("{}", "a {}", "there is a {}")


@dataclass(frozen=True)
class Scenes:
    """An index whose rows have classes; `labels` is empty for rows without one."""

    index: SearchIndex
    labels: np.ndarray
    vectors: np.ndarray

    @classmethod
    def open(cls, folder: Path) -> Scenes:
        """Read classes from keys."""
        index = SearchIndex(folder)
        names = [Path(row.key).stem for row in index.rows(range(len(index)))]
        labels = np.array([name.rpartition("_")[0] for name in names])
        return cls(index, labels, index.vectors.astype(np.float32))

    def classes(self) -> list[str]:
        """Return the names of the classes."""
        return sorted(set(self.labels.tolist()) - {""})


def average_precision(scores: np.ndarray, right: np.ndarray) -> float:
    """Return the average precision of a ranking; NaN if nothing is right."""
    found = right[np.argsort(-scores, kind="stable")]
    precision = np.cumsum(found) / np.arange(1, len(found) + 1)
    return float(precision[found].mean()) if found.any() else float("nan")


def marked(
    scenes: Scenes, text: np.ndarray, right: np.ndarray, seen: np.ndarray, count: int, rounds: int
) -> tuple[np.ndarray, np.ndarray]:
    """Return the rows that the analyst marked, and the search direction learned from them."""
    rows, direction = np.zeros(0, np.int64), text
    for _ in range(rounds):
        order = np.argsort(-(scenes.vectors @ direction), kind="stable")
        order = order[seen[order] & ~np.isin(order, rows)]
        rows = np.sort(np.concatenate([rows, order[: count // rounds]]))
        direction = learn(scenes.index, text, rows, right[rows]) if right[rows].any() else text
    return rows, direction


def precisions(
    scenes: Scenes, prompt: str, count: int, rounds: int, seed: int | None
) -> Iterator[tuple[float, float, int]]:
    """Yield for each class the precision by text alone and with marks, and how many marks confirm."""
    known = scenes.labels != ""
    for number, name in enumerate(scenes.classes()):
        text = scenes.index.words.encode(prompt.format(WORDS.get(name, name)))
        right, seen = scenes.labels == name, known
        if seed is not None:
            seen = known & (np.random.default_rng([seed, number]).random(len(known)) < 0.5)
        rows, direction = marked(scenes, text, right, seen, count, rounds)
        ranked = known.copy() if seed is None else known & ~seen
        ranked[rows] = False
        before, after = (average_precision(scenes.vectors[ranked] @ one, right[ranked]) for one in (text, direction))
        yield before, after, int(right[rows].sum())


def main() -> None:
    """Print the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--index", type=Path, required=True)
    parser.add_argument("--marks", type=int, nargs="+", default=[4, 10, 20])
    parser.add_argument("--rounds", type=int, nargs="+", default=[2])
    parser.add_argument("--seeds", type=int, default=3)
    arguments = parser.parse_args()
    scenes = Scenes.open(arguments.index)
    print(f"{len(scenes.classes())} classes, {int((scenes.labels != '').sum())} images with a class")
    print("| query | marks | rounds | ranked | text alone | with marks | ratio | better/worse | confirmed |")
    print("| --- | --- | --- | --- | --- | --- | --- | --- | --- |")
    kinds = [("rest", prompt, [None]) for prompt in PROMPTS]
    for ranked, prompt, seeds in [*kinds, ("half", PROMPTS[0], range(arguments.seeds))]:
        for rounds in arguments.rounds:
            for count in arguments.marks:
                found = np.array([one for seed in seeds for one in precisions(scenes, prompt, count, rounds, seed)])
                before, after, confirmed = np.nanmean(found, axis=0)
                better, worse = int((found[:, 1] > found[:, 0]).sum()), int((found[:, 1] < found[:, 0]).sum())
                print(f"| {prompt.format('NAME')} | {count} | {rounds} | {ranked} | {before:.3f} | {after:.3f} | "
                      f"{after / before:.2f} | {better}/{worse} | {confirmed / count:.0%} |", flush=True)  # fmt: skip


if __name__ == "__main__":
    main()
