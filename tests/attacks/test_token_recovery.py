"""Words in the span of an update: exact while they are few, nothing once they fill the space."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch

from attacks._updates import Movement, movements
from attacks.interface import Known, Reconstruction
from attacks.token_recovery import INPUT_WEIGHTS, TokenRecovery, spanned, vocabulary
from privfed.nets import NetSpec, head_names
from privfed.randomness import Stream
from privfed.records import Records
from privfed.release import View
from tests.attacks.updates import trained, view, without_head

TOKENS, DIMENSION, WORDS = 6, 20, 300
SPEC = NetSpec("lstm", channels=DIMENSION, size=TOKENS, classes=2, hidden=(8, 5))
TABLE = torch.randn(WORDS, DIMENSION, generator=torch.Generator().manual_seed(0))
STREAM = Stream(0)


def sentences(*numbers: list[int]) -> Records:
    """Sentences of these word numbers, padded."""
    inputs = torch.zeros(len(numbers), TOKENS, DIMENSION)
    for row, own in zip(inputs, numbers, strict=True):
        row[: len(own)] = TABLE[own]
    return Records(inputs, torch.arange(len(numbers)) % 2)


def known() -> Known:
    """The attacker's text has every word of the table once, and some of them twice."""
    every = sentences(*torch.arange(WORDS).view(-1, TOKENS).tolist())
    return Known(every, every.take(torch.arange(4)))


def attack(seen: View) -> Reconstruction:
    made = TokenRecovery().reconstruct(seen, known(), STREAM)
    assert made is not None
    return made


def words_of(made: Reconstruction, client: int) -> set[int]:
    """Numbers of the words that were named of a client."""
    found = made.records.inputs[made.clients == client].flatten(0, 1)
    return {int(torch.cdist(w[None], TABLE).argmin()) for w in found[found.any(1)]}


def test_the_vocabulary_is_each_word_once_and_no_padding() -> None:
    assert len(vocabulary(known(), DIMENSION)) == WORDS
    padded = replace(known(), public=sentences([1, 2]), population=sentences([2, 3]))
    assert len(vocabulary(padded, DIMENSION)) == 3
    assert vocabulary(known(), DIMENSION + 1).shape == (0, DIMENSION + 1)


@pytest.mark.parametrize("steps", [1, 5])
def test_the_words_of_a_client_are_named_exactly(steps: int) -> None:
    """Seven different words in twenty dimensions, after several steps too; each client's own."""
    clients = [sentences([3, 14, 15, 92, 65], [35, 89, 3]), sentences([7, 7, 8])]
    made = attack(trained(SPEC, clients, steps))
    assert words_of(made, 0) == {3, 14, 15, 92, 65, 35, 89}
    assert words_of(made, 1) == {7, 8}
    assert made.clients.tolist() == [0, 0, 1]
    assert (made.objective < 0.01).all()


def test_words_that_were_there_lie_in_the_span_and_others_do_not() -> None:
    found = movements(trained(SPEC, [sentences([1, 2, 3])]), 1)
    assert found is not None
    outside = spanned(found[1][0], TABLE)
    assert float(outside[[1, 2, 3]].max()) < 1e-3
    others = torch.ones(WORDS, dtype=torch.bool)
    others[[1, 2, 3]] = False
    assert float(outside[others].min()) > 0.5


def test_it_stops_where_the_words_fill_the_space() -> None:
    many = sentences(*torch.arange(24).view(-1, TOKENS).tolist())
    made = attack(trained(SPEC, [many]))
    assert len(made.records) == 0


def test_an_update_of_noise_names_nothing() -> None:
    """The null case: a movement of full rank holds no word, and one of few random directions none either."""
    found = movements(trained(SPEC, [sentences([1])]), 1)
    assert found is not None
    start = found[1][0].start
    generator = torch.Generator().manual_seed(1)
    left = torch.randn(len(start[INPUT_WEIGHTS]), 3, generator=generator)
    moved = 0.01 * left @ torch.randn(3, DIMENSION, generator=generator)
    after = start | {INPUT_WEIGHTS: start[INPUT_WEIGHTS] - moved}
    assert float(spanned(Movement(0, 0, start, after, True), TABLE).min()) > 0.05
    assert float(spanned(Movement(0, 0, start, start, True), TABLE).min()) == 1.0


def test_a_representation_alone_tells_its_words_too() -> None:
    sent = trained(SPEC, [sentences([4, 5])]).releases
    alone = view(SPEC, tuple(without_head(r, head_names(SPEC)) for r in sent))
    assert words_of(attack(alone), 0) == {4, 5}


def test_the_label_of_a_lone_sentence_is_told() -> None:
    lone = Records(sentences([4, 5]).inputs, torch.tensor([1]))
    assert attack(trained(SPEC, [lone])).records.labels.tolist() == [1]


def test_images_and_an_attacker_without_text_give_nothing() -> None:
    images = NetSpec("mlp", channels=1, size=4, classes=2, width=8)
    records = Records(
        torch.randn(2, 1, 4, 4, generator=torch.Generator().manual_seed(2)), torch.tensor([0, 1])
    )
    beside = Known(records, records)
    assert TokenRecovery().reconstruct(trained(images, [records]), beside, STREAM) is None
    empty = replace(known(), public=sentences().take(torch.arange(0)), population=sentences())
    assert TokenRecovery().reconstruct(trained(SPEC, [sentences([1])]), empty, STREAM) is None


def test_what_makes_no_sense_is_refused() -> None:
    with pytest.raises(ValueError, match=r"expected outside > 0, got outside=0"):
        TokenRecovery(outside=0)
    with pytest.raises(
        ValueError, match=r"expected rounds > 0, got rounds=0|expected rounds >= 1, got rounds=0"
    ):
        TokenRecovery(rounds=0)
