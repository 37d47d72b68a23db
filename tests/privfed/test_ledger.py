from __future__ import annotations

import math
import pickle
import re

import pytest
from dp_accounting import (
    ComposedDpEvent,
    DpEvent,
    GaussianDpEvent,
    LaplaceDpEvent,
    PoissonSampledDpEvent,
    SelfComposedDpEvent,
)
from hypothesis import given
from hypothesis import settings as hypothesis_settings
from hypothesis import strategies as st
from scipy.optimize import brentq
from scipy.stats import norm

from privfed.accounting import Accountant, calibrate, describe, epsilon, second_opinions
from privfed.claims import Assumption, max_tpr
from privfed.hooks import Spent
from privfed.ledger import Ledger, claim
from privfed.randomness import Stream

DELTA = 1e-5


def sampled(noise: float, rate: float, steps: int) -> DpEvent:
    return SelfComposedDpEvent(PoissonSampledDpEvent(rate, GaussianDpEvent(noise)), steps)


ROUND = Spent(None, sampled(1.0, 0.1, 4))
NOTHING = Spent(None, None)


# Golden values: Opacus 1.6 at delta 1e-5; (noise multiplier, rate, steps): RDP, PRV. Printed to four
# digits. PRV is an upper bound .01 above its estimate; PLD of dp_accounting lies between the estimate
# and it. RDP of dp_accounting agrees with Opacus up to the orders each tries.
GOLDEN = [
    ((1.1, 256 / 60000, 14062), 2.5966, 2.3917),
    ((0.6, 0.01, 1000), 8.6659, 7.4442),
    ((1.0, 0.01, 1000), 2.1014, 1.8384),
    ((1.0, 0.1, 20), 4.2240, 3.6010),
    ((2.0, 0.1, 100), 2.5806, 2.3476),
    ((10.0, 1.0, 100), 4.7285, 4.3874),
    ((1.0, 1.0, 20), 30.127, None),
]


@pytest.mark.parametrize(("trace", "rdp", "prv"), GOLDEN)
def test_reference_epsilons(trace: tuple[float, float, int], rdp: float, prv: float | None) -> None:
    opinions = second_opinions([sampled(*trace)], DELTA)
    assert opacus(opinions, "RDP") == pytest.approx(rdp, abs=5e-4 if rdp > 10 else 5e-5 + 1e-9)
    assert epsilon([sampled(*trace)], DELTA, "rdp") == pytest.approx(rdp, rel=2e-3)
    if prv is not None:
        assert opacus(opinions, "PRV") == pytest.approx(prv, abs=5e-5 + 1e-9)
        assert prv - 0.0125 <= epsilon([sampled(*trace)], DELTA, "pld") <= prv


def opacus(opinions: dict[str, float], method: str) -> float:
    (found,) = [
        v for n, v in opinions.items() if n.startswith("opacus") and n.endswith(f"{method}, as sampled")
    ]
    return found


# Exact Gaussian differential privacy, mu = 1 / noise multiplier, at delta 1e-5, to the printed digits.
@pytest.mark.parametrize(("mu", "value"), [(0.5, 1.993), (1.0, 4.377), (2.0, 9.997), (3.0, 16.68)])
def test_one_gaussian_costs_what_the_exact_analysis_says(mu: float, value: float) -> None:
    printed = 5e-3 if value > 10 else 5e-4
    assert epsilon([GaussianDpEvent(1 / mu)], DELTA) == pytest.approx(value, abs=printed + 1e-4)


def test_replacing_a_record_moves_a_sum_by_twice_the_clip() -> None:
    replaced = epsilon([GaussianDpEvent(1.0)], DELTA, "pld", "replace_one")
    assert replaced == pytest.approx(epsilon([GaussianDpEvent(0.5)], DELTA))


def test_both_sampling_assumptions_are_printed() -> None:
    opinions = second_opinions([sampled(1.1, 0.07, 100)] * 2, DELTA)
    assert len(opinions) == 8
    shuffled = [v for name, v in opinions.items() if name.endswith("shuffled (no amplification)")]
    # Seven passes a round: two rounds are fourteen full-batch Gaussians.
    assert min(shuffled) == pytest.approx(epsilon([GaussianDpEvent(1.1)] * 14, DELTA))
    assert max(shuffled) == pytest.approx(epsilon([GaussianDpEvent(1.1)] * 14, DELTA, "rdp"), rel=2e-3)
    assert min(shuffled) > max(v for name, v in opinions.items() if "as sampled" in name)


