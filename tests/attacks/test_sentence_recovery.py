"""Sentences word by word: exact while the tokens of a client are few, nothing once they fill the space."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch
from torch import Tensor

from attacks._state_search import apart, kept, stepped, sums
from attacks._updates import movements
from attacks.interface import Known, Reconstruction
from attacks.sentence_recovery import SentenceRecovery
from privfed.nets import NetSpec, head_names, initial, module_of
from privfed.randomness import Stream
from privfed.records import Records
from privfed.release import View
from tests.attacks.updates import trained, view, without_head

TOKENS, DIMENSION, WORDS = 6, 10, 120
SPEC = NetSpec("lstm", channels=DIMENSION, size=TOKENS, classes=2, hidden=(12, 8))
TABLE = torch.randn(WORDS, DIMENSION, generator=torch.Generator().manual_seed(0))
PADDED = torch.cat([torch.zeros(1, DIMENSION), TABLE])
STREAM = Stream(0)


def sentences(*numbers: list[int], labels: tuple[int, ...] = (0, 1)) -> Records:
    """Sentences of these words, counted from 1; 0 is padding, or a word that no table has."""
    rows = torch.tensor([own + [0] * (TOKENS - len(own)) for own in numbers], dtype=torch.int64)
    return Records(PADDED[rows.view(-1, TOKENS)], torch.tensor(labels[: len(numbers)]))


def known() -> Known:
    every = sentences(*(torch.arange(WORDS) + 1).view(-1, TOKENS).tolist(), labels=(0,) * 20)
    return Known(every, every.take(torch.arange(4)))


def attack(seen: View, knobs: SentenceRecovery | None = None) -> Reconstruction:
    made = (knobs or SentenceRecovery()).reconstruct(seen, known(), STREAM)
    assert made is not None
    return made


def numbers(inputs: Tensor) -> list[list[int]]:
    """The words of sentences; every vector must be one of the table's."""
    same = (inputs.flatten(0, 1)[:, None] == PADDED).all(-1)
    assert same.any(1).all()
    found: list[list[int]] = same.int().argmax(1).view(-1, TOKENS).tolist()
    return found


@pytest.mark.parametrize("label", [0, 1])
def test_a_sentence_is_read_word_for_word(label: int) -> None:
    """A word that occurs twice, one that no table has in the middle, padding at the end; and the label."""
    own = sentences([14, 15, 0, 14, 92], labels=(label,))
    made = attack(trained(SPEC, [own, sentences([7, 8, 9, 10, 11, 12])]))
    assert numbers(made.records.inputs) == [[14, 15, 0, 14, 92, 0], [7, 8, 9, 10, 11, 12]]
    assert made.clients.tolist() == [0, 1]
    assert made.records.labels.tolist() == [label, 0]


def test_sentences_that_share_a_word_are_told_apart_in_a_space_their_words_fill() -> None:
    """Eleven different words in ten dimensions; with the states and the bias there are 23."""
    own = sentences([1, 2, 3, 4, 5, 6], [7, 8, 3, 9, 10, 11])
    assert len(own.inputs.flatten(0, 1).unique(dim=0)) > DIMENSION
    made = attack(trained(SPEC, [own]), SentenceRecovery(records=2, width=16))
    found = dict(zip(map(tuple, numbers(made.records.inputs)), made.records.labels.tolist(), strict=True))
    assert found == {(1, 2, 3, 4, 5, 6): 0, (7, 8, 3, 9, 10, 11): 1}


def test_several_steps_leave_a_sentence_readable() -> None:
    made = attack(trained(SPEC, [sentences([3, 14, 15, 92, 65])], steps=5), SentenceRecovery(local_steps=5))
    assert numbers(made.records.inputs) == [[3, 14, 15, 92, 65, 0]]


def test_updates_of_double_precision_are_read_as_well() -> None:
    """Noise is then so small that squared lengths made of products would drown it."""
    own = sentences([14, 15, 0, 14, 92])
    made = attack(trained(SPEC, [Records(own.inputs.double(), own.labels)]))
    assert numbers(made.records.inputs.float()) == [[14, 15, 0, 14, 92, 0]]


def test_it_says_nothing_where_inputs_fill_the_space() -> None:
    many = sentences(*(torch.arange(60) + 1).view(-1, TOKENS).tolist(), labels=(0, 1) * 5)
    made = attack(trained(SPEC, [many]), SentenceRecovery(records=10))
    assert len(made.records) == 0
    assert made.work == 0


