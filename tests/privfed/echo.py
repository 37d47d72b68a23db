"""A pipeline that trains nothing and writes down every call, for tests of what runs pipelines."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field, replace

import torch
from dp_accounting import GaussianDpEvent

from privfed.federation import Federation
from privfed.hooks import Spent
from privfed.nets import NetSpec
from privfed.pipelines.interface import ClientJob, ClientMessage, ServerState, World
from privfed.randomness import Stream
from privfed.records import Records
from privfed.release import PUBLIC, SERVER, Release, client_name

SPEC = NetSpec("mlp", channels=1, size=2, classes=2, width=1, depth=1)
LARGE = replace(SPEC, width=3)
NOTHING = Records(torch.empty(0, 1, 2, 2), torch.empty(0, dtype=torch.int64))
WORLD = World(SPEC, LARGE, NOTHING, public_labelled=False)


@dataclass(frozen=True)
class Echo:
    """Trains nothing: releases carry one number, and every call is written down."""

    rounds: int = 2
    fraction: float = 1.0
    with_large: bool = True
    outside_claim: tuple[str, ...] = ()
    stuck: bool = False
    jobs: list[list[ClientJob]] = field(default_factory=list)
    server: list[tuple[list[list[str]], list[Stream]]] = field(default_factory=list)

    def init(self, world: World, streams: Sequence[Stream]) -> list[ServerState]:
        assert all(s.path[-1] == "init" for s in streams)
        large = {"w": torch.tensor([100.0])} if self.with_large else None
        return [ServerState(0, {"w": torch.tensor([0.0])}, large) for _ in streams]

    def client_round(self, world: World, jobs: Sequence[ClientJob]) -> list[ClientMessage]:
        self.jobs.append(list(jobs))
        return [self._message(j) for j in jobs]

    def _message(self, job: ClientJob) -> ClientMessage:
        params = {"w": job.start["w"] + 1}
        name, round = client_name(job.client), 0 if self.stuck else job.round
        releases = (
            Release(round, name, SERVER, "weights", "update", params, job.client),
            Release(round, name, SERVER, "counts", "count", {"n": torch.tensor(3)}, job.client),
        )
        return ClientMessage(job.client, releases, Spent(params, GaussianDpEvent(float(job.client + 1))))

    def server_round(
        self,
        world: World,
        states: Sequence[ServerState],
        inboxes: Sequence[Sequence[Release]],
        streams: Sequence[Stream],
    ) -> list[ServerState]:
        received = [[f"{r.name}:{r.about}" for r in inbox] for inbox in inboxes]
        self.server.append((received, list(streams)))
        return [
            replace(s, round=s.round + 1, surrogate={"w": s.surrogate["w"] + 1}, kept=(_kept(s.round),))
            for s in states
        ]

    def publish(self, world: World, states: Sequence[ServerState]) -> list[tuple[Release, ...]]:
        return [
            (
                Release(s.round, SERVER, PUBLIC, "weights", "large", s.large or s.surrogate),
                Release(s.round, SERVER, PUBLIC, "synthetic", "synthetic", {"inputs": torch.zeros(1)}),
            )
            for s in states
        ]


def _kept(round: int) -> Release:
    return Release(round, SERVER, SERVER, "latents", "client_latents", {"z": torch.zeros(1)})


def federation(seed: int, clients: int = 2) -> Federation:
    return Federation((NOTHING,) * clients, Stream(seed, ("federation",)))
