"""A second family of models in a few lines: colour histograms for images, hashed words for texts."""

from __future__ import annotations

import hashlib
import json
from pathlib import Path

import numpy as np
import torch
from torch.nn.functional import normalize

from dove_core.encoding.preprocess import CenterSquare
from dove_core.files import fingerprint_of_files

CONFIG = "model.json"


class TinyPreprocess:
    def fit(self, data, name):
        return CenterSquare(16).fit(data, name)

    def normalise(self, pixels):
        return pixels.float() / 255


class TinyText:
    reranker = None

    def __init__(self, dim):
        self.dim = dim

    def encode(self, text):
        counts = np.full(self.dim, 1e-3, np.float32)
        for word in text.lower().split():
            counts[hashlib.sha256(word.encode()).digest()[0] % self.dim] += 1
        return counts / np.linalg.norm(counts)

    def notes(self, text):
        return []

    def knows(self, text):
        return True

    def digest(self):
        return f"{self.dim:016x}"


class TinyEncoder:
    family, caption_field, reranker, explainer, is_convolutional = "tiny", "", None, None, False

    def __init__(self, dim=8, fingerprint="f"):
        self.dim, self.fingerprint, self.preprocess = dim, fingerprint, TinyPreprocess()

    def to(self, device):
        pass

    def encode_images(self, pixels):
        bins = (pixels * 1.999).long()
        colours = (bins[:, 0] * 4 + bins[:, 1] * 2 + bins[:, 2]).flatten(1) % self.dim
        counts = torch.zeros(len(pixels), self.dim).scatter_add_(
            1, colours, torch.ones_like(colours, dtype=torch.float)
        )
        return normalize(counts, dim=1)

    def encode_texts(self, texts):
        own = TinyText(self.dim)
        return torch.from_numpy(np.stack([own.encode(text) for text in texts]))

    def save_text_side(self, folder):
        (folder / CONFIG).write_text(json.dumps({"family": "tiny", "dim": self.dim}))


class TinyFamily:
    files, has_reranker = (CONFIG,), False

    def load(self, folder, fingerprint):
        return TinyEncoder(json.loads((folder / CONFIG).read_text())["dim"], fingerprint)

    def load_text_side(self, folder):
        return TinyText(json.loads((folder / CONFIG).read_text())["dim"])


family = TinyFamily()


def make_checkpoint(folder: Path, dim: int = 8) -> str:
    """Write a checkpoint of this family; return its fingerprint."""
    folder.mkdir(parents=True)
    TinyEncoder(dim).save_text_side(folder)
    return fingerprint_of_files(folder, TinyFamily.files)


def install(folder: Path) -> None:
    """Write into a folder, which is to be on the path, what makes the family an installed one."""
    info = folder / "tiny_family-1.dist-info"
    info.mkdir(parents=True)
    (info / "METADATA").write_text("Metadata-Version: 2.1\nName: tiny-family\nVersion: 1\n")
    (info / "entry_points.txt").write_text("[dove.families]\ntiny = tests.tiny_family:family\n")
