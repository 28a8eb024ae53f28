"""The catalog's facts: they cannot be checked against the server here, but they must be whole and well formed."""

from __future__ import annotations

import re

from dove_core.data.fetching.catalog import RELEASES, SKYSCRIPT


def test_releases_are_found_under_their_names():
    assert {name: release.name for name, release in RELEASES.items()} == {"skyscript": "skyscript"}
    assert RELEASES["skyscript"] is SKYSCRIPT


def test_skyscript_has_six_archives_of_pictures_six_of_metadata_and_three_caption_tables():
    paths = {file.path for file in SKYSCRIPT.files}
    archives = {f"{kind}{number}.zip" for kind in ("images", "meta") for number in range(2, 8)}
    splits = ("train_top50pct", "val_5K", "test_30K")
    tables = {f"dataframe/SkyScript_{split}_filtered_by_CLIP_openai.csv" for split in splits}
    assert paths == archives | tables
    assert len(SKYSCRIPT.files) == len(paths)


def test_sums_are_32_hexadecimal_digits_and_no_two_files_share_one():
    sums = [file.md5 for file in SKYSCRIPT.files if file.md5]
    assert len(sums) == len(set(sums)) == 8
    assert all(re.fullmatch(r"[0-9a-f]{32}", md5) for md5 in sums)


def test_every_picture_archive_has_a_sum():
    assert all(file.md5 for file in SKYSCRIPT.files if file.path.startswith("images"))


def test_paths_stay_below_the_folder_they_are_fetched_into():
    for release in RELEASES.values():
        assert all(not file.path.startswith("/") and ".." not in file.path for file in release.files)


def test_every_release_names_its_licence_homepage_and_citation():
    for release in RELEASES.values():
        assert release.licence and release.citation and release.md5_source
        assert release.homepage.startswith("https://") and release.base_url.endswith("/")
