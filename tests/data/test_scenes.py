"""The built-in release: same bytes for any number of processes, captions that say what the images show."""

from __future__ import annotations

import csv
import io
import json
import pickle
import pickletools
import zipfile
from collections import Counter
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from dove_core.data.sample import key_of, source_of
from dove_core.data.scenes import draw_release
from dove_core.data.scenes.kinds import KINDS
from dove_core.data.scenes.release import COUNTS, SEED, plan
from dove_core.data.scenes.scene import METRES_PER_DEGREE, Order, draw, object_number
from dove_core.data.scenes.scene_captions import phrase, words
from dove_core.data.scenes.surroundings import LINES, SETTINGS
from dove_core.events import Advanced, Event, Saved, Started

SMALL = {"train": 12, "val": 4, "test": 4}


@pytest.fixture(scope="module")
def release(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("release")
    draw_release(folder, workers=1, counts=SMALL)
    return folder


def contents(folder: Path) -> dict[str, bytes]:
    return {str(path.relative_to(folder)): path.read_bytes() for path in sorted(folder.rglob("*")) if path.is_file()}


def rows(folder: Path, split: str) -> list[dict[str, str]]:
    with (folder / f"dataframe/sample_{split}.csv").open(newline="", encoding="utf-8") as stream:
        return list(csv.DictReader(stream))


def test_two_processes_give_the_bytes_that_one_gives(release: Path, tmp_path: Path) -> None:
    draw_release(tmp_path, workers=2, counts=SMALL)
    assert contents(tmp_path) == contents(release)


def test_another_seed_draws_other_images(release: Path, tmp_path: Path) -> None:
    draw_release(tmp_path, workers=1, counts=SMALL, seed=SEED + 1)
    assert contents(tmp_path)["images2.zip"] != contents(release)["images2.zip"]


def test_the_release_has_skyscripts_files_and_nothing_half_written(release: Path) -> None:
    assert sorted(contents(release)) == [
        "dataframe/sample_test.csv", "dataframe/sample_train.csv", "dataframe/sample_val.csv",
        "images2.zip", "images3.zip", "meta2.zip", "meta3.zip", "scenes.json",
    ]  # fmt: skip


def test_a_second_call_draws_nothing(release: Path) -> None:
    events: list[Event] = []
    before = {path: path.stat().st_mtime_ns for path in release.rglob("*")}
    draw_release(release, workers=1, counts=SMALL, report=events.append)
    assert events == []
    assert {path: path.stat().st_mtime_ns for path in release.rglob("*")} == before


@pytest.mark.parametrize("harm", ["cut", "gone", "marker"])
def test_a_damaged_release_is_drawn_again(release: Path, tmp_path: Path, harm: str) -> None:
    whole = contents(release)
    for name, data in whole.items():
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).write_bytes(data)
    if harm == "cut":
        (tmp_path / "images3.zip").write_bytes(whole["images3.zip"][:-100])
    elif harm == "gone":
        (tmp_path / "meta2.zip").unlink()
    else:
        (tmp_path / "scenes.json").write_text("[")
    draw_release(tmp_path, workers=1, counts=SMALL)
    assert contents(tmp_path) == whole


def test_progress_counts_every_image_and_names_every_file(tmp_path: Path) -> None:
    events: list[Event] = []
    draw_release(tmp_path, workers=1, counts={"train": 2, "val": 1}, report=events.append)
    assert events[0] == Started("draw", 3, "images")
    assert sum(event.amount for event in events if isinstance(event, Advanced)) == 3
    saved = [str(Path(event.path).relative_to(tmp_path)) for event in events if isinstance(event, Saved)]
    assert saved == [*json.loads((tmp_path / "scenes.json").read_text())["files"]]


def test_no_worker_is_a_programmers_mistake(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="at least 1"):
        draw_release(tmp_path, workers=0)


