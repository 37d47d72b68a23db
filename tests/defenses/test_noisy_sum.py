"""Noise on sums that bound each record's share."""

from __future__ import annotations

import math
from typing import Any

import pytest
import torch
from dp_accounting import GaussianDpEvent

from audits.defense_fit import misfit
from defenses.dp_sgd import DpSgd
from defenses.noisy_sum import NoisySum
from defenses.quantisation import Quantisation
from defenses.random_k import RandomK
from defenses.top_k import TopK
from privfed.federation import run
from privfed.hooks import Hooks
from privfed.ledger import claims
from privfed.pipelines.fedavg import FedAvg
from privfed.pipelines.latent_voting import LatentVoting
from privfed.randomness import Stream
from tests.privfed.pipelines.worlds import federation, world

SUM = {"votes": torch.zeros(4, 500)}


def test_the_noise_has_the_stated_deviation() -> None:
    spent = NoisySum(3.0).uplink(SUM, SUM, Stream(0))
    assert spent.event == GaussianDpEvent(3.0)
    assert (spent.unit, spent.neighbouring) == ("record", "add_or_remove_one")
    assert float(spent.value["votes"].std()) == pytest.approx(3.0, rel=0.1)
    assert [(a.name, a.verified) for a in spent.checked] == [("noise of the stated size", True)]


def test_without_noise_there_is_no_claim() -> None:
    spent = NoisySum(0.0).uplink(SUM, SUM, Stream(0))
    assert spent.charges == ()
    assert torch.equal(spent.value["votes"], SUM["votes"])


# The exact Gaussian mechanism: epsilon at delta 1e-5, its noise.
@pytest.mark.parametrize(("epsilon", "sigma"), [(1.0, 3.7306), (8.0, 0.6002)])
def test_an_epsilon_asks_for_the_exact_noise(epsilon: float, sigma: float) -> None:
    assert NoisySum.for_epsilon(epsilon, 1e-5, 1).noise_multiplier == pytest.approx(sigma, rel=2e-3)


def test_four_messages_ask_for_twice_the_noise_of_one() -> None:
    once, four = (NoisySum.for_epsilon(2.0, 1e-5, n).noise_multiplier for n in (1, 4))
    assert four == pytest.approx(2 * once, rel=2e-3)
    assert NoisySum.for_epsilon(math.inf, 1e-5, 4) == NoisySum(0.0)


@pytest.mark.parametrize("noise", [-1.0, math.inf, math.nan])
def test_a_bad_noise_is_refused(noise: float) -> None:
    with pytest.raises(ValueError, match="expected a finite noise_multiplier >= 0, got noise_multiplier="):
        NoisySum(noise)


def test_a_bad_epsilon_is_refused() -> None:
    with pytest.raises(ValueError, match="expected epsilon > 0, got epsilon=0"):
        NoisySum.for_epsilon(0.0, 1e-5, 1)
    with pytest.raises(ValueError, match="expected a delta beside epsilon, got delta=None"):
        NoisySum.for_epsilon(1.0, None, 1)


def test_it_fits_sums_alone_and_training_does_not_fit_them() -> None:
    sgd = DpSgd(1.0, 1.0, 0.5, 2, 4.0, 0.1)
    refused: list[tuple[Any, str, Any, str]] = [
        (FedAvg(), "noisy_sum", NoisySum(1.0), "whose clients send sums that bound each record's share"),
        (LatentVoting(), "dp_sgd", sgd, "its clients send sums of their records"),
    ]
    for pipeline, name, hook, reason in refused:
        found = misfit(pipeline, "p", [(name, hook)])
        assert found is not None
        assert reason in found[1]
    assert misfit(LatentVoting(), "latent_voting", [("noisy_sum", NoisySum(1.0))]) is None


MOVERS = [("top_k", TopK(0.02)), ("random_k", RandomK(0.1)), ("quantisation", Quantisation(2))]


@pytest.mark.parametrize(("name", "hook"), MOVERS, ids=lambda v: v if isinstance(v, str) else "")
def test_nothing_may_act_on_the_sum_before_the_noise(name: str, hook: Any) -> None:
    """One record moves what these give by more than 1, so a claim after them would be false."""
    zero = {"votes": torch.zeros(4, 12)}
    moves = []
    for seed in range(60):
        votes = torch.randint(0, 6, (4, 12), generator=Stream(seed).torch()).float()
        more = votes.clone()
        more.view(-1)[seed % 48] += 1
        a, b = (hook.uplink(zero, {"votes": v}, Stream(seed)).value["votes"] for v in (votes, more))
        moves.append(float((a - b).norm()))
    assert max(moves) > 2
    noisy = ("noisy_sum", NoisySum(1.0))
    found = misfit(LatentVoting(), "latent_voting", [(name, hook), noisy])
    rule = "expected noisy_sum first, for its noise is measured by a record's share, got it after"
    assert found == (1, f"{rule} {name}")
    assert misfit(LatentVoting(), "latent_voting", [noisy, (name, hook)]) is None


@pytest.mark.parametrize("first", [True, False])
def test_the_run_itself_sees_whether_the_noise_came_first(first: bool) -> None:
    hooks = (NoisySum(1.0), TopK(0.5)) if first else (TopK(0.5), NoisySum(1.0))
    pipeline = LatentVoting(rounds=1, candidates=12, ipc=1)
    (outcome,) = run(pipeline, world(hooks=Hooks(uplink=hooks)), [federation(0)])
    (found,) = claims(outcome.ledger, 1e-5)
    failed = [a.name for a in found.assumptions if not a.verified]
    assert failed == ([] if first else ["noise on the sum itself"])
