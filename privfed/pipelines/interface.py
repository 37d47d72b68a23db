"""What a pipeline is: four pure functions of (public world, state, messages, randomness).

Each takes a sequence: one entry per federation or per client. In a simulation many federations run
in lock step, so that their small models train stacked; at a real site the sequence has one entry.
Messages are `Release` values, so nothing crosses a boundary unrecorded.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Protocol, runtime_checkable

from privfed.deviation import MaliciousServer
from privfed.hooks import Hooks, Spent
from privfed.nets import NetSpec, Params
from privfed.prior import Prior
from privfed.randomness import Stream
from privfed.records import Records
from privfed.release import CLIENTS, SERVER, Release
from privfed.training import Engine

PERSONAL = "personal"
"""Name of the release that brings a client a model of its own."""


@dataclass(frozen=True, slots=True)
class World:
    """What everybody knows.

    Attributes:
        surrogate: architecture that the clients train.
        large: architecture of the model that only the server trains.
        public: the public shard.
        public_labelled: whether its labels are classes of the private task.
        prior: frozen generative prior trained on the public shard, for pipelines that need one.
        hooks: the defences switched on.
        engine, large_engine: training engine of each architecture.
        deviation: the malicious server that chooses what clients are sent; None = an honest one. Only what
            runs federations reads it: no pipeline and no client does.
    """

    surrogate: NetSpec
    large: NetSpec
    public: Records
    public_labelled: bool
    prior: Prior | None = None
    hooks: Hooks = field(default_factory=Hooks)
    engine: Engine = "looped"
    large_engine: Engine = "looped"
    deviation: MaliciousServer | None = None


@dataclass(frozen=True, slots=True)
class ClientJob:
    """One client's work in one round.

    Attributes:
        start: what was broadcast: a whole model, or a representation without its head.
        records: the client's own.
        stream: its randomness.
        kept: what the client kept from earlier rounds; it never leaves the client.
        received: what the server sent to all clients after the last round, beside the broadcast.
    """

    client: int
    round: int
    start: Params
    records: Records
    stream: Stream
    kept: Params = field(default_factory=dict)
    received: tuple[Release, ...] = ()


@dataclass(frozen=True, slots=True)
class ClientMessage:
    """What one client sends, and what the defences on the way spent.

    Attributes:
        client: who sends.
        releases: the payload; empty when the client sends nothing, which costs nothing.
        spent: the update as sent, with its privacy event and what the run checked.
        kept: what the client keeps for its next rounds; no release.
    """

    client: int
    releases: tuple[Release, ...]
    spent: Spent[Params]
    kept: Params = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class ServerState:
    """What the server holds after a round.

    Attributes:
        round: rounds completed; one in which no client sent anything need not count.
        surrogate: weights to broadcast next.
        large: weights of the server's own model; None when the pipeline has none.
        synthetic: the synthetic records the server trains on; None when the pipeline has none.
        kept: releases that the server made in the last round, for itself or for single clients.
        memory: what the server keeps between rounds beside its models.
    """

    round: int
    surrogate: Params
    large: Params | None = None
    synthetic: Records | None = None
    kept: tuple[Release, ...] = ()
    memory: Params = field(default_factory=dict)


class Pipeline(Protocol):
    """A federated algorithm; a frozen value, its fields are its hyper-parameters."""

    @property
    def rounds(self) -> int:
        """Communication rounds."""
        ...

    @property
    def fraction(self) -> float:
        """Share of the clients that take part in a round, in (0, 1]."""
        ...

    @property
    def outside_claim(self) -> tuple[str, ...]:
        """What clients disclose beside their updates, outside any differential-privacy claim."""
        ...

    def init(self, world: World, streams: Sequence[Stream]) -> list[ServerState]:
        """The server's state before the first round, one per federation."""
        ...

    def client_round(self, world: World, jobs: Sequence[ClientJob]) -> list[ClientMessage]:
        """What each client sends, one message per job."""
        ...

    def server_round(
        self,
        world: World,
        states: Sequence[ServerState],
        inboxes: Sequence[Sequence[Release]],
        streams: Sequence[Stream],
    ) -> list[ServerState]:
        """The server's next state, one per federation."""
        ...

    def publish(self, world: World, states: Sequence[ServerState]) -> list[tuple[Release, ...]]:
        """What each federation publishes at the end."""
        ...


@runtime_checkable
class Personalised(Protocol):
    """What a pipeline has beside, whose clients each end with a model of their own."""

    def share(self, round: int) -> float:
        """Share of the clients that take part in that round, in (0, 1]."""
        ...

    def enrol(self, world: World, state: ServerState) -> Params:
        """What every client keeps before its first round, given the state before the first round."""
        ...

    def shared(self, world: World, state: ServerState) -> Params:
        """What the server broadcasts: the surrogate, or its representation alone."""
        ...

    def personal(self, world: World, state: ServerState, client: int, kept: Params) -> Params:
        """The model that `client` uses after the round that `state` follows."""
        ...


@runtime_checkable
class Asking(Protocol):
    """What a pipeline has beside, whose server asks its clients for sums and sends no model."""

    def announce(self, world: World, state: ServerState) -> Release:
        """What goes to all clients, so that they can answer."""
        ...

    def nobody(self, world: World, state: ServerState) -> Params:
        """The sum over no client: zeros."""
        ...


def broadcast(pipeline: Pipeline, world: World, state: ServerState) -> Release:
    """What goes to all clients."""
    if isinstance(pipeline, Asking):
        return pipeline.announce(world, state)
    sent = pipeline.shared(world, state) if isinstance(pipeline, Personalised) else state.surrogate
    return Release(state.round, SERVER, CLIENTS, "weights", "surrogate", sent)


def delivered(state: ServerState, client: int) -> Params | None:
    """The personal model that the server sent `client` in the last round, if it did."""
    found = [r for r in state.kept if r.name == PERSONAL and r.about == client]
    return dict(found[-1].tensors) if found else None
