"""Order of distillation: weights by hand, and a mark that only the last client leaves."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch

from attacks._distances import nearest
from attacks.confidence import ModelConfidence
from attacks.distillation_order import OrderedRounds
from attacks.interface import Candidates
from privfed.nets import initial
from privfed.randomness import Stream
from privfed.records import Records, concatenate
from privfed.release import SERVER, Release
from tests.attacks.federations import SPEC, bank, candidates, extract, noise, server_view, weights
from tests.attacks.simulation import auc


def order(round: int, *clients: int) -> Release:
    return Release(round, SERVER, SERVER, "generator", "generator", {"order": torch.tensor(clients)})


def test_weights_by_place_and_round() -> None:
    """Three rounds' sets; the order is told of two. exp(emphasis p) growth^t, over what it sums to."""
    known, sets = candidates(10, 6), [noise(5, 20 + t) for t in range(3)]
    told = [bank(s, t) for t, s in enumerate(sets)]
    view = server_view(*told, order(0, 1, 0), order(2, 1))
    found = extract(OrderedRounds("bank", emphasis=1.5, growth=2.0), known, view)
    closeness = np.stack([-nearest(known.records, s) for s in sets], 1)
    others = np.stack([-nearest(known.population, s) for s in sets], 1)
    places = np.array(
        [[1, 0, -1], [0, 0, 0]]
    )  # client 0: last, unknown, sat out; client 1: first, unknown, alone
    raw = np.exp(1.5 * places) * [1, 2, 4]
    share = raw / raw.sum(1, keepdims=True)
    centred = closeness - others.mean(0)
    np.testing.assert_allclose(
        found.candidates[:, 0], (centred * share[known.clients.numpy()]).sum(1), rtol=1e-6
    )
    np.testing.assert_allclose(
        found.population[:, 0, 1], ((others - others.mean(0)) * share[1]).sum(1), rtol=1e-6
    )
    assert found.population.shape == (6, 1, 2)


def test_an_observer_without_the_order_weighs_rounds_alone() -> None:
    known, sets = candidates(10, 6), [noise(5, 20 + t) for t in range(2)]
    told = [bank(s, t) for t, s in enumerate(sets)]
    flat, ordered = (
        extract(OrderedRounds("bank", emphasis=e), known, server_view(*told)).candidates for e in (0.0, 5.0)
    )
    np.testing.assert_allclose(flat, ordered)


def test_models_are_read_by_the_round_that_made_them() -> None:
    """The broadcast of round 2 is what the distillation of round 1 left."""
    known = candidates(8, 5)
    nets = [initial(SPEC, torch.Generator().manual_seed(s)) for s in range(3)]
    told = [weights(n, "surrogate", t) for t, n in enumerate(nets)]
    signals = extract(ModelConfidence("surrogate"), known, server_view(*told))
    centred = signals.candidates - signals.population[..., 0].mean(0)
    found = extract(OrderedRounds(emphasis=3.0), known, server_view(*told, order(0, 0, 1), order(1, 1, 0)))
    for client in range(2):
        places = np.array([[0, 1], [1, 0]])[client]
        share = np.exp(3.0 * places) / np.exp(3.0 * places).sum()
        mine = (known.clients == client).numpy()
        np.testing.assert_allclose(found.candidates[mine, 0], centred[mine] @ share, rtol=1e-6)


def test_differences_read_what_a_round_added() -> None:
    known, sets = candidates(8, 5), [noise(5, 20 + t) for t in range(3)]
    told = [bank(s, t) for t, s in enumerate(sets)]
    found = extract(OrderedRounds("bank", emphasis=0, difference=True), known, server_view(*told))
    closeness, others = (
        np.diff(np.stack([-nearest(r, s) for s in sets], 1)) for r in (known.records, known.population)
    )
    np.testing.assert_allclose(found.candidates[:, 0], (closeness - others.mean(0)).mean(1), rtol=1e-6)
    only = OrderedRounds("bank", difference=True)
    assert only.extract(server_view(told[0]), known, Stream(0)) is None


@pytest.mark.parametrize("last", [True, False])
def test_victims_that_come_last_are_found_and_first_ones_are_not(last: bool) -> None:
    """Each round's set copies the records of the client distilled last in it, and nobody else's."""
    records = noise(240, 0)
    inside = torch.rand(240, generator=torch.Generator().manual_seed(1)) < 0.5
    owners, rounds = torch.arange(240) % 2, 6
    generator = torch.Generator().manual_seed(2)
    ends = torch.rand(rounds, generator=generator) < 0.5
    told = []
    for t in range(rounds):
        client = int(ends[t])
        held = records.take(inside & (owners == client))
        blurred = Records(
            held.inputs + 0.8 * torch.randn(held.inputs.shape, generator=generator), held.labels
        )
        told += [bank(concatenate([blurred, noise(40, 30 + t)]), t)]
        told += [order(t, *((1 - client, client) if last else (client, 1 - client)))]
    known = Candidates(records, owners, noise(60, 3), noise(9, 4))

    def found(emphasis: float) -> float:
        signals = extract(OrderedRounds("bank", emphasis=emphasis), known, server_view(*told))
        return auc(signals.candidates[:, 0], inside.numpy())

    assert (found(4.0) > found(0.0)) == last


@pytest.mark.parametrize(
    ("knobs", "message"),
    [
        ({"growth": 0.0}, "expected a finite growth > 0, got growth=0.0"),
        ({"emphasis": float("inf")}, "expected a finite emphasis, got emphasis=inf"),
    ],
)
def test_bad_knobs_are_refused(knobs: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        OrderedRounds(**knobs)
