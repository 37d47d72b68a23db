"""Crafted models as what a malicious server sends in a whole federation, with and without a sum."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
import pytest
import torch

from attacks.fishing import Fishing
from attacks.imprint import Imprint
from attacks.label_fishing import LabelFishing
from attacks.loki import Loki
from attacks.trap_weights import TrapWeights
from defenses.model_inspection import ModelInspection
from defenses.secure_aggregation import SecureAggregation
from privfed.deviation import Deviation, MaliciousServer, Targets
from privfed.federation import Federation, run
from privfed.hooks import Hooks
from privfed.nets import NetSpec
from privfed.pipelines.fedavg import FedAvg
from privfed.pipelines.fedrep import FedRep
from privfed.pipelines.interface import Pipeline, World
from privfed.randomness import Stream
from privfed.records import Records
from privfed.release import Observer, View
from privfed.training import Recipe
from tests.attacks.crafted import SPEC, matched, public, unseen_label

STREAM = Stream(0)
LOCAL = Recipe(epochs=5, batch=64, lr=0.1)
AVERAGE = FedAvg(rounds=2, local=LOCAL, weighting="equal")
CLIENTS = 4
SUMMED = Hooks(aggregate=(SecureAggregation(minimum=2),))
ATTACKS = (Imprint(), TrapWeights(records=16), Loki(), Fishing())


def clients() -> tuple[Records, ...]:
    own = unseen_label(CLIENTS * 12, seed=3)
    return tuple(own.take(torch.arange(12) * CLIENTS + k) for k in range(CLIENTS))


def world(deviation: Deviation | None, hooks: Hooks, spec: NetSpec = SPEC) -> World:
    known = public().public
    plain = World(spec, spec, known, True, hooks=hooks)
    if deviation is None:
        return plain
    nobody = Targets(known.take(torch.arange(0)), torch.empty(0, dtype=torch.int64))
    return replace(plain, deviation=MaliciousServer(deviation, nobody))


def seen(
    deviation: Deviation | None,
    hooks: Hooks | None = None,
    pipeline: Pipeline = AVERAGE,
    spec: NetSpec = SPEC,
) -> View:
    everything = world(deviation, hooks or Hooks(), spec)
    (outcome,) = run(pipeline, everything, [Federation(clients(), Stream(7))])
    return outcome.transcript.view(Observer("malicious_server"))


def found(attack: Any, view: View) -> list[int]:
    """How many records of each client were read, by readings said to be its own."""
    made = attack.reconstruct(view, public(), STREAM)
    if made is None:
        return []
    return [
        int((matched(made.records.inputs[made.clients == k], own) < 0.03).sum())
        for k, own in enumerate(clients())
    ]


@pytest.mark.parametrize("attack", ATTACKS, ids=lambda a: type(a).__name__)
def test_it_reads_records_of_every_client_in_a_federation_and_none_of_an_honest_one(attack: Any) -> None:
    assert isinstance(attack, Deviation)
    counts = found(attack, seen(attack))
    least = 0 if isinstance(attack, Fishing) else 4
    assert sum(counts) > 0
    assert all(c >= least for c in counts)
    assert found(attack, seen(None)) == []


def test_another_round_is_another_measurement() -> None:
    one = sum(found(Imprint(), seen(Imprint(), pipeline=replace(AVERAGE, rounds=1))))
    assert sum(found(Imprint(), seen(Imprint(), pipeline=replace(AVERAGE, rounds=3)))) > one


def test_fishing_takes_the_labels_in_turn_from_the_first_representation() -> None:
    every = replace(AVERAGE, rounds=10)
    counts = found(Fishing(), seen(Fishing(), pipeline=every))
    alone = [int((np.bincount(own.labels.numpy(), minlength=10) == 1).sum()) for own in clients()]
    assert counts == alone


def test_a_sum_hides_all_but_what_loki_sent_apart() -> None:
    assert min(found(Loki(), seen(Loki(), SUMMED))) >= 3
    assert found(Imprint(), seen(Imprint(), SUMMED)) == []


def test_shares_of_labels_come_through_a_sum() -> None:
    attack = LabelFishing(local_steps=5)
    result = attack.infer(seen(attack, SUMMED), public(), STREAM)
    assert result is not None
    truth = np.stack([np.bincount(own.labels.numpy(), minlength=10) / 12 for own in clients()])
    assert np.abs(result.values - truth).sum(1).mean() < 0.05


@pytest.mark.parametrize("attack", ATTACKS, ids=lambda a: type(a).__name__)
def test_clients_that_inspect_what_they_are_sent_give_nothing_away(attack: Any) -> None:
    assert sum(found(attack, seen(attack, Hooks(tasks=(ModelInspection(),))))) == 0


@pytest.mark.parametrize("attack", [*ATTACKS, LabelFishing()], ids=lambda a: type(a).__name__)
def test_what_it_does_not_fit_is_sent_honestly_and_gives_nothing(attack: Any) -> None:
    convnet = NetSpec("convnet", 1, 8, 10, width=4, depth=1)
    rep = FedRep(rounds=2, head=LOCAL)
    for pipeline, spec in ((replace(AVERAGE, rounds=1), convnet), (rep, SPEC)):
        view = seen(attack, pipeline=pipeline, spec=spec)
        assert not view.select(name="withheld")
        ask = attack.infer if isinstance(attack, LabelFishing) else attack.reconstruct
        assert ask(view, public(), STREAM) is None
