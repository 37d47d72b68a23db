"""DP-FedAvg: clip at the clients, noise on the sum, and who that protects against whom."""

from __future__ import annotations

import math
from dataclasses import replace
from typing import Any

import pytest
import torch
from dp_accounting import GaussianDpEvent, PoissonSampledDpEvent
from hypothesis import given
from hypothesis import strategies as st

from defenses import dp_fedavg
from defenses.dp_fedavg import CURATOR, SECRET_SAMPLE, DpFedAvg
from defenses.local_noise import SIMULATED, LocalNoise
from defenses.secure_aggregation import SecureAggregation
from privfed.accounting import epsilon
from privfed.claims import EVERYBODY
from privfed.federation import Outcome, run
from privfed.hooks import Hooks, Spent
from privfed.ledger import Ledger, claims
from privfed.nets import Params
from privfed.pipelines.fedavg import FedAvg
from privfed.pipelines.feddgm import FedDGM
from privfed.pipelines.interface import Pipeline
from privfed.randomness import Stream
from privfed.training import Recipe
from tests.defenses.updates import any_update, flat, length, params, plus, zeros
from tests.privfed.pipelines.worlds import federation, named, small, world

CLIPPED, NOISE = "every update clipped", "noise of the stated size"
COUNTED = "clients taking part as stated"
TOTAL = {"w": torch.zeros(40, 40)}
PLAIN = DpFedAvg(noise_multiplier=1.0, clip=2.0, expected_clients=3.0)
BRIEF = FedAvg(3, Recipe(epochs=1, batch=5, lr=0.1), "equal")


def failed(spent: Spent[Params]) -> set[str]:
    return {a.name for a in spent.checked if not a.verified}


def ran(
    defense: DpFedAvg, pipeline: Pipeline = BRIEF, clients: int = 3, more: tuple[Any, ...] = ()
) -> Outcome:
    hooks = Hooks(uplink=(defense,), aggregate=(defense, *more))
    return run(pipeline, world(hooks=hooks), [federation(0, (3,) * clients)])[0]


@given(any_update(broken=True), st.floats(1e-3, 1e3))
def test_what_a_client_adds_to_the_sum_is_within_the_clip(update: Params, clip: float) -> None:
    spent = replace(PLAIN, clip=clip).uplink(zeros(), update, Stream(0))
    assert length(spent.value) <= clip * (1 + 1e-4)
    assert (failed(spent), spent.charges) == (set(), ())


def test_one_client_moves_the_sum_by_no_more_than_the_clip() -> None:
    """The same noise with and without it."""
    start, defense = params(0), replace(PLAIN, clip=0.7)
    sent = [defense.uplink(zeros(), {k: 1e3 * t for k, t in params(s).items()}, Stream(s)) for s in (1, 2, 3)]
    few, many = (
        defense.aggregate({k: sum((s.value[k] for s in sent[:n]), 0 * start[k]) for k in start}, n, Stream(0))
        for n in (2, 3)
    )
    assert float((flat(few.value) - flat(many.value)).norm()) == pytest.approx(0.7, rel=1e-3)


def test_noise_on_the_sum_is_divided_by_the_public_number() -> None:
    """Sum and divisor, not a mean of noisy updates: the model moves by noise over the expected clients."""
    defense = DpFedAvg(50.0, 1e-6, 3.0)
    (update,) = [r for r in named(ran(defense, replace(BRIEF, rounds=1)), "aggregate")]
    plain = next(
        r for r in named(ran(replace(defense, noise_multiplier=0.0), replace(BRIEF, rounds=1)), "aggregate")
    )
    added = flat({k: t.double() - plain.tensors[k] for k, t in update.tensors.items()})
    n = len(added)
    assert float(added.std()) == pytest.approx(50e-6 / 3, rel=5 / math.sqrt(2 * n))


# What it claims


def test_without_sampling_a_round_spends_a_gaussian() -> None:
    spent = PLAIN.aggregate(TOTAL, 3, Stream(0))
    assert spent.event == GaussianDpEvent(1.0)
    assert (spent.unit, spent.neighbouring) == ("client", "add_or_remove_one")
    assert spent.outside == (SIMULATED, CURATOR)


