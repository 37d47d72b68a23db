"""Running federations: who takes part with which randomness, and what is written down in which order."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

import pytest
import torch
from dp_accounting import GaussianDpEvent
from hypothesis import given
from hypothesis import strategies as st

from privfed.federation import Federation, run
from privfed.hooks import Hooks, Spent
from privfed.pipelines.interface import ClientJob, ClientMessage, ServerState, World
from privfed.randomness import Stream
from privfed.records import Records
from privfed.release import PUBLIC, Release
from tests.privfed.echo import LARGE, SPEC, WORLD, Echo, federation


def test_the_transcript_is_in_the_order_of_events() -> None:
    (outcome,) = run(Echo(), WORLD, [federation(0)])
    received = [("update", 0), ("count", 0), ("update", 1), ("count", 1)]
    one_round = [("surrogate", None), *received, ("client_latents", None)]
    assert [(r.name, r.about) for r in outcome.transcript.releases] == [
        *one_round,
        *one_round,
        ("surrogate", None),
        ("large", None),
        ("synthetic", None),
    ]
    assert [r.round for r in outcome.transcript.releases] == [0] * 6 + [1] * 6 + [2] * 3
    sent = [float(r.tensors["w"]) for r in outcome.transcript.releases if r.name == "surrogate"]
    assert sent == [0, 1, 2], "what was broadcast, not what came of it"


def test_federations_of_different_sizes_keep_their_mail_apart() -> None:
    pipeline = Echo(rounds=1)
    several = [federation(0, 3), federation(1, 1), federation(2, 2)]
    outcomes = run(pipeline, WORLD, several)
    assert [len(o.ledger.events) for o in outcomes] == [3, 1, 2]
    ((received, streams),) = pipeline.server
    assert [[m for m in inbox if m.startswith("update")] for inbox in received] == [
        [f"update:{k}" for k in range(len(f.clients))] for f in several
    ]
    assert streams == [f.stream.child("server", 0) for f in several]


def test_a_client_gets_the_broadcast_its_own_records_and_a_stream_of_its_own() -> None:
    own = [Records(torch.full((1, 1, 2, 2), float(k)), torch.tensor([0])) for k in range(3)]
    pipeline = Echo(rounds=3)
    run(pipeline, WORLD, [Federation(tuple(own), Stream(5)), Federation(tuple(own), Stream(6))])
    jobs = [j for js in pipeline.jobs for j in js]
    assert [(j.round, j.client) for j in jobs] == [
        (n, k) for n in range(3) for _ in range(2) for k in range(3)
    ]
    assert all(j.records is own[j.client] for j in jobs)
    assert all(float(j.start["w"]) == j.round for j in jobs)
    assert len({j.stream for j in jobs}) == len(jobs)
    assert jobs[0].stream == Stream(5, ("client", 0, 0))


@given(clients=st.integers(1, 12), fraction=st.floats(0.01, 1), seed=st.integers(0, 3))
def test_a_share_of_the_clients_takes_part_and_never_nobody(clients: int, fraction: float, seed: int) -> None:
    pipeline = Echo(rounds=3, fraction=fraction)
    run(pipeline, WORLD, [federation(seed, clients)])
    for jobs in pipeline.jobs:
        chosen = [j.client for j in jobs]
        assert chosen == sorted(set(chosen))
        assert abs(len(chosen) - max(1.0, fraction * clients)) <= 0.5
        assert 0 <= chosen[0] <= chosen[-1] < clients


def test_participation_is_fair() -> None:
    """2,000 rounds of 2 in 5: each client's count is within 4 binomial deviations of 800."""
    pipeline = Echo(rounds=2_000, fraction=0.4)
    run(pipeline, WORLD, [federation(0, 5)])
    counts = torch.tensor([j.client for js in pipeline.jobs for j in js]).bincount()
    assert counts.sum() == 4_000
    assert (counts - 800).abs().max() < 4 * (2_000 * 0.4 * 0.6) ** 0.5


def test_the_ledger_charges_each_client_for_its_own_rounds() -> None:
    pipeline = Echo(rounds=4, fraction=0.5)
    (outcome,) = run(pipeline, WORLD, [federation(0, 4)])
    took_part = [j.client for js in pipeline.jobs for j in js]
    assert dict(outcome.ledger.events) == {
        k: (GaussianDpEvent(float(k + 1)),) * took_part.count(k) for k in sorted(set(took_part))
    }
    assert outcome.ledger.streams == {j.stream for js in pipeline.jobs for j in js}
    assert all(a.verified for a in outcome.ledger.checked)


