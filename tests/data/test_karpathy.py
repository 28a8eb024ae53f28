import json
from pathlib import Path
from typing import Any

import pytest

from dove_core.data.sharding.karpathy import read_karpathy
from dove_core.errors import DataError


def image(name: str, split: str, *texts: str) -> dict[str, Any]:
    return {"filename": name, "imgid": 0, "split": split, "sentences": [{"raw": t, "tokens": t.split()} for t in texts]}


def write(path: Path, value: Any) -> Path:
    path.write_text(json.dumps(value))
    return path


def rows(table: Any) -> list[tuple[str, list[str]]]:
    return list(zip(table.paths.to_pylist(), table.fields["caption"].to_pylist(), strict=True))


def test_every_sentence_of_an_image_is_a_caption_of_its_split(tmp_path: Path) -> None:
    images = [
        image("a.jpg", "val", "one .", "two ."),
        image("b.jpg", "train", "three ."),
        image("c.jpg", "restval", ""),
    ]
    tables = read_karpathy(write(tmp_path / "d.json", {"images": images, "dataset": "d"}))
    assert [table.split for table in tables] == ["train", "val"]
    assert rows(tables[0]) == [("b.jpg", ["three ."]), ("c.jpg", [""])]
    assert rows(tables[1]) == [("a.jpg", ["one .", "two ."])]


def test_one_split_can_be_chosen(tmp_path: Path) -> None:
    file = write(tmp_path / "d.json", {"images": [image("a.jpg", "val", "one"), image("b.jpg", "train", "two")]})
    assert [table.split for table in read_karpathy(file, "val")] == ["val"]
    with pytest.raises(DataError, match="no image of split test; seen: train, val"):
        read_karpathy(file, "test")


def test_text_that_no_file_can_hold_is_replaced(tmp_path: Path) -> None:
    (tmp_path / "d.json").write_text(
        '{"images": [{"filename": "a.jpg", "split": "train", "sentences": [{"raw": "x \\ud800 y"}]}]}'
    )
    assert rows(read_karpathy(tmp_path / "d.json")[0]) == [("a.jpg", ["x ? y"])]


WRONG = {
    "a list": ([], "no list of images"),
    "other keys": ({"annotations": []}, "seen: 'annotations'"),
    "no images": ({"images": []}, "seen: no image at all"),
    "not an object": ({"images": ["a.jpg"]}, "image 0 is not an object but str"),
    "no name": ({"images": [{"split": "train", "sentences": []}]}, "image 0 has no filename"),
    "odd split": ({"images": [{"filename": "a", "split": "dev", "sentences": []}]}, "has split 'dev'"),
    "no sentences": ({"images": [{"filename": "a", "split": "val"}]}, "no list of sentences"),
    "no text": (
        {"images": [{"filename": "a", "split": "val", "sentences": [{"tokens": []}]}]},
        "without text in 'raw'",
    ),
}


@pytest.mark.parametrize(("value", "words"), WRONG.values(), ids=WRONG.keys())
def test_another_shape_is_an_error_that_says_what_was_expected(tmp_path: Path, value: Any, words: str) -> None:
    file = write(tmp_path / "d.json", value)
    with pytest.raises(DataError, match=words) as caught:
        read_karpathy(file)
    assert str(file) in caught.value.message
    assert "sentences" in caught.value.hint


def test_a_file_that_is_no_json_is_an_error(tmp_path: Path) -> None:
    (tmp_path / "d.json").write_bytes(b"{")
    with pytest.raises(DataError, match="cannot be read"):
        read_karpathy(tmp_path / "d.json")
