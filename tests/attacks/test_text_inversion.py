"""Inversion in the space of word vectors: the nearest words, the budget, and a case that it solves."""

from __future__ import annotations

import pytest
import torch

from attacks._descent import Budget
from attacks.interface import Known, Reconstruction
from attacks.text_inversion import TextInversion, nearest_words
from privfed.nets import NetSpec
from privfed.randomness import Stream
from privfed.records import Records
from tests.attacks.updates import trained

SPEC = NetSpec("lstm", channels=3, size=1, classes=2, hidden=(16, 12))
TABLE = 2 * torch.randn(40, 3, generator=torch.Generator().manual_seed(0))
KNOWN = Known(Records(TABLE[:, None], torch.arange(40) % 2), Records(TABLE[:, None], torch.arange(40) % 2))
CLIENTS = [Records(TABLE[None, None, k], torch.tensor([k % 2])) for k in range(6)]


def attack(knobs: TextInversion) -> Reconstruction:
    made = knobs.reconstruct(trained(SPEC, CLIENTS), KNOWN, Stream(0))
    assert made is not None
    return made


def test_every_place_takes_the_nearest_word_or_padding() -> None:
    words = torch.tensor([[1.0, 0.0], [0.0, 1.0]])
    found = nearest_words(torch.tensor([[[0.9, 0.2], [0.1, 0.2], [0.1, 4.0]]]), words)
    assert found.tolist() == [[[1.0, 0.0], [0.0, 0.0], [0.0, 1.0]]]


def test_sentences_of_one_word_are_found_with_their_labels() -> None:
    """One of 41 vectors at one place: four of six right are no luck. Longer ones are another matter."""
    made = attack(TextInversion(budget=Budget(300, 3)))
    right = (made.records.inputs[:, 0] == TABLE[:6]).all(1)
    assert int(right.sum()) >= 4
    assert made.records.labels.tolist() == [0, 1, 0, 1, 0, 1]
    assert made.clients.tolist() == [0, 1, 2, 3, 4, 5]


def test_the_budget_is_kept_and_the_end_its_own() -> None:
    spent = attack(TextInversion(budget=Budget(5, 2, tolerance=0)))
    assert spent.work == 6 * 2 * 5
    assert not spent.stopped_early
    idle = attack(TextInversion(budget=Budget(50, 2, tolerance=2.0)))
    assert idle.work == 6 * 2
    assert idle.stopped_early


def test_images_and_an_attacker_without_text_give_nothing() -> None:
    images = NetSpec("mlp", channels=1, size=4, classes=2, width=8)
    records = Records(torch.ones(2, 1, 4, 4), torch.tensor([0, 1]))
    beside = Known(records, records)
    assert TextInversion().reconstruct(trained(images, [records]), beside, Stream(0)) is None
    assert TextInversion().reconstruct(trained(SPEC, CLIENTS), beside, Stream(0)) is None


def test_what_makes_no_sense_is_refused() -> None:
    with pytest.raises(ValueError, match=r"expected records > 0, got records=0"):
        TextInversion(records=0)
    with pytest.raises(
        ValueError, match=r"expected objective to be one of cosine, squared, got objective='l1'"
    ):
        TextInversion(objective="l1")  # type: ignore[arg-type]
