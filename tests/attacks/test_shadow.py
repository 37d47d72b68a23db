"""Shadow classifier: what it reads, one boundary a class, and chance on permuted membership."""

from __future__ import annotations

from itertools import product
from typing import Any

import numpy as np
import pytest
import torch

from attacks._signals import logit_confidence, loss
from attacks.entropy import ModelEntropy
from attacks.interface import Observation, References, Signals
from attacks.quantile import QuantileResidual
from attacks.shadow import ShadowClassifier, SortedPosterior
from attacks.soft_margin import SoftMarginConfidence
from privfed.nets import Params, initial, module_of
from tests.attacks.federations import SPEC, candidates, extract, federations, play, server_view, weights
from tests.attacks.simulation import auc, chance_width
from tests.attacks.test_text import KNOWN, VIEW


def net(seed: int) -> Params:
    return initial(SPEC, torch.Generator().manual_seed(seed))


def test_signals_are_the_sorted_posterior_and_minus_the_loss() -> None:
    known = candidates(9, 6)
    signals = extract(SortedPosterior(top=2), known, server_view(weights(net(1), "large")))
    with torch.no_grad():
        logits = module_of(SPEC, net(1))(known.records.inputs).double()
    expected = logits.log_softmax(1).sort(1, descending=True).values[:, :2].numpy()
    assert signals.candidates.shape == (9, 3)
    np.testing.assert_allclose(signals.candidates[:, :2], expected, rtol=1e-4)
    phi = logit_confidence(logits, known.records.labels).numpy()
    np.testing.assert_allclose(signals.candidates[:, 2], -loss(phi), rtol=1e-4)


def test_numbers_of_one_round_stand_side_by_side_and_rounds_sat_out_are_unknown() -> None:
    known = candidates(20, 12)
    held = [(0, 0), (0, 1), (1, 1)]  # client 0 sits out round 1
    view = server_view(*(weights(net(2 * r + k), "update", r, k) for r, k in held))
    signals = extract(SortedPosterior("update", top=2), known, view)
    owners = known.clients.numpy()
    assert signals.candidates.shape == (20, 6)
    assert np.isnan(signals.candidates[owners == 0, 3:]).all()
    assert np.isnan(signals.candidates).sum() == 3 * (owners == 0).sum()
    for round, client in held:
        alone = extract(SortedPosterior(top=2), known, server_view(weights(net(2 * round + client), "large")))
        mine, columns = owners == client, slice(3 * round, 3 * round + 3)
        np.testing.assert_allclose(signals.candidates[mine, columns], alone.candidates[mine], rtol=1e-5)
        np.testing.assert_allclose(
            signals.population[:, columns, client * 5 : client * 5 + 5], alone.population, rtol=1e-5
        )


def test_a_release_nobody_attacks_leaves_the_shape_as_it_is() -> None:
    signals = extract(
        SortedPosterior("update"), candidates(6, 5), server_view(weights(net(1), "update", 0, 5))
    )
    assert signals.candidates.shape == (6, 4)
    assert np.isnan(signals.candidates).all()


def test_posteriors_beyond_the_classes_read_zero() -> None:
    signals = extract(SortedPosterior(top=7), candidates(6, 5), server_view(weights(net(1), "large")))
    assert signals.candidates.shape == (6, 8)
    np.testing.assert_array_equal(signals.candidates[:, 5:7], 0)


def crossed(seed: int = 0) -> tuple[Signals, References, Any]:
    """Members of class 0 lie higher, members of class 1 lower, and the second query is noise."""
    rng = np.random.default_rng(seed)
    label, included = np.repeat([0, 1], 150), rng.random((12, 300)) < 0.5
    values = rng.normal(size=(12, 300, 2))
    values[..., 0] += 2 * included * np.where(label == 0, 1, -1)
    empty = np.zeros((12, 1, 2, 2))
    return Signals(values[0], empty[0], label), References(values[1:], empty[1:], included[1:]), included[0]


