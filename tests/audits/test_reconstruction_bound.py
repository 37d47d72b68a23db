"""Bounds on reconstruction: the golden table, agreement of the forms, and the blind guess."""

from __future__ import annotations

import numpy as np
import pytest
from dp_accounting import GaussianDpEvent, PoissonSampledDpEvent, SelfComposedDpEvent
from hypothesis import given
from hypothesis import strategies as st
from scipy.optimize import brentq
from scipy.stats import norm

from audits.reconstruction_bound import (
    claimed_success,
    gdp_success,
    guess_success,
    pointing_success,
    success,
)
from privfed.trade_off import gdp_delta


@pytest.mark.parametrize(
    ("mu", "kappa", "expected"),
    [
        (0.5, 0.1, 0.217),
        (0.5, 0.01, 0.034),
        (0.5, 0.001, 0.0048),
        (1.0, 0.1, 0.389),
        (1.0, 0.01, 0.092),
        (1.0, 0.001, 0.0183),
        (2.0, 0.1, 0.764),
        (2.0, 0.01, 0.372),
        (2.0, 0.001, 0.138),
    ],
)
def test_the_golden_table(mu: float, kappa: float, expected: float) -> None:
    digits = len(str(expected)) - 2
    assert round(gdp_success(mu, kappa), digits) == expected
    assert gdp_success(mu, kappa) == pytest.approx(norm.cdf(norm.ppf(kappa) + mu), rel=1e-9)


@given(st.floats(0, 5), st.floats(0, 1))
def test_nothing_does_worse_than_the_blind_guess(mu: float, kappa: float) -> None:
    assert gdp_success(mu, kappa) >= kappa - 1e-12
    assert gdp_success(0.0, kappa) == pytest.approx(kappa, abs=1e-12)


@pytest.mark.parametrize("kappa", [0.001, 0.01, 0.1])
def test_a_full_batch_gaussian_is_gdp(kappa: float) -> None:
    assert success([GaussianDpEvent(2.0)] * 4, kappa) == pytest.approx(gdp_success(1.0, kappa))


@pytest.mark.parametrize("kappa", [0.001, 0.01, 0.1])
def test_one_point_of_the_profile_says_no_more_than_all_of_it(kappa: float) -> None:
    for epsilon in (0.5, 2.0, 4.0):
        assert claimed_success(epsilon, gdp_delta(1.0, epsilon), kappa) >= gdp_success(1.0, kappa) - 1e-9
    sampled = SelfComposedDpEvent(PoissonSampledDpEvent(0.1, GaussianDpEvent(2.0)), 10)
    assert kappa < success([sampled], kappa) < gdp_success(np.sqrt(10) / 2, kappa)


def test_without_a_guarantee_everything_may_be_rebuilt() -> None:
    assert success([None], 0.01) == 1.0
    assert claimed_success(np.inf, 0.0, 0.01) == 1.0


def test_the_best_blind_guess_is_counted_with_its_uncertainty() -> None:
    distances = np.array([[0.1, 0.9, 0.9, 0.9], [0.1, 0.2, 0.9, 0.9]])
    kappa, upper = guess_success(distances, 0.5, 0.95)
    assert kappa == 0.5
    assert upper > guess_success(distances[1:], 0.5, 0.95)[1] > 0.5


def profile(mu: float) -> list[tuple[float, float]]:
    return [(float(e), gdp_delta(mu, float(e))) for e in np.linspace(0, 12, 1201)]


@pytest.mark.parametrize("mu", [0.5, 1.0, 2.0])
@pytest.mark.parametrize("candidates", [2, 10, 60, 400])
def test_pointing_has_the_fixed_point_of_the_trade_off(mu: float, candidates: int) -> None:
    """s = n/2 f(2 (1 - s) / n), f the largest TPR at that FPR."""
    half = candidates / 2
    expected = brentq(lambda s: half * gdp_success(mu, (1 - s) / half) - s, 0.5, 1 - 1e-12)
    assert pointing_success(profile(mu), 0.5, candidates) == pytest.approx(expected, abs=1e-4)


def test_pointing_at_one_of_two_under_gdp_is_in_closed_form() -> None:
    assert pointing_success(profile(1.0), 0.5, 2) == pytest.approx(norm.cdf(0.5), abs=1e-5)


def test_pointing_under_pure_epsilon_does_not_depend_on_the_number_of_candidates() -> None:
    for candidates in (2, 1000):
        assert pointing_success([(1.0, 0.0)], 0.5, candidates) == pytest.approx(np.e / (1 + np.e))
        assert pointing_success([(1.0, 0.0)], 0.2, candidates) == pytest.approx(np.e / (4 + np.e))


def test_whoever_may_choose_where_to_point_beats_the_bound_for_one_record_but_not_its_own() -> None:
    """Each bit of 100 under Gaussian noise of deviation 1, mu = 1: point at the largest."""
    rng = np.random.default_rng(0)
    bits = rng.random((20_000, 100)) < 0.5
    largest = (bits + rng.normal(size=bits.shape)).argmax(axis=1)
    right = bits[np.arange(len(bits)), largest].mean()
    error = 3 * np.sqrt(right * (1 - right) / len(bits))
    assert gdp_success(1.0, 0.5) + error < right
    assert right - error < pointing_success(profile(1.0), 0.5, 100)


@given(st.floats(0, 800), st.floats(0, 1), st.floats(0.01, 0.99), st.integers(1, 1000))
def test_pointing_blindly_is_never_ruled_out(
    epsilon: float, delta: float, chance: float, candidates: int
) -> None:
    assert chance - 1e-12 <= pointing_success([(epsilon, delta)], chance, candidates) <= 1


def test_what_is_out_of_range_is_refused() -> None:
    with pytest.raises(ValueError, match=r"expected kappa in \[0, 1\], got kappa=1.5"):
        gdp_success(1.0, 1.5)
    with pytest.raises(ValueError, match=r"expected kappa in \[0, 1\], got kappa=-0.1"):
        success([], -0.1)
    with pytest.raises(ValueError, match="expected mu >= 0, got mu=-1"):
        gdp_success(-1, 0.1)
    with pytest.raises(ValueError, match=r"expected chance in \(0, 1\), got chance=1.0"):
        pointing_success([(1.0, 0.0)], 1.0, 2)
    with pytest.raises(ValueError, match="expected candidates and a profile, got candidates=2 and 0 points"):
        pointing_success([], 0.5, 2)
    with pytest.raises(ValueError, match=r"expected distances of shape \(g, n\), g and n >= 1, got \(0, 3\)"):
        guess_success(np.empty((0, 3)), 0.5, 0.95)
