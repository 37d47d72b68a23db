"""Bounds on reconstruction: the golden table, agreement of the forms, and the blind guess."""

from __future__ import annotations

import numpy as np
import pytest
from dp_accounting import GaussianDpEvent, PoissonSampledDpEvent, SelfComposedDpEvent
from hypothesis import given
from hypothesis import strategies as st
from scipy.stats import norm

from audits.reconstruction_bound import claimed_success, gdp_success, guess_success, success
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


def test_what_is_out_of_range_is_refused() -> None:
    with pytest.raises(ValueError, match=r"expected kappa in \[0, 1\], got kappa=1.5"):
        gdp_success(1.0, 1.5)
    with pytest.raises(ValueError, match=r"expected kappa in \[0, 1\], got kappa=-0.1"):
        success([], -0.1)
    with pytest.raises(ValueError, match="expected mu >= 0, got mu=-1"):
        gdp_success(-1, 0.1)
    with pytest.raises(ValueError, match=r"expected distances of shape \(g, n\), g and n >= 1, got \(0, 3\)"):
        guess_success(np.empty((0, 3)), 0.5, 0.95)
