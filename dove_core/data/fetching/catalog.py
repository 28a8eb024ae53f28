"""Facts of each release that `dove fetch` knows: which files there are, where, under which licence."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from types import MappingProxyType


@dataclass(frozen=True)
class RemoteFile:
    """One file of a release: its path below the release's base URL, and its MD5 sum where somebody gives one."""

    path: str
    md5: str | None = None


@dataclass(frozen=True)
class Release:
    """A published data set, as files on a server.

    `md5_source` names who computed the sums, in words that follow "as stated by".
    """

    name: str
    base_url: str
    files: tuple[RemoteFile, ...]
    licence: str
    homepage: str
    citation: str
    md5_source: str


# Captions come first: they are small, so that a wrong address or a full disk shows before the pictures.
SKYSCRIPT = Release(
    name="skyscript",
    base_url="https://opendatasharing.s3.us-west-2.amazonaws.com/SkyScript/",
    files=(
        RemoteFile("dataframe/SkyScript_val_5K_filtered_by_CLIP_openai.csv", "c8d278fd29b754361989d5e7a6608f69"),
        RemoteFile("dataframe/SkyScript_test_30K_filtered_by_CLIP_openai.csv", "0135d9b49ce6751360912a4353e809dc"),
        RemoteFile("dataframe/SkyScript_train_top50pct_filtered_by_CLIP_openai.csv"),
        RemoteFile("meta2.zip"),
        RemoteFile("meta3.zip"),
        RemoteFile("meta4.zip"),
        RemoteFile("meta5.zip"),
        RemoteFile("meta6.zip"),
        RemoteFile("meta7.zip"),
        RemoteFile("images2.zip", "fbfb5f7aa1731f4106fc3ffbd608100a"),
        RemoteFile("images3.zip", "ad4fd9fdb9622d1ea360210cb222f2bd"),
        RemoteFile("images4.zip", "aeeb41e830304c74b14b5ffc1fc8e8c3"),
        RemoteFile("images5.zip", "02ee7e0e59f9ac1c87b678a155e1f1df"),
        RemoteFile("images6.zip", "350475f1e7fb996152fa16db891b4142"),
        RemoteFile("images7.zip", "5e2fbf3e9262b36e30b458ec9a1df625"),
    ),
    licence="MIT (the authors' repository); pictures keep their sources' terms, OpenStreetMap's tags are ODbL",
    homepage="https://github.com/wangzhecheng/SkyScript",
    citation=(
        "Z. Wang, R. Prabha, T. Huang, J. Wu and R. Rajagopal: SkyScript: A Large and Semantically Diverse "
        "Vision-Language Dataset for Remote Sensing, AAAI 2024, https://arxiv.org/abs/2312.12856"
    ),
    md5_source="a third party, the TorchGeo project (not by SkyScript's own authors)",
)

RELEASES: Mapping[str, Release] = MappingProxyType({SKYSCRIPT.name: SKYSCRIPT})
"""Every release that can be fetched, by its name."""
