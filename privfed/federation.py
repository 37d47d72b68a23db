"""Runs federations of one pipeline in process, many in lock step, and records what they release."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from privfed.claims import Assumption
from privfed.hooks import apply_release
from privfed.nets import Params
from privfed.pipelines.interface import (
    ClientJob,
    ClientMessage,
    Pipeline,
    ServerState,
    World,
    broadcast,
)
from privfed.randomness import Stream
from privfed.records import Records
from privfed.release import Release, Transcript

if TYPE_CHECKING:
    from dp_accounting import DpEvent


@dataclass(frozen=True, slots=True)
class Federation:
    """The private side of one federation: each client's records, and its randomness."""

    clients: tuple[Records, ...]
    stream: Stream


@dataclass(frozen=True, slots=True)
class Outcome:
    """What one federation left behind.

    Attributes:
        transcript: everything that crossed a trust boundary.
        events: privacy events of each client, one per round it took part in (None: no guarantee).
        checked: what the run verified about the defences' assumptions.
        surrogate, large: final models, for measuring accuracy.
    """

    transcript: Transcript
    events: tuple[tuple[DpEvent | None, ...], ...]
    checked: tuple[Assumption, ...]
    surrogate: Params
    large: Params


def run(pipeline: Pipeline, world: World, federations: Sequence[Federation]) -> list[Outcome]:
    """Runs every federation from `init` to `publish`; federations do not influence one another."""
    states = pipeline.init(world, [f.stream.child("init") for f in federations])
    log: list[list[Release]] = [[] for _ in federations]
    sent: list[list[ClientMessage]] = [[] for _ in federations]
    for round in range(pipeline.rounds):
        jobs = [_jobs(f, s, round, pipeline.fraction) for f, s in zip(federations, states, strict=True)]
        messages = iter(pipeline.client_round(world, [j for js in jobs for j in js]))
        inboxes = []
        for i, state in enumerate(states):
            received = [next(messages) for _ in jobs[i]]
            inboxes.append([r for m in received for r in m.releases])
            log[i] += [broadcast(state), *inboxes[i]]
            sent[i] += received
        streams = [f.stream.child("server", round) for f in federations]
        states = pipeline.server_round(world, states, inboxes, streams)
        for entry, state in zip(log, states, strict=True):
            entry += state.kept
    published = pipeline.publish(world, states)
    return [
        _outcome(world, f, s, entry, messages_, out)
        for f, s, entry, messages_, out in zip(federations, states, log, sent, published, strict=True)
    ]


def _jobs(federation: Federation, state: ServerState, round: int, fraction: float) -> list[ClientJob]:
    clients = len(federation.clients)
    draw = federation.stream.child("participants", round).numpy()
    taking_part = sorted(draw.permutation(clients)[: max(1, int(fraction * clients + 0.5))].tolist())
    return [
        ClientJob(
            k, round, state.surrogate, federation.clients[k], federation.stream.child("client", k, round)
        )
        for k in taking_part
    ]


def _outcome(
    world: World,
    federation: Federation,
    state: ServerState,
    log: Sequence[Release],
    messages: Sequence[ClientMessage],
    published: Sequence[Release],
) -> Outcome:
    stream = federation.stream.child("publish")
    spent = [apply_release(world.hooks, r, stream.child(r.name)) for r in published]
    released = [s.value for s in spent]
    delivered = next(dict(r.tensors) for r in released if r.name == "large")
    large = world.surrogate if state.large is None else world.large
    transcript = Transcript(
        (*log, broadcast(state), *released), {"surrogate": world.surrogate, "large": large}
    )
    clients = range(len(federation.clients))
    events = tuple(tuple(m.event for m in messages if m.releases[0].about == k) for k in clients)
    checked = tuple(dict.fromkeys(a for m in messages for a in m.checked))
    return Outcome(transcript, events, checked, state.surrogate, delivered)