def test_each_class_has_a_boundary_of_its_own() -> None:
    target, references, members = crossed()
    apart = ShadowClassifier().score(target, references)
    together = ShadowClassifier().score(
        Signals(target.candidates, target.population, np.zeros(300, np.int64)), references
    )
    assert auc(apart, members) > 0.85
    assert abs(auc(together, members) - 0.5) < 0.1


def test_permuted_membership_is_at_chance() -> None:
    """Membership drawn afresh for target and references, on signals of models that memorise."""
    g = play(ShadowClassifier(), leaky=True)
    rng = np.random.default_rng(3)
    shuffled = type(g)(g.candidates, g.population, rng.permuted(g.included, axis=0), g.clients)
    found = auc(shuffled.scores(ShadowClassifier()), shuffled.included)
    # Signals cluster by true membership, which widens the band of independent scores.
    assert abs(found - 0.5) < 2 * chance_width(shuffled.included)
    assert auc(g.scores(ShadowClassifier()), g.included) > 0.9


def test_a_class_with_references_on_one_side_takes_the_classifier_of_all() -> None:
    target, references, _ = crossed()
    included = references.included.copy()
    included[:, target.clients == 1] = False
    partly = References(references.candidates, references.population, included)
    scores = ShadowClassifier().score(target, partly)
    everybody = Signals(target.candidates, target.population, np.zeros(300, np.int64))
    np.testing.assert_allclose(scores[150:], ShadowClassifier().score(everybody, partly)[150:])


def test_references_all_on_one_side_say_nothing() -> None:
    target, references, _ = crossed()
    none = References(references.candidates, references.population, np.zeros_like(references.included))
    assert np.isnan(ShadowClassifier().score(target, none)).all()


def test_unknown_queries_count_as_average_and_unknown_records_are_nan() -> None:
    target, references, _ = crossed()
    holed = target.candidates.copy()
    holed[0, 1] = np.nan
    holed[1] = np.nan
    values = references.candidates.copy()
    values[3, :, 1] = np.nan
    scores = ShadowClassifier().score(
        Signals(holed, target.population, target.clients),
        References(values, references.population, references.included),
    )
    assert np.isnan(scores[1])
    assert np.isfinite(np.delete(scores, 1)).all()


def test_every_federation_is_read_the_same_way() -> None:
    known, _, views = federations(leaky=True)
    first, second = (extract(SortedPosterior("update"), known, v) for v in views[:2])
    assert first.candidates.shape == second.candidates.shape
    np.testing.assert_array_equal(first.clients, second.clients)


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: SortedPosterior(top=0), "expected top >= 1, got top=0"),
        (lambda: ShadowClassifier(strength=0.0), "expected strength > 0, got strength=0.0"),
        (lambda: ShadowClassifier(strength=float("nan")), "expected strength > 0, got strength=nan"),
    ],
)
def test_bad_knobs_are_refused(make: Any, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        make()


def test_pairs_of_classes_and_clients_are_apart() -> None:
    known = candidates(20, 12)
    view = server_view(*(weights(net(2 * r + k), "update", r, k) for r, k in product(range(1), range(2))))
    signals = extract(SortedPosterior("update"), known, view)
    pairs = set(zip(known.clients.tolist(), known.records.labels.tolist(), strict=True))
    assert len(np.unique(signals.clients)) == len(pairs)


@pytest.mark.parametrize("artefact", ["large", "update"])
@pytest.mark.parametrize(
    "observation", [SortedPosterior, ModelEntropy, QuantileResidual, SoftMarginConfidence]
)
def test_sentences_are_read_as_well(observation: Any, artefact: str) -> None:
    """Two classes: fewer than the posteriors asked for."""
    made: Observation = observation(artefact)
    assert np.isfinite(extract(made, KNOWN, VIEW).candidates).all()
