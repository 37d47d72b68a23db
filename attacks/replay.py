"""Replay: the synthetic set is trained on again, and the model that comes out is attacked.

A set distilled by matching a trajectory encodes that trajectory. Whoever holds it walks the way once more
and attacks where it leads as if the model itself had been seen. That distilled sets give training
trajectories away: arXiv 2603.01053 (2026). The signals are those of `confidence` and of
`gradient_alignment`.
"""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from itertools import groupby
from typing import get_args

import torch

from attacks import _gradients
from attacks._calibration import calibrated
from attacks._gradients import Columns, Site, align, cosines
from attacks._models import laid_out
from attacks._releases import stack
from attacks._replay import How, Replay, Start, moved, replays
from attacks.confidence import confidences
from attacks.interface import Candidates, Floats, Observation, References, Signals
from privfed.nets import NetSpec
from privfed.randomness import Stream
from privfed.records import Records
from privfed.release import SERVER, Release, View
from privfed.training import Recipe

TRAINING = Recipe(epochs=30, batch=64, lr=0.05, momentum=0.9)


@dataclass(frozen=True, slots=True)
class ReplayedConfidence:
    """Logit-scaled confidence of the model that training on the released set leads to, one query a round.

    Higher = more confident. The start is the model broadcast when the set was made, where the observer saw
    it; else a start of the attacker's own, the same in every federation. Sets that belong to a client
    make a model of each, which its own candidates are looked up in.

    Attributes:
        artefact: name of the synthetic releases.
        recipe: training that the attacker assumes.
        steps: full-batch steps at the step size released with the latents, where there is one; 0 = never.
        start: without a broadcast: "fresh" weights, or "public": trained on the public shard.
    """

    artefact: str = "synthetic"
    recipe: Recipe = TRAINING
    steps: int = 5
    start: Start = "fresh"

    def __post_init__(self) -> None:
        _check(self.steps, self.start)

    def extract(self, view: View, candidates: Candidates, stream: Stream) -> Signals | None:
        """Confidences of candidates and population; None without synthetic records."""
        how = How(self.recipe, self.steps, self.start)
        found = replays(view, self.artefact, how, candidates, stream)
        if found is None:
            return None
        spec, replayed = found

        def read(own: tuple[Release, ...], members: Records, population: Records) -> tuple[Floats, Floats]:
            params = stack(own, spec)
            return confidences(spec, params, members), confidences(spec, params, population)

        models = tuple(
            Release(r.round, SERVER, SERVER, "weights", "replayed", r.end, r.about) for r in replayed
        )
        owned = all(r.about is not None for r in replayed)
        return laid_out("update" if owned else "large", models, candidates, read)


@dataclass(frozen=True, slots=True)
class ReplayedAlignment:
    """Cosine of each record's gradient at the start with the way that training on the set leads, by round.

    Higher = more likely among the records that the set stands for. Fields and starts as in
    `ReplayedConfidence`.

    Attributes:
        artefact, recipe, steps, start: as in `ReplayedConfidence`.
    """

    artefact: str = "synthetic"
    recipe: Recipe = TRAINING
    steps: int = 5
    start: Start = "fresh"

    def __post_init__(self) -> None:
        _check(self.steps, self.start)

    def extract(self, view: View, candidates: Candidates, stream: Stream) -> Signals | None:
        """Cosines of candidates and population; None without synthetic records."""
        how = How(self.recipe, self.steps, self.start)
        found = replays(view, self.artefact, how, candidates, stream)
        if found is None:
            return None
        spec, replayed = found
        if any(r.about is None for r in replayed):
            candidates = replace(candidates, clients=torch.zeros_like(candidates.clients))

        def read(site: Site, records: Records, columns: Columns) -> Floats:
            return cosines(align(spec, site, records))

        return _gradients.laid_out(_sites(spec, replayed), candidates, read)


@dataclass(frozen=True, slots=True)
class ReplayAttack:
    """Score each record by how much the replayed model says of it beyond what it does without the record.

    Attributes:
        observation: confidence of the model, or alignment with the way to it.
    """

    observation: Observation = field(default_factory=ReplayedConfidence)

    def score(self, target: Signals, references: References) -> Floats:
        """Signal less its mean over references without the record, shape (n,)."""
        return calibrated(target, references)


def _sites(spec: NetSpec, replayed: tuple[Replay, ...]) -> tuple[Site, ...]:
    """One site a round and start, so that gradients are taken once for all clients that share it."""
    ordered = sorted(replayed, key=lambda r: (r.round, id(r.start)))
    sites = []
    for (round, _), group in groupby(ordered, key=lambda r: (r.round, id(r.start))):
        own = list(group)
        clients = tuple(0 if r.about is None else r.about for r in own)
        sites.append(
            Site(round, own[0].start, tuple(own[0].start), clients, torch.stack([moved(r) for r in own]))
        )
    return tuple(sites)


def _check(steps: int, start: str) -> None:
    if steps < 0:
        raise ValueError(f"expected steps >= 0, got steps={steps}")
    if start not in get_args(Start):
        known = ", ".join(get_args(Start))
        raise ValueError(f"expected start to be one of {known}, got start={start!r}")
