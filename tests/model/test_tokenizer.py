"""Words to token numbers."""

from __future__ import annotations

from dove_core.model.tokenizer import UNKNOWN, Tokenizer, split_words
from dove_core.model.tokens import padded

CAPTIONS = ["Airport of runway, surrounded by grass.", "a runway; a ROAD", "natural=water_way"]


def test_words_are_split_at_everything_but_letters_and_digits():
    assert split_words("Airport of runway, surrounded-by landuse_grass!") == [
        "airport", "of", "runway", "surrounded", "by", "landuse", "grass",
    ]  # fmt: skip
    assert split_words("it's 12 m² ﬁne — café") == ["it's", "12", "m2", "fine", "café"]
    assert split_words(" .,;  ") == []


def test_the_vocabulary_has_frequent_words_first_and_does_not_depend_on_the_order_of_captions():
    one, other = (Tokenizer.learn(texts, min_count=1, max_tokens=9) for texts in (CAPTIONS, CAPTIONS[::-1]))
    assert one.words == other.words
    assert one.words[:2] == ("a", "runway")
    assert len(one) == len(one.words) + 2


def test_rare_words_are_left_out_and_unknown_words_are_listed():
    tokenizer = Tokenizer.learn(CAPTIONS, min_count=2, max_tokens=9)
    assert tokenizer.words == ("a", "runway")
    assert tokenizer.encode("a road") == [2, UNKNOWN]
    assert tokenizer.unknown_words("a big runway, a big road") == ["big", "road"]


def test_a_text_without_words_becomes_one_unknown_word():
    assert Tokenizer(["a"], 9).encode("...") == [UNKNOWN]


def test_a_batch_is_padded_to_its_longest_text_and_truncated_at_the_limit():
    tokenizer = Tokenizer(["a", "b"], 3)
    tokens, lengths = padded([tokenizer.encode(text) for text in ("a", "a b a b", "b a")])
    assert tokens.tolist() == [[2, 0, 0], [2, 3, 2], [3, 2, 0]]
    assert lengths.tolist() == [1, 3, 2]
