"""Labels where the head was fitted at home: told by the representation, and of use to every inversion."""

from __future__ import annotations

from functools import lru_cache

import numpy as np
import pytest
import torch

from attacks._label_gradients import explained_shares
from attacks._updates import movements, recovered_labels
from attacks.analytic_inversion import AnalyticInversion
from attacks.exact_recovery import ExactRecovery
from attacks.gradient_inversion import GradientInversion
from attacks.interface import ReconstructionAttack
from privfed.federation import Federation, run
from privfed.nets import NetSpec
from privfed.pipelines.fedbkd import FedBKD
from privfed.pipelines.interface import World
from privfed.randomness import Stream
from privfed.records import Records
from privfed.release import Observer, View
from privfed.training import Recipe
from tests.attacks.updates import MLP, STREAM, broadcast, digits, known, psnr, trained

CONVNET = NetSpec("convnet", channels=1, size=8, classes=10, width=8, depth=1)
CLIENTS = 6


def clients(records: int) -> tuple[Records, ...]:
    return tuple(digits(records * k, records) for k in range(CLIENTS))


@lru_cache(maxsize=8)
def first_round(spec: NetSpec, records: int, epochs: int = 1) -> View:
    """Heads are fitted at home first, then representations under them; the broadcast lacks its head."""
    head, rest = Recipe(5, records, 0.1), Recipe(epochs, records, 0.1)
    pipeline = FedBKD(rounds=2, head=head, representation=rest, generator=None)
    world = World(spec, spec, digits(1000, 50), True)
    (outcome,) = run(pipeline, world, [Federation(clients(records), Stream(7))])
    seen = outcome.transcript.view(Observer("server"))
    return View(seen.observer, tuple(r for r in seen.releases if r.round == 0), seen.nets)


@pytest.mark.parametrize("spec", [MLP, CONVNET], ids=["mlp", "convnet"])
@pytest.mark.parametrize("epochs", [1, 5])
def test_lone_labels_are_told_without_a_movement_of_the_head(spec: NetSpec, epochs: int) -> None:
    found = movements(first_round(spec, 1, epochs), 1)
    assert found is not None
    assert not any(m.headed for m in found[1])
    labels = recovered_labels(*found, known(), 1, 0.1)
    assert labels.flatten().tolist() == [int(c.labels) for c in clients(1)]


def test_counts_are_told_far_better_than_by_all_labels_in_turn() -> None:
    found = movements(first_round(MLP, 8), 1)
    assert found is not None
    labels = recovered_labels(*found, known(), 8, 0.1)
    shared = [
        np.minimum(*(torch.bincount(y, minlength=10).numpy() for y in (mine, own.labels))).sum() / 8
        for mine, own in zip(labels, clients(8), strict=True)
    ]
    assert np.mean(shared) > 0.9


def test_shares_are_exact_for_a_short_step_with_the_members_own_mean_gradients() -> None:
    own = digits(0, 12, torch.float64)
    seen = trained(MLP, [own], lr=1e-4)
    start, after = (dict(r.tensors) for r in seen.releases)
    truth = np.bincount(own.labels.numpy(), minlength=10) / 12
    np.testing.assert_allclose(explained_shares(MLP, start, after, own), truth, atol=1e-3)


def test_labels_that_nobody_knows_a_record_of_and_models_that_stayed_have_no_share() -> None:
    start = broadcast(MLP)
    after = {k: v + 0.01 for k, v in start.items()}
    own = digits(0, 60)
    few = own.take(own.labels < 4)
    assert not explained_shares(MLP, start, after, few)[4:].any()
    assert not explained_shares(MLP, start, start, own).any()


def test_lone_records_are_inverted_through_a_head_that_was_fitted_at_home() -> None:
    """Labels left to chance end at the negative of the record, which moves the first layer alike."""
    made = GradientInversion().reconstruct(first_round(MLP, 1), known(), STREAM)
    assert made is not None
    assert made.records.labels.tolist() == [int(c.labels) for c in clients(1)]
    assert min(psnr(made, clients(1))) > 25


@pytest.mark.parametrize("attack", [AnalyticInversion(records=1), ExactRecovery()], ids=["analytic", "exact"])
def test_what_is_read_off_the_first_layer_gets_its_label_from_the_clients_own_head(
    attack: ReconstructionAttack,
) -> None:
    made = attack.reconstruct(first_round(MLP, 1), known(), STREAM)
    assert made is not None
    assert made.records.labels.tolist() == [int(c.labels) for c in clients(1)]
