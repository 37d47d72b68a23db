"""Attack-R: is the record fitted better than by nearly all references trained without it?

Source: Ye et al., "Enhanced membership inference attacks against machine learning models" (CCS 2022),
section 4.3 (Attack R).
"""

from __future__ import annotations

from dataclasses import dataclass, field

import numpy as np
from scipy.stats import t as student

from attacks._references import check, over_queries, sides
from attacks.confidence import ModelConfidence
from attacks.interface import Bools, Floats, Observation, References, Signals

_TINY = np.finfo(np.float64).tiny


@dataclass(frozen=True, slots=True)
class AttackR:
    """Score each record by one minus its p-value among the references trained without it.

    By rank, with K such references, a p-value is at least 1 / (K + 1): "member where it is at most
    alpha" calls at most a share alpha of non-members members, and nobody a member where alpha <
    1 / (K + 1). A record that every reference held has K = 0 and p = 1.

    Attributes:
        observation: what is compared; any signal that rises with membership.
        smooth: take the p-value from Student's t about the mean of the K references, with the width of
            a prediction: no ties and no least value, and exact for Gaussian signals; a record with
            fewer than two such references borrows mean or variance as `attacks._references.sides`
            describes. Else by rank, as in the source: exact for any signals, and coarse.
    """

    observation: Observation = field(default_factory=ModelConfidence)
    smooth: bool = True

    def score(self, target: Signals, references: References) -> Floats:
        """One minus the p-value in [0, 1), or its logit where smooth, shape (n,); queries averaged first."""
        check(target, references)
        values = over_queries(target.candidates)
        known = over_queries(references.candidates)
        outside = ~references.included & ~np.isnan(known)
        if self.smooth:
            return _smooth(values, known, outside)
        return 1 - p_values(values, known, outside)


def p_values(values: Floats, references: Floats, outside: Bools) -> Floats:
    """(1 + number of a record's OUT references that reach its value) / (1 + their number), shape (n,).

    Args:
        values: shape (n,), higher = more like a member.
        references: shape (references, n).
        outside: bool, shape (references, n): which of them count.
    """
    reached = ((references >= values) & outside).sum(0)
    return np.where(np.isnan(values), np.nan, (1 + reached) / (1 + outside.sum(0)))


def _smooth(values: Floats, references: Floats, outside: Bools) -> Floats:
    """Logit of Student's distribution function: one minus p itself rounds to 1 on clear members.

    Tails below the smallest normal number, 2e-308, tie.
    """
    known = np.where(outside, references, np.nan)[..., np.newaxis]
    # Seen from the records left out alone, the side that held them is empty and lends nothing.
    _, side = sides(known, ~outside)
    count = outside.sum(0)
    width = np.sqrt(side.variance[:, 0] * (1 + 1 / np.maximum(count, 1)))
    freedom = np.where(count > 1, count - 1, np.maximum(count - 1, 0).sum()).clip(1)
    z = (values - side.mean[:, 0]) / width
    below, above = (np.maximum(student.cdf(s * z, freedom), _TINY) for s in (1, -1))
    logit: Floats = np.log(below) - np.log(above)
    return logit
