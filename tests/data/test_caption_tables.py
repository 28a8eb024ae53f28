"""Tables of captions as people have them: separators, encodings, columns, splits, printed lists."""

import os
import re
import zipfile
from pathlib import Path
from typing import Any

import pytest

from dove_core.data.caption_forms import caption_columns, texts_of
from dove_core.data.sharding.caption_files import read_captions
from dove_core.data.sharding.shards import shard_captions
from dove_core.data.splits import split_in
from dove_core.errors import DataError, UsageError
from dove_core.events import Event, Noted, Skipped
from tests.data.releases import LENIENT, image, table_of


def write(path: Path, text: str, encoding: str = "utf-8") -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(text.encode(encoding))
    return path


def captions(file: Path, split: str | None = None) -> dict[str, Any]:
    (table,) = read_captions(file, split)
    fields = {name: lists.to_pylist() for name, lists in table.fields.items()}
    return {"paths": table.paths.to_pylist(), **fields}


def pictures(folder: Path, *names: str) -> Path:
    for number, name in enumerate(names):
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_bytes(image(number))
    return folder


SPLITS = {
    "SkyScript_train_top30pct_filtered_by_CLIP_openai.csv": "train",
    "SkyScript_val_5K_filtered_by_CLIP_openai.csv": "val",
    "RSICD_img_txt_pairs_test.csv": "test",
    "Val.csv": "val", "my-test.csv": "test", "TRAIN.csv": "train", "valid.csv": "val", "validation.csv": "val",
    "dev.csv": "val", "eval.csv": "val", "val2014.csv": "val",
    "trn.csv": "train", "tst.csv": "test", "minival.json": "val",
    "test2017.csv": "test", "rsicd test.csv": "test",
    "test(1).csv": "test", "RSICDtest.csv": "test", "rsicdTEST.csv": "test", "TestSet.csv": "test", "testA.csv": "test",
    "trainval.csv": "train", "test/captions.csv": "test", "rsicd_val/captions.csv": "val", "val2014/c.json": "val",
    "valid-00000-of-00001.parquet": "val", "数据test.csv": "test", "RSICD_Validation_Set.tsv": "val",
    "contest_valley_trains.csv": "", "captions.csv": "", "latest.csv": "", "Valley.csv": "", "devices.csv": "",
    "restrain.csv": "", "test_of_mine/captions.csv": "", "contest/captions.csv": "",
}  # fmt: skip


@pytest.mark.parametrize(("name", "split"), SPLITS.items())
def test_the_split_is_a_word_of_the_files_or_of_the_folders_name(name: str, split: str) -> None:
    assert split_in(name) == split


def test_a_name_without_a_split_is_train_and_that_is_said(tmp_path: Path) -> None:
    events: list[Event] = []
    file = write(tmp_path / "mine.csv", "filepath,title\na.jpg,pier\n")
    assert read_captions(file, None, events.append)[0].split == "train"
    assert any(isinstance(e, Noted) and "taken as train; choose another with --split" in e.message for e in events)
    assert read_captions(write(tmp_path / "eval" / "mine.csv", "filepath,title\na.jpg,pier\n"))[0].split == "val"


TEXTS = ["two, or three", 'a "quoted"\nline', "机场; and | more", "tab\there"]


def table_text(separator: str, end: str = "\n") -> str:
    quoted = [f'"{text.replace(chr(34), chr(34) * 2)}"' for text in TEXTS]
    lines = [separator.join(["file_name", "caption"])] + [f"{k}.jpg{separator}{text}" for k, text in enumerate(quoted)]
    return end.join(lines) + end


@pytest.mark.parametrize("separator", [",", "\t", ";", "|"])
@pytest.mark.parametrize("encoding", ["utf-8", "utf-8-sig", "utf-16", "utf-16-le", "utf-16-be"])
@pytest.mark.parametrize("end", ["\n", "\r\n", "\r"])
def test_each_separator_encoding_and_end_of_line_is_read(
    tmp_path: Path, separator: str, encoding: str, end: str
) -> None:
    file = write(tmp_path / "t_test.csv", table_text(separator, end), encoding)
    assert captions(file) == {"paths": [f"{k}.jpg" for k in range(4)], "caption": [[text] for text in TEXTS]}


@pytest.mark.parametrize("ending", [".tsv", ".tab", ".txt", ".psv", ".TSV"])
def test_the_separator_is_in_the_header_whatever_the_ending(tmp_path: Path, ending: str) -> None:
    assert captions(write(tmp_path / f"t_val{ending}", table_text("\t")))["paths"][0] == "0.jpg"


