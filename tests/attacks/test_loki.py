"""LOKI: the sum over clients still separates them, blocks stay apart, counts, and what is refused."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch

from attacks._imprint import BIAS, WEIGHT
from attacks.imprint import Imprint, expected_lone
from attacks.loki import Loki, block, blocked, owned, summed_movement
from privfed.nets import NetSpec, Params
from privfed.randomness import Stream
from privfed.records import Records
from tests.attacks import crafted
from tests.attacks.crafted import SPEC, drawn, matched, public, start, trained, unseen_label

STREAM = Stream(0)
CLIENTS = 4


def sent(clients: int = CLIENTS, spec: NetSpec = SPEC, seed: int = 0) -> list[Params]:
    known, first = public(), start(seed, spec)
    return [Loki().craft(spec, known, first, Stream(seed), k, clients) for k in range(clients)]


def mean(models: list[Params]) -> Params:
    return {k: torch.stack([m[k] for m in models]).mean(0) for k in models[0]}


def alone(model: Params, own: Records) -> torch.Tensor:
    """Whether no other record activates the same rows, shape (n,)."""
    on = own.inputs.flatten(1).double() @ model[WEIGHT].double().T + model[BIAS].double() > 0
    return torch.tensor([(on.sum(1) == p).sum() == 1 for p in on.sum(1)])


def data(n: int, seed: int) -> list[Records]:
    own = unseen_label(n * CLIENTS, seed)
    return [own.take(torch.arange(n) * CLIENTS + k) for k in range(CLIENTS)]


@pytest.mark.parametrize("steps", [1, 5, 20])
def test_the_sum_separates_the_clients_and_gives_lone_records_exactly(steps: int) -> None:
    models, own = sent(), data(8, seed=1)
    after = [trained(m, o, steps) for m, o in zip(models, own, strict=True)]
    found = Loki().separate(SPEC, models, mean(after))
    for model, records, reading, k in zip(models, own, found, range(CLIENTS), strict=True):
        lone = alone(model, records)
        assert lone.sum() >= 3
        assert (matched(reading.inputs, records)[lone] < 1e-5).all()
        others = [o for j, o in enumerate(own) if j != k]
        assert all((matched(reading.inputs, o) > 1e-3).all() for o in others), "no reading of somebody else"


def test_a_client_moves_its_own_rows_and_no_others() -> None:
    models, own = sent(), data(8, seed=2)
    for k, (model, records) in enumerate(zip(models, own, strict=True)):
        weight, bias = summed_movement([model], trained(model, records, 5))
        mine = torch.zeros(128, dtype=torch.bool)
        mine[block(128, k, CLIENTS)] = True
        assert torch.equal(owned(model), mine)
        assert not weight[~mine].any()
        assert not bias[~mine].any()
        assert bias[mine].any()


def test_the_count_over_clients_is_that_of_smaller_blocks() -> None:
    """12 federations of 4 clients with 8 records; bins that are not of equal mass only lower the count."""
    counts = []
    for seed in range(12):
        models, own = sent(seed=seed), data(8, seed)
        found = Loki().separate(SPEC, models, mean([trained(m, o) for m, o in zip(models, own, strict=True)]))
        counts.append(
            np.mean([int((matched(f.inputs, o) < 1e-5).sum()) for f, o in zip(found, own, strict=True)])
        )
    width = 3.3 * np.std(counts) / math.sqrt(12)
    expected = expected_lone(8, 128 // CLIENTS)
    assert 0.7 * expected < np.mean(counts) < expected + width


def test_it_reads_a_view_in_which_only_the_sum_is_seen() -> None:
    models, own = sent(), data(8, seed=3)
    after = [trained(m, o) for m, o in zip(models, own, strict=True)]
    releases = [crafted.sent_to(m, client=k) for k, m in enumerate(models)]
    seen = crafted.view(*releases, crafted.summed(after))
    assert not seen.select("weights", "update")
    made = Loki().reconstruct(seen, public(), STREAM)
    assert made is not None
    for k, records in enumerate(own):
        inputs = made.records.inputs[made.clients == k]
        lone = alone(models[k], records)
        assert lone.any()
        assert (matched(inputs, records)[lone] < 1e-5).all()
    assert made.objective.shape == (len(made.records),)


def test_it_reads_single_updates_where_they_are_shown() -> None:
    models, own = sent(), data(8, seed=4)
    releases = [crafted.sent_to(m, client=k) for k, m in enumerate(models)]
    updates = [
        crafted.returned(trained(m, o), client=k) for k, (m, o) in enumerate(zip(models, own, strict=True))
    ]
    made = Loki().reconstruct(crafted.view(*releases, *updates), public(), STREAM)
    assert made is not None
    assert set(made.clients.tolist()) == set(range(CLIENTS))


def test_an_imprint_that_all_clients_share_does_not_separate_them() -> None:
    """The control: with one model for all, the sum is that of one large client."""
    model, own = Imprint().craft(SPEC, public(), start(), STREAM), data(32, seed=5)
    total = mean([trained(model, o) for o in own])
    together = int(sum((matched(Imprint().recover(SPEC, model, total).inputs, o) < 1e-3).sum() for o in own))
    alone = sum(
        int((matched(Imprint().recover(SPEC, model, trained(model, o)).inputs, o) < 1e-3).sum()) for o in own
    )
    assert together < alone / 1.5


def test_it_says_nothing_of_other_models() -> None:
    others = [start(), Imprint().craft(SPEC, public(), start(), STREAM)]
    for model in others:
        assert not blocked(SPEC, model)
        after = trained(model, drawn(8, 0))
        shown = crafted.view(crafted.sent_to(model, 0), crafted.returned(after))
        hidden = crafted.view(crafted.sent_to(model, 0), crafted.summed([after]))
        assert Loki().reconstruct(shown, public(), STREAM) is None
        assert Loki().reconstruct(hidden, public(), STREAM) is None
    assert Loki().reconstruct(crafted.view(), public(), STREAM) is None


def test_blocks_are_disjoint_and_of_one_size() -> None:
    rows = [list(range(100))[block(100, k, 7)] for k in range(7)]
    assert {len(r) for r in rows} == {14}
    assert len({i for r in rows for i in r}) == 98


def test_what_does_not_fit_is_refused() -> None:
    with pytest.raises(ValueError, match="expected a hidden unit for each of 200 clients, got units=128"):
        Loki().craft(SPEC, public(), start(), STREAM, 0, 200)
    with pytest.raises(ValueError, match="expected a client from 0 to 3, got client=4"):
        Loki().craft(SPEC, public(), start(), STREAM, 4, 4)
    with pytest.raises(ValueError, match="expected pull > 0, got pull=0"):
        Loki(pull=0)