@dataclass(frozen=True)
class Mute(Echo):
    """Clients say something in the first round alone; the server may work on without them."""

    restless: bool = False

    def client_round(self, world: World, jobs: Sequence[ClientJob]) -> list[ClientMessage]:
        messages = super().client_round(world, jobs)
        return [m if j.round == 0 else replace(m, releases=()) for m, j in zip(messages, jobs, strict=True)]

    def server_round(
        self,
        world: World,
        states: Sequence[ServerState],
        inboxes: Sequence[Sequence[Release]],
        streams: Sequence[Stream],
    ) -> list[ServerState]:
        after = [replace(s, kept=()) for s in super().server_round(world, states, inboxes, streams)]
        if all(inboxes):
            return after
        made = after if self.restless else states
        return [
            replace(s, round=before.round, surrogate=m.surrogate)
            for s, before, m in zip(states, states, made, strict=True)
        ]


def test_what_is_not_sent_costs_nothing() -> None:
    pipeline = Mute(rounds=3)
    (outcome,) = run(pipeline, WORLD, [federation(0)])
    assert [len(jobs) for jobs in pipeline.jobs] == [2, 2, 2]
    assert dict(outcome.ledger.events) == {0: (GaussianDpEvent(1.0),), 1: (GaussianDpEvent(2.0),)}
    assert outcome.ledger.streams == {j.stream for j in pipeline.jobs[0]}


def test_a_broadcast_that_went_out_is_not_sent_again_and_a_new_one_always_is() -> None:
    for restless, rounds, weights in ((False, [0, 1], [0, 1]), (True, [0, 1, 1, 1], [0, 1, 2, 3])):
        pipeline = Mute(rounds=3, restless=restless)
        (outcome,) = run(pipeline, WORLD, [federation(0)])
        sent = [r for r in outcome.transcript.releases if r.name == "surrogate"]
        assert [r.round for r in sent] == rounds
        assert [float(r.tensors["w"]) for r in sent] == weights
        assert [float(jobs[0].start["w"]) for jobs in pipeline.jobs] == [*weights, 1][:3]


def test_randomness_used_twice_is_found_out() -> None:
    """Messages that all claim round 0 make its streams serve twice."""
    (outcome,) = run(Echo(stuck=True), WORLD, [federation(0)])
    assert [(a.name, a.verified) for a in outcome.ledger.checked] == [("fresh noise in every round", False)]


@pytest.mark.parametrize("with_large", [True, False])
def test_the_models_left_behind(with_large: bool) -> None:
    (outcome,) = run(Echo(with_large=with_large), WORLD, [federation(0)])
    assert float(outcome.surrogate["w"]) == 2
    assert float(outcome.large["w"]) == (100 if with_large else 2)
    assert dict(outcome.transcript.nets) == {"surrogate": SPEC, "large": LARGE if with_large else SPEC}


@dataclass(frozen=True)
class Mark:
    """Writes a number that its stream alone decides."""

    def release(self, release: Release, stream: Stream) -> Spent[Release]:
        mark = {k: torch.full_like(v, stream.integer() % 1_000) for k, v in release.tensors.items()}
        return Spent(replace(release, tensors=mark), None)


def test_release_hooks_see_what_is_published_each_with_randomness_of_its_own() -> None:
    world = replace(WORLD, hooks=Hooks(release=(Mark(),)))
    (outcome,) = run(Echo(), world, [federation(0)])
    plain = run(Echo(), WORLD, [federation(0)])[0].transcript.releases
    marks = []
    for release, before in zip(outcome.transcript.releases, plain, strict=True):
        changed = any(not torch.equal(v, before.tensors[k]) for k, v in release.tensors.items())
        assert changed == (release.receiver == PUBLIC)
        marks += [float(v) for v in release.tensors.values()] if changed else []
    assert len(set(marks)) == 2
    assert float(outcome.large["w"]) == marks[0], "accuracy is measured on what was delivered"


def test_no_federations_are_no_outcomes() -> None:
    assert run(Echo(), WORLD, []) == []