def test_opacus_is_asked_about_gaussians_only() -> None:
    assert {name.split()[0] for name in second_opinions([LaplaceDpEvent(1.0)], DELTA)} == {"dp-accounting"}
    assert second_opinions([None], DELTA) == {}
    assert second_opinions([], DELTA) == {}


def test_an_unaccounted_release_costs_everything_and_none_at_all_costs_nothing() -> None:
    assert epsilon([sampled(1.0, 0.1, 4), None], DELTA) == math.inf
    assert epsilon([], DELTA) == 0


@pytest.mark.parametrize("accountant", ["rdp", "pld"])
def test_the_order_and_grouping_of_events_do_not_matter(accountant: Accountant) -> None:
    a, b = sampled(1.0, 0.1, 4), sampled(2.0, 0.2, 3)
    whole = epsilon([a, b, a], DELTA, accountant)
    assert epsilon([b, a, a], DELTA, accountant) == whole
    assert epsilon([ComposedDpEvent([a, b]), a], DELTA, accountant) == pytest.approx(whole, rel=1e-3)
    assert epsilon([sampled(1.0, 0.1, 8), b], DELTA, accountant) == pytest.approx(whole, rel=1e-3)


noises = st.floats(0.7, 5.0)
rates = st.floats(0.05, 1.0)
steps = st.integers(1, 50)


@hypothesis_settings(max_examples=12)
@given(noises, rates, steps, st.integers(1, 20), st.floats(1.05, 2.0))
def test_more_steps_cost_more_and_more_noise_costs_less(
    noise: float, rate: float, count: int, more: int, factor: float
) -> None:
    here = epsilon([sampled(noise, rate, count)], DELTA, "rdp")
    assert epsilon([sampled(noise, rate, count + more)], DELTA, "rdp") >= here
    assert epsilon([sampled(noise * factor, rate, count)], DELTA, "rdp") <= here


@hypothesis_settings(max_examples=10)
@given(st.lists(st.tuples(noises, rates, st.integers(1, 9)), min_size=1, max_size=4), st.randoms())
def test_composition_does_not_depend_on_the_order(
    traces: list[tuple[float, float, int]], random: object
) -> None:
    events = [sampled(*trace) for trace in traces]
    shuffled = list(events)
    random.shuffle(shuffled)  # type: ignore[attr-defined]
    assert epsilon(shuffled, DELTA, "rdp") == pytest.approx(epsilon(events, DELTA, "rdp"), rel=1e-9)


# Ledger and claim


def test_spending_leaves_the_old_ledger_as_it_was() -> None:
    before = Ledger().spend(0, ROUND)
    after = before.spend(0, ROUND).spend(1, NOTHING)
    assert {k: len(v) for k, v in before.events.items()} == {0: 1}
    assert {k: len(v) for k, v in after.events.items()} == {0: 2, 1: 1}
    assert pickle.loads(pickle.dumps(after)).events == after.events


def test_clients_compose_in_parallel_over_the_rounds_they_took_part_in() -> None:
    ledger = Ledger().spend(0, ROUND).spend(1, ROUND).spend(0, ROUND).spend(0, ROUND)
    found = claim(ledger, DELTA, outside=("label sets",))
    assert found is not None
    assert found.epsilon == epsilon([ROUND.event] * 3, DELTA)
    assert found.accountant.startswith("dp-accounting 0.")
    assert found.accountant.endswith("PLD")
    assert (found.sampling, found.outside) == ("poisson", ("label sets",))
    assert found.mechanism == "3 x (4 steps of Poisson-sampled (rate 0.1) Gaussian (noise multiplier 1))"


def test_one_unaccounted_round_of_one_client_leaves_no_claim() -> None:
    assert claim(Ledger().spend(0, ROUND).spend(1, ROUND).spend(1, NOTHING), DELTA) is None
    assert claim(Ledger(), DELTA) is None
    assert claim(Ledger({0: (), 1: ()}), DELTA) is None


