import json
import unicodedata
from pathlib import Path

import pyarrow as pa
import pytest

from dove_core.data.sample import MAX_KEY, Sample, clean_caption, clean_captions, key_of, source_of
from dove_core.data.sharding.caption_table import CaptionTable
from dove_core.errors import DataError


def naive_clean(text: str) -> str:
    gone = ("Cc", "Cs", "Zl", "Zp")
    plain = "".join(" " if unicodedata.category(c) in gone else c for c in unicodedata.normalize("NFC", text))
    return " ".join(plain.split())


def test_a_caption_is_cleaned_as_unicode_defines_it() -> None:
    every_odd = "a" + "b".join(map(chr, [*range(0xA1), 0x2028, 0x2029, 0xD800, 0xDFFF, 0x1F6F0, 0x200D])) + "e\u0301"
    assert clean_caption(every_odd) == naive_clean(every_odd)
    assert clean_caption("  a\n river\tbank\x00 ") == "a river bank"
    assert clean_caption("e\u0301tang") == "\u00e9tang"


def test_captions_without_a_letter_or_digit_are_dropped() -> None:
    assert clean_captions(["", ".", " \n", "\u2026!", "3", "机场"]) == ("3", "机场")


def test_a_key_has_only_letters_digits_dash_and_underscore() -> None:
    assert key_of("images2/a198234555_CH_19.jpg") == "a198234555_CH_19"
    assert key_of("a\\b\\my.file v2.png") == "my_file_v2"
    assert key_of("no_ending") == "no_ending"


def test_keys_of_other_scripts_and_long_names_stay_apart_and_fit_a_tar_header() -> None:
    names = ["机场_1.jpg", "港口_1.jpg", "x" * 200 + "1.jpg", "x" * 200 + "2.jpg"]
    keys = [key_of(name) for name in names]
    assert len(set(keys)) == 4
    assert all(key.isascii() and len(key) <= MAX_KEY for key in keys)


def test_the_source_comes_from_skyscripts_names_only() -> None:
    assert source_of("w12_S2_20") == ("S2", 10.0)
    assert source_of("w12_XX_20") == (None, None)
    assert source_of("airport_1") == (None, None)


def test_a_sample_survives_its_json_and_the_order_of_tags_does_not_matter() -> None:
    one = Sample("k", "p/k.jpg", {"t": ("a", "ü")}, (1.0, 2.0, 3.0, 4.0), "2019", "S2", 10.0, {"b": "1", "a": "2"})
    other = Sample("k", "p/k.jpg", {"t": ("a", "ü")}, (1.0, 2.0, 3.0, 4.0), "2019", "S2", 10.0, {"a": "2", "b": "1"})
    assert Sample.from_json(one.to_json()) == one
    assert one.to_json() == other.to_json()


def test_json_of_other_tools_is_read_if_it_has_key_and_captions() -> None:
    sample = Sample.from_json(json.dumps({"key": "k", "captions": {"t": ["a"]}, "width": 3}).encode())
    assert (sample.path, sample.box, sample.captions) == ("k", None, {"t": ("a",)})


@pytest.mark.parametrize("data", [b"", b"[]", b"\xff", b'{"key": "k"}', b'{"key": "k", "captions": []}'])
def test_a_damaged_json_is_an_error_with_a_hint(data: bytes) -> None:
    with pytest.raises(DataError) as caught:
        Sample.from_json(data)
    assert "dove shard" in caught.value.hint


def test_the_keys_of_a_table_are_those_of_its_paths() -> None:
    names = ["images2/a1_CH_19.jpg", "my.file v2.png", "a\\b\\c.jpg", "no_ending", "机场.v1.jpg", "x" * 95 + ".jpg"]
    names += ["x" * 96 + ".jpg", ".hidden", "dir.d/name", "line\nbreak/one\ntwo.jpg", "", "é.é.jpg", "a/"]
    table = CaptionTable(Path("t.csv"), "train", pa.array(names, pa.large_string()), {})
    assert table.keys().to_pylist() == list(map(key_of, names))
