"""Intervals: exact for a proportion, and for a mean over federations that share their records."""

from __future__ import annotations

import math
from dataclasses import dataclass
from functools import lru_cache

import numpy as np
from numpy.typing import NDArray
from scipy.special import expit, logit
from scipy.stats import beta, t

Floats = NDArray[np.float64]

_NO_SPREAD = 1e-24


@dataclass(frozen=True, slots=True)
class Spread:
    """Statistics of F federations over n records, ready for a two-way variance.

    Attributes:
        values: shape (F,): the statistic of each federation.
        influence: shape (F, n): what each record adds to the mean of `values`; zero where not scored.
        units: privacy units behind one federation's statistic, for the bound used without spread.
        reach: how far a federation unlike those seen could lie from them.
        shared: variance of the mean of `values` with everything that federations have in common beside
            records, where it is known from elsewhere: neither kind of cluster shows it.
    """

    values: Floats
    influence: Floats
    units: int
    reach: float
    shared: float = 0.0

    @property
    def variance(self) -> float:
        """Variance of the mean of `values` under dependence over federations and over records.

        Cameron, Gelbach and Miller (2011), "Robust inference with multiway clustering":
        clusters by federation plus clusters by record less what both count twice. The difference
        can fall below either part by chance, hence the maximum. What federations share beside
        records is in no cluster of either kind; where it is known, the variance is no smaller.
        """
        records = float(np.square(self.influence.sum(axis=0)).sum())
        both = float(np.square(self.influence).sum())
        if len(self.values) == 1:
            return both
        federations = float(self.values.var(ddof=1)) / len(self.values)
        return max(federations + records - both, records, federations, self.shared)

    def difference(self, other: Spread) -> Spread:
        """The statistic less that of `other`, on the same federations and records in the same order.

        Raises:
            ValueError: when they are of different federations or records.
        """
        if self.influence.shape != other.influence.shape:
            raise ValueError(
                f"expected spreads over the same federations and records, "
                f"got shapes {self.influence.shape} and {other.influence.shape}"
            )
        return Spread(
            self.values - other.values,
            self.influence - other.influence,
            min(self.units, other.units),
            self.reach + other.reach,
        )

    def bounds(self, level: float) -> tuple[float, float]:
        """Both ends of the interval of the mean of `values`, each at confidence `level`.

        On the logit scale, where sampling distributions near 0 or 1 are less skewed and the ends
        stay inside (0, 1) (Pepe, 2003; Qin and Hotilovac, 2008). `shared` knows nothing of how close
        to 0 or 1 the mean is, where the logit makes any width out of it: there, at most the same
        multiple of the standard error counts, unscaled, beside the width for identical values.
        """
        value, variance, count = float(self.values.mean()), self.variance, len(self.values)
        half = self._half_width_without_spread(level)
        if variance <= _NO_SPREAD:
            return max(0.0, value - half), min(1.0, value + half)
        away = float(t.ppf(level, count - 1 if count > 1 else self.units - 1)) * math.sqrt(variance)
        widest = max(0.0, value - half - away), min(1.0, value + half + away)
        if value in (0.0, 1.0):
            return widest
        scaled = away / (value * (1 - value))
        lower, upper = float(expit(logit(value) - scaled)), float(expit(logit(value) + scaled))
        return (max(lower, widest[0]), min(upper, widest[1])) if self.shared > 0 else (lower, upper)

    def _half_width_without_spread(self, level: float) -> float:
        """Bound for identical values, where a variance of zero would claim certainty.

        The share of the population that looks different is bounded as for 0 of k draws; the draws
        are the units of one federation, and the federations.
        """
        units, federations = _unseen_share(level, self.units), _unseen_share(level, len(self.values))
        return units if len(self.values) == 1 else max(units, self.reach * federations)


@lru_cache(maxsize=1 << 16)
def clopper_pearson(successes: int, trials: int, level: float) -> tuple[float, float]:
    """One-sided exact bounds on a proportion, each at confidence `level` (Clopper and Pearson, 1934).

    >>> lower, upper = clopper_pearson(0, 100, 0.95)
    >>> lower, round(upper, 7)
    (0.0, 0.029513)
    """
    if not 0 <= successes <= trials:
        raise ValueError(f"expected 0 <= successes <= trials, got successes={successes}, trials={trials}")
    lower = beta.ppf(1 - level, successes, trials - successes + 1) if successes else 0.0
    upper = beta.ppf(level, successes + 1, trials - successes) if successes < trials else 1.0
    return float(lower), float(upper)


def _unseen_share(level: float, draws: int) -> float:
    """Upper bound on a share of which `draws` independent draws showed nothing."""
    return clopper_pearson(0, draws, level)[1]
