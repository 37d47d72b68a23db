"""A pipeline as it is, with a meter at every client's door: bytes up and down, processor time."""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from statistics import median

from privfed.nets import Params
from privfed.pipelines.interface import (
    PERSONAL,
    ClientJob,
    ClientMessage,
    Personalised,
    Pipeline,
    ServerState,
    World,
)
from privfed.randomness import Stream
from privfed.release import Release

SAMPLES = 5
"""Rounds in which the yardstick is timed beside the pipeline."""


@dataclass(slots=True)
class Reading:
    """Totals over the rounds that count.

    Attributes:
        rounds: those before it count; a last round of all clients is another kind of work.
        jobs: clients' turns.
        up, down: bytes of the payload, without framing.
        client_seconds, server_seconds: processor time of the process.
        yardstick_seconds: of one turn of the yardstick, one entry for each round it was timed in.
    """

    rounds: int
    jobs: int = 0
    up: int = 0
    down: int = 0
    client_seconds: float = 0.0
    server_seconds: float = 0.0
    yardstick_seconds: list[float] = field(default_factory=list)

    def per_job(self, total: float) -> float:
        """Mean over the clients' turns."""
        return total / max(1, self.jobs)

    @property
    def ratio(self) -> float:
        """Processor time of a client's turn over the yardstick's, both of this process."""
        return self.per_job(self.client_seconds) / median(self.yardstick_seconds)


@dataclass(frozen=True, slots=True)
class Metered:
    """Passes everything through and reads the meter.

    Attributes:
        inner: the pipeline.
        reading: filled in on the way.
        yardstick: a pipeline whose clients train whole models; timed on jobs of some rounds, its
            result thrown away.
    """

    inner: Pipeline
    reading: Reading
    yardstick: Pipeline

    @property
    def rounds(self) -> int:
        """As inside."""
        return self.inner.rounds

    @property
    def fraction(self) -> float:
        """As inside."""
        return self.inner.fraction

    @property
    def outside_claim(self) -> tuple[str, ...]:
        """As inside."""
        return self.inner.outside_claim

    def init(self, world: World, streams: Sequence[Stream]) -> list[ServerState]:
        """As inside."""
        return self.inner.init(world, streams)

    def client_round(self, world: World, jobs: Sequence[ClientJob]) -> list[ClientMessage]:
        """As inside; counts turns, time, what came with the job and what is sent."""
        if not jobs or jobs[0].round >= self.reading.rounds:
            return self.inner.client_round(world, jobs)
        self._time_yardstick(world, jobs)
        before = time.process_time()
        messages = self.inner.client_round(world, jobs)
        self.reading.client_seconds += time.process_time() - before
        self.reading.jobs += len(jobs)
        self.reading.down += sum(_bytes(j.start) for j in jobs)
        self.reading.up += sum(r.payload_bytes for m in messages for r in m.releases)
        return messages

    def server_round(
        self,
        world: World,
        states: Sequence[ServerState],
        inboxes: Sequence[Sequence[Release]],
        streams: Sequence[Stream],
    ) -> list[ServerState]:
        """As inside; counts time, and the models that single clients get."""
        counts = all(s.round < self.reading.rounds for s in states)
        before = time.process_time()
        ends = self.inner.server_round(world, states, inboxes, streams)
        if counts:
            self.reading.server_seconds += time.process_time() - before
            self.reading.down += sum(r.payload_bytes for s in ends for r in s.kept if r.name == PERSONAL)
        return ends

    def publish(self, world: World, states: Sequence[ServerState]) -> list[tuple[Release, ...]]:
        """As inside."""
        return self.inner.publish(world, states)

    def _time_yardstick(self, world: World, jobs: Sequence[ClientJob]) -> None:
        every = max(1, self.reading.rounds // SAMPLES)
        if jobs[0].round % every or len(self.reading.yardstick_seconds) >= SAMPLES:
            return
        # Models that train side by side cost less each: then all take the yardstick, else one will do.
        sample = jobs if world.engine == "stacked" else jobs[:1]
        whole = self.yardstick.init(world, [jobs[0].stream.child("yardstick")])[0].surrogate
        before = time.process_time()
        self.yardstick.client_round(world, [replace(j, start=whole, kept={}) for j in sample])
        self.reading.yardstick_seconds.append((time.process_time() - before) / len(sample))


@dataclass(frozen=True, slots=True)
class MeteredPersonal(Metered):
    """The same for pipelines whose clients have models of their own."""

    def share(self, round: int) -> float:
        """As inside."""
        return self._own.share(round)

    def enrol(self, world: World, state: ServerState) -> Params:
        """As inside."""
        return self._own.enrol(world, state)

    def shared(self, world: World, state: ServerState) -> Params:
        """As inside."""
        return self._own.shared(world, state)

    def personal(self, world: World, state: ServerState, client: int, kept: Params) -> Params:
        """As inside."""
        return self._own.personal(world, state, client, kept)

    @property
    def _own(self) -> Personalised:
        if not isinstance(self.inner, Personalised):
            raise ValueError(f"expected a pipeline with personal models, got inner={self.inner!r}")
        return self.inner


def metered(inner: Pipeline, reading: Reading, yardstick: Pipeline) -> Metered:
    """The pipeline with a meter; personal where the pipeline is."""
    kind = MeteredPersonal if isinstance(inner, Personalised) else Metered
    return kind(inner, reading, yardstick)


def _bytes(params: Params) -> int:
    return sum(t.numel() * t.element_size() for t in params.values())
