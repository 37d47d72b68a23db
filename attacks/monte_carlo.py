"""Monte Carlo membership: how much of a generator's mass lies close to a record.

Source: Hilprecht, Haerterich and Bernau, "Monte Carlo and reconstruction membership inference attacks
against generative models" (PoPETs 2019): the Monte Carlo estimate and its two rules for the radius.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Literal, get_args

import numpy as np
import torch

from attacks._distances import distances, nearest
from attacks._features import Space, check_space, feature_map, in_space
from attacks._references import over_queries
from attacks._sets import against_sets
from attacks.interface import Candidates, Floats, Observation, References, Signals
from privfed.randomness import Stream
from privfed.records import Records
from privfed.release import View

Radius = Literal["median", "quantile"]
QUANTILE = 1e-3
_SMALLEST = 1e-9


@dataclass(frozen=True, slots=True)
class MonteCarloMass:
    """Mean over the synthetic records within a radius of -log distance, 0 for those beyond it.

    (1 / m) sum_j 1{d(x, g_j) <= e} (-log d(x, g_j)); higher = more mass close by. The formula depends on
    the unit of the distance: where distances exceed 1 every record within the radius counts against the
    record. Distances are therefore taken in units of e, which leaves no term below 0; `relative` false gives
    the formula as it was published.

    Attributes:
        artefact: name of the synthetic releases; sets of a client are read by its own candidates.
        space: see `FeatureNearest`; the source recommends "pca".
        radius: e: "median" = of the distances of the candidates to their nearest synthetic record;
            "quantile" = the .1 % quantile of all distances of candidates to synthetic records.
        relative: distances in units of e.
    """

    artefact: str = "synthetic"
    space: Space = "pixels"
    radius: Radius = "median"
    relative: bool = True

    def __post_init__(self) -> None:
        check_space(self.space)
        if self.radius not in get_args(Radius):
            known = ", ".join(get_args(Radius))
            raise ValueError(f"expected radius to be one of {known}, got radius={self.radius!r}")

    def extract(self, view: View, candidates: Candidates, stream: Stream) -> Signals | None:
        """Masses of candidates and population; None without synthetic records or the space."""
        into = feature_map(self.space, candidates)
        if into is None:
            return None

        def read(pool: Records, members: Records, population: Records) -> tuple[Floats, Floats]:
            made, own = in_space(pool, into), in_space(members, into)
            radius = self._radius(own, made)
            return self._mass(own, made, radius), self._mass(in_space(population, into), made, radius)

        return against_sets(view, self.artefact, candidates, read)

    def _radius(self, records: Records, made: Records) -> float:
        if not len(records):
            return 1.0
        if self.radius == "median":
            return float(np.median(nearest(records, made)))
        every = torch.cat([part.flatten() for part in distances(records, made)]).numpy()
        return float(np.quantile(every, QUANTILE))

    def _mass(self, records: Records, made: Records, radius: float) -> Floats:
        unit = max(radius, _SMALLEST) if self.relative else 1.0
        parts = [torch.empty(0, dtype=torch.float64)]
        for distance in distances(records, made):
            closeness = -(distance.clamp_min(_SMALLEST) / unit).log()
            parts.append(torch.where(distance <= radius, closeness, 0.0).mean(1))
        return np.asarray(torch.cat(parts).numpy(), dtype=np.float64)


@dataclass(frozen=True, slots=True)
class MonteCarlo:
    """Score each record by the mass of synthetic records around it, without references.

    Attributes:
        observation: the mass that is read.
    """

    observation: Observation = field(default_factory=MonteCarloMass)

    def score(self, target: Signals, references: References) -> Floats:
        """Mean mass over the known queries, shape (n,)."""
        return over_queries(target.candidates)