def test_excels_sep_line_and_flickrs_blanks_are_read(tmp_path: Path) -> None:
    assert captions(write(tmp_path / "a.csv", "sep=;\r\n" + table_text(";"), "utf-8-sig"))["caption"][0] == [TEXTS[0]]
    file = write(tmp_path / "b.csv", "image_name| comment_number| comment\na.jpg| 0| a lake .\na.jpg | 1| a pond .\n")
    assert captions(file) == {"paths": ["a.jpg", "a.jpg"], "caption": [["a lake ."], ["a pond ."]]}


def test_other_encodings_no_header_and_spreadsheets_are_errors_with_advice(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="is not UTF-8") as caught:
        read_captions(write(tmp_path / "t.csv", "filepath,title\na.jpg,机场\n", "gb18030"))
    assert "iconv" in caught.value.hint
    with pytest.raises(DataError, match="has no header"):
        read_captions(write(tmp_path / "t.csv", "a.jpg,a lake\nb.jpg,a pond\n"))
    (tmp_path / "t.xlsx").write_bytes(b"PK\x03\x04" + b"\0" * 30)
    with pytest.raises(DataError, match=r"t\.xlsx is a zip"):
        read_captions(tmp_path / "t.xlsx")
    (tmp_path / "t.csv").write_bytes(b"\x1f\x8b" + b"\0" * 30)
    with pytest.raises(DataError, match="is compressed by gzip"):
        read_captions(tmp_path / "t.csv")


PRINTED = {
    "plain": ("a lake", ["a lake"]),
    "Python's": ("['a lake', 'a pond']", ["a lake", "a pond"]),
    "with an apostrophe": ("""["it's a lake", 'a pond']""", ["it's a lake", "a pond"]),
    "JSON": ('["a lake", "\\u00e9"]', ["a lake", "é"]),
    "numpy's": ("['a lake' 'a pond'\n 'a sea']", ["a lake", "a pond", "a sea"]),
    "numpy's repr": ("array(['a lake', 'a pond'], dtype=object)", ["a lake", "a pond"]),
    "a tuple": ("('a lake', 'a pond')", ["a lake", "a pond"]),
    "sentences": ("[{'raw': 'a lake', 'tokens': ['a', 'lake']}, {'raw': None}]", ["a lake", ""]),
    "lists in a list": ("[['a lake'], ['a pond']]", ["a lake", "a pond"]),
    "with a missing one": ("['a lake', None, nan]", ["a lake", "", ""]),
    "an empty one": ("[]", [""]),
    "brackets in a text": ("[aerial] a lake (large)", ["[aerial] a lake (large)"]),
    "brackets around words": ("(a lake)", ["(a lake)"]),
    "a list that is cut": ("['a lake', 'a po", ["['a lake', 'a po"]),
    "code": ("[__import__('os').getcwd()]", ["[__import__('os').getcwd()]"]),
}


@pytest.mark.parametrize(("text", "expected"), PRINTED.values(), ids=PRINTED.keys())
def test_a_printed_list_is_that_list_and_any_other_text_itself(text: str, expected: list[str]) -> None:
    assert texts_of(text) == expected


@pytest.mark.parametrize("printed", [False, True])
def test_nesting_has_an_end(printed: bool) -> None:
    deep: Any = "x"
    for _ in range(50):
        deep = [deep]
    assert texts_of(str(deep) if printed else deep) == [""]


COLUMNS: list[tuple[list[str], dict[str, tuple[str, ...]]]] = [
    (["caption_10", "caption_2", "caption", "source"], {"caption": ("caption", "caption_2", "caption_10")}),
    (["Captions"], {"caption": ("Captions",)}),
    (["sentences", "sentids", "imgid"], {"caption": ("sentences",)}),
    (["text", "text_id", "url"], {"caption": ("text",)}),
    (["caption", "text"], {"caption": ("caption",), "text": ("text",)}),
    (["title", "title_multi_objects"], {"title": ("title",), "title_multi_objects": ("title_multi_objects",)}),
    (["caption_en", "caption_de", "caption_id"], {"caption_en": ("caption_en",), "caption_de": ("caption_de",)}),
    (["comment", "comment_number"], {"caption": ("comment",)}),
    (["label", "source"], {}),
]


@pytest.mark.parametrize(("names", "fields"), COLUMNS, ids=lambda value: str(value)[:30])
def test_captions_are_known_by_the_names_of_their_columns(names: list[str], fields: dict[str, Any]) -> None:
    assert caption_columns(names) == fields


def test_other_columns_are_not_captions_and_that_is_said(tmp_path: Path) -> None:
    events: list[Event] = []
    text = "id,file_name,caption_0,caption_1,label,source,url\n1,a.jpg,a lake,,lake,google,http://x\n"
    (table,) = read_captions(write(tmp_path / "t_val.csv", text), None, events.append)
    assert {name: lists.to_pylist() for name, lists in table.fields.items()} == {
        "caption": [["a lake", ""]], "label": [["lake"]]
    }  # fmt: skip
    (note,) = [event.message for event in events if isinstance(event, Noted)]
    assert note.endswith("captions from caption_0, caption_1, label; not read: id, source, url")


