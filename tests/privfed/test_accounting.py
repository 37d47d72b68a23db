"""Accountants under either relation, the profile read both ways, and calibration back and forth."""

from __future__ import annotations

import math
from typing import get_args

import pytest
from dp_accounting import DpEvent, GaussianDpEvent, LaplaceDpEvent, PoissonSampledDpEvent, SelfComposedDpEvent

from privfed.accounting import calibrate, delta_at, epsilon, opinions, second_opinions
from privfed.claims import Neighbouring
from privfed.composition import Accountant
from privfed.dp_events import tuned
from privfed.opacus_accountants import opacus_epsilons

DELTA = 1e-5


def sampled(noise: float, rate: float, steps: int) -> DpEvent:
    return SelfComposedDpEvent(PoissonSampledDpEvent(rate, GaussianDpEvent(noise)), steps)


# The exact noise of one Gaussian for an epsilon, from its closed form, to the printed digits.
@pytest.mark.parametrize(
    ("target", "delta", "noise"),
    [
        (1, 1e-5, 3.7306), (2, 1e-5, 1.9938), (4, 1e-5, 1.0812), (8, 1e-5, 0.6002), (10, 1e-5, 0.4999),
        (1, 1e-6, 4.2247), (3, 1e-6, 1.5439), (10, 1e-6, 0.5411),
    ],
)  # fmt: skip
def test_one_gaussian_needs_the_noise_of_the_exact_analysis(
    target: float, delta: float, noise: float
) -> None:
    assert calibrate(GaussianDpEvent, target, delta) == pytest.approx(noise, abs=2.5e-4)


@pytest.mark.parametrize("accountant", ["rdp", "pld"])
def test_replacing_costs_as_much_as_half_the_noise_by_either_accountant(accountant: Accountant) -> None:
    """RDP of dp_accounting reads a noise as relative to what replacing moves: half the price, if asked so."""
    plain = (GaussianDpEvent(2.0), GaussianDpEvent(1.0))
    for whole, half in (plain, (tuned(plain[0], 3), tuned(plain[1], 3))):
        assert epsilon([whole], DELTA, accountant, "replace_one") == pytest.approx(
            epsilon([half], DELTA, accountant)
        )


def test_calibrated_noise_meets_its_epsilon_under_either_relation() -> None:
    for relation in get_args(Neighbouring):
        noise = calibrate(lambda s: sampled(s, 0.2, 10), 3.0, DELTA, "pld", relation)
        spent = epsilon([sampled(noise, 0.2, 10)], DELTA, "pld", relation)
        assert 2.99 < spent <= 3.0


def test_calibration_pays_for_tuning() -> None:
    once = calibrate(GaussianDpEvent, 4.0, DELTA, "rdp")
    many = calibrate(lambda s: tuned(GaussianDpEvent(s), 10, "geometric"), 4.0, DELTA, "rdp")
    assert many > 1.2 * once
    assert epsilon([tuned(GaussianDpEvent(many), 10, "geometric")], DELTA, "rdp") <= 4.0


def test_a_large_epsilon_is_calibrated_within_the_memory() -> None:
    """Cells of 1e-4 nats would be 1e9 of them."""
    noise = calibrate(GaussianDpEvent, 1e5, DELTA)
    assert epsilon([GaussianDpEvent(noise)], DELTA) <= 1e5
    # Epsilon is near mu^2 / 2 + 4.26 mu, by the tail of a Gaussian.
    assert noise == pytest.approx(1 / 443, abs=1.5e-4)


@pytest.mark.parametrize("accountant", ["rdp", "pld"])
def test_the_profile_is_epsilon_the_other_way_round(accountant: Accountant) -> None:
    spent = [sampled(1.0, 0.1, 20)]
    assert delta_at(spent, epsilon(spent, DELTA, accountant), accountant) == pytest.approx(DELTA, rel=1e-3)
    assert delta_at([None], 3.0) == 1.0
    assert delta_at([GaussianDpEvent(0.0)], 3.0) == 1.0


def test_accountants_without_an_analysis_are_left_out() -> None:
    def named(events: list[DpEvent], relation: Neighbouring) -> list[tuple[str, str]]:
        found = opinions(events, DELTA, relation)
        return [(o.accountant.split()[0] + " " + o.accountant.split()[-1], o.sampling) for o in found]

    names = ["dp-accounting RDP", "dp-accounting PLD", "opacus RDP", "opacus PRV"]
    unamplified = [(name, "shuffled") for name in names]
    assert named([sampled(1.0, 0.1, 5)], "replace_one") == [("dp-accounting PLD", "poisson"), *unamplified]
    assert named([tuned(sampled(1.0, 0.1, 5), 3, "poisson")], "add_or_remove_one") == [
        ("dp-accounting RDP", "poisson"), ("dp-accounting RDP", "shuffled")
    ]  # fmt: skip
    assert {name for name, _ in named([LaplaceDpEvent(1.0)], "add_or_remove_one")} == {
        "dp-accounting RDP", "dp-accounting PLD"
    }  # fmt: skip


def test_opacus_is_told_of_twice_the_reach_where_a_record_is_replaced() -> None:
    replaced = second_opinions([GaussianDpEvent(2.0)], DELTA, "replace_one")
    added = second_opinions([GaussianDpEvent(1.0)], DELTA)
    assert replaced == pytest.approx(added)


def test_prv_is_left_out_for_many_steps_whose_grid_grows() -> None:
    assert [name.split()[-1] for name in opacus_epsilons([(10.0, 0.01, 10**7)], DELTA)] == ["RDP"]
    assert opacus_epsilons(None, DELTA) == {}


def test_no_bound_is_an_opinion_but_no_second_one() -> None:
    assert {o.epsilon for o in opinions([GaussianDpEvent(1e-9)], DELTA)} == {math.inf}
    assert second_opinions([GaussianDpEvent(1e-9)], DELTA) == {}


def test_an_epsilon_below_nothing_is_refused() -> None:
    with pytest.raises(ValueError, match="expected epsilon >= 0, got epsilon=-1"):
        delta_at([GaussianDpEvent(1.0)], -1.0)


def test_pld_names_what_it_has_no_analysis_of() -> None:
    with pytest.raises(
        ValueError, match="expected events that accountant 'pld' supports under add_or_remove"
    ):
        epsilon([tuned(GaussianDpEvent(1.0), 3, "geometric")], DELTA)


def test_replacing_in_samples_is_bounded_even_where_losses_reach_too_far_for_pld() -> None:
    """There RDP, which has no analysis of it either, reads every step as if it took every record."""
    found = epsilon([sampled(0.05, 0.01, 10_000)], DELTA, "pld", "replace_one")
    assert found == pytest.approx(
        epsilon([SelfComposedDpEvent(GaussianDpEvent(0.025), 10_000)], DELTA, "rdp")
    )


def test_no_accountant_warns_order_by_order(caplog: pytest.LogCaptureFixture) -> None:
    assert epsilon([sampled(1e6, 1e-9, 1)], DELTA, "rdp") == 0
    assert caplog.records == []