def test_an_assumption_that_failed_once_stays_failed() -> None:
    good, bad = Assumption("clipped", True, "fine"), Assumption("clipped", False, "round 2 was not")
    ledger = Ledger()
    for checked in (good, bad, good):
        ledger = ledger.spend(0, Spent(None, ROUND.event, (checked,), ("a caveat",)))
    found = claim(ledger, DELTA)
    assert found is not None
    assert found.assumptions == (bad,)
    assert found.outside == ("a caveat",)
    assert not found.verified


def test_noise_from_a_stream_that_was_used_before_is_unverified() -> None:
    once = Ledger().spend(0, ROUND, Stream(0, ("round", 0))).spend(0, ROUND, Stream(0, ("round", 1)))
    again = once.spend(1, ROUND, Stream(0, ("round", 1)))
    verified = [claim(ledger, DELTA).verified for ledger in (once, again)]  # type: ignore[union-attr]
    assert verified == [True, False]


@pytest.mark.parametrize(("largest", "verified"), [(99_999, True), (100_001, False)])
def test_delta_is_held_against_the_largest_client(largest: int, verified: bool) -> None:
    found = claim(Ledger().spend(0, ROUND), DELTA, records={0: largest, 1: 3})
    assert found is not None
    assert found.verified is verified


def test_words_for_other_mechanisms() -> None:
    assert describe([ComposedDpEvent([GaussianDpEvent(2.0), LaplaceDpEvent(1.0)])]) == (
        "Gaussian (noise multiplier 2); LaplaceDpEvent(noise_multiplier=1.0)"
    )


@pytest.mark.parametrize("delta", [0.0, 1.0, -1.0, math.nan])
def test_delta_out_of_range_is_refused(delta: float) -> None:
    with pytest.raises(ValueError, match=r"expected delta in \(0, 1\), got delta="):
        epsilon([GaussianDpEvent(1.0)], delta)


def test_an_unknown_accountant_and_an_event_it_cannot_read_are_refused() -> None:
    with pytest.raises(ValueError, match="expected accountant 'rdp' or 'pld', got accountant='prv'"):
        epsilon([GaussianDpEvent(1.0)], DELTA, "prv")  # type: ignore[arg-type]
    with pytest.raises(ValueError, match="expected events that accountant 'rdp' supports under replace_one"):
        epsilon([sampled(1.0, 0.1, 1)], DELTA, "rdp", "replace_one")


@pytest.mark.parametrize("target", [0.0, -1.0, math.inf, math.nan])
def test_targets_that_no_noise_meets_are_refused(target: float) -> None:
    with pytest.raises(ValueError, match="expected a finite epsilon > 0, got epsilon="):
        calibrate(GaussianDpEvent, target, DELTA)


@pytest.mark.parametrize(("target", "accountant"), [(0.5, "rdp"), (20.0, "rdp"), (0.01, "pld"), (3.0, "pld")])
def test_calibrated_noise_is_enough_and_hardly_more(target: float, accountant: Accountant) -> None:
    noise = calibrate(GaussianDpEvent, target, DELTA, accountant)
    assert epsilon([GaussianDpEvent(noise)], DELTA, accountant) <= target
    assert epsilon([GaussianDpEvent(noise - 3e-4)], DELTA, accountant) > target


def test_a_target_beyond_the_reach_of_an_accountant_is_refused() -> None:
    with pytest.raises(ValueError, match="expected an epsilon that accountant 'rdp' can show, got epsilon="):
        calibrate(GaussianDpEvent, 1e-4, 1e-13, "rdp")


@pytest.mark.parametrize("accountant", ["rdp", "pld"])
def test_a_delta_that_covers_every_use_of_a_record_asks_for_no_noise_and_is_refused(
    accountant: Accountant,
) -> None:
    """Where delta exceeds the chance that a record is drawn, no noise is little enough: no search ends."""
    rule = "expected delta below 1e-06, the chance that a record is used at all, got delta=1e-05"
    with pytest.raises(ValueError, match=rule):
        calibrate(lambda noise: sampled(noise, 1e-6, 1), 8.0, DELTA, accountant)


def test_a_target_that_asks_for_hardly_any_noise_is_refused() -> None:
    told = re.escape("expected an epsilon that asks for noise >= 0.001, got epsilon=1000000000.0")
    with pytest.raises(ValueError, match=told):
        calibrate(GaussianDpEvent, 1e9, DELTA, "rdp")


