"""Simulated games in which the true value is known."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy.stats import binom, norm


@dataclass(frozen=True)
class Design:
    """Normal scores: record difficulty + membership * (shift + federation + record) + noise."""

    shift: float
    difficulty: float = 0.0
    federation: float = 0.0
    vulnerability: float = 0.0

    def draw(
        self, rng: np.random.Generator, federations: int, n: int
    ) -> tuple[NDArray[np.float64], NDArray[np.bool_]]:
        included = rng.random((federations, n)) < 0.5
        gain = self.shift + self.federation * rng.normal(size=(federations, 1))
        gain = gain + self.vulnerability * rng.normal(size=n)
        noise = rng.normal(size=(federations, n)) + self.difficulty * rng.normal(size=n)
        return noise + included * gain, included

    @property
    def auc(self) -> float:
        variance = 2 * (1 + self.difficulty**2) + self.vulnerability**2 + self.federation**2
        return float(norm.cdf(self.shift / variance**0.5))

    def tpr(self, fpr: float) -> float:
        outside = (1 + self.difficulty**2) ** 0.5
        inside = (outside**2 + self.vulnerability**2 + self.federation**2) ** 0.5
        return float(norm.sf((outside * norm.isf(fpr) - self.shift) / inside))


def most_misses(runs: int, rate: float = 0.05) -> int:
    """Misses that a bound of true error `rate` exceeds in one of a thousand tests."""
    return int(binom.ppf(0.999, runs, rate))
