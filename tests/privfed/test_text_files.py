from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from privfed import text_files
from privfed.data_files import DatasetError
from privfed.text_files import REVIEW_FILES, distinct, encode, read_reviews, split_review, split_tweet

SENTENCES = st.lists(st.lists(st.sampled_from("abcdef"), min_size=1, max_size=7), min_size=1, max_size=12)
ROWS = st.lists(st.tuples(st.integers(0, 2), st.integers(0, 2), st.integers(0, 1)), max_size=25)


def reviews(folder: Path, negative: str, positive: str) -> Path:
    for name, content in zip(REVIEW_FILES, (negative, positive), strict=True):
        (folder / name).write_bytes(content.encode())
    return folder


@given(SENTENCES, st.integers(1, 8))
def test_encoding_can_be_read_back_up_to_its_length(sentences: list[list[str]], length: int) -> None:
    tokens, vocabulary = encode(sentences, length)
    assert tokens.shape == (len(sentences), length)
    assert list(vocabulary) == ["", *sorted({w for s in sentences for w in s})]
    for row, sentence in zip(tokens, sentences, strict=True):
        assert [vocabulary[k] for k in row if k] == sentence[:length]
        assert not row[len(sentence) :].any()


def test_the_numbering_does_not_depend_on_the_length() -> None:
    sentences = [["z", "a", "m"], ["b"]]
    assert encode(sentences, 1)[1] == encode(sentences, 9)[1]


@given(ROWS)
def test_distinct_equals_its_naive_twin(rows: list[tuple[int, int, int]]) -> None:
    tokens = np.asarray([row[:2] for row in rows], dtype=np.int64).reshape(-1, 2)
    labels = np.asarray([row[2] for row in rows], dtype=np.int64)
    expected = [
        k
        for k, (*words, label) in enumerate(rows)
        if any(words)
        and list(words) not in tokens[:k].tolist()
        and all(other == label for *same, other in rows if same == words)
    ]
    assert distinct(tokens, labels).tolist() == expected


def test_words_are_split_as_the_sources_write_them() -> None:
    assert split_review("It's  Too-Tepid , no ?\r") == ["it's", "too-tepid", ",", "no", "?"]
    assert split_tweet("Don't STOP... @Me") == ["don't", "stop", ".", ".", ".", "@me"]
    assert split_tweet("  ") == []


def test_reviews_are_negative_first_and_hold_no_sentence_twice(tmp_path: Path) -> None:
    reviews(tmp_path, "Bad film .\n\nbad  FILM .\nodd\nso so\n", "good film .\nodd\ngreat\n")
    text = read_reviews(tmp_path, length=4)
    words = [[text.vocabulary[k] for k in row if k] for row in text.tokens]
    assert words == [["bad", "film", "."], ["so", "so"], ["good", "film", "."], ["great"]]
    assert text.labels.tolist() == [0, 0, 1, 1]
    assert text.classes == ("negative", "positive")
    assert "odd" in text.vocabulary, "the numbering covers what was dropped, too"


def test_sentences_that_a_net_could_not_tell_apart_are_one(tmp_path: Path) -> None:
    reviews(tmp_path, "a b c\na b d\n", "e f\n")
    assert len(read_reviews(tmp_path, length=3).tokens) == 3
    assert len(read_reviews(tmp_path, length=2).tokens) == 2


def test_only_line_feeds_end_a_sentence(tmp_path: Path) -> None:
    reviews(tmp_path, "one\x85two\u2028three\r\nfour\n", "five\n")
    assert [int(n) for n in (read_reviews(tmp_path).tokens > 0).sum(1)] == [3, 1, 1]


def test_reviews_that_cannot_be_read(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(DatasetError, match=r"UTF-8 file with one sentence a line, got file=.*neg .*No such"):
        read_reviews(tmp_path)
    reviews(tmp_path, "a\n", "b\n")
    (tmp_path / REVIEW_FILES[1]).write_bytes("caf\u00e9".encode("latin-1"))
    with pytest.raises(DatasetError, match=r"UTF-8 file .*got file=.*pos .*can't decode"):
        read_reviews(tmp_path)
    monkeypatch.setattr(text_files, "MAX_BYTES", 1)
    with pytest.raises(DatasetError, match="it has 2 bytes, more than 1") as caught:
        read_reviews(tmp_path)
    assert "\n" not in str(caught.value)
