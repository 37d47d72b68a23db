"""Models that a malicious server sent to single clients, and what each client made of its own."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace

import numpy as np
import torch

from attacks._releases import lacks_head, net_of, owner, received, stack, start_of, to_one
from attacks.confidence import confidences
from attacks.interface import Candidates, Floats, Signals
from privfed.nets import NetSpec, Params
from privfed.records import concatenate
from privfed.release import Release, View


@dataclass(frozen=True, slots=True)
class Leg:
    """What one client was sent in one round, and what it returned.

    Attributes:
        sent: a whole model; where it came without its head, the returned one stands in.
        returned: a whole model.
        before: what the client had uploaded last before that, or None.
        bare: names of the tensors that were really sent.
    """

    sent: Release
    returned: Release
    before: Release | None
    bare: tuple[str, ...]

    @property
    def isolated(self) -> bool:
        """Whether what was sent is the client's own last upload, bit for bit."""
        return self.before is not None and all(
            torch.equal(self.sent.tensors[k], self.before.tensors[k]) for k in self.bare
        )


def legs(view: View, passive: bool = False) -> tuple[NetSpec, tuple[Leg, ...]] | None:
    """In the order of rounds; None where nobody was sent a model alone, or no upload has a head.

    Args:
        view: what was seen.
        passive: take what went to all clients for what each was sent, where none was sent one alone.
    """
    updates, sent = received(view, "weights", "update"), received(view, "weights", "surrogate")
    if not updates or not (passive or any(to_one(r) for r in sent)):
        return None
    spec = net_of(view, "surrogate")
    last: dict[int, Release] = {}
    found = []
    for update in sorted(updates, key=lambda u: u.round):
        if lacks_head(update, spec):
            continue
        start = start_of(update, sent)
        if start is not None and (passive or to_one(start)):
            lacks_head(start, spec)  # refuses what is damaged
            whole = replace(start, tensors={**update.tensors, **start.tensors})
            found.append(Leg(whole, update, last.get(owner(update)), tuple(start.tensors)))
        last[owner(update)] = update
    return (spec, tuple(found)) if found and spec.classes > 1 else None


def rounds_of(view: View) -> list[int]:
    """Rounds in which any client uploaded: queries that do not depend on who was sent what."""
    return sorted({u.round for u in received(view, "weights", "update")})


def laid_out(
    spec: NetSpec,
    found: tuple[Leg, ...],
    rounds: list[int],
    candidates: Candidates,
    read: Callable[[Floats, Floats], Floats],
) -> Signals:
    """One query a round: candidates in the legs of their own client, population in those of every client.

    Args:
        spec: of the models.
        found: the legs that are read.
        rounds: one a query, whether or not they have legs.
        candidates: whom the models are run on.
        read: of logit-scaled confidences under what was sent and under what was returned.
    """
    owners = candidates.clients.cpu().numpy().astype(np.int64)
    clients, z = int(owners.max(initial=-1)) + 1, len(candidates.population)
    members = np.full((len(owners), len(rounds)), np.nan)
    population = np.full((z, len(rounds), clients), np.nan)
    for leg in found:
        query, client = rounds.index(leg.returned.round), owner(leg.returned)
        mine = np.flatnonzero(owners == client)
        records = concatenate([candidates.records.take(torch.from_numpy(mine)), candidates.population])
        values = read(*confidences(spec, _both(leg, spec), records))
        members[mine, query] = values[: len(mine)]
        if client < clients:
            population[:, query, client] = values[len(mine) :]
    return Signals(members, population, owners)


def _both(leg: Leg, spec: NetSpec) -> Params:
    return stack((leg.sent, leg.returned), spec)