@pytest.mark.parametrize("noise", [0.05, 0.01])
def test_little_noise_has_its_price_by_wider_cells(noise: float) -> None:
    """PLD at its usual width would hold up to 1e8 cells; the exact analysis gives the value."""
    exact = epsilon_of_gaussian(1 / noise, DELTA)
    found = epsilon([GaussianDpEvent(noise)], DELTA)
    assert exact <= found <= exact * 1.001


def epsilon_of_gaussian(mu: float, delta: float) -> float:
    """Balle and Wang (2018, arXiv 1805.06530), Theorem 8, solved for epsilon."""

    def excess(value: float) -> float:
        growth = math.exp(value + norm.logcdf(-mu / 2 - value / mu))
        return float(norm.cdf(mu / 2 - value / mu)) - growth - delta

    return float(brentq(excess, 0, mu * mu + 20 * mu))


@pytest.mark.parametrize("accountant", ["rdp", "pld"])
def test_next_to_no_noise_is_bounded_without_filling_the_memory(accountant: Accountant) -> None:
    """40 steps at noise .001: 38 GiB of cells at the usual width."""
    found = epsilon([sampled(1e-3, 0.4, 40)], DELTA, accountant)
    assert 1e6 < found < math.inf


@pytest.mark.parametrize("noise", [0.0, 1e-160, 1e-320])
@pytest.mark.parametrize("accountant", ["rdp", "pld"])
def test_noise_under_which_the_arithmetic_overflows_costs_everything(
    noise: float, accountant: Accountant
) -> None:
    """RDP of dp_accounting answers 0 at 1e-160."""
    assert epsilon([sampled(noise, 0.4, 1)], DELTA, accountant) == math.inf
    assert second_opinions([sampled(noise, 0.4, 1)], DELTA) == {}


@pytest.mark.parametrize("accountant", ["rdp", "pld"])
def test_an_answer_that_is_no_number_costs_everything(
    accountant: Accountant, monkeypatch: pytest.MonkeyPatch
) -> None:
    """max(0, NaN) is 0 in Python: a claim of perfect privacy."""
    monkeypatch.setattr(f"dp_accounting.{accountant}.{ACCOUNTANTS[accountant]}.get_epsilon", nothing)
    assert epsilon([sampled(1.5, 0.3, 7)], DELTA, accountant) == math.inf


ACCOUNTANTS: dict[str, str] = {"rdp": "RdpAccountant", "pld": "PLDAccountant"}


def nothing(*_: object) -> float:
    return math.nan


def test_prv_is_left_out_where_its_grid_would_fill_the_memory() -> None:
    opinions = second_opinions([sampled(0.01, 0.4, 40)], DELTA)
    assert sorted(name.split()[2].rstrip(",") for name in opinions) == ["PLD"] * 2 + ["RDP"] * 4


# Formal bound on TPR at FPR .01 %, .1 %, 1 %, 10 % at delta 1e-5, to the printed digits.
@pytest.mark.parametrize(
    ("value", "bounds"),
    [
        (0.5, (0.0002, 0.0017, 0.0165, 0.165)),
        (1.0, (0.0003, 0.0027, 0.027, 0.27)),
        (2.0, (0.0007, 0.0074, 0.074, 0.74)),
        (3.0, (0.002, 0.020, 0.20, 0.955)),
        (5.0, (0.015, 0.148, 0.993, 0.994)),
        (8.0, (0.298, 1.0, 1.0, 1.0)),
        (10.0, (1.0, 1.0, 1.0, 1.0)),
        (math.inf, (1.0, 1.0, 1.0, 1.0)),
        (1e4, (1.0, 1.0, 1.0, 1.0)),
    ],
)
def test_largest_true_positive_rate(value: float, bounds: tuple[float, ...]) -> None:
    for fpr, bound in zip((1e-4, 1e-3, 1e-2, 1e-1), bounds, strict=True):
        assert max_tpr(value, DELTA, fpr) == pytest.approx(bound, rel=0.03, abs=6e-4)


def test_rates_out_of_range_are_refused() -> None:
    with pytest.raises(ValueError, match=r"expected fpr in \[0, 1\], got fpr=1.5"):
        max_tpr(1.0, DELTA, 1.5)
