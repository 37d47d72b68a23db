"""RMIA against its golden values, the n x z matrix, and its order property."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from attacks._signals import confidence_at_probability as phi_at
from attacks._signals import probability
from attacks.interface import Floats, References, Signals
from attacks.loss import LossThreshold
from attacks.rmia import Mode, Rmia, offline_prior, share_beaten
from tests.attacks.simulation import auc, exact_half, game, mean_interval


def golden() -> tuple[Signals, References]:
    z = np.array([[0.8, 0.8], [0.5, 0.6], [0.95, 0.3], [0.2, 0.25]])
    target = Signals(phi_at(np.array([[0.9]])), phi_at(z[:, 0])[:, None, None], np.zeros(1, np.int64))
    references = References(
        phi_at(np.array([[[0.4]]])), phi_at(z[:, 1])[None, :, None, None], np.zeros((1, 1), bool)
    )
    return target, references


def test_golden_prior_and_ratio() -> None:
    prior = offline_prior(np.array([0.4]), 0.3)
    assert prior[0] == pytest.approx(0.61)
    assert 0.9 / prior[0] == pytest.approx(1.4754, abs=5e-5)


@pytest.mark.parametrize(("gamma", "expected"), [(1.0, 0.75), (2.0, 0.5)])
def test_golden_score(gamma: float, expected: float) -> None:
    assert Rmia(gamma=gamma, mode="offline", a=0.3).score(*golden())[0] == pytest.approx(expected)


def naive(target: Signals, references: References, attack: Rmia) -> Floats:
    """The full n x z comparison, one candidate at a time."""
    n = len(target.candidates)
    p = probability(target.candidates.mean(1))
    p_references = probability(references.candidates.mean(2))
    z = probability(target.population.mean(1))
    z_out = probability(references.population.mean(2)).mean(0)
    scores = np.zeros(n)
    for i in range(n):
        inside = p_references[references.included[:, i], i].mean()
        outside = p_references[~references.included[:, i], i].mean()
        if attack.mode == "offline":
            inside = attack.a * outside + 1 - attack.a
        ratio_x = p[i] / ((inside + outside) / 2)
        k = target.clients[i]
        ratio_z = z[:, k] / (0.5 * ((1 + attack.a) * z_out[:, k] + 1 - attack.a))
        scores[i] = np.mean(ratio_x / ratio_z >= attack.gamma)
    return scores


@pytest.mark.parametrize("mode", ["online", "offline"])
@pytest.mark.parametrize("gamma", [1.0, 2.0])
@pytest.mark.parametrize("a", [0.0, 0.3, 1.0])
def test_sorted_score_equals_the_matrix(mode: Mode, gamma: float, a: float) -> None:
    g = game(0, 10, n=60, shift=1.0, queries=2, design=exact_half)
    rng = np.random.default_rng(1)
    population = g.population + rng.normal(size=(10, 200, 2, 3))
    target = Signals(g.candidates[0], population[0], rng.integers(0, 3, 60))
    references = References(g.candidates[1:], population[1:], g.included[1:])
    attack = Rmia(gamma=gamma, mode=mode, a=a)
    np.testing.assert_allclose(attack.score(target, references), naive(target, references, attack))


@given(
    ratios=st.lists(st.floats(0, 1e6), min_size=2, max_size=20),
    population=st.lists(st.floats(0, 1e6), min_size=1, max_size=20),
    gamma=st.floats(1, 10),
)
def test_score_never_falls_with_the_ratio(ratios: list[float], population: list[float], gamma: float) -> None:
    ordered = np.sort(np.array(ratios))
    scores = share_beaten(ordered, np.array(population), gamma)
    assert np.all(np.diff(scores) >= 0)
    assert np.all((scores >= 0) & (scores <= 1))


@given(st.lists(st.floats(-50, 50), min_size=2, max_size=20), st.floats(1, 4), st.floats(0, 1))
def test_score_never_falls_with_the_targets_confidence(phis: list[float], gamma: float, a: float) -> None:
    n = len(phis)
    g = game(1, 4, n=1, z=20)
    repeat = np.repeat(g.candidates[1:], n, 1)
    target = Signals(np.sort(np.array(phis))[:, None], g.population[0], np.zeros(n, np.int64))
    references = References(repeat, g.population[1:], np.repeat(g.included[1:], n, 1))
    assert np.all(np.diff(Rmia(gamma=gamma, a=a).score(target, references)) >= 0)


def test_unknown_population_records_are_left_out() -> None:
    some = share_beaten(np.array([2.0, np.nan]), np.array([0.5, np.nan, 3.0]), 1.0)
    np.testing.assert_allclose(some, [0.5, np.nan])
    assert np.isnan(share_beaten(np.array([2.0]), np.array([np.nan]), 1.0)).all()


def test_impossible_records_score_zero_not_nan() -> None:
    target, references = golden()
    impossible = Signals(np.array([[-800.0]]), target.population, target.clients)
    never = References(np.full((1, 1, 1), -800.0), references.population, references.included)
    assert Rmia(mode="offline", a=1.0).score(impossible, never)[0] == 0


@pytest.mark.parametrize("mode", ["online", "offline"])
@pytest.mark.parametrize("federations", [8, 16])
def test_null_is_at_chance(mode: Mode, federations: int) -> None:
    """12 independent games of 1,000 records x `federations` targets; band of 3 standard errors."""
    games = [game(300 + s, federations) for s in range(12)]
    mean, width = mean_interval([auc(g.scores(Rmia(mode=mode)), g.included) for g in games])
    assert width < 0.01
    assert abs(mean - 0.5) < max(width, 0.01)


def test_planted_shift_is_found_beyond_the_loss() -> None:
    g = game(7, 17, n=3000, shift=0.8, z=1000)
    target, references = g.target(0), g.references(np.arange(1, 17))
    online, offline, loss = (
        auc(a.score(target, references), g.included[0])
        for a in (Rmia(gamma=1), Rmia(gamma=1, mode="offline"), LossThreshold())
    )
    assert online >= offline - 0.01
    assert online > loss + 0.05


@pytest.mark.parametrize(
    ("field", "value", "message"),
    [
        ("mode", "both", r"expected mode to be one of online, offline, got mode='both'"),
        ("gamma", 0.5, r"expected gamma >= 1, got gamma=0.5"),
        ("gamma", float("nan"), r"expected gamma >= 1, got gamma=nan"),
        ("a", 1.5, r"expected a in \[0, 1\], got a=1.5"),
    ],
)
def test_bad_knobs_are_refused(field: str, value: object, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        Rmia(**{field: value})  # type: ignore[arg-type]


def test_a_population_is_required_and_must_match() -> None:
    target, references = golden()
    empty = Signals(target.candidates, np.empty((0, 1, 1)), target.clients)
    with pytest.raises(ValueError, match="expected at least one population record, got population=0"):
        Rmia().score(empty, references)
    other = References(references.candidates, np.zeros((1, 3, 1, 1)), references.included)
    with pytest.raises(ValueError, match=r"expected reference population of shape .* got population=\(1, 3"):
        Rmia().score(target, other)
