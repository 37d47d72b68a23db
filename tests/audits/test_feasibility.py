"""A plan against its data: what does not fit is refused in one line, with the line it stands in."""

from __future__ import annotations

import re
from dataclasses import replace

import pytest

from audits.document import DocumentError, load_document
from audits.feasibility import check
from audits.plan import Plan, ReadyPlan, ready
from privfed.datasets import Dataset, load
from tests.audits import tiny

FEDDGM = "pipeline: feddgm\n    options: {rounds: 1}\n  - id: second\n    title: Second\n    pipeline: fedavg"
AUGMENTED = "batch: 16, lr: 0.1, dsa: {families: [crop]}}"
WORDS = "words: {dimension: 4}\nnets:"
PRIOR = "{minimum: 2}\n    prior: {widths: [8]}"


@pytest.fixture(scope="module")
def sentences() -> Dataset:
    return load("sentiment:12")


@pytest.fixture(scope="module")
def digits() -> Dataset:
    return load("digits")


def read(text: str, old: str = "", new: str = "") -> ReadyPlan:
    assert old in text
    return ready(load_document(text.replace(old, new, 1), Plan, "plan.yaml"))


def without_table(dataset: Dataset) -> Dataset:
    """The same sentences from a source that brings no embedding."""
    return replace(dataset, embedding=None)


def test_what_fits_is_let_through(sentences: Dataset, digits: Dataset) -> None:
    check(read(tiny.PLAN), digits, 3)
    check(read(tiny.TEXT), sentences, 3)
    check(read(tiny.TEXT), without_table(sentences), 3)
    check(read(tiny.TEXT, "nets:", WORDS), without_table(sentences), 3)


@pytest.mark.parametrize(
    ("old", "new", "message"),
    [
        (
            "{family: lstm, hidden: [6, 4]}",
            "{family: mlp, hidden: [6]}",
            "plan.yaml:10: nets.surrogate.family: expected family to be one of lstm for text, got",
        ),
        ("nets:", WORDS, "plan.yaml:9: words: expected no words for text with an embedding of its own, got"),
        (
            "{minimum: 2}",
            PRIOR,
            "plan.yaml:22: settings[0].prior: expected no prior for text, since it is an",
        ),
        (
            "batch: 16, lr: 0.1}",
            AUGMENTED,
            "plan.yaml:28: arms[0].options.local.dsa: expected no augmentation of text, got local.dsa",
        ),
        ("public: 60", "public: 6000", "setting other-users: expected public <= 960"),
        ("clients: 4", "clients: 13", "setting other-users: expected clients <= 12"),
    ],
)
def test_what_sentences_rule_out_is_named(sentences: Dataset, old: str, new: str, message: str) -> None:
    with pytest.raises(ValueError, match=re.escape(message)):
        check(read(tiny.TEXT, old, new), sentences, 3)


def test_feddgm_on_sentences_is_refused_with_or_without_a_prior(sentences: Dataset) -> None:
    with pytest.raises(DocumentError, match=r"plan.yaml:25: arms\[0\].pipeline: expected a prior in every"):
        read(tiny.TEXT, "pipeline: fedavg", FEDDGM)
    with_prior = tiny.TEXT.replace("{minimum: 2}", PRIOR)
    message = "plan.yaml:26: arms[0].pipeline: expected a pipeline without a prior for text, since the prior"
    with pytest.raises(DocumentError, match=re.escape(message)):
        check(read(with_prior, "pipeline: fedavg", FEDDGM), sentences, 3)


def test_words_can_only_be_learnt_from_public_sentences(sentences: Dataset) -> None:
    plain = without_table(sentences)
    few = tiny.TEXT.replace("public: 60", "public: 1")
    with pytest.raises(
        ValueError, match=r"setting other-users: expected words.dimension <= \d+, the differe"
    ):
        check(read(few), plain, 3)


def test_what_images_rule_out_is_named(digits: Dataset) -> None:
    lstm = read(tiny.PLAN, "{family: mlp, width: 16, depth: 1}", "{family: lstm, hidden: [4, 4]}")
    message = "plan.yaml:10: nets.surrogate.family: expected family to be one of convnet, mlp, cnn for images"
    with pytest.raises(DocumentError, match=re.escape(message)):
        check(lstm, digits, 3)
    with pytest.raises(DocumentError, match=r"plan.yaml:9: words: expected no words for images, got words="):
        check(read(tiny.PLAN, "nets:", WORDS), digits, 3)


def test_clients_that_are_users_need_a_data_set_with_users(digits: Dataset) -> None:
    users = read(tiny.PLAN, "public: 100", "public: 100\n      partition: {minimum: 2}")
    with pytest.raises(ValueError, match="setting same-classes: expected a data set with users"):
        check(users, digits, 3)
