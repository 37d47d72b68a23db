"""Ditto: FedAvg to the bit for everybody else, and a pulled model of its own for each client."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace

import pytest
import torch
from dp_accounting import GaussianDpEvent

from privfed.federation import run
from privfed.hooks import Hooks, Spent
from privfed.nets import Params
from privfed.pipelines._own_models import UNCOUNTED
from privfed.pipelines.ditto import Ditto
from privfed.pipelines.fedavg import FedAvg
from privfed.pipelines.local_only import LocalOnly
from privfed.randomness import Stream
from privfed.training import Engine, Recipe, Task
from tests.privfed.pipelines.contract import watched
from tests.privfed.pipelines.worlds import (
    SURROGATE,
    double_precision,
    equal,
    federation,
    gradient,
    named,
    noise,
    same,
    world,
)

LOCAL = Recipe(epochs=2, batch=4, lr=0.1, momentum=0.5)
OWN = Recipe(epochs=3, batch=3, lr=0.05)
FIVE = (4, 3, 5, 4, 3)


@pytest.fixture(autouse=True)
def _double() -> Iterator[None]:
    with double_precision():
        yield


@pytest.mark.parametrize("engine", ["looped", "stacked"])
@pytest.mark.parametrize("mu", [0.0, 2.0])
def test_what_is_released_is_fedavg_bit_for_bit(engine: Engine, mu: float) -> None:
    here, of = world(engine=engine), [federation(0, FIVE), federation(1, (4, 7))]
    plain = run(FedAvg(rounds=3, local=LOCAL, fraction=0.6), here, of)
    ditto = run(Ditto(rounds=3, local=LOCAL, own=OWN, mu=mu, fraction=0.6), here, of)
    for a, b in zip(plain, ditto, strict=True):
        assert same(a, b)
        assert a.ledger == b.ledger
        assert equal(a.large, b.large)
        assert a.personal == ()
        assert not any(equal(b.large, own) for own in b.personal)


@pytest.mark.parametrize("engine", ["looped", "stacked"])
def test_without_the_pull_clients_train_alone(engine: Engine) -> None:
    here, of = world(engine=engine), federation(0, FIVE)
    (ditto,) = run(Ditto(rounds=3, local=LOCAL, own=OWN, mu=0, fraction=0.6), here, [of])
    (alone,) = run(LocalOnly(rounds=3, local=OWN, fraction=0.6), here, [of])
    assert all(equal(a, b) for a, b in zip(ditto.personal, alone.personal, strict=True))
    (pulled,) = run(Ditto(rounds=3, local=LOCAL, own=OWN, mu=1, fraction=0.6), here, [of])
    assert not any(equal(a, b) for a, b in zip(pulled.personal, alone.personal, strict=True))


@pytest.mark.parametrize("mu", [200.0, 20_000.0])
def test_an_own_model_ends_where_its_gradient_balances_the_pull_of_the_broadcast(mu: float) -> None:
    """The minimum of F(v) + mu / 2 ||v - w||^2 has v - w = -grad F(v) / mu, w the last broadcast."""
    of = federation(0)
    pipeline = Ditto(rounds=2, local=LOCAL, own=Recipe(epochs=60, batch=100, lr=0.5 / mu), mu=mu)
    (outcome,) = run(pipeline, world(), [of])
    first, towards, _ = (dict(r.tensors) for r in named(outcome, "surrogate"))
    assert not equal(first, towards), "neither the start nor the initial model is what pulls"
    for model, own in zip(outcome.personal, of.clients, strict=True):
        slope = gradient(SURROGATE, model, own)
        for name, value in model.items():
            torch.testing.assert_close(value - towards[name], -slope[name] / mu, rtol=1e-6, atol=1e-9)
            assert float((value - towards[name]).abs().max()) < 4 / mu


def test_a_client_that_sits_out_leaves_its_model_as_it_is() -> None:
    found = watched(Ditto(rounds=3, local=LOCAL, own=OWN, fraction=0.4), federation(0, FIVE))
    initial = dict(named(found.outcome, "surrogate")[0].tensors)
    before: tuple[Params, ...] = (initial,) * 5
    for progress in found.progress:
        took_part = {r.about for r in progress.uploaded[0]}
        assert len(took_part) == 2
        for k, (a, b) in enumerate(zip(before, progress.kept[0], strict=True)):
            assert equal(a, b) == (k not in took_part)
        before = progress.kept[0]
    assert all(equal(a, b) for a, b in zip(before, found.outcome.personal, strict=True))


def test_other_clients_reach_an_own_model_through_the_broadcast_alone() -> None:
    """In the first round nothing was averaged yet; from the second on the others can be felt."""
    of, here = federation(0), world(engine="looped")
    other = replace(of, clients=(of.clients[0], noise(9, 50), noise(2, 51)))
    for rounds, same_model in ((1, True), (2, False)):
        pipeline = Ditto(rounds=rounds, local=LOCAL, own=OWN, mu=1)
        (a,), (b,) = (run(pipeline, here, [f]) for f in (of, other))
        assert equal(a.personal[0], b.personal[0]) == same_model


@dataclass(frozen=True)
class Halve:
    """Ends half way to zero from where it started."""

    def train(self, task: Task) -> Spent[Params]:
        return Spent({k: v / 2 for k, v in task.start.items()}, GaussianDpEvent(2.0))


def test_a_local_defence_trains_both_models_and_is_counted_once() -> None:
    pipeline = Ditto(rounds=2, local=LOCAL, own=OWN)
    (outcome,) = run(pipeline, world(hooks=Hooks(local=Halve())), [federation(0)])
    initial = dict(named(outcome, "surrogate")[0].tensors)
    for own in outcome.personal:
        assert equal(own, {k: v / 4 for k, v in initial.items()})
    assert dict(outcome.ledger.events) == {k: (GaussianDpEvent(2.0),) * 2 for k in range(3)}
    assert UNCOUNTED in pipeline.outside_claim
    assert set(FedAvg().outside_claim) < set(pipeline.outside_claim)


@dataclass(frozen=True)
class Scribe:
    """Writes down the streams it was given."""

    seen: list[Stream]

    def train(self, task: Task) -> Spent[Params]:
        self.seen.append(task.stream)
        return Spent(dict(task.start), None)


def test_the_two_trainings_never_share_their_noise() -> None:
    scribe = Scribe([])
    run(Ditto(rounds=2, local=LOCAL, own=OWN), world(hooks=Hooks(local=scribe)), [federation(0)])
    assert len(set(scribe.seen)) == len(scribe.seen) == 2 * 2 * 3


def test_a_weight_that_pushes_away() -> None:
    with pytest.raises(ValueError, match=r"^expected mu >= 0, got mu=-1$"):
        Ditto(mu=-1)


def test_one_weight_said_twice() -> None:
    with pytest.raises(ValueError, match=r"^expected the proximal weight as mu alone, got own.proximal=0.2$"):
        Ditto(own=replace(OWN, proximal=0.2))
    assert Ditto(local=replace(LOCAL, proximal=0.2)).average.local.proximal == 0.2, "any solver will do"