def test_an_update_of_noise_gives_no_word_of_the_client() -> None:
    """The null case: few random directions are inverted to words at random, with a poor objective."""
    seen = trained(SPEC, [sentences([3, 14, 15, 92, 65])])
    found = movements(seen, 1)
    assert found is not None
    start, generator = found[1][0].start, torch.Generator().manual_seed(1)
    sizes = {"0.weight_ih": DIMENSION, "0.weight_hh": 12, "0.bias_ih": 1}
    left = torch.randn(48, 5, generator=generator)
    noise = {k: 0.01 * left @ torch.randn(5, d, generator=generator) for k, d in sizes.items()}
    after = start | {k: start[k] - n.view(start[k].shape) for k, n in noise.items()}
    update = replace(seen.releases[1], tensors=after)
    blind, made = attack(view(SPEC, (seen.releases[0], update))), attack(seen)
    hits = sum(a == b for a, b in zip(numbers(blind.records.inputs)[0], [3, 14, 15, 92, 65, 0], strict=True))
    assert hits <= 1
    assert float(blind.objective[0]) > 3 * float(made.objective[0])


def test_a_representation_alone_is_read_too_and_has_no_label() -> None:
    sent = trained(SPEC, [sentences([4, 5, 6])]).releases
    made = attack(view(SPEC, tuple(without_head(r, head_names(SPEC)) for r in sent)))
    assert numbers(made.records.inputs) == [[4, 5, 6, 0, 0, 0]]
    assert made.records.labels.tolist() == [-1]


def test_beginnings_that_cannot_be_right_are_dropped() -> None:
    """One beginning is left after the first word: 121 words are tried there, and the few used thereafter."""
    made = attack(trained(SPEC, [sentences([14, 15, 0, 14, 92])]))
    assert made.work < 2 * (WORDS + 1) * TOKENS


def test_states_are_those_of_the_net() -> None:
    params = initial(SPEC, Stream(3).torch())
    own = {k: v.double() for k, v in params.items()}
    text = sentences([1, 2, 3, 4, 5, 6]).inputs
    hidden = cell = torch.zeros(1, 12, dtype=torch.float64)
    total = torch.zeros(1, 12, dtype=torch.float64)
    for x in text.double().unbind(1):
        hidden, cell = stepped(own, x, hidden, cell)
        total = total + hidden
    with torch.no_grad():
        expected = module_of(SPEC, params).get_submodule("0")(text)
    torch.testing.assert_close(total.float() / TOKENS, expected)


def test_lengths_of_sums_are_those_of_the_sums() -> None:
    left, right = (torch.randn(n, 5, generator=torch.Generator().manual_seed(n)).double() for n in (3, 4))
    torch.testing.assert_close(sums(left, right), (left[:, None] + right).square().sum(2))
    assert float(sums(left, -left).diagonal().abs().max()) == 0.0


def test_the_best_of_each_family_are_kept() -> None:
    total = torch.tensor([[5.0, 1.0], [0.0, 9.0], [3.0, 2.0]])
    families = torch.tensor([0, 0, 7])
    rows, columns = kept(total, families, 1, together=False)
    assert list(zip(rows.tolist(), columns.tolist(), strict=True)) == [(1, 0), (2, 1)]
    rows, columns = kept(total, families, 2, together=True)
    assert list(zip(rows.tolist(), columns.tolist(), strict=True)) == [(1, 0), (0, 1)]


def test_sentences_that_are_nearly_the_same_are_given_once() -> None:
    texts = torch.tensor([[1, 2, 3, 4], [1, 2, 3, 5], [1, 6, 7, 8], [1, 2, 9, 9]])
    assert apart(texts, torch.tensor([0.1, 0.2, 0.4, 0.3]), 4).tolist() == [0, 2]
    assert apart(texts, torch.tensor([0.1, 0.2, 0.4, 0.3]), 1).tolist() == [0]


def test_images_and_an_attacker_without_text_give_nothing() -> None:
    images = NetSpec("mlp", channels=1, size=4, classes=2, width=8)
    records = Records(torch.ones(2, 1, 4, 4), torch.tensor([0, 1]))
    beside = Known(records, records)
    assert SentenceRecovery().reconstruct(trained(images, [records]), beside, STREAM) is None
    seen = trained(SPEC, [sentences([1])])
    assert SentenceRecovery().reconstruct(seen, beside, STREAM) is None


def test_what_makes_no_sense_is_refused() -> None:
    with pytest.raises(ValueError, match=r"expected width > 0, got width=0"):
        SentenceRecovery(width=0)
    with pytest.raises(ValueError, match=r"expected noise >= 0, got noise=-1"):
        SentenceRecovery(noise=-1)
