"""Training alone: nothing goes out, and nobody else's records come in."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace

import pytest

from privfed.federation import Federation, run
from privfed.ledger import Ledger, claim
from privfed.nets import Params, initial
from privfed.pipelines._own_models import UNCOUNTED
from privfed.pipelines.local_only import LocalOnly
from privfed.randomness import Stream
from privfed.release import CLIENTS, PUBLIC, SERVER, Observer
from privfed.training import Engine, Recipe, Task, predict, train
from tests.privfed.pipelines.contract import watched
from tests.privfed.pipelines.worlds import (
    SURROGATE,
    assert_params_close,
    double_precision,
    equal,
    federation,
    noise,
    same,
    world,
)

LOCAL = Recipe(epochs=2, batch=4, lr=0.1, momentum=0.5)
PIPELINE = LocalOnly(rounds=3, local=LOCAL)


@pytest.fixture(autouse=True)
def _double() -> Iterator[None]:
    with double_precision():
        yield


def test_no_byte_leaves_a_client_and_no_record_leaves_a_trace() -> None:
    of = federation(0)
    (outcome,) = run(PIPELINE, world(), [of])
    first, delivered = outcome.transcript.releases
    assert (first.round, first.sender, first.receiver, first.name) == (0, SERVER, CLIENTS, "surrogate")
    assert (delivered.sender, delivered.receiver, delivered.name) == (SERVER, PUBLIC, "large")
    start = initial(SURROGATE, of.stream.child("init", "surrogate").torch())
    assert equal(dict(first.tensors), start)
    assert equal(dict(delivered.tensors), start)
    other = replace(of, clients=(noise(2, 60), noise(0, 61), noise(11, 62)))
    assert same(outcome, run(PIPELINE, world(), [other])[0])
    seen = outcome.transcript.view(Observer("server")).releases
    assert [r.about for r in seen] == [None, None]


def test_there_is_nothing_to_claim_anything_about() -> None:
    (outcome,) = run(PIPELINE, world(), [federation(0)])
    assert outcome.ledger == Ledger()
    assert claim(outcome.ledger, 1e-5) is None
    assert PIPELINE.outside_claim == (UNCOUNTED,)


@pytest.mark.parametrize("engine", ["looped", "stacked"])
def test_a_client_trains_on_from_where_it_was(engine: Engine) -> None:
    of = federation(0)
    found = watched(PIPELINE, of, world(engine=engine))
    for k, records in enumerate(of.clients):
        model = initial(SURROGATE, of.stream.child("init", "surrogate").torch())
        for progress in found.progress:
            stream = of.stream.child("client", k, progress.round, "personal")
            (model,) = train([Task(SURROGATE, model, records, LOCAL, stream)])
            assert_params_close(progress.kept[0][k], model)
        assert_params_close(found.outcome.personal[k], model)


def test_other_clients_make_no_difference() -> None:
    of = federation(0)
    others = (
        replace(of, clients=(of.clients[0], noise(9, 50), noise(0, 51))),
        replace(of, clients=(of.clients[0],)),
    )
    looped = world(engine="looped")
    mine = run(PIPELINE, looped, [of])[0].personal[0]
    for other in others:
        assert equal(mine, run(PIPELINE, looped, [other])[0].personal[0])
        # Stacked with others, sums are taken in another order.
        assert_params_close(mine, run(PIPELINE, world(), [other])[0].personal[0])
    changed = replace(of, clients=(noise(8, 52), *of.clients[1:]))
    assert not equal(mine, run(PIPELINE, looped, [changed])[0].personal[0])


def test_who_sits_out_stays_where_it_was() -> None:
    found = watched(replace(PIPELINE, fraction=0.4), federation(0, (4, 3, 5, 4, 3)))
    before: tuple[Params, ...] = (dict(found.outcome.large),) * 5
    for progress in found.progress:
        moved = [not equal(a, b) for a, b in zip(before, progress.kept[0], strict=True)]
        assert sum(moved) == 2
        before = progress.kept[0]


def test_each_client_learns_its_own_records() -> None:
    """Labels are noise, so that a client is right on its own records and at chance on another's."""
    recipe = Recipe(epochs=120, batch=8, lr=0.2, momentum=0.9)
    clients = tuple(noise(16, k) for k in range(2))
    here = world(surrogate=replace(SURROGATE, family="mlp", width=32))
    (outcome,) = run(LocalOnly(rounds=1, local=recipe), here, [Federation(clients, Stream(0))])
    for k, model in enumerate(outcome.personal):
        right = [
            float((predict(here.surrogate, model, c.inputs).argmax(1) == c.labels).double().mean())
            for c in clients
        ]
        assert right[k] > 0.9
        assert right[1 - k] < 0.7
