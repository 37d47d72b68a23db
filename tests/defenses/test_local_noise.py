"""Local noise: what a client sends is clipped and noised, and the claim is what the exact curve says."""

from __future__ import annotations

import math
from typing import Any

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from defenses import local_noise
from defenses.local_noise import SIMULATED, TAKING_PART, LocalNoise
from privfed.claims import EVERYBODY
from privfed.federation import run
from privfed.hooks import Hooks, Spent
from privfed.ledger import Ledger, claims
from privfed.nets import Params, head_names
from privfed.pipelines.fedavg import FedAvg
from privfed.pipelines.fedbkd import FedBKD
from privfed.pipelines.fedrep import FedRep
from privfed.pipelines.interface import Pipeline
from privfed.randomness import Stream
from tests.defenses.updates import any_update, flat, length, minus, params, plus, zeros
from tests.privfed.pipelines.worlds import SURROGATE, federation, small, updates, world

CLIPPED, NOISE = "every update clipped", "noise of the stated size"


def failed(spent: Spent[Params]) -> set[str]:
    return {a.name for a in spent.checked if not a.verified}


@given(any_update(broken=True), st.floats(1e-3, 1e3))
def test_without_noise_it_clips_and_earns_nothing(update: Params, clip: float) -> None:
    spent = LocalNoise(0.0, clip).uplink(zeros(), update, Stream(0))
    assert length(spent.value) <= clip * (1 + 1e-4)
    assert spent == Spent(spent.value, None)


@given(any_update(broken=True), st.floats(1e-3, 1e3), st.integers(0, 99))
def test_whatever_the_update_both_assumptions_hold(update: Params, clip: float, seed: int) -> None:
    spent = LocalNoise(1.5, clip).uplink(zeros(), update, Stream(seed))
    assert failed(spent) == set()
    assert {a.name for a in spent.checked} == {CLIPPED, NOISE}


def test_the_message_does_not_show_more_than_twice_the_clip_of_a_client() -> None:
    """The same coins, another client: what is sent moves by the clipped updates alone."""
    start, defense = params(1), LocalNoise(3.0, 0.5)
    one, other = (
        defense.uplink(start, plus(start, {k: f * t for k, t in params(2).items()}), Stream(0)).value
        for f in (1e3, -1e3)
    )
    assert length(minus(one, other)) == pytest.approx(2 * 0.5, rel=1e-3)


def test_every_message_has_its_own_noise() -> None:
    first, second = (LocalNoise(1.0, 1.0).uplink(zeros(), zeros(), Stream(s)).value for s in (0, 1))
    assert float((flat(first) == flat(second)).sum()) == 0


# What it claims


@pytest.mark.parametrize(
    ("epsilon", "delta", "sigma"),
    [
        (1.0, 1e-5, 3.7306),
        (2.0, 1e-5, 1.9938),
        (4.0, 1e-5, 1.0812),
        (8.0, 1e-5, 0.6002),
        (1.0, 1e-6, 4.2247),
    ],
)
def test_noise_for_an_epsilon_is_twice_the_exact_one_for_sensitivity_one(
    epsilon: float, delta: float, sigma: float
) -> None:
    """Golden values of the exact Gaussian curve; replacing a client moves its update by twice the clip."""
    found = LocalNoise.for_epsilon(epsilon, delta, 1, clip=0.3)
    assert found.noise_multiplier == pytest.approx(2 * sigma, rel=2e-3)
    assert found.clip == 0.3


def test_rounds_cost_as_their_square_root() -> None:
    found = LocalNoise.for_epsilon(2.0, 1e-5, 4, clip=1.0)
    assert found.noise_multiplier == pytest.approx(2 * 1.9938 * 2, rel=2e-3)


def test_the_claim_of_a_run_is_about_a_client_that_is_replaced_against_everybody() -> None:
    defense = LocalNoise(2 * 1.9938, 1.0)
    (outcome,) = run(small(FedAvg(), 1), world(hooks=Hooks(uplink=(defense,))), [federation(0)])
    (found,) = claims(outcome.ledger, 1e-5)
    assert (found.unit, found.neighbouring, found.against) == ("client", "replace_one", EVERYBODY)
    assert found.epsilon == pytest.approx(2.0, rel=2e-3)
    assert found.verified
    assert {SIMULATED, TAKING_PART} <= set(found.outside)


def test_four_rounds_claim_what_four_messages_cost() -> None:
    defense = LocalNoise(4 * 1.9938, 1.0)
    (outcome,) = run(small(FedAvg(), 4), world(hooks=Hooks(uplink=(defense,))), [federation(0)])
    (found,) = claims(outcome.ledger, 1e-5)
    assert found.epsilon == pytest.approx(2.0, rel=2e-3)
    assert found.verified


