"""FedProx: FedAvg without its term, and the stationary point of its objective with it."""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import replace
from itertools import pairwise

import pytest
import torch

from privfed.federation import run
from privfed.nets import Params
from privfed.pipelines.fedavg import FedAvg, Weighting
from privfed.pipelines.fedprox import FedProx
from privfed.training import Engine, Recipe
from tests.privfed.pipelines.worlds import (
    SURROGATE,
    double_precision,
    federation,
    gradient,
    named,
    same,
    updates,
    world,
)

LOCAL = Recipe(epochs=3, batch=4, lr=0.1, momentum=0.5)


@pytest.fixture(autouse=True)
def _double() -> Iterator[None]:
    with double_precision():
        yield


def moved(mu: float) -> list[float]:
    """How far each client goes from the broadcast in one round."""
    (outcome,) = run(FedProx(rounds=1, local=LOCAL, mu=mu), world(), [federation(0)])
    start = dict(named(outcome, "surrogate")[0].tensors)
    return [
        math.sqrt(sum(float((u.tensors[k] - v).square().sum()) for k, v in start.items()))
        for u in updates(outcome)
    ]


@pytest.mark.parametrize("engine", ["looped", "stacked"])
@pytest.mark.parametrize("weighting", ["records", "equal"])
def test_without_the_term_it_is_fedavg_bit_for_bit(engine: Engine, weighting: Weighting) -> None:
    here, of = world(engine=engine), [federation(0), federation(1, (4, 7))]
    plain = run(FedAvg(rounds=2, local=LOCAL, weighting=weighting), here, of)
    proximal = run(FedProx(rounds=2, local=LOCAL, mu=0, weighting=weighting), here, of)
    assert all(same(a, b) for a, b in zip(plain, proximal, strict=True))
    changed = run(FedProx(rounds=2, local=LOCAL, mu=0.5, weighting=weighting), here, of)
    assert not any(same(a, b) for a, b in zip(plain, changed, strict=True))


def test_the_stronger_the_term_the_nearer_a_client_stays() -> None:
    by_mu = [moved(mu) for mu in (0.0, 1.0, 5.0)]
    for weaker, stronger in pairwise(by_mu):
        assert all(b < a for a, b in zip(weaker, stronger, strict=True))


@pytest.mark.parametrize("mu", [200.0, 20_000.0])
def test_a_client_ends_where_its_gradient_balances_the_pull(mu: float) -> None:
    """The minimum of F(w) + mu / 2 ||w - w_t||^2 has w - w_t = -grad F(w) / mu."""
    of = federation(0)
    local = Recipe(epochs=60, batch=100, lr=0.5 / mu)
    (outcome,) = run(FedProx(rounds=1, local=local, mu=mu), world(), [of])
    start = dict(named(outcome, "surrogate")[0].tensors)
    for update, own in zip(updates(outcome), of.clients, strict=True):
        slope = gradient(SURROGATE, dict(update.tensors), own)
        for name, value in update.tensors.items():
            torch.testing.assert_close(value - start[name], -slope[name] / mu, rtol=1e-6, atol=1e-9)
    assert max(_longest(dict(u.tensors), start) for u in updates(outcome)) < 4 / mu


def test_it_discloses_what_fedavg_discloses() -> None:
    for weighting in ("records", "equal"):
        assert FedProx(weighting=weighting).outside_claim == FedAvg(weighting=weighting).outside_claim


@pytest.mark.parametrize("mu", [-0.1, math.nan])
def test_a_weight_that_pushes_away(mu: float) -> None:
    with pytest.raises(ValueError, match=rf"^expected mu >= 0, got mu={mu}$"):
        FedProx(mu=mu)


def test_one_weight_said_twice() -> None:
    with pytest.raises(
        ValueError, match=r"^expected the proximal weight as mu alone, got local.proximal=0.2$"
    ):
        FedProx(local=replace(LOCAL, proximal=0.2))


def _longest(params: Params, start: Params) -> float:
    return max(float((params[k] - v).abs().max()) for k, v in start.items())
