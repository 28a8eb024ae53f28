"""Facts of each release that `dove fetch` knows: its files, their server, its licence."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from types import MappingProxyType
from typing import Literal


@dataclass(frozen=True)
class RemoteFile:
    """One file of a release.

    Attributes:
        path: below the release's base URL and below the folder that it is fetched into.
        md5: its MD5, where one is published.
        kind: a table of captions, an archive of images or of their metadata, or anything else.
        split: of a table of captions, or of another file that has only this split; "" for all splits.
        captions: choices of `FetchConfig.captions` that this table belongs to.
        rows: approximate number of images that a table names.
        archive: number of an archive; a caption's path begins with `images<number>/`.
    """

    path: str
    md5: str | None = None
    kind: Literal["table", "images", "meta", "other"] = "other"
    split: str = ""
    captions: tuple[str, ...] = ()
    rows: int = 0
    archive: int = 0

    @property
    def is_archive(self) -> bool:
        """Return whether its members may be here instead of it."""
        return self.kind in ("images", "meta")


@dataclass(frozen=True)
class Release:
    """A published data set, as files at one place, and the other places where it is.

    Attributes:
        name: of the release, and of its folder in data/.
        base_url: what the files are below: a web address, or `hf://datasets/OWNER/NAME` for the Hugging Face Hub.
        files: all files, in the order in which they are fetched.
        licence: of the data.
        homepage: of the data set.
        citation: what users should cite.
        md5_source: who published the MD5s, in words that follow "published by"; "" if there are none.
        images: approximate number of images in all archives.
        refusal: what helps if the server refuses access; "" if nothing special is known.
        alternatives: the same data at other places, perhaps in other files; they are tried in this order.
    """

    name: str
    base_url: str
    files: tuple[RemoteFile, ...]
    licence: str
    homepage: str
    citation: str
    md5_source: str = ""
    images: int = 0
    refusal: str = ""
    alternatives: tuple[Release, ...] = ()


_OPENAI = ("openai-top50", "openai-top30", "unfiltered")
_LAION = ("laion-top50", "laion-top30", "laion-top50-polished", "laion-top30-polished", "unfiltered-polished")


def _table(name: str, split: str, captions: tuple[str, ...], rows: int, md5: str | None = None) -> RemoteFile:
    return RemoteFile(f"dataframe/SkyScript_{name}.csv", md5, "table", split, captions, rows)


def _archives() -> tuple[RemoteFile, ...]:
    sums = {
        2: "fbfb5f7aa1731f4106fc3ffbd608100a",
        3: "ad4fd9fdb9622d1ea360210cb222f2bd",
        4: "aeeb41e830304c74b14b5ffc1fc8e8c3",
        5: "02ee7e0e59f9ac1c87b678a155e1f1df",
        6: "350475f1e7fb996152fa16db891b4142",
        7: "5e2fbf3e9262b36e30b458ec9a1df625",
    }
    metas = [RemoteFile(f"meta{number}.zip", kind="meta", archive=number) for number in sums]
    images = [RemoteFile(f"images{number}.zip", md5, "images", archive=number) for number, md5 in sums.items()]
    return (*metas, *images)


# Captions come first: they are small, and a wrong address or a full disk shows before the images.
SKYSCRIPT = Release(
    name="skyscript",
    base_url="https://opendatasharing.s3.us-west-2.amazonaws.com/SkyScript/",
    files=(
        _table("val_5K_filtered_by_CLIP_openai", "val", _OPENAI, 5_000, "c8d278fd29b754361989d5e7a6608f69"),
        _table("val_5K_filtered_by_CLIP_laion_RS", "val", _LAION, 5_000),
        _table("test_30K_filtered_by_CLIP_openai", "test", _OPENAI, 30_000, "0135d9b49ce6751360912a4353e809dc"),
        _table("test_30K_filtered_by_CLIP_laion_RS", "test", _LAION, 30_000),
        _table("train_top50pct_filtered_by_CLIP_openai", "train", ("openai-top50",), 2_600_000),
        _table(
            "train_top30pct_filtered_by_CLIP_openai", "train", ("openai-top30",), 1_500_000,
            "05b362e43a852667b5374c9a5ae53f8e",
        ),
        _table("train_top50pct_filtered_by_CLIP_laion_RS", "train", ("laion-top50",), 2_600_000),
        _table("train_top30pct_filtered_by_CLIP_laion_RS", "train", ("laion-top30",), 1_500_000),
        _table("train_unfiltered_5M", "train", ("unfiltered",), 5_100_000),
        _table(
            "train_top50pct_filtered_by_CLIP_laion_RS_language_polished", "train", ("laion-top50-polished",), 2_600_000
        ),
        _table(
            "train_top30pct_filtered_by_CLIP_laion_RS_language_polished", "train", ("laion-top30-polished",), 1_500_000
        ),
        _table("train_unfiltered_5M_language_polished", "train", ("unfiltered-polished",), 4_700_000),
        *_archives(),
    ),
    licence="MIT (the authors' repository); images keep their sources' terms, OpenStreetMap's tags are ODbL",
    homepage="https://github.com/wangzhecheng/SkyScript",
    citation=(
        "Z. Wang, R. Prabha, T. Huang, J. Wu and R. Rajagopal: SkyScript: A Large and Semantically Diverse "
        "Vision-Language Dataset for Remote Sensing, AAAI 2024, https://arxiv.org/abs/2312.12856"
    ),
    md5_source="a third party, the TorchGeo project (not by SkyScript's own authors)",
    images=5_200_000,
    refusal=(
        "SkyScript's server refused all downloads when others tried in August 2026 (issue 4054 of torchgeo); it may "
        "come back. Until then give a copy with --mirror or --from, or fetch data from elsewhere: `dove fetch rsicd`, "
        "`dove fetch hf:OWNER/NAME`, `dove fetch sample`"
    ),
)  # fmt: skip

RSICD = Release(
    name="rsicd",
    base_url="hf://datasets/arampacha/rsicd",
    files=tuple(
        RemoteFile(f"data/{stem}-00000-of-00001.parquet", split=split)
        for stem, split in (("train", "train"), ("valid", "val"), ("test", "test"))
    ),
    licence="research use",
    homepage="https://huggingface.co/datasets/arampacha/rsicd",
    citation=(
        "X. Lu, B. Wang, X. Zheng and X. Li: Exploring Models and Data for Remote Sensing Image Caption Generation, "
        "IEEE TGRS 2017, https://doi.org/10.1109/TGRS.2017.2776321"
    ),
)

_BENCHMARKS = (
    "RSICD", "RSITMD", "ucmcaptions", "aid", "eurosat", "fmow", "millionaid", "nwpu", "patternnet", "rsicb256",
    "SkyScript_cls", "roof_shape", "smoothness", "surface",
)  # fmt: skip


def _on_same_server(name: str, paths: list[str], licence: str) -> Release:
    """Return a release that is on the same server as SkyScript's images."""
    return replace(SKYSCRIPT, name=name, files=tuple(map(RemoteFile, paths)), licence=licence, images=0)


def _all() -> dict[str, Release]:
    names = {stem: stem.lower().replace("_", "-") for stem in _BENCHMARKS} | {"ucmcaptions": "ucm"}
    sets = {name: f"benchmark/{stem}.zip" for stem, name in names.items()}
    terms = "each data set keeps its own terms; packed by SkyScript's authors"
    packed = {name: _on_same_server(name, [path], terms) for name, path in sets.items()}
    return {
        SKYSCRIPT.name: SKYSCRIPT,
        **packed,
        RSICD.name: replace(RSICD, alternatives=(packed[RSICD.name],)),
        "benchmarks": _on_same_server("benchmarks", list(sets.values()), terms),
    }


RELEASES: Mapping[str, Release] = MappingProxyType(_all())
"""Every release that can be fetched, by its name."""