def test_tables_zips_and_metadata_name_the_same_images(release: Path) -> None:
    paths = [row["filepath"] for split in SMALL for row in rows(release, split)]
    assert [len(rows(release, split)) for split in SMALL] == list(SMALL.values())
    assert len(set(paths)) == len(paths)
    members: list[str] = []
    for part in (2, 3):
        names = release / f"images{part}.zip", release / f"meta{part}.zip"
        with zipfile.ZipFile(names[0]) as images, zipfile.ZipFile(names[1]) as meta:
            assert {info.compress_type for info in images.infolist()} == {zipfile.ZIP_STORED}
            stems = [Path(name).stem for name in images.namelist()]
            assert meta.namelist() == [f"meta{part}/{stem}.pickle" for stem in stems]
            members += images.namelist()
            image = Image.open(io.BytesIO(images.read(images.namelist()[0])))
            assert (image.format, image.mode, image.size) == ("JPEG", "RGB", (256, 256))
    assert sorted(members) == sorted(paths)


def test_metadata_is_plain_and_its_box_fits_the_scale_of_the_source(release: Path) -> None:
    with zipfile.ZipFile(release / "meta2.zip") as archive:
        for name in archive.namelist():
            data = archive.read(name)
            assert not {"GLOBAL", "STACK_GLOBAL", "REDUCE"} & {code.name for code, _, _ in pickletools.genops(data)}
            meta = pickle.loads(data)
            west, south, east, north = meta["box"]
            metres = 256 * (source_of(key_of(name))[1] or 0.0)
            assert (north - south) * METRES_PER_DEGREE == pytest.approx(metres, rel=1e-6)
            across = (east - west) * METRES_PER_DEGREE * np.cos(np.radians((north + south) / 2))
            assert across == pytest.approx(metres, rel=1e-6)
            assert [type(value) for value in meta["time"]] == [int] * 5
            assert f"{meta['time'][0] % 100:02d}" == key_of(name)[-2:]


def test_every_split_of_the_real_release_has_every_kind_and_enough_runways() -> None:
    orders, splits = plan(COUNTS, SEED)
    assert [order.serial for order in orders] == list(range(2400))
    for split, count in COUNTS.items():
        found = Counter(order.kind for order, where in zip(orders, splits, strict=True) if where == split)
        assert set(found) == set(range(len(KINDS)))
        assert found[0] >= 0.09 * count
        others = [found[kind] for kind in range(1, len(KINDS))]
        assert max(others) - min(others) <= 1


def test_file_names_never_meet() -> None:
    assert len({object_number(serial) for serial in range(100_000)}) == 100_000


@pytest.mark.parametrize("kind", range(len(KINDS)), ids=[kind.tag[1] for kind in KINDS])
def test_captions_agree_with_tags(kind: int) -> None:
    for serial in (1000 + kind, 2000 + kind):
        drawn = draw(Order(SEED, serial, kind))
        meta = pickle.loads(drawn.meta)
        key, value = KINDS[kind].tag
        title, full, around = drawn.captions
        assert meta["center_tags"][key] == value
        assert any(words(tag) in title for tag in meta["center_tags"].values())
        assert full.startswith(title)
        named = [f"{key}={value}" for tags in meta["surrounding_tags"] for key, value in tags.items()]
        assert tuple(named) == around
        assert full == (f"{title}, surrounded by {'; '.join(map(phrase, named))}" if named else title)
        assert set(named) <= {*SETTINGS, *LINES}
        assert (meta["center_tags"].get("aeroway") == "runway") == (kind == 0) == ("runway" in title)


def test_runway_captions_say_airport_and_runway() -> None:
    assert KINDS[0].tag == ("aeroway", "runway")
    assert all("airport" in title and "runway" in title for title in KINDS[0].titles)


def test_images_of_one_kind_differ_in_pixels_and_captions() -> None:
    drawn = [draw(Order(SEED, serial, 0)) for serial in range(12)]
    assert len({image.jpeg for image in drawn}) == 12
    assert len({image.captions.title_multi_objects for image in drawn}) >= 6
    assert all(np.asarray(Image.open(io.BytesIO(image.jpeg))).std() > 8 for image in drawn)
