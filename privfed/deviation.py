"""A malicious server: what it knows when it chooses what to send a client, and what it sends instead.

The honest pipeline runs on beneath it. A deviation replaces the broadcast client by client; what comes back
goes into the server's round as usual, so what the deviation costs is seen in the accuracy. The clients
notice nothing by themselves, and their defences act as before: on whatever model they were sent.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Protocol, runtime_checkable

import torch
from torch import Tensor

from privfed.nets import Params
from privfed.randomness import Stream
from privfed.records import Records
from privfed.release import SERVER, Observer, Release, client_name

if TYPE_CHECKING:
    from privfed.pipelines.interface import ClientJob, World

WITHHELD = "withheld"
"""Name of the honest broadcast in a transcript where it stayed with the server."""


@dataclass(frozen=True, slots=True)
class Targets:
    """Records whose membership the server wants to know; it does not know who was in.

    Attributes:
        records: n records.
        clients: int64, shape (n,): whose member each may be.
    """

    records: Records
    clients: Tensor

    def of(self, client: int) -> Records:
        """Those that this client may hold."""
        return self.records.take(self.clients.to(self.records.labels.device) == client)


@dataclass(frozen=True, slots=True)
class Turn:
    """What a malicious server has before it when it sends one client a model.

    Attributes:
        world: what everybody knows.
        round: communication round, from 0.
        client: to whom it sends.
        clients: in the federation, whether or not they take part in this round.
        honest: what the pipeline would broadcast; a representation without its head in some.
        seen: all that reached or left the server before this round, in order, of which nothing is
            hidden from a server: where updates are added up before they reach it, only the sums.
        targets: whose membership it is after.
        stream: of this server in this federation, the same in every turn.
    """

    world: World
    round: int
    client: int
    clients: int
    honest: Params
    seen: tuple[Release, ...]
    targets: Targets
    stream: Stream

    def last_upload(self) -> Params | None:
        """The model this client sent last; None before its first, or where the server sees sums only."""
        sent = [r for r in self.seen if (r.kind, r.name, r.about) == ("weights", "update", self.client)]
        return dict(sent[-1].tensors) if sent else None


@runtime_checkable
class Deviation(Protocol):
    """What a malicious server sends; a frozen value, its fields are its knobs."""

    def send(self, turn: Turn) -> Params:
        """What this client gets in place of `turn.honest`, or that itself; same names and shapes."""
        ...


@dataclass(frozen=True, slots=True)
class MaliciousServer:
    """A deviation, and the records it is aimed at."""

    deviation: Deviation
    targets: Targets


@dataclass(frozen=True, slots=True)
class Sent:
    """One round as it began for the clients: what each was told, and what the transcript says of it.

    Attributes:
        own: whether clients were sent models of their own in place of one broadcast.
    """

    jobs: list[ClientJob]
    releases: tuple[Release, ...]
    own: bool


def instead(
    world: World,
    server: MaliciousServer,
    honest: Release,
    jobs: list[ClientJob],
    log: Sequence[Release],
    clients: int,
    stream: Stream,
) -> Sent | None:
    """The round as the malicious server begins it; None where it sends everybody the honest broadcast.

    Whoever takes part gets a release of its own, named as the broadcast; whoever does not gets nothing in
    that round. The honest broadcast stays with the server, as `WITHHELD`.

    Args:
        world: what everybody knows.
        server: who deviates.
        honest: what the pipeline would broadcast.
        jobs: of those who take part, with the honest start.
        log: the transcript so far.
        clients: in the federation.
        stream: of the server in this federation.

    Raises:
        ValueError: when what is sent does not have the names and shapes of the honest broadcast.
    """
    seen = tuple(filter(Observer("malicious_server").sees, log))
    # A server that could follow its stream up to the root could draw the clients' batches and noise.
    sealed = Stream(stream.integer())
    starts = []
    for job in jobs:
        start = dict(honest.tensors)
        turn = Turn(world, job.round, job.client, clients, start, seen, server.targets, sealed)
        starts.append(_checked(server.deviation.send(turn), honest))
    if all(torch.equal(t, honest.tensors[k]) for start in starts for k, t in start.items()):
        return None
    own = tuple(
        replace(honest, receiver=client_name(j.client), tensors=s) for j, s in zip(jobs, starts, strict=True)
    )
    withheld = replace(honest, receiver=SERVER, name=WITHHELD)
    told = [replace(j, start=s) for j, s in zip(jobs, starts, strict=True)]
    return Sent(told, (withheld, *own), True)


def _checked(sent: Params, honest: Release) -> Params:
    shapes = {k: tuple(t.shape) for k, t in honest.tensors.items()}
    found = {k: tuple(t.shape) for k, t in sent.items()}
    if found != shapes:
        odd = sorted(k for k in shapes.keys() | found.keys() if found.get(k) != shapes.get(k))
        raise ValueError(
            f"expected what is sent to have the tensors of the honest broadcast, "
            f"got {odd[0]}={found.get(odd[0])} in place of {shapes.get(odd[0])}"
        )
    return {k: sent[k].detach() for k in honest.tensors}
