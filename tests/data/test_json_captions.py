import json
from pathlib import Path
from typing import Any

import pytest

from dove_core.data.sharding.caption_files import read_captions
from dove_core.errors import DataError
from dove_core.events import Event, Noted, Skipped


def image(name: str, split: str, *texts: str) -> dict[str, Any]:
    return {"filename": name, "imgid": 0, "split": split, "sentences": [{"raw": t, "tokens": t.split()} for t in texts]}


def write(path: Path, value: Any) -> Path:
    path.write_text(json.dumps(value))
    return path


def rows(table: Any, field: str = "caption") -> list[tuple[str, list[str]]]:
    return list(zip(table.paths.to_pylist(), table.fields[field].to_pylist(), strict=True))


def test_every_sentence_of_an_image_is_a_caption_of_its_split(tmp_path: Path) -> None:
    images = [
        image("a.jpg", "val", "one .", "two ."),
        image("b.jpg", "train", "three ."),
        image("c.jpg", "restval", ""),
    ]
    tables = read_captions(write(tmp_path / "d.json", {"images": images, "dataset": "d"}))
    assert [table.split for table in tables] == ["train", "val"]
    assert rows(tables[0]) == [("b.jpg", ["three ."]), ("c.jpg", [""])]
    assert rows(tables[1]) == [("a.jpg", ["one .", "two ."])]


def test_one_split_can_be_chosen(tmp_path: Path) -> None:
    file = write(tmp_path / "d.json", {"images": [image("a.jpg", "val", "one"), image("b.jpg", "train", "two")]})
    assert [table.split for table in read_captions(file, "validation")] == ["val"]
    with pytest.raises(DataError, match="no row of split test; rows of each split: train 1, val 1"):
        read_captions(file, "test")


def test_text_that_no_file_can_hold_is_replaced(tmp_path: Path) -> None:
    (tmp_path / "d.json").write_text(
        '{"images": [{"filename": "a.jpg", "split": "train", "sentences": [{"raw": "x \\ud800 y"}]}]}'
    )
    assert rows(read_captions(tmp_path / "d.json")[0]) == [("a.jpg", ["x ? y"])]


SENTENCES = {
    "texts": (["an airport", "planes"], ["an airport", "planes"]),
    "a number": ([{"raw": 42}], ["42"]),
    "a list": ([{"raw": ["a", "b"]}], ["a", "b"]),
    "a null and a text": ([{"raw": None}, {"raw": "planes"}], ["", "planes"]),
    "not a number": ([{"raw": float("nan")}], [""]),
    "tokens alone": ([{"tokens": ["an", "airport"]}], ["an airport"]),
    "nothing": ([], [""]),
    "one text": ("an airport", ["an airport"]),
}


@pytest.mark.parametrize(("sentences", "captions"), SENTENCES.values(), ids=SENTENCES.keys())
def test_each_form_of_sentences_is_read_and_an_empty_one_is_kept_to_be_counted(
    tmp_path: Path, sentences: Any, captions: list[str]
) -> None:
    value = {"images": [{"filename": "a.jpg", "split": "Test", "sentences": sentences}]}
    (table,) = read_captions(write(tmp_path / "d.json", value))
    assert (table.split, rows(table)) == ("test", [("a.jpg", captions)])


PLAIN = [("a.jpg", ["one"]), ("b.jpg", ["two"])]
FORMS: dict[str, Any] = {
    "Karpathy": {"images": [image("a.jpg", "train", "one"), image("b.jpg", "train", "two")], "dataset": "x"},
    "a list of Karpathy's images": [image("a.jpg", "train", "one"), image("b.jpg", "train", "two")],
    "COCO": {
        "info": {"year": 2014},
        "licenses": [{"id": 1, "name": "x"}],
        "images": [{"id": 7, "file_name": "a.jpg"}, {"id": 8, "file_name": "b.jpg"}],
        "annotations": [{"image_id": 8, "caption": "two"}, {"image_id": 7, "caption": "one"}],
    },
    "records": [{"image": "a.jpg", "caption": "one"}, {"image": "b.jpg", "caption": ["two"]}],
    "records below a word": {
        "version": 1,
        "data": [{"path": "a.jpg", "text": "one"}, {"path": "b.jpg", "text": "two"}],
    },
    "NWPU, by class": {"lake": [{"filename": "a.jpg", "raw": "one"}], "pond": [{"filename": "b.jpg", "raw": "two"}]},
    "by split": {"train": [{"filename": "a.jpg", "raw": "one"}, {"filename": "b.jpg", "raw": "two"}]},
    "by file name": {"a.jpg": ["one"], "b.jpg": "two"},
    "by file name, objects": {"a.jpg": {"captions": ["one"]}, "b.jpg": {"caption": "two"}},
    "by split and file name": {"train": {"a.jpg": ["one"], "b.jpg": ["two"]}},
    "by column": {"filepath": ["a.jpg", "b.jpg"], "title": ["one", "two"]},
    "by column, of pandas": {"filepath": {"0": "a.jpg", "1": "b.jpg"}, "title": {"0": "one", "1": "two"}},
    "printed lists": [{"image": "a.jpg", "captions": "['one']"}, {"image": "b.jpg", "captions": '["two"]'}],
    "an identifier with an ending": [{"image_id": "a.jpg", "caption": "one"}, {"image_id": "b.jpg", "caption": "two"}],
}


