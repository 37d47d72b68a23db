"""RMIA: how many population records the candidate beats in a pairwise likelihood-ratio test.

Source: Zarifzadeh, Liu and Shokri, "Low-cost high-power membership inference attacks" (2024),
section 3 and appendix B (offline approximation).
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Literal, get_args

import numpy as np

from attacks._references import check, known_mean, over_queries, side_means
from attacks._signals import probability
from attacks.confidence import ModelConfidence
from attacks.interface import Floats, Observation, References, Signals

Mode = Literal["online", "offline"]


@dataclass(frozen=True, slots=True)
class Rmia:
    """Score each record by the share of population records it beats in relative likelihood.

    With ratio(x) = p(x | target) / p(x), the score is the share of population records z with
    ratio(x) / ratio(z) >= gamma. p is the softmax probability of the true label; with several queries
    the logit-scaled confidences are averaged first.

    For one target the score rises with ratio(x) and population and gamma only fix a threshold that
    is comparable between targets. It takes at most z + 1 values: records that beat none or all of the
    population tie, so a small population costs resolution at the lowest false-positive rates.

    Attributes:
        observation: models whose confidence is read; any logit-scaled confidence.
        gamma: by how much a population record must be beaten, >= 1. At 1 fewer members tie at the bottom
            (larger area under the curve), above it fewer tie at the top (finer at few false positives).
        mode: "online" = p(x) from references with and without x; "offline" = from those without only.
        a: P_in = a P_out + (1 - a) is assumed where no reference holds a record: in offline mode, and
            for the population always; 1 = membership does not matter, smaller = models that
            memorise more.
    """

    observation: Observation = field(default_factory=ModelConfidence)
    gamma: float = 2.0
    mode: Mode = "online"
    a: float = 0.3

    def __post_init__(self) -> None:
        if self.mode not in get_args(Mode):
            raise ValueError(
                f"expected mode to be one of {', '.join(get_args(Mode))}, got mode={self.mode!r}"
            )
        if not self.gamma >= 1:
            raise ValueError(f"expected gamma >= 1, got gamma={self.gamma}")
        if not 0 <= self.a <= 1:
            raise ValueError(f"expected a in [0, 1], got a={self.a}")

    def score(self, target: Signals, references: References) -> Floats:
        """Share of the population that is beaten, in [0, 1], shape (n,).

        Each candidate meets the population as seen in its own client's artefact.
        """
        check(target, references)
        _check_population(target, references)
        ratios = _ratio(probability(over_queries(target.candidates)), self._prior(references))
        population = self._population_ratios(target, references)
        scores = np.full(len(ratios), np.nan)
        for client in np.unique(target.clients):
            mine = target.clients == client
            scores[mine] = share_beaten(ratios[mine], population[:, client], self.gamma)
        return scores

    def _prior(self, references: References) -> Floats:
        """p(x) of each candidate, shape (n,)."""
        p = probability(over_queries(references.candidates))[..., np.newaxis]
        inside, outside = (m[:, 0].clip(0, 1) for m in side_means(p, references.included))
        return (inside + outside) / 2 if self.mode == "online" else offline_prior(outside, self.a)

    def _population_ratios(self, target: Signals, references: References) -> Floats:
        """Ratio of each population record in each client's artefact, shape (z, clients)."""
        p_target = probability(over_queries(target.population.swapaxes(-1, -2)))
        p_out = probability(over_queries(references.population.swapaxes(-1, -2)))
        return _ratio(p_target, offline_prior(known_mean(p_out, 0), self.a))


def offline_prior(p_out: Floats, a: float) -> Floats:
    """p(x) = (P_in + P_out) / 2 with P_in approximated by a P_out + (1 - a)."""
    return ((1 + a) * p_out + (1 - a)) / 2


def share_beaten(ratios: Floats, population: Floats, gamma: float) -> Floats:
    """Share of `population` ratios that each of `ratios` reaches `gamma` times; sorted, O((n + z) log z).

    Args:
        ratios: shape (n,).
        population: shape (z,); NaN are left out.
        gamma: factor by which a population ratio must be beaten.

    Returns:
        Shape (n,), in [0, 1]; NaN where the ratio is NaN or no population ratio is known.
    """
    known = np.sort(population[~np.isnan(population)])
    beaten = np.searchsorted(known, ratios / gamma, side="right")
    return np.where(np.isnan(ratios) | (len(known) == 0), np.nan, beaten / max(len(known), 1))


def _ratio(p: Floats, prior: Floats) -> Floats:
    # Both underflow together at a = 1 on records the models call impossible: 0, not NaN.
    return p / np.maximum(prior, np.finfo(np.float64).tiny)


def _check_population(target: Signals, references: References) -> None:
    if target.population.shape[0] < 1:
        raise ValueError("expected at least one population record, got population=0")
    expected = (len(references.candidates), *target.population.shape)
    if references.population.shape != expected:
        raise ValueError(
            f"expected reference population of shape {expected}, got population={references.population.shape}"
        )
