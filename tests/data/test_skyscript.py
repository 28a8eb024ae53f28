import pickle
from pathlib import Path
from typing import Any

import pytest

from dove_core.data.csv_tables import ROWS_AT_ONCE, read_batches, read_columns, release_tables
from dove_core.data.sharding.caption_files import read_captions
from dove_core.data.sharding.meta import MAX_META_BYTES, Meta, box_of, read_meta, time_of
from dove_core.errors import DataError, UsageError


def columns(file: Path) -> dict[str, Any]:
    (table,) = read_captions(file)
    return {"paths": table.paths.to_pylist(), **{name: lists.to_pylist() for name, lists in table.fields.items()}}


def write(path: Path, text: str, encoding: str = "utf-8") -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(text.encode(encoding))
    return path


def test_skyscripts_columns_are_a_path_and_two_fields(tmp_path: Path) -> None:
    file = write(
        tmp_path / "SkyScript_val_5K.csv", "filepath,title,title_multi_objects\nimages2/a.jpg,a lake,a lake by\n"
    )
    assert columns(file) == {
        "paths": ["images2/a.jpg"],
        "title": [["a lake"]],
        "title_multi_objects": [["a lake by"]],
    }
    assert read_captions(file)[0].split == "val"
    assert read_captions(file, "holdout")[0].split == "holdout"


def test_newlines_quotes_emoji_and_words_like_na_arrive_as_they_are(tmp_path: Path) -> None:
    text = 'filepath,title\r\n"a,1.jpg","two\nlines, ""quoted"" 🛰️"\r\nnan.jpg,NA\r\nb.jpg,\r\nc.jpg,null\r\n'
    for encoding in ("utf-8", "utf-8-sig"):
        assert columns(write(tmp_path / "t.csv", text, encoding)) == {
            "paths": ["a,1.jpg", "nan.jpg", "b.jpg", "c.jpg"],
            "title": [['two\nlines, "quoted" 🛰️'], ["NA"], [""], ["null"]],
        }


def test_numbers_are_strings_and_a_column_of_numbers_is_no_caption(tmp_path: Path) -> None:
    file = write(tmp_path / "t.csv", ",Image ,label,caption,note\n0,007,3,1.50,\n1,008,4,pier,\n")
    assert columns(file) == {"paths": ["007", "008"], "caption": [["1.50"], ["pier"]]}


def test_a_row_with_too_few_values_has_empty_captions(tmp_path: Path) -> None:
    file = write(tmp_path / "t.csv", "filepath,title\na.jpg\nb.jpg,pier\n")
    assert columns(file) == {"paths": ["a.jpg", "b.jpg"], "title": [[""], ["pier"]]}


def test_some_columns_of_a_long_table_are_read_in_batches(tmp_path: Path) -> None:
    count = ROWS_AT_ONCE + 5
    file = write(tmp_path / "t.csv", "filepath,title\n" + "".join(f"{i}.jpg,a lake\n" for i in range(count)))
    assert [batch.num_rows for batch in read_batches(file)] == [ROWS_AT_ONCE, 5]
    assert read_columns(file, ["filepath"])["filepath"].to_pylist() == [f"{i}.jpg" for i in range(count)]


def test_the_best_path_column_is_taken(tmp_path: Path) -> None:
    assert columns(write(tmp_path / "t.csv", "filename,path,caption\nx,y,z\n"))["paths"] == ["y"]


WRONG = {
    "no path column": ("id,text\n1,a\n", "columns: id, text"),
    "no text column": ("filepath,label\na.jpg,1\n", "no column of text beside filepath; columns: filepath, label"),
    "no rows": ("filepath,title\n", "a header but no rows"),
    "empty": ("", "cannot be read as a CSV"),
    "too many values": ("filepath,title\na.jpg,a, b\n", "cannot be read as a CSV"),
    "too many values later": ("filepath,title\na.jpg,a\nb.jpg,a, b\n", "cannot be read as a CSV"),
    "open quote": ('filepath,title\na.jpg,"a', "cannot be read as a CSV"),
}


@pytest.mark.parametrize(("text", "words"), WRONG.values(), ids=WRONG.keys())
def test_a_wrong_csv_is_an_error_that_says_what_was_expected(tmp_path: Path, text: str, words: str) -> None:
    with pytest.raises(DataError, match=words) as caught:
        read_captions(write(tmp_path / "t.csv", text))
    assert "filepath,title,title_multi_objects" in caught.value.hint


def test_other_encodings_missing_files_and_odd_splits_are_errors(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="is not UTF-8") as caught:
        read_captions(write(tmp_path / "t.csv", "filepath,title\na.jpg,é\n", "latin-1"))
    assert "save it as UTF-8" in caught.value.hint
    with pytest.raises(DataError, match="several columns called 'title'"):
        read_captions(write(tmp_path / "two.csv", "filepath,title,title\na.jpg,b,c\n"))
    with pytest.raises(DataError, match="does not exist"):
        read_captions(tmp_path / "nowhere.csv")
    with pytest.raises(UsageError):
        read_captions(tmp_path / "t.csv", "../outside")


def test_a_release_has_one_table_for_each_split(tmp_path: Path) -> None:
    val = write(tmp_path / "dataframe" / "SkyScript_val_5K.csv", "")
    train = write(tmp_path / "dataframe" / "SkyScript_train_top30pct.csv", "")
    assert release_tables(tmp_path) == [train, val]
    write(tmp_path / "dataframe" / "SkyScript_train_unfiltered_5M.csv", "")
    words = r"several tables for train: SkyScript_train_top30pct\.csv, SkyScript_train_unfiltered_5M\.csv"
    with pytest.raises(DataError, match=words) as caught:
        release_tables(tmp_path)
    assert "--captions FILE" in caught.value.hint


