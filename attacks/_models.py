"""Which released models an observation reads, and in which column each record meets them."""

from __future__ import annotations

from collections.abc import Callable
from typing import Literal, get_args

import numpy as np
import torch
from torch import Tensor

from attacks._releases import net_of, owner, received, to_one
from attacks.interface import Candidates, Floats, Signals
from privfed.nets import NetSpec
from privfed.randomness import Stream
from privfed.records import Records
from privfed.release import Release, View

Artefact = Literal["update", "aggregate", "personal", "surrogate", "large"]
Read = Callable[[tuple[Release, ...], Records, Records], tuple[Floats, Floats]]
"""Signals of (models, members, population): shapes (models, n) and (models, z), NaN where unknown.

A last axis, where there is one, holds several numbers a model.
"""

QUERIES = 16
"""Times a model is asked about a record, where its answers vary; noise goes down by the root of that."""

_OF_CLIENTS = ("update", "personal")


def check_artefact(artefact: str) -> None:
    """Refuse names that no model is released under.

    Raises:
        ValueError: naming those there are.
    """
    if artefact not in get_args(Artefact):
        raise ValueError(
            f"expected artefact to be one of {', '.join(get_args(Artefact))}, got artefact={artefact!r}"
        )


def released(view: View, artefact: Artefact) -> tuple[NetSpec, tuple[Release, ...]] | None:
    """The models of that name with their architecture, less the broadcast made before any data were seen.

    None when the view has none, or when one class leaves no label to be confident of.
    """
    releases = received(view, "weights", artefact)
    if artefact == "surrogate":
        # What a malicious server sends to one client alone is no broadcast.
        releases = tuple(r for r in releases if r.round > 0 and not to_one(r))
    if not releases:
        return None
    spec = net_of(view, "large" if artefact == "large" else "surrogate")
    return (spec, releases) if spec.classes > 1 else None


def answering(view: View, artefact: Artefact) -> NetSpec | None:
    """The architecture of the model of that name, where it answers and its weights are not there.

    None when none does, or when one class leaves no label to be confident of.
    """
    if artefact in _OF_CLIENTS or artefact not in view.interfaces:
        return None
    spec = net_of(view, artefact)
    return spec if spec.classes > 1 else None


def queried(view: View, artefact: Artefact, inputs: Tensor, stream: Stream) -> Tensor:
    """Answers on the inputs, float64, shape (n, classes); where they vary, the mean of `QUERIES`.

    Nothing limits how often an attacker asks, so noise on answers is averaged away as far as that goes.

    Raises:
        ValueError: when an answer is not finite: scored, it would vanish from the audit.
    """
    first, second = (view.ask(artefact, inputs, stream.child(i)) for i in range(2))
    total = first + second
    if torch.equal(first, second):
        mean = first
    else:
        for i in range(2, QUERIES):
            total = total + view.ask(artefact, inputs, stream.child(i))
        mean = total / QUERIES
    if not bool(torch.isfinite(mean).all()):
        raise ValueError(f"expected finite answers of model {artefact!r}, got some with NaN or infinity")
    return mean


def laid_out(
    artefact: Artefact, releases: tuple[Release, ...], candidates: Candidates, read: Read, width: int = 1
) -> Signals:
    """Signals of the models: `width` queries a round where they belong to a client, a release where not.

    A candidate is looked up in the models of its own client only, NaN in rounds without one. Of several
    numbers a model, those of one model stand side by side.
    """
    if artefact not in _OF_CLIENTS:
        members, population = (_rows(v) for v in read(releases, candidates.records, candidates.population))
        return Signals(members, population[..., np.newaxis], np.zeros(len(members), dtype=np.int64))
    # Columns stand for the clients that have candidates, whichever took part: the shape must not
    # depend on the federation.
    owners = candidates.clients.cpu().numpy().astype(np.int64)
    rounds = sorted({r.round for r in releases})
    clients = int(owners.max(initial=-1)) + 1
    of_candidates = np.full((len(owners), len(rounds) * width), np.nan)
    of_population = np.full((len(candidates.population), len(rounds) * width, clients), np.nan)
    for client, own in _by_owner(releases).items():
        if client >= clients:
            continue
        mine = np.flatnonzero(owners == client)
        first = np.searchsorted(rounds, [r.round for r in own]) * width
        columns = (first[:, np.newaxis] + np.arange(width)).ravel()
        members, population = read(
            own, candidates.records.take(torch.from_numpy(mine)), candidates.population
        )
        of_candidates[np.ix_(mine, columns)] = _rows(members)
        of_population[:, columns, client] = _rows(population)
    return Signals(of_candidates, of_population, owners)


def _rows(values: Floats) -> Floats:
    """A row a record: (models, n) -> (n, models), (models, n, k) -> (n, models * k)."""
    rows: Floats = values.swapaxes(0, 1).reshape(values.shape[1], -1)
    return rows


def _by_owner(releases: tuple[Release, ...]) -> dict[int, tuple[Release, ...]]:
    owners = sorted({owner(r) for r in releases})
    return {k: tuple(r for r in releases if r.about == k) for k in owners}