def test_below_rate_one_it_spends_a_poisson_sampled_one_and_asks_for_coins() -> None:
    sampled = replace(PLAIN, client_rate=0.5, expected_clients=2.0)
    spent = sampled.aggregate(TOTAL, 2, Stream(0))
    assert spent.event == PoissonSampledDpEvent(0.5, GaussianDpEvent(1.0))
    assert SECRET_SAMPLE in spent.outside
    assert Hooks(aggregate=(sampled,)).poisson
    assert not Hooks(aggregate=(PLAIN,)).poisson
    assert Hooks(aggregate=(sampled,)).divisor(7) == 2.0


def test_without_noise_it_claims_nothing() -> None:
    silent = replace(PLAIN, noise_multiplier=0.0)
    spent = silent.aggregate(TOTAL, 3, Stream(0))
    assert torch.equal(spent.value["w"], TOTAL["w"])
    assert spent == Spent(spent.value, None)
    assert claims(ran(silent).ledger, 1e-5) == ()


@pytest.mark.parametrize(("goal", "sigma"), [(1.0, 3.7306), (2.0, 1.9938)])
def test_noise_for_an_epsilon_is_the_exact_one(goal: float, sigma: float) -> None:
    """Golden values of the exact Gaussian curve; a client that is absent moves the sum by the clip."""
    found = DpFedAvg.for_epsilon(goal, 1e-5, 1, clip=0.3, expected_clients=3.0)
    assert found == DpFedAvg(found.noise_multiplier, 0.3, 3.0)
    assert found.noise_multiplier == pytest.approx(sigma, rel=2e-3)


def test_sampling_asks_for_less_noise() -> None:
    whole, part = (
        DpFedAvg.for_epsilon(2.0, 1e-5, 5, clip=1.0, expected_clients=3.0, client_rate=rate, accountant="rdp")
        for rate in (1.0, 0.2)
    )
    assert part.noise_multiplier < 0.6 * whole.noise_multiplier
    assert part.event == PoissonSampledDpEvent(0.2, GaussianDpEvent(part.noise_multiplier))


def test_a_run_holds_against_those_who_see_no_single_update() -> None:
    (found,) = claims(ran(replace(PLAIN, noise_multiplier=5.0)).ledger, 1e-5)
    assert (found.unit, found.neighbouring) == ("client", "add_or_remove_one")
    assert found.against == ("clients", "outsiders")
    assert found.epsilon == pytest.approx(epsilon([GaussianDpEvent(5.0)] * 3, 1e-5, "pld"), rel=1e-6)
    assert found.verified
    assert {CLIPPED, NOISE, COUNTED} <= {a.name for a in found.assumptions}


@pytest.mark.parametrize("pipeline", [BRIEF, FedDGM(target="aggregate")], ids=lambda p: type(p).__name__)
def test_beside_secure_aggregation_it_holds_against_the_server_too(pipeline: Pipeline) -> None:
    outcome = ran(replace(PLAIN, noise_multiplier=5.0), small(pipeline), more=(SecureAggregation(2),))
    (found,) = claims(outcome.ledger, 1e-5)
    assert found.against == EVERYBODY
    assert found.verified


def test_local_noise_beside_it_makes_a_claim_of_its_own() -> None:
    central, local = replace(PLAIN, noise_multiplier=5.0), LocalNoise(8.0, 1.0)
    hooks = Hooks(uplink=(local, central), aggregate=(central,))
    (outcome,) = run(BRIEF, world(hooks=hooks), [federation(0, (3,) * 3)])
    first, second = claims(outcome.ledger, 1e-5)
    assert (first.neighbouring, first.against) == ("replace_one", EVERYBODY)
    assert (second.neighbouring, second.against) == ("add_or_remove_one", ("clients", "outsiders"))


# Who takes part


def test_a_sampled_run_is_witnessed_round_by_round() -> None:
    sampled = DpFedAvg(5.0, 1.0, expected_clients=4.0, client_rate=0.5)
    pipeline = replace(BRIEF, rounds=4, fraction=0.5)
    (found,) = claims(ran(sampled, pipeline, clients=8).ledger, 1e-5)
    assert found.sampling == "poisson"
    assert found.verified
    (counted,) = [a for a in found.assumptions if a.name == COUNTED]
    assert counted.evidence.endswith("of 8 clients in a round, stated rate 0.5")
    events = [PoissonSampledDpEvent(0.5, GaussianDpEvent(5.0))] * 4
    assert found.epsilon == pytest.approx(epsilon(events, 1e-5, "pld"), rel=1e-6)


