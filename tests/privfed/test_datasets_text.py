import os
from pathlib import Path

import pytest
import torch

from privfed.dataset import of_text
from privfed.datasets import DatasetError, load
from privfed.text_files import REVIEW_FILES, Text, encode

DATA = Path(os.environ.get("PRIVFED_TEST_DATA") or Path(__file__).parents[3] / "shared/data")
"""Where the benchmark's files lie; the sibling folder shared/data of the repository if not set."""


def reviews(folder: Path, extra: str = "") -> None:
    folder.mkdir(parents=True, exist_ok=True)
    for name, word in zip(REVIEW_FILES, ("bad", "good"), strict=True):
        (folder / name).write_text(f"a {word} film .\n{word} !\n{extra}", encoding="utf-8")


def text(tokens: list[list[str]], labels: list[int], **changes: object) -> Text:
    numbers, vocabulary = encode(tokens, 3)
    parts = {"users": None, "user_names": (), "embedding": None} | changes
    return Text(numbers, torch.tensor(labels).numpy(), ("no", "yes"), vocabulary, **parts)  # type: ignore[arg-type]


@pytest.mark.skipif(
    not (DATA / REVIEW_FILES[0]).is_file(), reason=f"rt-polarity files are absent (PRIVFED_TEST_DATA, {DATA})"
)
def test_the_real_reviews() -> None:
    dataset = load(f"reviews:{DATA}")
    inputs = dataset.records.inputs
    assert inputs.shape == (10_662, 24)
    assert inputs.dtype == torch.int64
    assert dataset.records.labels.bincount().tolist() == [5331, 5331]
    assert len(inputs.unique(dim=0)) == 10_662
    assert len(dataset.vocabulary) == 1 + int(inputs.unique().max()) == 21_425
    last = [dataset.vocabulary[k] for k in inputs[-1] if k]
    assert last[:4] == ["provides", "a", "porthole", "into"]
    assert abs((inputs[:, -1] == 0).float().mean() - 0.63) < 0.02, "most sentences end before the 24th token"


@pytest.mark.parametrize("below", ["", "data", "shared/data"])
def test_plain_reviews_are_looked_for(tmp_path: Path, below: str) -> None:
    reviews(tmp_path / below)
    found = load("reviews", tmp_path)
    assert found.modality == "text"
    assert found.users is None
    assert found.embedding is None
    assert found.sha256 == load(f"reviews:{below or '.'}", tmp_path).sha256


def test_absent_reviews_name_the_files_and_places(tmp_path: Path) -> None:
    with pytest.raises(DatasetError, match=r"rt-polarity.neg and rt-polarity.pos .*shared/data, or reviews:"):
        load("reviews", tmp_path)
    with pytest.raises(DatasetError, match=r"one sentence a line, got file=.*none.*rt-polarity.neg"):
        load("reviews:none", tmp_path)


def test_text_needs_two_of_every_class_too(tmp_path: Path) -> None:
    (tmp_path / REVIEW_FILES[0]).write_text("a\nb\n", encoding="utf-8")
    (tmp_path / REVIEW_FILES[1]).write_text("c\n", encoding="utf-8")
    with pytest.raises(DatasetError, match=r"at least two records of every class, .* 1 of class 1 in 3"):
        load("reviews:.", tmp_path)


def test_content_decides_the_digest_of_text(tmp_path: Path) -> None:
    sentences, labels = [["a"], ["b"], ["c"], ["d"]], [0, 0, 1, 1]
    owners = torch.tensor([0, 1, 0, 1]).numpy()
    variants = [
        text(sentences, labels),
        text(sentences, [0, 1, 1, 0]),
        text([["a"], ["b"], ["c"], ["e"]], labels),
        text(sentences, labels, users=owners),
        text(sentences, labels, users=owners[::-1].copy()),
        text(sentences, labels, embedding=torch.zeros(5, 2)),
    ]
    digests = [of_text("x", variant).sha256 for variant in variants]
    assert len(set(digests)) == len(digests)
    assert of_text("another name", variants[0]).sha256 == digests[0]


def test_images_have_no_words_and_digits_no_users() -> None:
    digits = load("digits")
    assert digits.modality == "images"
    assert digits.users is None
    assert digits.user_names == digits.vocabulary == ()


def test_sentiment_by_name() -> None:
    default, few = load("sentiment"), load("sentiment:2")
    assert default.records.inputs.shape == (4800, 12)
    assert default.name == "sentiment"
    assert few.name == "sentiment:2"
    assert few.users is not None
    assert few.users.bincount().tolist() == [120, 120]
    assert torch.equal(few.records.inputs, default.records.inputs[:240])


@pytest.mark.parametrize("users", ["0", "-1", "x", "1.5", "10001", "0000000012", "9" * 30, "\u0663"])
def test_a_number_of_users_that_is_none(users: str) -> None:
    with pytest.raises(DatasetError, match=r"whole number of users in 1..10000, got source='sentiment:"):
        load(f"sentiment:{users}")