def test_a_release_without_tables_is_an_error(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="neither dataframe"):
        release_tables(tmp_path)
    with pytest.raises(DataError, match="not a folder"):
        release_tables(tmp_path / "nowhere")


@pytest.mark.parametrize("protocol", range(pickle.HIGHEST_PROTOCOL + 1))
def test_a_meta_of_every_protocol_is_read(protocol: int) -> None:
    values = {
        "box": (8.5, 47.3, 8.6, 47.4),
        "time": (2019, 7, 3, 10, 20),
        "center_tags": {"leisure": "marina", "levels": 3, "lit": True},
        "surrounding_tags": [{"natural": "water"}, {}, {"a": "b"}],
    }
    tags = {"leisure": "marina", "levels": "3", "lit": "True"}
    around = ({"natural": "water"}, {"a": "b"})
    assert read_meta(pickle.dumps(values, protocol)) == Meta((8.5, 47.3, 8.6, 47.4), "2019-07-03T10:20", tags, around)


@pytest.mark.parametrize(
    ("value", "expected"),
    [
        ((2019, 7, 3, 10, 20), "2019-07-03T10:20"),
        ([2019, 7, 3], "2019-07-03"),
        ((2019, 7), "2019-07"),
        (2019, "2019"),
        ((2019,), "2019"),
        (19, None),
        (True, None),
        ("2019", None),
        ((2019, 2, 30), None),
        ((2019, 13, 1), None),
        ((2019, 7, 3, 25, 0), None),
        ((2019.0, 7, 3), None),
        ((10**400, 1, 1), None),
        ((), None),
        ({}, None),
    ],
)
def test_each_form_of_time_is_iso_or_refused(value: Any, expected: str | None) -> None:
    assert time_of(value) == expected


@pytest.mark.parametrize(
    ("value", "expected"),
    [
        ((8, 47.0, 9.5, 48), (8.0, 47.0, 9.5, 48.0)),
        ([-180, -90, 180, 90], (-180.0, -90.0, 180.0, 90.0)),
        ((179.9, -17, -179.9, -16), (179.9, -17.0, -179.9, -16.0)),
        ((9, 47, 8, 48), None),
        ((8, 48, 9, 47), None),
        ((8, 47, 8, 48), None),
        ((8, 47, 9), None),
        ((8, 47, 9, 91), None),
        ((8, 47, 190, 48), None),
        ((8, 47, 9, float("nan")), None),
        ((8, 47, 9, 10**400), None),
        (("8", 47, 9, 48), None),
        ("8,47,9,48", None),
        (None, None),
    ],
)
def test_each_form_of_a_box_is_four_floats_or_refused(value: Any, expected: Any) -> None:
    assert box_of(value) == expected


def test_bbox_is_another_name_for_box_and_what_is_absent_is_no_problem() -> None:
    assert read_meta(pickle.dumps({"bbox": [1, 2, 3, 4]})) == Meta(box=(1.0, 2.0, 3.0, 4.0))
    assert read_meta(pickle.dumps({})) == Meta()


def test_what_is_out_of_range_is_named_and_the_rest_is_kept() -> None:
    meta = read_meta(pickle.dumps({"box": (1, 2), "time": 12, "center_tags": {"a": "b", "c": [1], "d": "\ud800"}}))
    assert meta == Meta(tags={"a": "b", "d": "?"}, problems=("bad box", "bad time"))


class Attack:
    """Leaves a file behind when a plain unpickler reads it."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def __reduce__(self) -> Any:
        return exec, (f"open({str(self.path)!r}, 'w').close()",)


def test_a_pickle_that_would_run_code_is_refused_and_does_not_run(tmp_path: Path) -> None:
    trap = tmp_path / "trap"
    data = pickle.dumps({"box": (1, 2, 3, 4), "time": Attack(trap)})
    assert read_meta(data) == Meta(problems=("refused meta",))
    assert not trap.exists()
    pickle.loads(data)
    assert trap.exists(), "the attack is one"


HOSTILE = {
    "a huge memo": b"\x80\x02Nr\xff\xff\xff\x7f.",
    "a huge memo in text": b"Np9999999999\n.",
    "a persistent id": b"\x80\x04\x8c\x01aQ.",
    "an extension": b"\x80\x02\x82\x01.",
    "endless tuples as a key": b"\x80\x02}N" + b"\x85" * 500_000 + b"Ns.",
    "too many bytes": pickle.dumps({"center_tags": {"a": "x" * MAX_META_BYTES}}),
    "a huge frame": b"\x80\x05\x96" + b"\xff" * 7 + b"\x7f.",
    "nothing": b"",
    "half a pickle": pickle.dumps({"box": (1.0, 2.0, 3.0, 4.0)})[:-9],
    "a page": b"<html></html>",
    "no dict": pickle.dumps([1, 2]),
    "an object": pickle.dumps(object()),
}


@pytest.mark.parametrize("data", HOSTILE.values(), ids=HOSTILE.keys())
def test_hostile_and_damaged_metadata_is_ignored(data: bytes) -> None:
    meta = read_meta(data)
    assert (meta.box, meta.time, meta.tags) == (None, None, {})
    assert meta.problems in (("refused meta",), ("damaged meta",))


def test_a_small_meta_cannot_expand_to_a_large_one() -> None:
    tags = {"k" * 300: "v" * 5000}
    data = pickle.dumps({"center_tags": {str(i): "x" for i in range(5000)}, "surrounding_tags": [tags] * 5000})
    meta = read_meta(data)
    assert len(meta.tags) == 1000
    assert len(meta.surrounding_tags) == 1000
