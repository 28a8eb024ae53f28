"""A small release like SkyScript on a real server: captions, and archives of which a test wants some members."""

from __future__ import annotations

import io
import pickle
import random
import zipfile
from dataclasses import dataclass, field

from dove_core.data.fetching.catalog import Release, RemoteFile
from dove_core.data.fetching.transfers import Retry
from tests.data.releases import image
from tests.http_server import Served, Server

QUICK = Retry(retries=2, first_wait=0.01, longest_wait=0.02)
IMAGES = 60  # in each archive
SPLITS = {"val": (0, 10), "test": (10, 30), "train": (30, IMAGES)}  # of each archive


def stem(part: int, number: int) -> str:
    return f"a{part}{number:04d}_CH_19"


def jpeg(part: int, number: int) -> bytes:
    """Return an image's bytes; those of one archive differ in length."""
    return image(part * 1000 + number) + random.Random(number).randbytes(500 + 37 * number)


class _Unseekable(io.RawIOBase):
    """Makes `zipfile` put sizes behind the members, in data descriptors."""

    def __init__(self) -> None:
        self.data = bytearray()

    def writable(self) -> bool:
        return True

    def write(self, chunk) -> int:  # type: ignore[no-untyped-def]
        self.data += chunk
        return len(chunk)


def archive(members: dict[str, bytes], *, method: int = zipfile.ZIP_STORED, descriptors: bool = False) -> bytes:
    stream = _Unseekable() if descriptors else io.BytesIO()
    with zipfile.ZipFile(stream, "w", method) as made:  # type: ignore[arg-type]
        for name, data in members.items():
            made.writestr(zipfile.ZipInfo(name, (2020, 1, 1, 0, 0, 0)), data, method)
    return bytes(stream.data) if isinstance(stream, _Unseekable) else stream.getvalue()


def table(rows: list[tuple[int, int]]) -> bytes:
    lines = ["filepath,title,title_multi_objects"]
    lines += [f'images{part}/{stem(part, n)}.jpg,a lake {n},"a ""lake"" {n}, by a road"' for part, n in rows]
    return "\n".join([*lines, ""]).encode()


def rows_of(split: str, parts: tuple[int, ...] = (2, 3)) -> list[tuple[int, int]]:
    first, end = SPLITS[split]
    return [(part, number) for number in range(first, end) for part in parts]


def tiny_release(base: str, sums: dict[str, str] | None = None) -> Release:
    """Return the release that lies below an address; `sums` gives files MD5 sums."""
    sums = sums or {}
    openai, laion = ("openai-top50",), ("laion-top50",)
    tables = [
        RemoteFile(f"dataframe/Tiny_{split}.csv", None, "table", split, openai if split == "train" else (), 40)
        for split in SPLITS
    ]
    tables.append(RemoteFile("dataframe/Tiny_train_laion.csv", None, "table", "train", laion, 7))
    metas = [RemoteFile(f"meta{part}.zip", kind="meta", archive=part) for part in (2, 3)]
    images = [RemoteFile(f"images{part}.zip", sums.get(f"images{part}.zip"), "images", archive=part) for part in (2, 3)]
    files = (*tables, *metas, *images)
    return Release("tiny", base, files, "none", "https://example.org", "nobody", "a third party", 1000)


@dataclass
class Mirror:
    """What is on the server, and the release that says so; padding keeps wanted members a small share."""

    server: Server
    padding: int = 200_000
    bodies: dict[str, bytes] = field(default_factory=dict)

    def __post_init__(self) -> None:
        for part in (2, 3):
            nest = "images3/images3/" if part == 3 else "images2/"
            images = {f"{nest}{stem(part, n)}.jpg": jpeg(part, n) for n in range(IMAGES)}
            images[f"{nest}unnamed.jpg"] = random.Random(part).randbytes(self.padding)
            metas = {f"meta{part}/{stem(part, n)}.pickle": pickle.dumps({"time": 2019}) for n in range(IMAGES)}
            metas[f"meta{part}/unnamed.pickle"] = random.Random(part).randbytes(20_000)
            method = zipfile.ZIP_DEFLATED if part == 3 else zipfile.ZIP_STORED
            self.bodies[f"images{part}.zip"] = archive(images, method=method, descriptors=part == 2)
            self.bodies[f"meta{part}.zip"] = archive(metas, method=zipfile.ZIP_DEFLATED, descriptors=part == 3)
        for split in SPLITS:
            self.bodies[f"dataframe/Tiny_{split}.csv"] = table(rows_of(split))
        self.bodies["dataframe/Tiny_train_laion.csv"] = table(rows_of("train")[:7])
        self.serve()

    def serve(self) -> None:
        """Put all bodies on the server."""
        self.server.files.update({name: Served(body) for name, body in self.bodies.items()})

    def release(self, sums: dict[str, str] | None = None) -> Release:
        """Return the release; `sums` gives files MD5 sums."""
        return tiny_release(self.server.url(), sums)

    def sent(self, kind: str = "") -> int:
        """Return how many bytes of files whose names begin with `kind` have gone out, those of plans left out."""
        asked = [asked for asked in self.server.asked if not asked.is_probe]
        return sum(one.sent for one in asked if one.path.startswith(f"/{kind}"))
