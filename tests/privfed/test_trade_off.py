"""Trade-offs: closed forms of Gaussians, additivity in squares, and no bound above that of one point."""

from __future__ import annotations

import math

import numpy as np
import pytest
from dp_accounting import DpEvent, GaussianDpEvent, LaplaceDpEvent, PoissonSampledDpEvent, SelfComposedDpEvent
from hypothesis import given
from hypothesis import settings as hypothesis_settings
from hypothesis import strategies as st
from scipy.stats import norm

from privfed.accounting import delta_at, epsilon
from privfed.claims import Neighbouring, max_tpr
from privfed.dp_events import tuned
from privfed.trade_off import gdp_auc, gdp_delta, gdp_mu, gdp_tpr, tpr_bound

DELTA = 1e-5


def sampled(noise: float, rate: float, steps: int) -> DpEvent:
    return SelfComposedDpEvent(PoissonSampledDpEvent(rate, GaussianDpEvent(noise)), steps)


# By mu: AUC, largest balanced accuracy, TPR at FPR 1 %, .1 %, .01 %, epsilon at delta 1e-5.
GOLDEN = [
    (0.5, 0.6382, 0.5987, (0.0339, 0.0048, 0.0006), 1.993),
    (1, 0.7602, 0.6915, (0.0924, 0.0183, 0.0033), 4.377),
    (2, 0.9214, 0.8413, (0.3721, 0.1378, 0.0428), 9.997),
    (3, 0.9831, 0.9332, (0.7497, 0.4641, 0.2361), 16.68),
]


@pytest.mark.parametrize(("mu", "auc", "balanced", "tprs", "cost"), GOLDEN)
def test_gaussian_trade_off(
    mu: float, auc: float, balanced: float, tprs: tuple[float, ...], cost: float
) -> None:
    printed = 5e-5 + 1e-9
    assert gdp_auc(mu) == pytest.approx(auc, abs=printed)
    fprs = np.linspace(0.001, 0.999, 1999)
    assert max((1 + gdp_tpr(mu, f) - f) / 2 for f in fprs) == pytest.approx(balanced, abs=printed + 1e-5)
    assert [gdp_tpr(mu, f) for f in (0.01, 0.001, 0.0001)] == pytest.approx(tprs, abs=printed)
    assert gdp_delta(mu, cost) == pytest.approx(DELTA, rel=0.01)


noises = st.lists(st.floats(0.3, 50), min_size=1, max_size=5)


@given(noises, st.integers(1, 9))
def test_mu_of_gaussians_adds_in_squares(spread: list[float], times: int) -> None:
    events = [SelfComposedDpEvent(GaussianDpEvent(noise), times) for noise in spread]
    each = [gdp_mu([event]) for event in events]
    together = gdp_mu(events)
    assert together is not None
    assert together**2 == pytest.approx(sum(mu**2 for mu in each if mu is not None))
    assert together**2 == pytest.approx(sum(times / noise**2 for noise in spread))
    assert gdp_mu(events, "replace_one") == pytest.approx(2 * together)


@given(noises, st.floats(1e-5, 0.5))
def test_the_bound_of_gaussians_is_their_best_attack(spread: list[float], fpr: float) -> None:
    """The likelihood ratio test of N(mu, 1) against N(0, 1)."""
    mu = math.sqrt(sum(1 / noise**2 for noise in spread))
    found = tpr_bound([GaussianDpEvent(noise) for noise in spread], fpr)
    assert found == pytest.approx(norm.sf(norm.isf(fpr) - mu))


@hypothesis_settings(max_examples=5)
@given(
    st.floats(0.7, 3.0), st.floats(0.01, 0.5), st.integers(1, 30), st.floats(1e-4, 0.5),
    st.sampled_from([1e-3, 1e-5, 1e-7]), st.sampled_from(["add_or_remove_one", "replace_one"]),
)  # fmt: skip
def test_the_whole_profile_never_says_less_than_one_point_of_it(
    noise: float, rate: float, steps: int, fpr: float, delta: float, relation: Neighbouring
) -> None:
    events = [sampled(noise, rate, steps)]
    one = max_tpr(epsilon(events, delta, "pld", relation), delta, fpr)
    whole = tpr_bound(events, fpr, "pld", relation)
    assert fpr - 1e-9 <= whole <= one + 1e-9


def test_the_profile_is_read_to_the_exact_trade_off() -> None:
    """A rate of all but 1 is no closed form for the code, and one in truth."""
    events = [sampled(2.0, 1 - 1e-12, 3)]
    mu = math.sqrt(3) / 2
    for fpr in (0.001, 0.1, 0.6):
        assert tpr_bound(events, fpr) == pytest.approx(gdp_tpr(mu, fpr), abs=2e-5)
    assert gdp_mu(events) == pytest.approx(mu, rel=1e-3)


@pytest.mark.parametrize("relation", ["add_or_remove_one", "replace_one"])
def test_an_envelope_is_nowhere_below_the_profile_and_no_smaller_one_is_as_good(
    relation: Neighbouring,
) -> None:
    events = [sampled(1.0, 0.05, 50)]
    mu = gdp_mu(events, relation)
    assert mu is not None
    grid = np.linspace(0, epsilon(events, 1e-8, "pld", relation), 60)
    spare = [gdp_delta(mu, at) - delta_at(events, at, "pld", relation) for at in grid]
    assert min(spare) >= -1e-15
    assert any(gdp_delta(0.999 * mu, at) < delta_at(events, at, "pld", relation) for at in grid)
    unamplified = gdp_mu([SelfComposedDpEvent(GaussianDpEvent(1.0), 50)], relation)
    assert unamplified is not None
    assert mu < 0.3 * unamplified


def test_a_profile_of_one_accountant_is_that_of_rdp_where_pld_has_none() -> None:
    events = [tuned(sampled(1.0, 0.05, 50), 5, "geometric")]
    assert 0.01 < tpr_bound(events, 0.01, "rdp") < 1
    with pytest.raises(ValueError, match="expected events that accountant 'pld' supports"):
        tpr_bound(events, 0.01)


def test_what_has_no_mu_and_what_has_no_bound() -> None:
    assert gdp_mu([LaplaceDpEvent(1.0)]) is None
    assert gdp_mu([None]) is None
    assert gdp_mu([tuned(GaussianDpEvent(1.0), 3, "poisson")]) is None
    assert gdp_mu([GaussianDpEvent(0.0)]) == math.inf
    assert gdp_mu([sampled(1e-9, 0.1, 1)]) == pytest.approx(1e9)
    assert gdp_mu([]) == 0
    assert tpr_bound([None], 0.1) == 1
    assert tpr_bound([GaussianDpEvent(0.0)], 0.1) == 1
    assert tpr_bound([sampled(1e-3, 0.4, 40)], 1e-4) == 1
    assert tpr_bound([], 0.1) == pytest.approx(0.1)
    assert gdp_delta(0, 1) == 0


def test_laplace_noise_bounds_both_errors() -> None:
    """Pure differential privacy: the two straight lines."""
    assert tpr_bound([LaplaceDpEvent(1.0)], 0.01) == pytest.approx(0.01 * math.e, rel=1e-3)


@pytest.mark.parametrize("fpr", [-0.1, 1.1, math.nan])
def test_rates_that_are_none_are_refused(fpr: float) -> None:
    with pytest.raises(ValueError, match=r"expected fpr in \[0, 1\], got fpr="):
        tpr_bound([GaussianDpEvent(1.0)], fpr)