def test_an_empty_column_of_captions_is_not_replaced_by_another(tmp_path: Path) -> None:
    file = write(tmp_path / "t.csv", "filename,caption,source\na.jpg,,google\nb.jpg,nan,bing\n")
    with pytest.raises(DataError, match=r"no row .* can be used: 2 no caption") as caught:
        shard_captions(file, pictures(tmp_path / "i", "a.jpg", "b.jpg"), tmp_path / "out", LENIENT)
    assert caught.value.hint == "captions are read from caption: all are empty"


def test_the_path_is_where_the_names_of_images_are(tmp_path: Path) -> None:
    text = "image,filename,captions\n\"{'bytes': b'\\xff', 'path': None}\",rsicd/a.jpg,\"['a lake', 'a pond']\"\n"
    assert captions(write(tmp_path / "a.csv", text)) == {"paths": ["rsicd/a.jpg"], "caption": [["a lake", "a pond"]]}
    text = "filepath,filename,caption\ntrain/A,a.jpg,a lake\ntrain/B,a.jpg,a pond\n"
    (table,) = read_captions(write(tmp_path / "b.csv", text))
    assert (table.paths.to_pylist(), table.names.to_pylist()) == (["train/A/a.jpg", "train/B/a.jpg"], ["a.jpg"] * 2)
    assert captions(write(tmp_path / "c.csv", "image_id,caption\na.jpg,a lake\n"))["paths"] == ["a.jpg"]


def test_a_column_of_splits_divides_the_table(tmp_path: Path) -> None:
    values = ["train", "Train", "validation", "dev", "TEST", "test", "test", " "]
    text = "filename,caption,split\n" + "".join(f"{k}.jpg,lake {k},{split}\n" for k, split in enumerate(values))
    file, events = write(tmp_path / "all.csv", text), list[Event]()
    tables = read_captions(file, None, events.append)
    assert {table.split: table.paths.to_pylist() for table in tables} == {
        "train": ["0.jpg", "1.jpg"], "val": ["2.jpg", "3.jpg"], "test": ["4.jpg", "5.jpg", "6.jpg"]
    }  # fmt: skip
    assert all(set(table.fields) == {"caption"} for table in tables)
    assert [(e.reason, e.count, e.example) for e in events if isinstance(e, Skipped)] == [
        ("row without a split", 1, "7.jpg")
    ]
    assert any(isinstance(e, Noted) and "rows of each split: train 2, val 2, test 3" in e.message for e in events)
    assert captions(file, "valid")["paths"] == ["2.jpg", "3.jpg"]
    with pytest.raises(DataError, match="no row of split holdout; rows of each split: train 2, val 2, test 3"):
        read_captions(file, "holdout")


def test_own_names_of_splits_are_kept_and_may_be_overruled(tmp_path: Path) -> None:
    file = write(tmp_path / "t.csv", "filename,caption,split\na.jpg,a lake,fold 1\nb.jpg,a pond,fold 2\n")
    assert [table.split for table in read_captions(file)] == ["fold_1", "fold_2"]
    assert captions(file, "train")["paths"] == ["a.jpg", "b.jpg"]
    many = "filename,caption,split\n" + "".join(f"{k}.jpg,a lake,part {k}\n" for k in range(30))
    with pytest.raises(DataError, match="names 30 splits, such as part 0"):
        read_captions(write(tmp_path / "many.csv", many))


def test_a_set_that_is_no_split_is_a_text(tmp_path: Path) -> None:
    file = write(tmp_path / "t.csv", "filename,set\na.jpg,a tea set\nb.jpg,train\n")
    assert captions(file) == {"paths": ["a.jpg", "b.jpg"], "set": [["a tea set"], ["train"]]}
    file = write(tmp_path / "t.csv", "filename,set,caption\na.jpg,val,a lake\nb.jpg,train,a pond\n")
    assert [table.split for table in read_captions(file)] == ["train", "val"]


def test_rows_of_separators_alone_are_counted_and_no_images(tmp_path: Path) -> None:
    file, events = write(tmp_path / "t_test.csv", "filename,caption\na.jpg,a lake\n,\n,\n"), list[Event]()
    (manifest,) = shard_captions(file, pictures(tmp_path / "i", "a.jpg"), tmp_path / "out", report=events.append)
    assert (manifest.samples, manifest.rows) == (1, 1)
    assert [(e.reason, e.count) for e in events if isinstance(e, Skipped)] == [("empty row", 2)]


