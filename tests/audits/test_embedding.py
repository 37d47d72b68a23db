"""Sentences as floats: the table of the data set, or one that public text alone decides."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest
import torch

from audits.embedding import dimension, embedded
from audits.plan import WordsPlan, read_plan
from audits.setting import prepare
from privfed.datasets import Dataset, load
from privfed.randomness import Stream
from privfed.records import Records
from privfed.splits import SplitRecords
from tests.audits import tiny

STREAM = Stream(0, ("words",))


@pytest.fixture(scope="module")
def sentences() -> Dataset:
    return load("sentiment:4")


def parts(dataset: Dataset, empty: bool = False) -> SplitRecords:
    cuts = [dataset.records.take(torch.arange(60 * k, 60 * (k + 1))) for k in range(4)]
    if empty:
        cuts[2] = dataset.records.take(torch.arange(0))
    return SplitRecords(*cuts)


def inputs(found: SplitRecords) -> list[torch.Tensor]:
    return [r.inputs for r in (found.public, found.candidates, found.population, found.test)]


def test_images_stay_as_they_are() -> None:
    digits = load("digits")
    cut = parts(digits)
    assert embedded(cut, digits, None, STREAM) is cut


def test_a_table_that_came_with_the_data_is_used(sentences: Dataset) -> None:
    assert sentences.embedding is not None
    found = embedded(parts(sentences), sentences, None, STREAM)
    for before, after in zip(inputs(parts(sentences)), inputs(found), strict=True):
        assert torch.equal(after, sentences.embedding[before])
    assert dimension(sentences, None) == sentences.embedding.shape[1] == 16


def test_else_public_sentences_alone_decide(sentences: Dataset) -> None:
    plain, words = replace(sentences, embedding=None), WordsPlan(dimension=6)
    first = embedded(parts(plain), plain, words, STREAM)
    assert [tuple(x.shape) for x in inputs(first)] == [(60, 12, 6)] * 4
    assert dimension(plain, words) == 6
    assert dimension(plain, None) == WordsPlan().dimension
    whole = parts(plain)
    other_clients = replace(
        whole, candidates=Records(whole.candidates.inputs.flip(0, 1), whole.candidates.labels)
    )
    again = embedded(other_clients, plain, words, STREAM)
    assert torch.equal(again.population.inputs, first.population.inputs)
    other_public = replace(whole, public=whole.test)
    changed = embedded(other_public, plain, words, STREAM)
    assert not torch.equal(changed.population.inputs, first.population.inputs)


def test_a_part_may_be_empty(sentences: Dataset) -> None:
    found = embedded(parts(sentences, empty=True), sentences, None, STREAM)
    assert found.population.inputs.shape == (0, 12, 16)


def test_the_words_are_part_of_a_settings_address(sentences: Dataset, tmp_path: Path) -> None:
    plain = replace(load("sentiment:12"), embedding=None)
    digests = set()
    for number, words in enumerate(("", "words: {dimension: 4}\n", "words: {dimension: 5}\n")):
        folder = tmp_path / str(number)
        text = tiny.TEXT.replace("nets:", f"{words}nets:").replace("hidden: [6, 4]", "hidden: [3, 2]")
        setting = prepare(read_plan(str(tiny.write(folder, text))), 0, plain, 3, tmp_path)
        digests.add(setting.digest)
        assert setting.world.surrogate.channels == setting.candidates.records.inputs.shape[2]
        assert setting.world.surrogate.size == 12
        assert setting.world.prior is None
        assert setting.prior_seconds == 0
    assert len(digests) == 3
