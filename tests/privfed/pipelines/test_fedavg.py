"""FedAvg: the average in closed form, and what the server may learn of the clients' sizes."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace

import pytest
import torch

from privfed.federation import Federation, run
from privfed.hooks import Hooks
from privfed.nets import Params, initial
from privfed.pipelines.fedavg import FedAvg, Weighting
from privfed.pipelines.interface import Personalised, ServerState
from privfed.randomness import Stream
from privfed.records import concatenate
from privfed.release import SERVER, Release, client_name
from privfed.training import Recipe, Task, predict, train
from tests.privfed.pipelines.worlds import (
    SURROGATE,
    assert_params_close,
    double_precision,
    equal,
    federation,
    named,
    noise,
    updates,
    world,
)


@pytest.fixture(autouse=True)
def _double() -> Iterator[None]:
    with double_precision():
        yield


def net(seed: int) -> Params:
    return initial(SURROGATE, Stream(seed).torch())


def inbox(*sent: tuple[int, Params, int | None]) -> list[Release]:
    """Updates with the counts that come along, by client."""
    found = []
    for client, params, count in sent:
        name = client_name(client)
        found.append(Release(0, name, SERVER, "weights", "update", params, client))
        if count is not None:
            tensors = {"n": torch.tensor(count)}
            found.append(Release(0, name, SERVER, "counts", "count", tensors, client))
    return found


def averaged(pipeline: FedAvg, *sent: tuple[int, Params, int | None], hooks: Hooks | None = None) -> Params:
    here = world(hooks=hooks or Hooks())
    (after,) = pipeline.server_round(here, [ServerState(0, net(99))], [inbox(*sent)], [Stream(0)])
    assert after.round == 1
    return after.surrogate


def mix(shares: list[float]) -> Params:
    parts = [net(k) for k in range(len(shares))]
    return {name: sum(s * p[name] for s, p in zip(shares, parts, strict=True)) for name in parts[0]}  # type: ignore[misc]


@pytest.mark.parametrize(
    ("counts", "shares"),
    [
        ((3, 1, 4), [3 / 8, 1 / 8, 4 / 8]),
        ((0, 5, 5), [0, 0.5, 0.5]),
        ((0, 0, 0), [1 / 3, 1 / 3, 1 / 3]),
        ((None, None, None), [1 / 3, 1 / 3, 1 / 3]),
    ],
)
def test_the_average_is_weighted_by_what_clients_state(
    counts: tuple[int | None, ...], shares: list[float]
) -> None:
    found = averaged(FedAvg(), *((k, net(k), n) for k, n in enumerate(counts)))
    assert_params_close(found, mix(shares))


@pytest.mark.parametrize("weighting", ["records", "equal"])
def test_a_federation_averages_its_own_updates(weighting: Weighting) -> None:
    (outcome,) = run(FedAvg(rounds=1, weighting=weighting), world(), [federation(0, (8, 6, 5))])
    sent = [dict(u.tensors) for u in updates(outcome)]
    shares = [8 / 19, 6 / 19, 5 / 19] if weighting == "records" else [1 / 3] * 3
    expected = {k: sum(s * p[k] for s, p in zip(shares, sent, strict=True)) for k in sent[0]}
    assert_params_close(outcome.surrogate, expected)  # type: ignore[arg-type]
    assert equal(outcome.surrogate, outcome.large), "the average is what is delivered"
    assert outcome.transcript.nets["large"] == SURROGATE


def test_one_full_batch_step_each_is_one_step_on_all_records() -> None:
    """McMahan et al., section 2: FedSGD is a gradient step on the pooled records."""
    recipe = Recipe(epochs=1, batch=100, lr=0.3)
    clients = tuple(noise(n, n) for n in (7, 2, 4))
    (outcome,) = run(FedAvg(rounds=1, local=recipe), world(), [Federation(clients, Stream(0))])
    start = dict(named(outcome, "surrogate")[0].tensors)
    (pooled,) = train([Task(SURROGATE, start, concatenate(list(clients)), recipe, Stream(1))])
    assert_params_close(outcome.surrogate, pooled)


def test_a_single_client_is_trained_on_alone() -> None:
    pipeline = FedAvg(rounds=2, local=Recipe(epochs=2, batch=3, lr=0.1))
    (outcome,) = run(pipeline, world(), [federation(0, (7,))])
    for sent, received in zip(updates(outcome), named(outcome, "surrogate")[1:], strict=True):
        assert_params_close(dict(sent.tensors), dict(received.tensors))


def test_all_clients_use_the_average() -> None:
    (outcome,) = run(FedAvg(rounds=1), world(), [federation(0)])
    assert not isinstance(FedAvg(), Personalised)
    assert outcome.personal == ()


def test_counts_are_a_release_and_a_disclosure_only_when_asked_for() -> None:
    by_records, equally = FedAvg(rounds=2), FedAvg(rounds=2, weighting="equal")
    (outcome,) = run(by_records, world(), [federation(0, (8, 0, 5))])
    counts = [(r.round, r.about, int(r.tensors["n"])) for r in named(outcome, "count")]
    assert counts == [(r, k, n) for r in range(2) for k, n in enumerate((8, 0, 5))]
    assert by_records.outside_claim == ("number of records of each client",)
    (quiet,) = run(equally, world(), [federation(0, (8, 0, 5))])
    assert named(quiet, "count") == []
    assert equally.outside_claim == ()


def test_the_average_leaves_updates_as_they_were() -> None:
    sent = net(0)
    averaged(FedAvg(), (0, sent, 3), (1, net(1), 2))
    assert equal(sent, net(0))


def test_averaging_learns_from_all_clients() -> None:
    """Two clients with two classes each: the average tells all four apart better than chance."""
    clients = (noise(40, 0, (0, 1)), noise(40, 1, (2, 3)))
    shifted = tuple(
        replace(c, inputs=c.inputs * 0.1 + (c.labels / 2 - 0.75).view(-1, 1, 1, 1)) for c in clients
    )
    pipeline = FedAvg(rounds=20, local=Recipe(epochs=1, batch=10, lr=0.1))
    (outcome,) = run(
        pipeline,
        world(surrogate=replace(SURROGATE, family="mlp", width=16)),
        [Federation(shifted, Stream(0))],
    )
    spec = outcome.transcript.nets["large"]
    everybody = concatenate(list(shifted))
    right = (predict(spec, outcome.large, everybody.inputs).argmax(1) == everybody.labels).double().mean()
    assert right > 0.8
