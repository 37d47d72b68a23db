"""Where defences act, in every pipeline that the walk finds."""

from __future__ import annotations

from dataclasses import dataclass, replace

import torch
from dp_accounting import GaussianDpEvent

from privfed.federation import Federation, run
from privfed.hooks import Hooks, Spent
from privfed.nets import Params
from privfed.pipelines.fedbkd import FedBKD
from privfed.pipelines.interface import Asking, Pipeline
from privfed.randomness import Stream
from privfed.records import Records
from privfed.release import Release
from privfed.training import Task
from tests.privfed.pipelines.contract import (
    every_pipeline,
    every_training,
    hands_over_records,
    identical,
    like,
    play,
    played,
    talking_rounds,
)
from tests.privfed.pipelines.worlds import SIZES, equal, federation, named, same, updates, world


@dataclass(frozen=True)
class Silence:
    """Sends the weights the client was given."""

    def uplink(self, start: Params, params: Params, stream: Stream) -> Spent[Params]:
        return Spent({k: v.clone() for k, v in start.items()}, GaussianDpEvent(1.0))


@dataclass(frozen=True)
class Ones:
    """Local training that ends at weights of one, whatever the records."""

    def train(self, task: Task) -> Spent[Params]:
        return Spent({k: torch.ones_like(v) for k, v in task.start.items()}, GaussianDpEvent(2.0))


@dataclass(frozen=True)
class Blank:
    """Publishes zeros in the place of the model."""

    def release(self, release: Release, stream: Stream) -> Spent[Release]:
        if release.name != "large":
            return Spent(release, None)
        return Spent(
            replace(release, tensors={k: torch.zeros_like(v) for k, v in release.tensors.items()}), None
        )


@every_pipeline
def test_an_uplink_hook_acts_on_what_is_sent(pipeline: Pipeline) -> None:
    outcome = play(pipeline, hooks=Hooks(uplink=(Silence(),)))
    starts = named(outcome, "surrogate")
    for update in updates(outcome):
        start = dict(starts[update.round].tensors)
        assert equal(like(start, dict(update.tensors)), like(dict(update.tensors), start))
    assert same(outcome, played(pipeline)) == (not talking_rounds(pipeline))


@every_pipeline
def test_a_local_hook_replaces_the_training(pipeline: Pipeline) -> None:
    outcome = play(pipeline, hooks=Hooks(local=Ones()))
    sent = [u for u in updates(outcome) if u.round == 0]
    distilled_first = isinstance(pipeline, FedBKD) and pipeline.side == "client"
    assert all((v == 1).all() for u in sent for v in u.tensors.values()) or distilled_first


@every_training
def test_records_go_through_the_local_hook_and_nowhere_else(pipeline: Pipeline) -> None:
    """With training that ignores them, other inputs make no difference, in releases or own models."""
    here, of = world(hooks=Hooks(local=Ones())), federation(0)
    other = tuple(Records(-records.inputs, records.labels) for records in of.clients)
    first, second = (run(pipeline, here, [Federation(c, of.stream)])[0] for c in (of.clients, other))
    assert identical(first, second) == (not hands_over_records(pipeline))


@every_pipeline
def test_a_release_hook_acts_on_what_is_published(pipeline: Pipeline) -> None:
    outcome = play(pipeline, hooks=Hooks(release=(Blank(),)))
    (delivered,) = named(outcome, "large")
    assert all((v == 0).all() for v in delivered.tensors.values())
    assert equal(outcome.large, dict(delivered.tensors)), "accuracy is measured on what was delivered"
    undefended = played(pipeline)
    assert equal(outcome.surrogate, undefended.surrogate), "nothing before publication changes"


@every_pipeline
def test_the_ledger_has_one_entry_for_each_round_in_which_a_client_sends(pipeline: Pipeline) -> None:
    rounds = len(talking_rounds(pipeline))
    everyone = range(len(SIZES)) if rounds else range(0)
    plain = played(pipeline).ledger
    assert dict(plain.events) == {k: (None,) * rounds for k in everyone}
    noisy = play(pipeline, hooks=Hooks(uplink=(Silence(),))).ledger
    assert dict(noisy.events) == {k: (GaussianDpEvent(1.0),) * rounds for k in everyone}
    assert len(noisy.streams) == rounds * len(SIZES)
    fresh = [("fresh noise in every round", True)] if rounds else []
    assert [(a.name, a.verified) for a in noisy.checked if "contributes" not in a.name] == fresh
    if isinstance(pipeline, Asking):
        return  # nothing is trained at its clients
    both = play(pipeline, hooks=Hooks(local=Ones(), uplink=(Silence(),))).ledger
    for events in both.events.values():
        for event in events:
            assert event is not None
            assert "GaussianDpEvent(noise_multiplier=2.0)" in str(event)
            assert "GaussianDpEvent(noise_multiplier=1.0)" in str(event)
