"""Simulated games on signals, without any training."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy.stats import rankdata

from attacks.interface import Bools, Floats, MembershipAttack, References, Signals

Design = Callable[[np.random.Generator, int, int], Bools]


@dataclass(frozen=True)
class Game:
    """Signals (N, n, queries) and (N, z, queries, clients) of N federations, and who was in: (N, n)."""

    candidates: Floats
    population: Floats
    included: Bools
    clients: NDArray[np.int64]

    def target(self, at: int) -> Signals:
        return Signals(self.candidates[at], self.population[at], self.clients)

    def references(self, index: NDArray[np.int64]) -> References:
        return References(self.candidates[index], self.population[index], self.included[index])

    def scores(self, attack: MembershipAttack, leave_out: bool = True) -> Floats:
        """Each federation in turn the target, the others (or, wrongly, all) its references; (N, n)."""
        every = np.arange(len(self.candidates))
        return np.stack(
            [
                attack.score(self.target(int(t)), self.references(every[every != t] if leave_out else every))
                for t in every
            ]
        )


def bernoulli(rng: np.random.Generator, federations: int, n: int) -> Bools:
    return rng.random((federations, n)) < 0.5


def exact_half(rng: np.random.Generator, federations: int, n: int) -> Bools:
    return rng.random((federations, n)).argsort(0) < federations // 2


def game(
    seed: int,
    federations: int,
    n: int = 1000,
    shift: float = 0.0,
    z: int = 200,
    design: Design = bernoulli,
    queries: int = 1,
) -> Game:
    """Unit-variance Gaussian confidences about a record's own difficulty; members shifted."""
    rng = np.random.default_rng(seed)
    included = design(rng, federations, n)
    difficulty = rng.normal(1.0, 2.0, (n, 1))
    candidates = difficulty + rng.normal(size=(federations, n, queries)) + shift * included[..., None]
    population = rng.normal(1.0, 2.0, (z, 1, 1)) + rng.normal(size=(federations, z, queries, 1))
    return Game(candidates, population, included, np.zeros(n, dtype=np.int64))


def auc(scores: Floats, members: Bools) -> float:
    """Probability that a member outscores a non-member, ties one half."""
    ranks = rankdata(scores.ravel())[members.ravel()]
    inside, outside = int(members.sum()), int((~members).sum())
    return float((ranks.sum() - inside * (inside + 1) / 2) / (inside * outside))


def chance_width(members: Bools, deviations: float = 3.3) -> float:
    """Half-width of the band of the AUC when membership is assigned at random (3.3 sd: 99.9 %)."""
    inside, outside = int(members.sum()), int((~members).sum())
    return deviations * float(np.sqrt((inside + outside + 1) / (12 * inside * outside)))


def mean_interval(values: list[float], deviations: float = 3.0) -> tuple[float, float]:
    """Mean of independent repetitions and `deviations` standard errors."""
    return float(np.mean(values)), deviations * float(np.std(values, ddof=1) / np.sqrt(len(values)))
