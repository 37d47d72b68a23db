"""DOMIAS: is the synthetic set denser around a record than the population is?

Source: van Breugel et al., "Membership inference attacks against synthetic data through overfitting
detection" (AISTATS 2023): p_S(x) / p_R(x). Densities are estimated by nearest neighbours
(Loftsgaarden and Quesenberry, 1965), which needs no fit and works in any space with a distance.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Literal, get_args

import numpy as np

from attacks._distances import k_nearest
from attacks._features import Space, check_space, feature_map, in_space
from attacks._references import over_queries
from attacks._sets import against_sets
from attacks.interface import Candidates, Floats, Observation, References, Signals
from privfed.randomness import Stream
from privfed.records import Records
from privfed.release import View

Reference = Literal["public", "population"]
_SMALLEST = 1e-9  # distance below which two records are one: the logarithm stays finite


@dataclass(frozen=True, slots=True)
class DensityRatio:
    """Logarithm of the density of the synthetic set over that of a reference set, at each record.

    Higher = the synthetic set is unusually dense there. With r the distance to the k-th nearest of m
    records in d dimensions the density is k / (m V r^d), V the volume of the unit ball, so that the log
    ratio is log(k_S / m_S) - log(k_R / m_R) + d (log r_R - log r_S). Records that lie close to
    everything (flat images) have a small r on both sides, which cancels. A population record is never its own
    neighbour. NaN where either side has fewer than k.

    Attributes:
        artefact: name of the synthetic releases; sets of a client are read by its own candidates.
        reference: "population" = records of the private distribution that no client holds; "public" =
            the public shard, which has to have the same classes.
        space: see `FeatureNearest`.
        k: neighbours in the synthetic set. Near-copies of single records are told apart by the first.
        k_reference: neighbours in the reference set.
        same_label: densities of the record's own class.
    """

    artefact: str = "synthetic"
    reference: Reference = "population"
    space: Space = "pixels"
    k: int = 1
    k_reference: int = 5
    same_label: bool = False

    def __post_init__(self) -> None:
        check_space(self.space)
        if self.reference not in get_args(Reference):
            known = ", ".join(get_args(Reference))
            raise ValueError(f"expected reference to be one of {known}, got reference={self.reference!r}")
        for name in ("k", "k_reference"):
            if getattr(self, name) < 1:
                raise ValueError(f"expected {name} >= 1, got {name}={getattr(self, name)}")

    def extract(self, view: View, candidates: Candidates, stream: Stream) -> Signals | None:
        """Log ratios of candidates and population; None without synthetic records or the space."""
        into = feature_map(self.space, candidates)
        if into is None:
            return None
        own = self.reference == "population"
        reference = in_space(candidates.population if own else candidates.public, into)

        def read(pool: Records, members: Records, population: Records) -> tuple[Floats, Floats]:
            made = in_space(pool, into)
            return (
                self._log_ratio(in_space(members, into), made, reference, 0),
                self._log_ratio(in_space(population, into), made, reference, int(own)),
            )

        return against_sets(view, self.artefact, candidates, read)

    def _log_ratio(self, records: Records, made: Records, reference: Records, itself: int) -> Floats:
        """`itself` = 1 where each record is its own first neighbour in the reference set."""
        inside = self._log_density(records, made, self.k, 0)
        return inside - self._log_density(records, reference, self.k_reference, itself)

    def _log_density(self, records: Records, others: Records, k: int, itself: int) -> Floats:
        """Up to the logarithm of the volume of the unit ball, which both sides share."""
        radius = k_nearest(records, others, k + itself, self.same_label)[:, -1]
        dimensions = records.inputs[:1].numel()
        size = _sizes(records, others, self.same_label) - itself
        with np.errstate(divide="ignore", invalid="ignore"):
            density = np.log(k) - np.log(size) - dimensions * np.log(np.maximum(radius, _SMALLEST))
        return np.asarray(np.where(np.isnan(radius), np.nan, density), dtype=np.float64)


@dataclass(frozen=True, slots=True)
class Domias:
    """Score each record by how much denser the synthetic set is there than the population, no references.

    Attributes:
        observation: the log ratio that is read.
    """

    observation: Observation = field(default_factory=DensityRatio)

    def score(self, target: Signals, references: References) -> Floats:
        """Mean log density ratio over the known queries, shape (n,)."""
        return over_queries(target.candidates)


def _sizes(records: Records, others: Records, same_label: bool) -> Floats:
    """How many of the others each record is compared with, shape (n,)."""
    if not same_label:
        return np.full(len(records), float(len(others)))
    match = records.labels.cpu().unsqueeze(1) == others.labels.cpu()
    return np.asarray(match.sum(1).double().numpy(), dtype=np.float64)
