"""Attack-P: its false-positive rate, exactly, and its columns."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy.stats import binom

from attacks.interface import References, Signals
from attacks.population import AttackP, p_values
from tests.attacks.federations import no_references
from tests.attacks.simulation import auc, game, mean_interval


@pytest.mark.parametrize("alpha", [0.01, 0.05, 0.25])
@pytest.mark.parametrize("z", [19, 100])
def test_false_positives_are_alpha_on_an_exchangeable_population(alpha: float, z: int) -> None:
    """20,000 independent populations and non-members; 99.9 % interval of the binomial."""
    rng = np.random.default_rng(0)
    values = rng.standard_cauchy((20_000, z + 1))
    reached = (values[:, 1:] >= values[:, :1]).sum(1)
    p = np.array([p_values(row[:1], row[1:])[0] for row in values[:200]])
    np.testing.assert_allclose(p, (1 + reached[:200]) / (z + 1))
    exact = np.floor(alpha * (z + 1) + 1e-9) / (z + 1)
    called = int(((1 + reached) / (z + 1) <= alpha + 1e-12).sum())
    low, high = binom.interval(0.999, 20_000, exact)
    assert low <= called <= high


@given(
    st.lists(st.integers(-5, 5).map(float), min_size=1, max_size=15),
    st.lists(st.integers(-5, 5).map(float), min_size=1, max_size=15),
)
def test_p_values_equal_the_count(values: list[float], population: list[float]) -> None:
    expected = [(1 + sum(z >= v for z in population)) / (1 + len(population)) for v in values]
    np.testing.assert_allclose(p_values(np.array(values), np.array(population)), expected)


def test_unknown_values_are_nan_and_unknown_population_is_left_out() -> None:
    some = p_values(np.array([1.0, np.nan]), np.array([0.0, np.nan, 2.0]))
    np.testing.assert_allclose(some, [2 / 3, np.nan])
    assert np.isnan(p_values(np.array([1.0]), np.array([np.nan]))).all()


def test_each_candidate_meets_its_own_column() -> None:
    population = np.stack([np.arange(9.0), np.arange(9.0) + 100], axis=1)[:, None, :]
    target = Signals(np.array([[4.5], [104.5], [4.5]]), population, np.array([0, 1, 1]))
    scores = AttackP().score(target, no_references(target))
    np.testing.assert_allclose(scores, [0.5, 0.5, 0.0])


def test_null_is_at_chance_and_a_planted_shift_is_found() -> None:
    """12 independent games of 500 records x 8 targets; band of 3 standard errors."""
    games = [game(60 + s, 8, n=500) for s in range(12)]
    mean, width = mean_interval([auc(g.scores(AttackP()), g.included) for g in games])
    assert width < 0.015
    assert abs(mean - 0.5) < max(width, 0.01)
    leaky = game(1, 4, n=1000, shift=3.0)
    assert auc(leaky.scores(AttackP()), leaky.included) > 0.75


def test_a_population_is_required() -> None:
    target = Signals(np.zeros((2, 1)), np.empty((0, 1, 1)), np.zeros(2, np.int64))
    references = References(np.zeros((1, 2, 1)), np.empty((1, 0, 1, 1)), np.zeros((1, 2), bool))
    with pytest.raises(ValueError, match="expected at least one population record, got population=0"):
        AttackP().score(target, references)