@pytest.mark.parametrize(
    ("clients", "holds"),
    [(0, False), (20, False), (35, True), (50, True), (65, True), (80, False), (100, False)],
)
def test_a_number_that_the_stated_rate_does_not_give_is_seen(clients: int, holds: bool) -> None:
    sampled = DpFedAvg(1.0, 1.0, expected_clients=50.0, client_rate=0.5)
    spent = sampled.aggregate(TOTAL, clients, Stream(0))
    assert (COUNTED not in failed(spent)) is holds


@pytest.mark.parametrize(("clients", "holds"), [(2, False), (3, True), (4, False)])
def test_without_sampling_everybody_is_in_every_round(clients: int, holds: bool) -> None:
    assert (COUNTED not in failed(PLAIN.aggregate(TOTAL, clients, Stream(0)))) is holds


# Planted bugs


def drawn(like: Params, deviation: float, stream: Stream) -> Params:
    generator = stream.torch()
    return {k: torch.randn(t.shape, generator=generator) * deviation for k, t in like.items()}


@pytest.mark.parametrize("factor", [0.0, 0.5, 1 / 3, 0.8])
def test_less_noise_on_the_sum_is_seen(monkeypatch: pytest.MonkeyPatch, factor: float) -> None:
    """A third: as if it were added to the mean of three clients."""
    monkeypatch.setattr(dp_fedavg, "gaussian", lambda t, deviation, s: drawn(t, factor * deviation, s))
    spent = PLAIN.aggregate(TOTAL, 3, Stream(0))
    assert failed(spent) == {NOISE}
    (found,) = claims(Ledger().spend_on_sum([0], spent, Stream(0)), 1e-5)
    assert not found.verified


def test_a_forgotten_clip_is_seen_in_the_claim_of_the_run(monkeypatch: pytest.MonkeyPatch) -> None:
    tight = replace(PLAIN, clip=1e-3)
    assert claims(ran(tight).ledger, 1e-5)[0].verified
    monkeypatch.setattr(dp_fedavg, "clipped", lambda update, clip: update)
    (found,) = claims(ran(tight).ledger, 1e-5)
    assert {a.name for a in found.assumptions if not a.verified} == {CLIPPED, "the sum within its clips"}


def test_a_clip_of_each_tensor_in_place_of_all_together_is_seen(monkeypatch: pytest.MonkeyPatch) -> None:
    def tensor_by_tensor(update: Params, clip: float) -> Params:
        return {k: t * min(1.0, clip / float(t.norm())) for k, t in update.items()}

    monkeypatch.setattr(dp_fedavg, "clipped", tensor_by_tensor)
    start = params(0)
    spent = replace(PLAIN, clip=0.1).uplink(start, plus(start, params(1)), Stream(0))
    assert failed(spent) == {CLIPPED}


def test_without_a_bug_nothing_is_red() -> None:
    assert failed(PLAIN.aggregate(TOTAL, 3, Stream(0))) == set()
    assert failed(PLAIN.uplink(params(0), params(1), Stream(0))) == set()


# What it refuses


@pytest.mark.parametrize(
    ("knob", "value", "rule"),
    [
        ("noise_multiplier", -1.0, "a finite noise_multiplier >= 0"),
        ("noise_multiplier", math.inf, "a finite noise_multiplier >= 0"),
        ("clip", 0.0, "a finite clip > 0"),
        ("clip", math.inf, "a finite clip > 0"),
        ("expected_clients", 0.0, "a finite expected_clients > 0"),
        ("expected_clients", math.inf, "a finite expected_clients > 0"),
        ("client_rate", 0.0, r"client_rate in \(0, 1\]"),
        ("client_rate", 1.1, r"client_rate in \(0, 1\]"),
    ],
)
def test_knobs_outside_their_range_are_refused(knob: str, value: float, rule: str) -> None:
    with pytest.raises(ValueError, match=f"expected {rule}, got {knob}={value}"):
        replace(PLAIN, **{knob: value})


def test_an_epsilon_needs_a_delta_and_a_size() -> None:
    with pytest.raises(ValueError, match="expected a delta beside epsilon, got delta=None"):
        DpFedAvg.for_epsilon(1.0, None, 1, clip=1.0, expected_clients=3.0)
    with pytest.raises(ValueError, match=r"expected epsilon > 0, got epsilon=-1\.0"):
        DpFedAvg.for_epsilon(-1.0, 1e-5, 1, clip=1.0, expected_clients=3.0)
    infinite = DpFedAvg.for_epsilon(math.inf, 1e-5, 1, clip=1.0, expected_clients=3.0)
    assert infinite == DpFedAvg(0.0, 1.0, 3.0)
