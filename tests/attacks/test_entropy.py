"""Class-wise entropy: its thresholds, its verdicts, and what classes are for."""

from __future__ import annotations

from itertools import product
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from scipy.stats import norm

from attacks._posteriors import modified_entropy
from attacks.entropy import EntropyByClass, Kind, ModelEntropy, best_threshold
from attacks.interface import Floats, References, Signals
from attacks.loss import gap_attack_accuracy
from privfed.answers import Interface, put_behind
from privfed.nets import initial, module_of
from privfed.release import Observer, Transcript
from tests.attacks.federations import SPEC, candidates, extract, server_view, weights
from tests.attacks.simulation import auc, bernoulli, game, mean_interval

VALUES = st.lists(st.integers(-4, 4).map(float), min_size=1, max_size=12)


def balanced(threshold: float, inside: Floats, outside: Floats) -> float:
    return float((np.mean(inside >= threshold) + np.mean(outside < threshold)) / 2)


@given(VALUES, VALUES)
def test_no_threshold_is_better_than_the_best(inside: list[float], outside: list[float]) -> None:
    a, b = np.array(inside), np.array(outside)
    grid = np.arange(-5, 5.5, 0.5)
    assert balanced(best_threshold(a, b), a, b) == pytest.approx(max(balanced(t, a, b) for t in grid))


def by_class(shifts: list[float], seed: int = 0, federations: int = 12) -> tuple[Signals, References, Floats]:
    """100 records a class; classes differ in what everybody scores and in how much members gain."""
    rng = np.random.default_rng(seed)
    label = np.repeat(np.arange(len(shifts)), 100)
    included = bernoulli(rng, federations, len(label))
    values = 10.0 * label + rng.normal(size=included.shape) + np.array(shifts)[label] * included
    population = np.zeros((federations, 1, 1, len(shifts)))
    return (
        Signals(values[0][:, None], population[0], label),
        References(values[1:][..., None], population[1:], included[1:]),
        included[0].astype(np.float64),
    )


def test_scores_of_at_least_zero_are_the_verdicts_of_the_class_thresholds() -> None:
    target, references, _ = by_class([1.0, 2.0, 0.5])
    scores = EntropyByClass(calibration="threshold").score(target, references)
    for label in range(3):
        mine = target.clients == label
        values, included = references.candidates[:, mine, 0], references.included[:, mine]
        threshold = best_threshold(values[included], values[~included])
        np.testing.assert_array_equal(scores[mine] >= 0, target.candidates[mine, 0] >= threshold)


@pytest.mark.parametrize("calibration", ["threshold", "risk"])
def test_classes_of_different_levels_make_one_curve(calibration: Any) -> None:
    target, references, members = by_class([2.0, 2.0, 2.0])
    held = members.astype(bool)
    apart = auc(EntropyByClass(calibration=calibration).score(target, references), held)
    plain = auc(EntropyByClass(calibration="none").score(target, references), held)
    within = norm.cdf(2 / np.sqrt(2))
    # Two records of different classes, two thirds of all pairs, are ordered by class alone.
    assert plain == pytest.approx(within / 3 + 1 / 3, abs=0.06)
    assert apart == pytest.approx(within, abs=0.06)


def test_risk_is_the_log_ratio_of_smoothed_histograms() -> None:
    rng = np.random.default_rng(1)
    values, included = rng.normal(size=(4, 25, 1)), rng.random((4, 25)) < 0.5
    group = np.zeros(25, dtype=np.int64)
    references = References(values, np.zeros((4, 1, 1, 1)), included)
    at = Signals(rng.normal(size=(25, 1)), np.zeros((1, 1, 1)), group)
    scores = EntropyByClass(calibration="risk").score(at, references)
    edges = np.quantile(values.ravel(), np.arange(1, 10) / 10)
    for i in range(25):
        bin_ = np.searchsorted(edges, at.candidates[i, 0], side="right")
        counts = [
            (np.searchsorted(edges, values[..., 0][side], side="right") == bin_).sum() + 1
            for side in (included, ~included)
        ]
        totals = [included.sum() + 10, (~included).sum() + 10]
        assert scores[i] == pytest.approx(np.log(counts[0] / totals[0]) - np.log(counts[1] / totals[1]))


