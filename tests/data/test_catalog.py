"""The catalog's facts: they cannot be checked against the server here, but they must be whole and well formed."""

from __future__ import annotations

import re
from pathlib import Path
from typing import get_args, get_type_hints

import pytest

from dove_core.config import FetchConfig
from dove_core.data.fetching.catalog import RELEASES, SKYSCRIPT
from dove_core.data.fetching.lookup import find_release
from dove_core.data.fetching.selection import select
from dove_core.data.splits import split_in

EVERYWHERE = [place for release in RELEASES.values() for place in (release, *release.alternatives)]
CHOICES = get_args(get_type_hints(FetchConfig)["captions"])


def test_releases_are_found_under_their_names():
    assert all(name == release.name for name, release in RELEASES.items())
    assert RELEASES["skyscript"] is SKYSCRIPT
    sets = {"aid", "eurosat", "fmow", "millionaid", "nwpu", "patternnet", "rsicb256", "skyscript-cls", "roof-shape",
            "smoothness", "surface", "rsicd", "rsitmd", "ucm"}  # fmt: skip
    assert sets < set(RELEASES)
    zips = {name: (*RELEASES[name].alternatives, RELEASES[name])[0].files[0].path for name in sets}
    assert {file.path for file in RELEASES["benchmarks"].files} == set(zips.values())
    assert find_release("Roof_Shape") is RELEASES["roof-shape"]


def test_skyscript_has_six_archives_of_images_six_of_metadata_and_twelve_caption_tables():
    paths = [file.path for file in SKYSCRIPT.files]
    assert {f"{kind}{number}.zip" for kind in ("images", "meta") for number in range(2, 8)} < set(paths)
    assert sum(path.startswith("dataframe/SkyScript_") for path in paths) == 12
    assert len(paths) == len(set(paths)) == 24


@pytest.mark.parametrize("captions", CHOICES)
def test_every_choice_of_captions_has_one_table_a_split(captions):
    tables = select(SKYSCRIPT, FetchConfig(captions=captions)).of("table")
    assert sorted(table.split for table in tables) == ["test", "train", "val"]
    assert all(split_in(Path(table.path).name) == table.split for table in tables)


def test_choices_of_captions_differ_in_their_training_table():
    chosen = [select(SKYSCRIPT, FetchConfig(captions=captions, split="train")).of("table") for captions in CHOICES]
    assert len({tables[0].path for tables in chosen}) == len(CHOICES)


def test_the_default_is_the_table_that_the_paper_trains_on():
    (table,) = select(SKYSCRIPT, FetchConfig(split="train")).of("table")
    assert table.path == "dataframe/SkyScript_train_top50pct_filtered_by_CLIP_openai.csv"


@pytest.mark.parametrize(
    ("config", "is_by_member"),
    [
        (FetchConfig(), False),
        (FetchConfig(split="train"), False),  # half of all images
        (FetchConfig(split="test"), True),
        (FetchConfig(split="val", parts="2"), True),
        (FetchConfig(limit=10_000), True),
        (FetchConfig(limit=10_000_000), False),
    ],
)
def test_whole_archives_are_fetched_where_much_of_them_is_wanted(config, is_by_member):
    assert select(SKYSCRIPT, config).is_by_member == is_by_member


def test_sums_are_32_hexadecimal_digits_and_no_two_files_share_one():
    sums = [file.md5 for file in SKYSCRIPT.files if file.md5]
    assert len(sums) == len(set(sums)) == 9
    assert all(re.fullmatch(r"[0-9a-f]{32}", md5) for md5 in sums)


def test_every_image_archive_has_a_sum():
    assert all(file.md5 for file in SKYSCRIPT.files if file.path.startswith("images"))


def test_paths_stay_below_the_folder_they_are_fetched_into():
    for release in EVERYWHERE:
        assert all(not file.path.startswith("/") and ".." not in file.path for file in release.files)


def test_every_release_names_its_licence_homepage_and_citation():
    for release in EVERYWHERE:
        assert release.licence and release.citation
        assert release.md5_source or not any(file.md5 for file in release.files)
        assert release.homepage.startswith("https://")
        assert re.fullmatch(r"https://.+/|hf://datasets/[\w-]+/[\w-]+", release.base_url)