@pytest.mark.parametrize(
    "pipeline", [FedRep(share_heads=True), FedBKD(), FedBKD(side="client")], ids=lambda p: type(p).__name__
)
def test_a_head_that_a_client_shares_is_within_the_bound_itself(pipeline: Pipeline) -> None:
    """It starts from the client's own, which nobody sent: a bound on its last change would bound nothing."""
    defense = LocalNoise(0.0, 0.05)
    (outcome,) = run(small(pipeline, 3), world(hooks=Hooks(uplink=(defense,))), [federation(0)])
    weight, bias = head_names(SURROGATE)
    heads = [{k: r.tensors[k] for k in (weight, bias)} for r in updates(outcome)]
    assert len(heads) == 9
    assert max(length(h) for h in heads) <= 0.05 * (1 + 1e-4)


def test_infinity_clips_alone() -> None:
    assert LocalNoise.for_epsilon(math.inf, 1e-5, 3, clip=2.0) == LocalNoise(0.0, 2.0)


# Planted bugs


def bounded_by_nothing(update: Params, clip: float) -> Params:
    return update


@pytest.mark.parametrize(
    ("name", "bug", "red"),
    [
        ("gaussian", lambda like, deviation, stream: {k: 0 * t for k, t in like.items()}, NOISE),
        ("gaussian", lambda like, deviation, stream: _gaussian(like, deviation / 2, stream), NOISE),
        ("gaussian", lambda like, deviation, stream: _gaussian(like, deviation / 10, stream), NOISE),
        ("clipped", bounded_by_nothing, CLIPPED),
        ("clipped", lambda update, clip: {k: t * clip for k, t in update.items()}, CLIPPED),
    ],
    ids=["no noise", "half the noise", "a tenth of the noise", "no clip", "scaled, not clipped"],
)
def test_a_planted_bug_turns_its_assumption_red(
    monkeypatch: pytest.MonkeyPatch, name: str, bug: Any, red: str
) -> None:
    monkeypatch.setattr(local_noise, name, bug)
    update = {"w": torch.full((40, 40), 0.5)}
    start = {"w": torch.zeros(40, 40)}
    spent = LocalNoise(1.0, 2.0).uplink(start, update, Stream(0))
    assert failed(spent) == {red}
    (found,) = claims(Ledger().spend(0, spent, Stream(0)), 1e-5)
    assert not found.verified


def _gaussian(like: Params, deviation: float, stream: Stream) -> Params:
    generator = stream.torch()
    return {k: torch.randn(t.shape, generator=generator) * deviation for k, t in like.items()}


def test_without_a_bug_nothing_is_red() -> None:
    update, start = {"w": torch.full((40, 40), 0.5)}, {"w": torch.zeros(40, 40)}
    assert failed(LocalNoise(1.0, 2.0).uplink(start, update, Stream(0))) == set()


def test_the_same_noise_in_two_rounds_is_no_claim_to_rely_on() -> None:
    spent = LocalNoise(1.0, 2.0).uplink(zeros(), params(1), Stream(0))
    ledger = Ledger().spend(0, spent, Stream(0)).spend(0, spent, Stream(0))
    (found,) = claims(ledger, 1e-5)
    assert "fresh noise in every round" in {a.name for a in found.assumptions if not a.verified}


# What it refuses


@pytest.mark.parametrize("noise", [-0.1, math.inf, math.nan])
def test_noise_of_no_size_is_refused(noise: float) -> None:
    with pytest.raises(
        ValueError, match=f"expected a finite noise_multiplier >= 0, got noise_multiplier={noise}"
    ):
        LocalNoise(noise, 1.0)


@pytest.mark.parametrize("clip", [0.0, -1.0, math.inf, math.nan])
def test_a_clip_of_no_size_is_refused(clip: float) -> None:
    with pytest.raises(ValueError, match=f"expected a finite clip > 0, got clip={clip}"):
        LocalNoise(1.0, clip)


def test_an_epsilon_needs_a_delta_and_a_size() -> None:
    with pytest.raises(ValueError, match="expected a delta beside epsilon, got delta=None"):
        LocalNoise.for_epsilon(1.0, None, 1, clip=1.0)
    with pytest.raises(ValueError, match=r"expected epsilon > 0, got epsilon=0\.0"):
        LocalNoise.for_epsilon(0.0, 1e-5, 1, clip=1.0)
