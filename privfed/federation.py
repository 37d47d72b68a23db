"""Runs federations of one pipeline in process, many in lock step, and records what they release."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace

from privfed.aggregation import Summed, sum_up, summed_names
from privfed.answers import weights_of
from privfed.claims import Assumption
from privfed.deviation import Sent, instead
from privfed.hooks import Spent, apply_release
from privfed.ledger import Ledger
from privfed.nets import Params
from privfed.pipelines.interface import (
    Asking,
    ClientJob,
    ClientMessage,
    Personalised,
    Pipeline,
    ServerState,
    World,
    broadcast,
)
from privfed.randomness import Stream
from privfed.records import Records
from privfed.release import AGGREGATOR, CLIENTS, Release, Transcript


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
        personal: the model each client ends with; empty where all use the delivered one.
        answers: the delivered model behind its interface, where it is not handed out: accuracy is
            then that of what it answers, and `large` the weights behind it; else None.
    """

    transcript: Transcript
    ledger: Ledger
    surrogate: Params
    large: Params
    personal: tuple[Params, ...] = ()
    answers: Release | None = None


@dataclass(frozen=True, slots=True)
class Progress:
    """Every federation after one round, for measuring accuracy on the way.

    Attributes:
        round: the round that ended, from 0.
        states: of the servers, one per federation.
        kept: what each client keeps, by federation and client; empty mappings for pipelines whose
            clients keep nothing.
        uploaded: releases the clients sent in this round, one inbox per federation.
    """

    round: int
    states: tuple[ServerState, ...]
    kept: tuple[tuple[Params, ...], ...]
    uploaded: tuple[tuple[Release, ...], ...]


def run(
    pipeline: Pipeline,
    world: World,
    federations: Sequence[Federation],
    watch: Callable[[Progress], None] | None = None,
) -> list[Outcome]:
    """Runs every federation from `init` to `publish`; federations do not influence one another.

    Args:
        pipeline: the algorithm.
        world: what everybody knows.
        federations: the private sides.
        watch: called after every round.

    Raises:
        ValueError: when a server is to deviate in a pipeline that sends no model, or sends what does not fit.
    """
    if world.deviation is not None and isinstance(pipeline, Asking):
        name = type(pipeline).__name__
        raise ValueError(
            f"expected a pipeline that sends clients a model to deviate from, got pipeline={name}"
        )
    states = pipeline.init(world, [f.stream.child("init") for f in federations])
    kept = [_enrolled(pipeline, world, f, s) for f, s in zip(federations, states, strict=True)]
    log: list[list[Release]] = [[] for _ in federations]
    sent: list[list[ClientMessage]] = [[] for _ in federations]
    sums: list[list[_Charged]] = [[] for _ in federations]
    for round in range(pipeline.rounds):
        broadcasts = [broadcast(pipeline, world, s) for s in states]
        jobs = [
            _told(s, _jobs(f, dict(b.tensors), own, round, _share(pipeline, round), world.hooks.poisson))
            for s, f, b, own in zip(states, federations, broadcasts, kept, strict=True)
        ]
        begun = [_begun(world, *each) for each in zip(federations, broadcasts, jobs, log, strict=True)]
        messages = iter(pipeline.client_round(world, [j for b in begun for j in b.jobs]))
        inboxes = []
        for i in range(len(federations)):
            received = [next(messages) for _ in jobs[i]]
            inbox = tuple(r for m in received for r in m.releases)
            log[i] += begun[i].releases
            sent[i] += received
            for message in received:
                kept[i][message.client] = message.kept
            if world.hooks.aggregate:
                start, stream = dict(broadcasts[i].tensors), federations[i].stream.child("aggregate", round)
                nobody = pipeline.nobody(world, states[i]) if isinstance(pipeline, Asking) else None
                names, present = summed_names(pipeline), len(received)
                added = sum_up(world.hooks, names, start, inbox, present, round, stream, nobody)
                sums[i] += _charged(world, federations[i], received, added, begun[i].own, stream)
                log[i] += [*_hidden(world, pipeline, inbox), *added.shown]
                inbox = added.inbox
            else:
                log[i] += inbox
            inboxes.append(inbox)
        streams = [f.stream.child("server", round) for f in federations]
        states = pipeline.server_round(world, states, inboxes, streams)
        for entry, state in zip(log, states, strict=True):
            entry += state.kept
        if watch is not None:
            watch(Progress(round, tuple(states), tuple(tuple(own) for own in kept), tuple(inboxes)))
    published = pipeline.publish(world, states)
    ends = [
        _End(s, personal_models(pipeline, world, s, own), tuple(entry), tuple(messages_), tuple(sum_), out)
        for s, own, entry, messages_, sum_, out in zip(states, kept, log, sent, sums, published, strict=True)
    ]
    return [_outcome(pipeline, world, f, end) for f, end in zip(federations, ends, strict=True)]


def personal_models(
    pipeline: Pipeline, world: World, state: ServerState, kept: Sequence[Params]
) -> tuple[Params, ...]:
    """The model each client would use now; empty where all use the delivered one."""
    if not isinstance(pipeline, Personalised):
        return ()
    return tuple(pipeline.personal(world, state, k, own) for k, own in enumerate(kept))


