"""Recall and accuracy of dove against those of clip-benchmark, on the same vectors.

    python -m benchmarks.agreement

Installs clip-benchmark into a temporary folder and calls its `evaluate` functions with a model that looks up vectors.
Without ties, the figures must be equal. With ties (vectors with few distinct values), ours must not be higher, since a
positive is ranked last among its ties. Otherwise the exit code is 1.
"""

from __future__ import annotations

import contextlib
import io
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from importlib import import_module
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from torch.utils.data import DataLoader, TensorDataset

from dove_core.evaluation.classification import class_vectors, classify
from dove_core.evaluation.retrieval import recall

AT = (1, 5, 10)
IMAGES, CAPTIONS, CLASSES, PROMPTS, WIDTH = 1000, 5, 45, 2, 64


class Lookup(torch.nn.Module):
    """A model with the interface of CLIP that maps numbers to given vectors."""

    def __init__(self, images: torch.Tensor, texts: torch.Tensor) -> None:
        super().__init__()
        self.images, self.texts = images, texts

    def encode_image(self, numbers: torch.Tensor) -> torch.Tensor:
        return self.images[numbers]

    def encode_text(self, numbers: torch.Tensor) -> torch.Tensor:
        return self.texts[numbers]


def numbers_of(texts: list[str]) -> torch.Tensor:
    return torch.tensor([int(text) for text in texts])


def vectors(*, tied: bool) -> tuple[torch.Tensor, torch.Tensor]:
    """Return vectors of images (N, D) and of similar captions (N * 5, D); `tied`: with three distinct values."""
    random = torch.Generator().manual_seed(0)
    images = torch.randn(IMAGES, WIDTH, generator=random)
    texts = images.repeat_interleave(CAPTIONS, 0) + 3 * torch.randn(IMAGES * CAPTIONS, WIDTH, generator=random)
    if tied:
        images, texts = images[:, :8].round().clamp(-1, 1) + 0.1, texts[:, :8].round().clamp(-1, 1) + 0.1
    return F.normalize(images.double(), dim=-1), F.normalize(texts.double(), dim=-1)


def batches() -> Iterator[tuple[torch.Tensor, list[list[str]]]]:
    for start in range(0, IMAGES, 100):
        block = range(start, start + 100)
        yield torch.tensor(block), [[str(CAPTIONS * i + k) for k in range(CAPTIONS)] for i in block]


def compare_retrieval(theirs: Any, *, tied: bool) -> bool:
    images, texts = vectors(tied=tied)
    began = time.perf_counter()
    found = theirs.evaluate(Lookup(images, texts), batches(), numbers_of, "cpu", amp=False, recall_k_list=list(AT))
    between = time.perf_counter()
    ours = recall((images @ texts.T).numpy(), np.repeat(np.arange(IMAGES), CAPTIONS))
    seconds = between - began, time.perf_counter() - between
    good = True
    for k in AT:
        for name, own in (("text_retrieval", ours.image_to_text[k]), ("image_retrieval", ours.text_to_image[k])):
            other = 100 * found[f"{name}_recall@{k}"]
            fits = own <= other + 1e-4 if tied else abs(own - other) < 1e-4
            kind, verdict = "tied" if tied else "plain", "ok" if fits else "NO"
            print(f"{kind:6}{name}@{k:<3} ours {own:7.3f}  theirs {other:7.3f}  {verdict}")
            good &= fits
    print(f"time, theirs to ours: {seconds[0] / seconds[1]:.1f}")
    return good


def compare_classification(theirs: Any) -> bool:
    random = torch.Generator().manual_seed(1)
    prompts = F.normalize(torch.randn(CLASSES * PROMPTS, WIDTH, generator=random).double(), dim=-1)
    labels = torch.randint(CLASSES, (IMAGES,), generator=random)
    images = prompts.view(CLASSES, PROMPTS, WIDTH)[labels, 0] + 0.25 * torch.randn(IMAGES, WIDTH, generator=random)
    images = F.normalize(images, dim=-1)
    names = [str(k) for k in range(CLASSES)]
    data = TensorDataset(torch.arange(IMAGES), labels)
    data.classes = names
    loader = DataLoader(data, batch_size=100)
    templates = {name: [str(PROMPTS * k + p) for p in range(PROMPTS)] for k, name in enumerate(names)}
    # numpy 2.5 and later do not accept its float(array of one element); this changes only that conversion.
    theirs.float = lambda value: float(np.asarray(value).item())
    found = theirs.evaluate(Lookup(images, prompts), loader, numbers_of, names, templates, "cpu", amp=False)
    classes = class_vectors(prompts.numpy().reshape(CLASSES, PROMPTS, WIDTH))
    ours = classify(images.numpy() @ classes.T, labels.numpy()).to_json()
    good = True
    for name, own in ours.items():
        other = 100 * found[name]
        fits = abs(own - other) < 1e-4
        print(f"classes {name:22} ours {own:7.3f}  theirs {other:7.3f}  {'ok' if fits else 'NO'}")
        good &= fits
    return good


def main() -> None:
    with tempfile.TemporaryDirectory() as folder:
        install = [sys.executable, "-m", "pip", "install", "--quiet", "--disable-pip-version-check", "--target", folder]
        subprocess.run([*install, "--no-deps", "clip-benchmark", "tqdm"], check=True)
        subprocess.run([*install, "scikit-learn"], check=True)
        sys.path.append(folder)  # after the numpy of the environment
        classification, retrieval = (
            import_module(f"clip_benchmark.metrics.zeroshot_{task}") for task in ("classification", "retrieval")
        )
        with contextlib.redirect_stderr(io.StringIO()):  # its progress bars
            fits = [compare_retrieval(retrieval, tied=tied) for tied in (False, True)]
            fits.append(compare_classification(classification))
    sys.exit(0 if all(fits) else 1)


if __name__ == "__main__":
    main()
