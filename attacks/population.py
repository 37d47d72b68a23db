"""Attack-P: is the record fitted better than nearly all records known to be outside?

Source: Ye et al., "Enhanced membership inference attacks against machine learning models" (CCS 2022),
section 4.2 (Attack P).
"""

from __future__ import annotations

from dataclasses import dataclass, field

import numpy as np

from attacks._posteriors import grouped
from attacks._references import over_queries
from attacks.confidence import ModelConfidence
from attacks.interface import Floats, Observation, References, Signals


@dataclass(frozen=True, slots=True)
class AttackP:
    """Score each record by one minus its p-value among population records in the same model.

    "Member where the p-value is at most alpha" calls a share floor(alpha (z + 1)) / (z + 1) <= alpha of
    non-members members, exactly, where non-members and the z population records are exchangeable and
    no signals tie; with no reference model at all. The score takes z + 1 values: records that beat the
    whole population tie.

    Attributes:
        observation: what is compared; any signal that rises with membership. One whose columns of the
            population go by label gives a threshold a class.
    """

    observation: Observation = field(default_factory=ModelConfidence)

    def score(self, target: Signals, references: References) -> Floats:
        """One minus the p-value, in [0, 1), shape (n,); each record meets its own column of the population.

        Queries are averaged first; NaN where the record or its whole column is unknown.
        """
        if target.population.shape[0] < 1:
            raise ValueError("expected at least one population record, got population=0")
        values = over_queries(target.candidates)
        population = over_queries(target.population.swapaxes(-1, -2))
        scores = np.full(len(values), np.nan)
        for mine in grouped(target):
            scores[mine] = 1 - p_values(values[mine], population[:, target.clients[mine[0]]])
        return scores


def p_values(values: Floats, population: Floats) -> Floats:
    """(1 + number of the population that reaches the value) / (1 + z), shape (n,).

    Args:
        values: shape (n,), higher = more like a member.
        population: shape (z,); NaN are left out.

    Returns:
        In (0, 1]; NaN where the value is NaN or nothing of the population is known.

    >>> p_values(np.array([2.5, 9.0]), np.array([1.0, 2.0, 3.0]))
    array([0.5 , 0.25])
    """
    known = np.sort(population[~np.isnan(population)])
    reached = len(known) - np.searchsorted(known, values, side="left")
    unknown = np.isnan(values) | (len(known) == 0)
    return np.where(unknown, np.nan, (1 + reached) / (1 + len(known)))