def test_shards_of_another_table_are_replaced_only_if_that_is_said(tmp_path: Path) -> None:
    images = pictures(tmp_path / "i", "a.jpg", "b.jpg")
    first = write(tmp_path / "one.csv", "filename,caption\na.jpg,a lake\n")
    second = write(tmp_path / "two.csv", "filename,caption\nb.jpg,a pond\n")
    shard_captions(first, images, tmp_path / "out", LENIENT)
    before = {path: path.read_bytes() for path in (tmp_path / "out").rglob("*.*")}
    with pytest.raises(UsageError, match=r"has shards made from one\.csv, which shards of two\.csv would") as caught:
        shard_captions(second, images, tmp_path / "out", LENIENT)
    assert all(word in caught.value.hint for word in ("--split", "--name", "--overwrite"))
    assert {path: path.read_bytes() for path in (tmp_path / "out").rglob("*.*")} == before
    shard_captions(second, images, tmp_path / "out", LENIENT, split="val")
    (manifest,) = shard_captions(second, images, tmp_path / "out", LENIENT, overwrite=True)
    assert [row["path"] for row in table_of(tmp_path / "out" / "train")] == ["b.jpg"]
    assert shard_captions(second, images, tmp_path / "out", LENIENT) == [manifest]


LOOSE = ["x.jpg", "x.JPG", "X.jpg", "x", "x.tif", "d/x.png", "D/X.jpeg", "../i/d/x.jpg", "/data/i/d/x.jpg"]


@pytest.mark.parametrize("path", LOOSE)
def test_an_image_is_found_under_another_ending_or_in_other_capitals(tmp_path: Path, path: str) -> None:
    images, events = pictures(tmp_path / "i", "d/x.jpeg", "d/y.jpg"), list[Event]()
    file = write(tmp_path / "t_val.csv", f"filename,caption\n{path},a lake\n")
    (manifest,) = shard_captions(file, images, tmp_path / "out", LENIENT, report=events.append)
    assert manifest.samples == 1
    notes = [event.message for event in events if isinstance(event, Noted)]
    message = "val: 1 images have another ending or other capital letters than in t_val.csv, such as i/d/x.jpeg"
    assert notes == [f"{message} for {path}"]


def test_an_exact_name_goes_first_and_two_others_are_one_too_many(tmp_path: Path) -> None:
    images = pictures(tmp_path / "i", "x.jpg", "x.png", "y.jpg", "y.png")
    file = write(tmp_path / "t_val.csv", "filename,caption\nx.png,a lake\ny.tif,a pond\n")
    (manifest,) = shard_captions(file, images, tmp_path / "out", LENIENT)
    rows = {row["path"]: row for row in table_of(tmp_path / "out" / "val")}
    assert manifest.counts["ok"] == manifest.counts["missing picture"] == 1
    assert re.search("2 files fit 'y.tif': i/y.jpg, i/y.png", rows["y.tif"]["error"])


def test_a_name_without_its_folder_is_the_last_resort(tmp_path: Path) -> None:
    images = pictures(tmp_path / "i", "a.jpg", "train/b.jpg", "val/b.jpg")
    text = "filepath,filename,caption\nval2014,a.jpg,a lake\nval,b.jpg,a pond\nelsewhere,b.jpg,a sea\n"
    shard_captions(write(tmp_path / "t_val.csv", text), images, tmp_path / "out", LENIENT)
    rows = {row["path"]: row["status"] for row in table_of(tmp_path / "out" / "val")}
    assert rows == {"val2014/a.jpg": "ok", "val/b.jpg": "ok", "elsewhere/b.jpg": "missing picture"}


@pytest.mark.parametrize("packed", [True, False])
@pytest.mark.parametrize("encoding", ["gb18030", "shift_jis", "cp1251", "utf-8"])
def test_names_in_old_encodings_are_found(tmp_path: Path, packed: bool, encoding: str) -> None:
    name = {"cp1251": "мост_0.jpg"}.get(encoding, "空港_0.jpg")
    raw, folder = name.encode(encoding), tmp_path / "i"
    if packed:
        with zipfile.ZipFile(tmp_path / "i.zip", "w") as archive:
            archive.writestr("?" * len(raw), image(1))
        data = (tmp_path / "i.zip").read_bytes().replace(b"?" * len(raw), raw)
        (tmp_path / "i.zip").write_bytes(data)
    else:
        folder.mkdir()
        with open(os.fsencode(folder) + b"/" + raw, "wb") as stream:  # noqa: PTH123  # a path of bytes
            stream.write(image(1))
    file = write(tmp_path / "t_val.csv", f"filename,caption\n{name},a bridge\n")
    (manifest,) = shard_captions(file, tmp_path / "i.zip" if packed else folder, tmp_path / "out", LENIENT)
    assert manifest.samples == 1
