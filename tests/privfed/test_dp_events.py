"""Events read without an accountant: tuning, the reading without amplification, words."""

from __future__ import annotations

import math
import re
from typing import get_args

import pytest
from dp_accounting import (
    ComposedDpEvent,
    DpEvent,
    GaussianDpEvent,
    LaplaceDpEvent,
    PoissonSampledDpEvent,
    SelfComposedDpEvent,
)

from privfed.accounting import epsilon
from privfed.dp_events import (
    Stopping,
    describe,
    gaussian_noises,
    gaussians,
    replaced,
    trace,
    tuned,
    unsampled,
    without_amplification,
)

DELTA = 1e-5
STEP = PoissonSampledDpEvent(0.07, GaussianDpEvent(1.1))
RUN = SelfComposedDpEvent(STEP, 100)


def test_a_fixed_number_of_runs_composes() -> None:
    runs = [GaussianDpEvent(2.0)] * 9
    assert epsilon([tuned(GaussianDpEvent(2.0), 9)], DELTA) == pytest.approx(epsilon(runs, DELTA))


@pytest.mark.parametrize("stopping", ["geometric", "poisson"])
def test_a_random_number_of_runs_costs_more_than_one_and_less_than_all(stopping: Stopping) -> None:
    """Ten runs on average, by the theorems of Papernot and Steinke."""
    one = epsilon([GaussianDpEvent(2.0)], DELTA, "rdp")
    every = epsilon([tuned(GaussianDpEvent(2.0), 10)], DELTA, "rdp")
    assert one < epsilon([tuned(GaussianDpEvent(2.0), 10, stopping)], DELTA, "rdp") < every


def test_one_geometric_run_is_priced_by_theorem_two() -> None:
    """At mean 1: the order's own RDP, and twice the least of (1 - 1/order) RDP over all orders."""
    from dp_accounting.rdp import RdpAccountant

    orders = [1.0 + k / 10 for k in range(1, 400)]
    rho = 1 / (2 * 2.0**2)
    least = 2 * min((1 - 1 / order) * order * rho for order in orders)
    accountant = RdpAccountant(orders).compose(tuned(GaussianDpEvent(2.0), 1, "geometric"))
    assert accountant.rdp[50] == pytest.approx(orders[50] * rho + least)


@pytest.mark.parametrize(
    ("runs", "stopping", "message"),
    [
        (0, "fixed", "expected finite runs >= 1, got runs=0"),
        (math.inf, "poisson", "expected finite runs >= 1, got runs=inf"),
        (2.5, "fixed", "expected a whole number of runs, got runs=2.5"),
        (2, "best", "expected stopping 'fixed', 'geometric' or 'poisson', got stopping='best'"),
    ],
)
def test_runs_that_are_none_are_refused(runs: float, stopping: Stopping, message: str) -> None:
    with pytest.raises(ValueError, match=re.escape(message)):
        tuned(RUN, runs, stopping)


def test_no_amplification_is_one_use_a_pass_however_deep() -> None:
    """0.07 x 100 is a little above 7 in floating point."""
    plain = SelfComposedDpEvent(GaussianDpEvent(1.1), 7)
    assert without_amplification(RUN) == plain
    assert without_amplification(STEP) == GaussianDpEvent(1.1)
    assert without_amplification(ComposedDpEvent([RUN, LaplaceDpEvent(1.0)])) == ComposedDpEvent(
        [plain, LaplaceDpEvent(1.0)]
    )
    for stopping in get_args(Stopping):
        assert without_amplification(tuned(RUN, 3, stopping)) == tuned(plain, 3, stopping)


def test_a_record_that_is_seldom_drawn_is_still_drawn_once() -> None:
    rare = SelfComposedDpEvent(PoissonSampledDpEvent(1e-12, GaussianDpEvent(1.0)), 3)
    assert gaussians(without_amplification(rare)) == [(1.0, 1.0, 1)]


def test_what_is_not_sampled_reads_every_record_in_every_step() -> None:
    assert gaussians(unsampled(ComposedDpEvent([RUN, STEP]))) == [(1.1, 1.0, 100), (1.1, 1.0, 1)]


def test_replacing_halves_every_noise() -> None:
    tree = ComposedDpEvent([RUN, tuned(GaussianDpEvent(4.0), 2, "poisson"), LaplaceDpEvent(6.0)])
    assert list(gaussian_noises(tree)) == [1.1, 4.0]
    assert list(gaussian_noises(replaced(tree))) == [0.55, 2.0]
    assert replaced(LaplaceDpEvent(6.0)) == LaplaceDpEvent(3.0)
    assert replaced(STEP) == PoissonSampledDpEvent(0.07, GaussianDpEvent(0.55))


def test_equal_traces_have_one_key_in_any_order() -> None:
    other: DpEvent = GaussianDpEvent(2.0)
    assert trace([RUN, other, RUN]) == trace([other, RUN, RUN]) != trace([other, RUN])


def test_tuning_in_words() -> None:
    words = "the best of a Poisson number of runs (mean 4) of Gaussian (noise multiplier 2)"
    assert describe([tuned(GaussianDpEvent(2.0), 4, "poisson")]) == words
    assert "geometric number" in describe([tuned(GaussianDpEvent(2.0), 4, "geometric")])
