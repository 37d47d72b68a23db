"""Runs federations of one pipeline in process, many in lock step, and records what they release."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from privfed.hooks import apply_release
from privfed.ledger import Ledger
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
        ledger: what each client's data spent, round by round.
        surrogate, large: final models, for measuring accuracy.
    """

    transcript: Transcript
    ledger: Ledger
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
    ledger = Ledger()
    for message in messages:
        ledger = ledger.spend(message.client, message.spent, _stream_of(federation, message))
    return Outcome(transcript, ledger, state.surrogate, delivered)


def _stream_of(federation: Federation, message: ClientMessage) -> Stream:
    return federation.stream.child("client", message.client, message.releases[0].round)
