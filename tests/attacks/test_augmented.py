"""Augmented queries: which moves, in which column, and what several queries buy."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import torch

from attacks.augmented import Augmented, shifted
from attacks.confidence import ModelConfidence
from attacks.lira import Lira
from privfed.nets import initial
from privfed.randomness import Stream
from privfed.records import Records
from tests.attacks.federations import SPEC, candidates, extract, play, server_view, weights
from tests.attacks.simulation import auc

UPDATES = ModelConfidence("update")


def test_shift_by_hand() -> None:
    image = torch.tensor([[1.0, 2.0], [3.0, 4.0]])[None, None]
    assert shifted(image, 0, 0)[0, 0].tolist() == [[1, 2], [3, 4]]
    assert shifted(image, 1, 0)[0, 0].tolist() == [[1, 2], [1, 2]]
    assert shifted(image, -1, 0)[0, 0].tolist() == [[3, 4], [3, 4]]
    assert shifted(image, 0, 1)[0, 0].tolist() == [[1, 1], [3, 3]]
    assert shifted(image, 0, -1)[0, 0].tolist() == [[2, 2], [4, 4]]


def test_the_inside_of_an_image_moves_and_comes_back() -> None:
    images = torch.randn(3, 2, 7, 7, generator=torch.Generator().manual_seed(0))
    there = shifted(shifted(images, 2, -1), -2, 1)
    assert torch.equal(there[..., :5, 1:], images[..., :5, 1:])


def moved(inputs: torch.Tensor, number: int) -> torch.Tensor:
    down, right = [(0, 0), (1, 0), (-1, 0), (0, 1), (0, -1)][number % 5]
    out = torch.roll(torch.nn.functional.pad(inputs, (1, 1, 1, 1), mode="replicate"), (down, right), (-2, -1))
    out = out[..., 1:-1, 1:-1]
    return out.flip(-1) if number >= 5 else out


@pytest.mark.parametrize("flip", [False, True])
def test_blocks_are_the_moves_and_hold_the_rounds_in_order(flip: bool) -> None:
    known = candidates(12, 8)
    rounds = [(r, k) for r in range(3) for k in range(2) if (r, k) != (1, 0)]
    nets = {key: initial(SPEC, torch.Generator().manual_seed(i)) for i, key in enumerate(rounds)}
    view = server_view(*(weights(p, "update", r, k) for (r, k), p in nets.items()))
    signals = extract(Augmented(UPDATES, flip=flip), known, view)
    count = 10 if flip else 5
    assert signals.candidates.shape == (12, 3 * count)
    assert signals.population.shape == (8, 3 * count, 2)
    np.testing.assert_array_equal(signals.clients, known.clients)
    for number in range(count):
        again = replace(
            known,
            records=Records(moved(known.records.inputs, number), known.records.labels),
            population=Records(moved(known.population.inputs, number), known.population.labels),
        )
        plain = extract(UPDATES, again, view)
        block = slice(3 * number, 3 * number + 3)
        np.testing.assert_allclose(signals.candidates[:, block], plain.candidates, rtol=1e-5)
        np.testing.assert_allclose(signals.population[:, block], plain.population, rtol=1e-5)


def test_without_moves_it_is_the_observation_itself() -> None:
    known = candidates(6, 4)
    view = server_view(weights(initial(SPEC, torch.Generator().manual_seed(0)), "large"))
    still, plain = (extract(o, known, view) for o in (Augmented(shift=0), ModelConfidence()))
    np.testing.assert_array_equal(still.candidates, plain.candidates)


def test_text_has_no_moves() -> None:
    known = candidates(6, 4)
    text = replace(known, records=Records(torch.zeros(6, 5, 3), known.records.labels))
    view = server_view(weights(initial(SPEC, torch.Generator().manual_seed(0)), "large"))
    assert Augmented().extract(view, text, Stream(0)) is None


def test_several_queries_of_lira_find_what_one_finds() -> None:
    """Nets that memorise noise images: moved copies are new to them, and must not drown the record."""
    attack = Lira(observation=Augmented(UPDATES))
    g = play(attack, leaky=True)
    assert auc(g.scores(attack), g.included) > 0.9
    clean = play(attack, leaky=False)
    assert abs(auc(clean.scores(attack), clean.included) - 0.5) < 0.1


def test_a_negative_shift_is_refused() -> None:
    with pytest.raises(ValueError, match="expected shift >= 0, got shift=-1"):
        Augmented(shift=-1)