@dataclass(frozen=True, slots=True)
class _Charged:
    """What one sum spent, and the clients who may have been in it."""

    clients: tuple[int, ...]
    spent: Spent[Params]
    stream: Stream


@dataclass(frozen=True, slots=True)
class _End:
    """A federation when its last round is over."""

    state: ServerState
    personal: tuple[Params, ...]
    log: tuple[Release, ...]
    messages: tuple[ClientMessage, ...]
    sums: tuple[_Charged, ...]
    published: tuple[Release, ...]


def _enrolled(pipeline: Pipeline, world: World, federation: Federation, state: ServerState) -> list[Params]:
    own = pipeline.enrol(world, state) if isinstance(pipeline, Personalised) else {}
    return [dict(own) for _ in federation.clients]


def _share(pipeline: Pipeline, round: int) -> float:
    return pipeline.share(round) if isinstance(pipeline, Personalised) else pipeline.fraction


def _jobs(
    federation: Federation, start: Params, kept: Sequence[Params], round: int, share: float, poisson: bool
) -> list[ClientJob]:
    clients = len(federation.clients)
    draw = federation.stream.child("participants", round).numpy()
    if poisson:
        taking_part = (draw.random(clients) < share).nonzero()[0].tolist()
    else:
        taking_part = sorted(draw.permutation(clients)[: max(1, int(share * clients + 0.5))].tolist())
    return [
        ClientJob(
            k, round, start, federation.clients[k], federation.stream.child("client", k, round), kept[k]
        )
        for k in taking_part
    ]


def _told(state: ServerState, jobs: list[ClientJob]) -> list[ClientJob]:
    """The jobs with what went to all clients beside the broadcast."""
    sent = tuple(r for r in state.kept if r.receiver == CLIENTS)
    return [replace(j, received=sent) for j in jobs] if sent else jobs


def _begun(
    world: World, federation: Federation, honest: Release, jobs: list[ClientJob], log: Sequence[Release]
) -> Sent:
    """The round as it begins for the clients: with the broadcast, or with what the server sends instead."""
    if world.deviation is not None:
        clients, stream = len(federation.clients), federation.stream.child("deviation")
        sent = instead(world, world.deviation, honest, jobs, log, clients, stream)
        if sent is not None:
            return sent
    return Sent(jobs, _news(log, honest), False)


def _charged(
    world: World,
    federation: Federation,
    received: Sequence[ClientMessage],
    added: Summed,
    own: bool,
    stream: Stream,
) -> list[_Charged]:
    # Under sampling each client pays for every round: its chance of not taking part is in the event.
    everybody = tuple(range(len(federation.clients)))
    clients = everybody if world.hooks.poisson else tuple(m.client for m in received if m.releases)
    spent = {n: _unfounded(s) if own and s.event is not None else s for n, s in added.spent.items()}
    return [_Charged(clients, s, stream.child(name)) for name, s in spent.items()]


def _unfounded(spent: Spent[Params]) -> Spent[Params]:
    """Noise on a sum of changes from one start does not cover how far apart the starts were."""
    one = Assumption("one start for all clients", False, "clients were sent different models in a round")
    return replace(spent, checked=(*spent.checked, one))


def _hidden(world: World, pipeline: Pipeline, inbox: Sequence[Release]) -> list[Release]:
    """What the clients sent, addressed to whoever adds it up."""
    if not world.hooks.hides_updates:
        return list(inbox)
    names = summed_names(pipeline)
    return [replace(r, receiver=AGGREGATOR) if r.name in names else r for r in inbox]


def _news(log: Sequence[Release], sent: Release) -> tuple[Release, ...]:
    """The broadcast, unless it went out before: a round without messages leaves the server where it was."""
    earlier = [
        dict(r.tensors) for r in log if (r.name, r.round, r.receiver) == (sent.name, sent.round, CLIENTS)
    ]
    known = any(all(e.get(k) is v for k, v in sent.tensors.items()) for e in earlier)
    return () if known else (sent,)


def _outcome(pipeline: Pipeline, world: World, federation: Federation, end: _End) -> Outcome:
    state, stream = end.state, federation.stream.child("publish")
    spent = [apply_release(world.hooks, r, stream.child(r.name)) for r in end.published]
    released = [s.value for s in spent]
    delivered = next(r for r in released if r.name == "large")
    answers = delivered if delivered.kind == "answers" else None
    large = world.surrogate if state.large is None else world.large
    last = broadcast(pipeline, world, state)
    releases = (*end.log, *_news(end.log, last), *released)
    transcript = Transcript(releases, {"surrogate": world.surrogate, "large": large})
    ledger = Ledger(hidden=world.hooks.hides_updates)
    for message in end.messages:
        if message.releases:  # what is not sent costs nothing
            ledger = ledger.spend(message.client, message.spent, _stream_of(federation, message))
    for charged in end.sums:
        ledger = ledger.spend_on_sum(charged.clients, charged.spent, charged.stream)
    if world.hooks.release:
        for release, s in zip(end.published, spent, strict=True):
            ledger = ledger.publish(s, stream.child(release.name))
    return Outcome(transcript, ledger, state.surrogate, weights_of(delivered), end.personal, answers)


def _stream_of(federation: Federation, message: ClientMessage) -> Stream:
    return federation.stream.child("client", message.client, message.releases[0].round)
