"""LOGAN: local models as discriminators, and a discriminator of the attacker's own."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch

from attacks.confidence import ModelConfidence
from attacks.interface import Candidates
from attacks.logan import LocalDiscriminators, Logan, OwnDiscriminator
from privfed.nets import initial
from privfed.randomness import Stream
from privfed.records import Records
from tests.attacks.federations import (
    SPEC,
    candidates,
    extract,
    images,
    memorise,
    no_references,
    noise,
    server_view,
    weights,
    without_heads,
)
from tests.attacks.simulation import auc, chance_width


def net(seed: int) -> dict[str, torch.Tensor]:
    return initial(SPEC, torch.Generator().manual_seed(seed))


def test_the_largest_confidence_of_a_rounds_models_whoever_they_belong_to() -> None:
    known, nets = candidates(12, 5), [net(i) for i in range(3)]
    # Round 0 has both clients, round 1 the second one alone.
    view = server_view(
        weights(nets[0], "update", 0, 0), weights(nets[1], "update", 0, 1), weights(nets[2], "update", 1, 1)
    )
    found = extract(LocalDiscriminators(), known, view)
    single = [
        extract(ModelConfidence("surrogate"), known, server_view(weights(n, "surrogate", 1))) for n in nets
    ]
    first = np.maximum(single[0].candidates[:, 0], single[1].candidates[:, 0])
    np.testing.assert_allclose(found.candidates, np.stack([first, single[2].candidates[:, 0]], 1))
    np.testing.assert_allclose(found.population[:, 1, 0], single[2].population[:, 0, 0])
    assert found.population.shape == (5, 2, 1)


def test_without_labels_the_likeliest_counts() -> None:
    known, view = candidates(12, 5), server_view(weights(net(0), "update", 0, 0))
    free = extract(LocalDiscriminators(labelled=False), known, view).candidates[:, 0]
    by_label = []
    for label in range(SPEC.classes):
        records = Records(known.records.inputs, torch.full((12,), label))
        asked = Candidates(records, known.clients, known.population, known.public)
        by_label.append(extract(LocalDiscriminators(), asked, view).candidates[:, 0])
    np.testing.assert_allclose(free, np.max(by_label, axis=0))


def test_models_that_memorised_their_clients_records_know_them() -> None:
    records = noise(120, 0)
    inside = torch.rand(120, generator=torch.Generator().manual_seed(1)) < 0.5
    halves = [inside & (torch.arange(120) % 2 == k) for k in range(2)]
    nets = memorise(records, torch.stack(halves).float(), 7)
    known = Candidates(records, torch.arange(120) % 2, noise(9, 3), noise(9, 4))
    signals = extract(
        LocalDiscriminators(), known, server_view(*(weights(n, "update", 0, k) for k, n in enumerate(nets)))
    )
    assert auc(Logan().score(signals, no_references(signals)), inside.numpy()) > 0.9


def test_models_without_heads_are_nobody_to_ask() -> None:
    view = without_heads(server_view(weights(net(0), "update", 0, 0)))
    assert LocalDiscriminators().extract(view, candidates(4), Stream(0)) is None


@pytest.mark.parametrize("learner", ["mlp", "logistic"])
def test_the_own_discriminator_separates_sets_that_differ_and_no_others(learner: Any) -> None:
    """Synthetic records of the members' half space, then of everywhere."""
    records, population = noise(400, 0), noise(200, 1)
    inside = (records.inputs[:, 0, 0, 0] > 0).numpy()
    pool = noise(600, 2)
    shifted = pool.take(pool.inputs[:, 0, 0, 0] > 0)
    known = Candidates(records, torch.zeros(400, dtype=torch.int64), population, noise(9, 5))
    attack = Logan(OwnDiscriminator(learner=learner))
    for made, differs in ((shifted, True), (noise(300, 3), False)):
        signals = extract(attack.observation, known, server_view(images(made)))
        found = auc(attack.score(signals, no_references(signals)), inside)
        assert found > 0.8 if differs else abs(found - 0.5) < chance_width(inside)
        # Nobody was told of the population that reads it: it scores as the candidates of its kind do.
        both = np.concatenate([signals.candidates[:, 0], signals.population[:, 0, 0]])
        first = np.arange(600) < 400
        assert abs(auc(both, first) - 0.5) < chance_width(first)


def test_it_memorises_copies() -> None:
    records = noise(300, 0)
    inside = torch.rand(300, generator=torch.Generator().manual_seed(1)) < 0.5
    held = records.take(inside)
    made = Records(held.inputs + 0.01 * noise(len(held), 8).inputs, held.labels)
    known = Candidates(records, torch.zeros(300, dtype=torch.int64), noise(200, 6), noise(9, 5))
    signals = extract(OwnDiscriminator(), known, server_view(images(made)))
    assert auc(signals.candidates[:, 0], inside.numpy()) > 0.9
    assert np.isfinite(signals.candidates).all()


@pytest.mark.parametrize(
    ("knobs", "message"),
    [
        ({"learner": "x"}, "expected learner to be one of mlp, logistic, got learner='x'"),
        ({"reference": "x"}, "expected reference to be one of public, population, got reference='x'"),
        ({"space": "x"}, "expected space to be one of"),
    ],
)
def test_bad_knobs_are_refused(knobs: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        OwnDiscriminator(**knobs)


def test_nothing_without_records_to_tell_apart() -> None:
    view = server_view(images(noise(5, 7)))
    assert OwnDiscriminator().extract(view, candidates(4, 3), Stream(0)) is None
    assert OwnDiscriminator(space="prior").extract(view, candidates(4), Stream(0)) is None
