"""Words outside the vocabulary: read as others by number, spelling and hyphens, or with suggestions."""

from __future__ import annotations

import pytest

from dove_core.model.tokenizer import UNKNOWN, Tokenizer, split_words

WORDS = (
    "airport", "runway", "harbour", "storage", "tank", "beach", "river", "church", "centre", "grey", "parking", "lot",
    "air", "house", "factory", "wharf", "cafe", "people", "stadium", "lots", "parkinglot",
)  # fmt: skip


@pytest.fixture(scope="module")
def tokenizer() -> Tokenizer:
    return Tokenizer(WORDS, 8)


@pytest.mark.parametrize(
    ("text", "read"),
    [
        ("airports", "airport"),
        ("storage tanks", "storage tank"),
        ("beaches", "beach"),
        ("factories", "factory"),
        ("wharves", "wharf"),
        ("person", "people"),
        ("stadia", "stadium"),
        ("harbor", "harbour"),
        ("harbors", "harbour"),
        ("center", "centre"),
        ("gray houses", "grey house"),
        ("runway's", "runway"),
        ("runway’s", "runway"),
        ("air-port", "airport"),
        ("air_ports", "airport"),
        ("parking lot", "parking lot"),  # both are known
        ("air port", "airport"),
        ("store-house", "store house"),
        ("storagetanks", "storage tank"),
        ("aiport", "airport"),
        ("riever", "river"),
        ("café", "cafe"),
        ("aero\u00adair\u200bport", "aeroairport"),
        ("parking-lot", "parking lot"),  # known apart, and more frequent than together
        ("空港 runway", "空港 runway"),
        ("zeppelin", "zeppelin"),
    ],
)
def test_a_word_is_read_as_a_known_one_of_another_form(tokenizer, text, read):
    assert " ".join(tokenizer.read(text)) == read


def test_forms_of_a_word_are_one_word_of_a_vocabulary_that_is_learned():
    captions = ["two planes", "many planes", "a plane", "the harbour", "a harbor in grey", "four for its glass"]
    learned = Tokenizer.learn(captions, min_count=1, max_tokens=9)
    assert set(learned.words) == {
        "two", "planes", "many", "a", "the", "harbor", "in", "grey", "four", "for", "its", "glass",
    }  # fmt: skip
    assert learned.encode("plane") == learned.encode("planes")
    assert learned.encode("harbours") == learned.encode("harbor")
    assert Tokenizer.learn(captions, min_count=3, max_tokens=9).words == ("planes",)


def test_a_known_word_stands_for_itself(tokenizer):
    for word in WORDS:
        assert tokenizer.read(word) == [word]
        assert not any(piece.is_other for piece in tokenizer.readings(word))


def test_a_short_or_quite_different_word_is_not_taken_for_another(tokenizer):
    for word in ("bank", "rover", "leach", "airhorn", "x", "机场", "tonk"):
        assert tokenizer.unknown_words(word) == [word]
        assert tokenizer.encode(word) == [UNKNOWN]


def test_words_that_resemble_an_unknown_one_are_suggested(tokenizer):
    assert tokenizer.suggestions("rover") == ["river"]
    assert tokenizer.suggestions("harbouring") == ["harbour"]
    assert tokenizer.suggestions("stadion") == ["stadium"]
    assert tokenizer.suggestions("zeppelin") == []


def test_numbers_are_those_of_the_words_that_are_read(tokenizer):
    assert tokenizer.encode("harbors, airports") == tokenizer.encode("harbour airport")


def test_unknown_words_do_not_take_the_place_of_known_ones(tokenizer):
    assert tokenizer.read("qqq " * 8 + "airports") == ["airport"]
    assert tokenizer.read("qqq airport") == ["qqq", "airport"]
    assert len(tokenizer.read("airport " * 20)) == 8


@pytest.mark.parametrize("text", ["a" * 100_000, "ab " * 30_000, "-" * 50_000, "é" * 5_000 + "-" + "x" * 5_000])
def test_a_long_text_is_read_in_a_moment(tokenizer, text):
    tokenizer.suggestions(split_words(text)[0] if split_words(text) else "x")
    assert len(tokenizer.read(text)) <= 8