@pytest.mark.parametrize("value", FORMS.values(), ids=FORMS.keys())
def test_each_form_gives_the_same_rows(tmp_path: Path, value: Any) -> None:
    (table,) = read_captions(write(tmp_path / "d_train.json", value))
    assert (table.split, rows(table, next(iter(table.fields)))) == ("train", PLAIN)


def test_numbered_sentences_are_one_field_in_their_order(tmp_path: Path) -> None:
    value = {"lake": [{"filename": "a.jpg", "split": "val", "raw_2": "c", "raw": "a", "raw_1": "b", "imgid": 3}]}
    (table,) = read_captions(write(tmp_path / "d.json", value))
    assert (table.split, rows(table)) == ("val", [("a.jpg", ["a", "b", "c"])])


@pytest.mark.parametrize("ending", ["json", "jsonl", "ndjson"])
def test_json_lines_are_records(tmp_path: Path, ending: str) -> None:
    file = tmp_path / f"metadata_test.{ending}"
    file.write_text("\n".join(json.dumps({"file_name": f"{name}.jpg", "text": name}) for name in "ab") + "\n\n")
    (table,) = read_captions(file)
    assert (table.split, rows(table)) == ("test", [("a.jpg", ["a"]), ("b.jpg", ["b"])])
    file.write_text(file.read_text() + '{"file_name": "c')
    with pytest.raises(DataError, match="line 3"):
        read_captions(file)


@pytest.mark.parametrize("encoding", ["utf-8", "utf-8-sig", "utf-16", "utf-16-le", "utf-32"])
def test_each_unicode_encoding_is_read(tmp_path: Path, encoding: str) -> None:
    (tmp_path / "d_val.json").write_text(
        json.dumps([{"image": "é.jpg", "caption": "机场"}], ensure_ascii=False), encoding
    )
    assert rows(read_captions(tmp_path / "d_val.json")[0]) == [("é.jpg", ["机场"])]


def test_a_folder_may_stand_apart_from_the_name(tmp_path: Path) -> None:
    value = {"images": [{**image("a.jpg", "train", "one"), "filepath": "train/A"}]}
    (table,) = read_captions(write(tmp_path / "d.json", value))
    assert (table.paths.to_pylist(), table.names.to_pylist()) == (["train/A/a.jpg"], ["a.jpg"])


def test_rows_without_a_split_or_an_image_are_counted(tmp_path: Path) -> None:
    events: list[Event] = []
    images: list[Any] = [image("a.jpg", "train", "one"), image("b.jpg", "", "two"), {"split": "train"}, "c.jpg", None]
    images += [{"split": "train", "sentences": [{"raw": "of no image"}]}]
    (table,) = read_captions(write(tmp_path / "d.json", {"images": images}), None, events.append)
    assert rows(table) == [("a.jpg", ["one"]), ("", ["of no image"])]
    skipped = {event.reason: event.count for event in events if isinstance(event, Skipped)}
    assert skipped == {"empty row": 3, "row without a split": 1}


def test_captions_of_no_image_are_rows_too(tmp_path: Path) -> None:
    notes = [{"image_id": 1, "caption": "one"}, {"image_id": 9, "caption": "nine"}]
    value = {"images": [{"id": 1, "file_name": "a.jpg"}, {"id": 2, "file_name": "b.jpg"}], "annotations": notes}
    (table,) = read_captions(write(tmp_path / "d_train.json", value))
    assert rows(table) == [("a.jpg", ["one"]), ("b.jpg", [""]), ("", ["nine"])]


def test_a_file_without_any_split_is_train_and_that_is_said(tmp_path: Path) -> None:
    events: list[Event] = []
    (table,) = read_captions(write(tmp_path / "captions.json", FORMS["by file name"]), None, events.append)
    assert table.split == "train"
    assert [e.message for e in events if isinstance(e, Noted)] == [
        f"{tmp_path / 'captions.json'}: no split in its name, taken as train; choose another with --split"
    ]


WRONG = {
    "no records": ([], "no record with the path of an image; seen: list"),
    "other keys": ({"annotations": []}, "seen: 'annotations'"),
    "no images": ({"images": []}, "seen: 'images'"),
    "no object": (42, "seen: int"),
    "names alone": ({"images": ["a.jpg"]}, "no record with the path"),
    "no name": ({"images": [{"split": "train", "sentences": []}]}, "no record with the path"),
    "no captions": ({"images": [{"filename": "a", "split": "val"}]}, "images such as a, but no captions"),
}


@pytest.mark.parametrize(("value", "words"), WRONG.values(), ids=WRONG.keys())
def test_another_shape_is_an_error_that_says_what_was_expected(tmp_path: Path, value: Any, words: str) -> None:
    file = write(tmp_path / "d.json", value)
    with pytest.raises(DataError, match=words) as caught:
        read_captions(file)
    assert str(file) in caught.value.message
    assert "sentences" in caught.value.hint


@pytest.mark.parametrize(
    ("data", "words"),
    [
        (b"{", "cannot be read"),
        (b"[" * 100_000, "cannot be read"),
        (b"\xff\xfe\x00", "cannot be read"),
        (b"version https://git-lfs.github.com/spec/v1\noid sha256:4d7a\nsize 4\n", "a pointer of Git LFS"),
        (b"<!DOCTYPE html><html></html>", "a web page"),
        (b"Rar!\x1a\x07\x00", "a RAR archive"),
    ],
)
def test_a_file_that_is_no_json_is_an_error(tmp_path: Path, data: bytes, words: str) -> None:
    (tmp_path / "d.json").write_bytes(data)
    with pytest.raises(DataError, match=words):
        read_captions(tmp_path / "d.json")
