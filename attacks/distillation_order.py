"""Order of distillation: what was taught last is remembered best.

FedBKD (arXiv 2506.20245) distils the clients of a round into the global model, and trains the round's
generator against them, one after the other, in the order drawn for the round: the last one's mark is the
freshest, and a later round overlays an earlier one. The attack weighs what each round says of a record by how
late the record's client came.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

import numpy as np

from attacks._calibration import calibrated
from attacks._distances import nearest
from attacks._models import Artefact, released
from attacks._references import known_mean
from attacks._releases import labelled_inputs, received
from attacks.interface import Candidates, Floats, Observation, References, Signals
from attacks.representation import RepresentationConfidence
from privfed.randomness import Stream
from privfed.release import View

Places = Mapping[int, Mapping[int, float]]
"""By round and client: when the client was distilled, 0 = first and 1 = last."""

_MODELS: Artefact = "surrogate"


@dataclass(frozen=True, slots=True)
class OrderedRounds:
    """What each round says of a record, averaged with weights that grow with the place of its client.

    Higher = more likely a member. A round says the confidence of the model broadcast after it, or
    minus the distance to the nearest record of the set made in it. Its weight is growth^t
    exp(emphasis * p), scaled to sum to 1, with t the round and p the place of the client among those
    distilled in it: 0 the first, 1 the last, -1 sat out. An observer who is not told the order has p = 0
    throughout. What a round says is taken less its mean over the population, since all records change
    with the rounds and weights differ between federations.

    Attributes:
        artefact: "surrogate" = broadcast models, a head fitted where they come without; else the name of
            synthetic releases, one a round.
        order: name of the generator releases that tell the order.
        emphasis: logarithm of the last client's weight over the first one's.
        growth: weight of a round over that of the one before.
        difference: what a round adds to the one before it in place of what it says, from the second on.
    """

    artefact: str = "surrogate"
    order: str = "generator"
    emphasis: float = 2.0
    growth: float = 1.0
    difference: bool = False

    def __post_init__(self) -> None:
        if not np.isfinite(self.emphasis):
            raise ValueError(f"expected a finite emphasis, got emphasis={self.emphasis}")
        if not 0 < self.growth < np.inf:
            raise ValueError(f"expected a finite growth > 0, got growth={self.growth}")

    def extract(self, view: View, candidates: Candidates, stream: Stream) -> Signals | None:
        """Weighted means of candidates and population; None without a round to read, or two to compare."""
        found = self._rounds(view, candidates, stream)
        if found is None:
            return None
        rounds, members, population = found
        if self.difference:
            rounds, members, population = rounds[1:], np.diff(members), np.diff(population)
        if not rounds:
            return None
        owners = candidates.clients.cpu().numpy().astype(np.int64)
        centre = np.nan_to_num(known_mean(population, 0)) if len(population) else 0.0
        members, population = members - centre, population - centre
        weights = self._weights(rounds, _places(view, self.order), int(owners.max(initial=-1)) + 1)
        return Signals(
            _averaged(members, weights[owners])[:, np.newaxis],
            np.stack([_averaged(population, np.broadcast_to(w, population.shape)) for w in weights], 1)[
                :, np.newaxis
            ]
            if len(weights)
            else np.empty((len(population), 1, 0)),
            owners,
        )

    def _rounds(
        self, view: View, candidates: Candidates, stream: Stream
    ) -> tuple[list[int], Floats, Floats] | None:
        """Rounds in order, and what they say: shapes (n, rounds) and (z, rounds)."""
        if self.artefact == _MODELS:
            models = released(view, _MODELS)
            told = RepresentationConfidence(_MODELS).extract(view, candidates, stream) if models else None
            if models is None or told is None or told.candidates.shape[1] != len(models[1]):
                return None
            # Broadcast at the start of a round is what the round before left.
            return [r.round - 1 for r in models[1]], told.candidates, told.population[..., 0]
        sets = [(r.round, labelled_inputs(r)) for r in received(view, "synthetic", self.artefact)]
        sets = sorted(((t, made) for t, made in sets if len(made)), key=lambda s: s[0])
        if not sets:
            return None
        own, free = (
            np.stack([-nearest(records, made) for _, made in sets], 1)
            for records in (candidates.records, candidates.population)
        )
        return [t for t, _ in sets], own, free

    def _weights(self, rounds: list[int], places: Places, clients: int) -> Floats:
        """Shape (clients, rounds); rows sum to 1."""
        place = np.array([[_place(places, t, k) for t in rounds] for k in range(clients)])
        grown = np.array(rounds, dtype=np.float64) * np.log(self.growth)
        logs = (self.emphasis * place + grown).reshape(clients, len(rounds))
        weights = np.exp(logs - logs.max(1, initial=-np.inf, keepdims=True))
        scaled: Floats = weights / weights.sum(1, keepdims=True)
        return scaled


@dataclass(frozen=True, slots=True)
class DistillationOrder:
    """Score each record by what late rounds say of it beyond what they do without the record.

    Attributes:
        observation: the weighted rounds that are read.
    """

    observation: Observation = field(default_factory=OrderedRounds)

    def score(self, target: Signals, references: References) -> Floats:
        """Weighted mean less its mean over references without the record, shape (n,)."""
        return calibrated(target, references)


def _averaged(values: Floats, weights: Floats) -> Floats:
    """Weighted mean of the known values of each row, shape (n,)."""
    known = np.where(np.isnan(values), np.nan, weights)
    share = known / (known_mean(known, 1) * (~np.isnan(known)).sum(1))[:, np.newaxis]
    total: Floats = np.nansum(values * share, axis=1)
    return np.where(np.isnan(values).all(1), np.nan, total)


def _places(view: View, name: str) -> Places:
    orders = {
        r.round: r.tensors["order"].tolist()
        for r in received(view, "generator", name)
        if "order" in r.tensors
    }
    return {
        t: {int(k): i / max(len(order) - 1, 1) for i, k in enumerate(order)} for t, order in orders.items()
    }


def _place(places: Places, round: int, client: int) -> float:
    return places[round].get(client, -1.0) if round in places else 0.0