def test_a_class_with_references_on_one_side_only_takes_those_of_all() -> None:
    target, references, _ = by_class([1.0, 1.0])
    included = references.included.copy()
    included[:, target.clients == 1] = False
    one_sided = References(references.candidates, references.population, included)
    assert np.isfinite(EntropyByClass().score(target, one_sided)).all()


@pytest.mark.parametrize("calibration", ["threshold", "risk"])
def test_null_is_at_chance(calibration: Any) -> None:
    """12 independent games of 500 records x 10 targets; band of 3 standard errors."""
    games = [game(40 + s, 10, n=500) for s in range(12)]
    attack = EntropyByClass(calibration=calibration)
    mean, width = mean_interval([auc(g.scores(attack), g.included) for g in games])
    assert width < 0.015
    assert abs(mean - 0.5) < max(width, 0.01)


def test_uncalibrated_correctness_is_the_gap_attack() -> None:
    """Its balanced accuracy is one half plus half the gap between accuracies, exactly."""
    known = candidates(60, 12)
    signals = extract(ModelEntropy(kind="correctness"), known, server_view(weights(net(2), "large")))
    references = References(
        np.empty((0, 60, 1)), np.empty((0, *signals.population.shape)), np.empty((0, 60), bool)
    )
    called = EntropyByClass(calibration="none").score(signals, references)
    with torch.no_grad():
        right = (module_of(SPEC, net(2))(known.records.inputs).argmax(1) == known.records.labels).numpy()
    np.testing.assert_array_equal(called, right)
    members = np.arange(60) < 30
    accuracy = (called[members].mean() + 1 - called[~members].mean()) / 2
    expected = gap_attack_accuracy(float(right[members].mean()), float(right[~members].mean()))
    assert accuracy == pytest.approx(expected)


def net(seed: int) -> dict[str, torch.Tensor]:
    return initial(SPEC, torch.Generator().manual_seed(seed))


def test_the_signal_is_minus_the_logarithm_of_the_modified_entropy() -> None:
    known = candidates(9, 6)
    signals = extract(ModelEntropy(), known, server_view(weights(net(1), "large")))
    with torch.no_grad():
        logits = module_of(SPEC, net(1))(known.records.inputs)
    expected = -modified_entropy(logits, known.records.labels).log().numpy()
    np.testing.assert_allclose(signals.candidates[:, 0], expected, rtol=1e-5)


def test_updates_are_read_by_client_and_label() -> None:
    known = candidates(20, 12)
    updates = [
        weights(net(r * 2 + k), "update", r, k) for r, k in product(range(3), range(2)) if (r, k) != (1, 0)
    ]
    signals = extract(ModelEntropy("update"), known, server_view(*updates))
    labels, owners = known.records.labels.numpy(), known.clients.numpy()
    assert signals.candidates.shape == (20, 3)
    assert np.isnan(signals.candidates[owners == 0, 1]).all()
    assert np.isnan(signals.candidates).sum() == (owners == 0).sum()
    np.testing.assert_array_equal(signals.clients, owners * 5 + labels)
    held = np.bincount(known.population.labels.numpy(), minlength=5)
    found = (~np.isnan(signals.population)).sum(0)
    np.testing.assert_array_equal(found[0], np.tile(held, 2))
    np.testing.assert_array_equal(found[1], np.concatenate([np.zeros(5), held]))


@pytest.mark.parametrize("kind", ["modified", "prediction", "confidence", "correctness"])
def test_rounded_answers_can_be_read(kind: Kind) -> None:
    sent = put_behind(weights({k: 30 * v for k, v in net(1).items()}, "large"), Interface(decimals=1))
    view = Transcript((sent,), {"large": SPEC}).view(Observer("outsider", holds=frozenset({"large"})))
    signals = extract(ModelEntropy(kind=kind), candidates(30, 8), view)
    assert np.isfinite(signals.candidates).all()


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda x: ModelEntropy(kind=x), r"expected kind to be one of modified, .*, got kind='x'"),
        (lambda x: ModelEntropy(x), r"expected artefact to be one of .*, got artefact='x'"),
        (
            lambda x: EntropyByClass(calibration=x),
            r"expected calibration to be one of risk, threshold, none, got calibration='x'",
        ),
    ],
)
def test_unknown_options_are_refused(make: Any, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        make("x")
