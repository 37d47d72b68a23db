"""Released sets of records, and who is read against which: all against one pool, or each client's own."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np
import torch

from attacks._releases import labelled_inputs, received
from attacks.interface import Candidates, Floats, Signals
from privfed.records import Records, concatenate
from privfed.release import View

Read = Callable[[Records, Records, Records], tuple[Floats, Floats]]
"""Signals of (released set, candidates, population): shapes (n,) and (z,), NaN where unknown."""
Owned = tuple[int | None, Records]
"""A set of records and the client whose data alone made it, or None."""


def against_sets(view: View, artefact: str, candidates: Candidates, read: Read) -> Signals | None:
    """Signals of every record against the synthetic releases of that name; None where they hold no record."""
    return against(
        [(r.about, labelled_inputs(r)) for r in received(view, "synthetic", artefact)], candidates, read
    )


def against(sets: Sequence[Owned], candidates: Candidates, read: Read) -> Signals | None:
    """Signals of one query: every record against the sets of all rounds together.

    Sets that belong to a client are read by its own candidates and by the whole population; NaN for
    candidates whose client has none. None where all sets are empty.
    """
    sets = [(about, made) for about, made in sets if len(made)]
    if not sets:
        return None
    if any(about is None for about, _ in sets):
        pool = concatenate([made for _, made in sets])
        members, population = read(pool, candidates.records, candidates.population)
        nobody = np.zeros(len(members), dtype=np.int64)
        return Signals(members[:, np.newaxis], population[:, np.newaxis, np.newaxis], nobody)
    owners = candidates.clients.cpu().numpy().astype(np.int64)
    clients = int(owners.max(initial=-1)) + 1
    of_candidates = np.full((len(owners), 1), np.nan)
    of_population = np.full((len(candidates.population), 1, clients), np.nan)
    for client in sorted({about for about, _ in sets if about is not None and about < clients}):
        pool = concatenate([made for about, made in sets if about == client])
        mine = np.flatnonzero(owners == client)
        own = candidates.records.take(torch.from_numpy(mine))
        of_candidates[mine, 0], of_population[:, 0, client] = read(pool, own, candidates.population)
    return Signals(of_candidates, of_population, owners)
