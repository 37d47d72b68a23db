"""The two twins every attack is tried on: one that leaks on purpose, one that cannot leak.

The positive twin (`trained_on="members"`) is a pipeline with every leak built in: clients train
until they have memorised their records and upload the records too; the server trains both models on
them until they are memorised and publishes them as its "synthetic" set. The null twin
(`trained_on="public"`) does the same with records of the public shard in the clients' place, so
that nothing it releases depends on a client record.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Literal

import torch

from privfed.aggregation import AGGREGATE
from privfed.nets import Params
from privfed.pipelines._local import (
    client_images,
    initial_states,
    publish_model,
    publish_synthetic,
    train_and_upload,
    train_on,
)
from privfed.pipelines.interface import ClientJob, ClientMessage, ServerState, World
from privfed.randomness import Stream
from privfed.records import Records, concatenate
from privfed.release import AGGREGATOR, SERVER, Release, client_name
from privfed.training import Recipe

TrainedOn = Literal["members", "public"]
NULL_RECORDS = 40


@dataclass(frozen=True, slots=True)
class Twin:
    """A control pipeline of one round.

    Attributes:
        trained_on: "members" (positive twin) or "public" (null twin).
        memorising: training, long enough to fit every record.
    """

    trained_on: TrainedOn = "members"
    memorising: Recipe = Recipe(epochs=60, batch=32, lr=0.1, momentum=0.9)

    @property
    def rounds(self) -> int:
        """One."""
        return 1

    @property
    def fraction(self) -> float:
        """All clients take part."""
        return 1.0

    @property
    def needs_each(self) -> str:
        """Why no defence on sums fits."""
        return "it is a control that shows what no defence stands before"

    @property
    def outside_claim(self) -> tuple[str, ...]:
        """Everything, for the positive twin."""
        return ("raw records of the clients",) if self.trained_on == "members" else ()

    def init(self, world: World, streams: Sequence[Stream]) -> list[ServerState]:
        """Random models."""
        return initial_states(world, streams, with_large=True)

    def client_round(self, world: World, jobs: Sequence[ClientJob]) -> list[ClientMessage]:
        """Memorises the records (or public ones in their place) and uploads model and records."""
        used = [j if self.trained_on == "members" else _null_job(world, j) for j in jobs]
        messages = train_and_upload(world, self.memorising, used)
        return [replace(m, releases=(*m.releases, _raw(j))) for m, j in zip(messages, used, strict=True)]

    def server_round(
        self,
        world: World,
        states: Sequence[ServerState],
        inboxes: Sequence[Sequence[Release]],
        streams: Sequence[Stream],
    ) -> list[ServerState]:
        """Trains both models on the pooled records."""
        raw = [_by_client(inbox) for inbox in inboxes]
        pooled = [concatenate([_records(r) for r in releases]) for releases in raw]
        kept = [tuple(client_images(r.round, r.about or 0, _records(r)) for r in rs) for rs in raw]
        small = train_on(
            world, world.surrogate, [s.surrogate for s in states], pooled, self.memorising, streams
        )
        large = train_on(
            world, world.large, [s.large or {} for s in states], pooled, self.memorising, streams
        )
        return [
            ServerState(s.round + 1, a, b, pool, (*keep, _as_sum(s.round, a)))
            for s, a, b, pool, keep in zip(states, small, large, pooled, kept, strict=True)
        ]

    def publish(self, world: World, states: Sequence[ServerState]) -> list[tuple[Release, ...]]:
        """The large model and the records it was trained on."""
        return [
            (publish_model(s, s.large or {}), publish_synthetic(s, s.synthetic))
            for s in states
            if s.synthetic is not None
        ]


def _null_job(world: World, job: ClientJob) -> ClientJob:
    """The same job on public records, in a number that does not depend on the client's."""
    stream = job.stream.child("null")
    generator = stream.torch()
    index = torch.randperm(len(world.public), generator=generator)[:NULL_RECORDS]
    records = world.public.take(index)
    if not world.public_labelled:
        labels = torch.randint(world.surrogate.classes, (len(records),), generator=generator)
        records = Records(records.inputs, labels.to(records.labels.device))
    return ClientJob(job.client, job.round, job.start, records, stream)


def _as_sum(round: int, model: Params) -> Release:
    """The model that remembers everybody's records, where others show a sum of updates."""
    return Release(round, AGGREGATOR, SERVER, "weights", AGGREGATE, model)


def _raw(job: ClientJob) -> Release:
    tensors = {"inputs": job.records.inputs, "labels": job.records.labels}
    sender = client_name(job.client)
    return Release(job.round, sender, SERVER, "synthetic", "raw_images", tensors, job.client)


def _by_client(inbox: Sequence[Release]) -> list[Release]:
    """The raw records, in the order of the clients, in whatever order they arrived."""
    return sorted((r for r in inbox if r.name == "raw_images"), key=lambda r: r.about or 0)


def _records(release: Release) -> Records:
    return Records(release.tensors["inputs"], release.tensors["labels"])
