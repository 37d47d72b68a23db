"""LiRA: a Gaussian likelihood-ratio test per record, calibrated by reference federations.

Source: Carlini et al., "Membership inference attacks from first principles" (2022), sections V.A
(online), V.C (offline) and VI.B (fixed variance).
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Literal, get_args

import numpy as np

from attacks._references import Side, check, sides
from attacks.confidence import ModelConfidence
from attacks.interface import Floats, Observation, References, Signals

Mode = Literal["online", "offline"]
Variance = Literal["auto", "fixed", "per_record"]

_MANY = 64  # references from which a record's own variance is estimated well enough


@dataclass(frozen=True, slots=True)
class Lira:
    """Score each record by a likelihood ratio between references that held it and those that did not.

    Queries are taken as independent evidence: each is tested against its own Gaussians and the results
    are added, so a round weighs as much as it tells members from non-members, and rounds a client
    sat out weigh nothing.

    Assumes references that include each record independently with probability one half, the target
    not among them. An exact half instead biases the score (a member's references then hold one
    member fewer).

    Attributes:
        observation: what is compared; any signal that rises with membership.
        mode: "online" = log-likelihood ratio IN to OUT; "offline" = standard score under OUT, a
            one-sided tail that needs no reference trained on the record and never saturates.
        variance: "fixed" = one variance for all records, of residuals about each record's own mean, IN
            and OUT apart; "per_record" = each record's own; "auto" = per record from 64 references.
    """

    observation: Observation = field(default_factory=ModelConfidence)
    mode: Mode = "online"
    variance: Variance = "auto"

    def __post_init__(self) -> None:
        if self.mode not in get_args(Mode):
            raise ValueError(
                f"expected mode to be one of {', '.join(get_args(Mode))}, got mode={self.mode!r}"
            )
        if self.variance not in get_args(Variance):
            raise ValueError(
                f"expected variance to be one of {', '.join(get_args(Variance))}, "
                f"got variance={self.variance!r}"
            )

    def score(self, target: Signals, references: References) -> Floats:
        """Log-likelihood ratio in nats (online) or combined standard score (offline), shape (n,).

        Records short of references on one side are scored as `_references` describes: a missing mean
        is the other side's, shifted by the average effect of membership; a missing variance is pooled.
        """
        check(target, references)
        inside, outside = sides(references.candidates, references.included)
        own = self._per_record(len(references.candidates))
        if self.mode == "offline":
            return _combine((target.candidates - outside.mean) / np.sqrt(_spread(outside, own)), 0.5)
        ratio = _log_density(target.candidates, inside, own) - _log_density(target.candidates, outside, own)
        return _combine(ratio, 0.0)

    def _per_record(self, references: int) -> bool:
        return self.variance == "per_record" or (self.variance == "auto" and references >= _MANY)


def _spread(side: Side, per_record: bool) -> Floats:
    return side.variance if per_record else side.pooled


def _log_density(values: Floats, side: Side, per_record: bool) -> Floats:
    """Gaussian log-density less its constant."""
    variance = _spread(side, per_record)
    return -0.5 * (np.log(variance) + (values - side.mean) ** 2 / variance)


def _combine(evidence: Floats, power: float) -> Floats:
    """Sum over known queries, divided by their number to `power`; NaN where none is known.

    Log-likelihoods add (power 0); independent standard scores add to variance `queries` (power 1/2).
    """
    known = ~np.isnan(evidence)
    count = known.sum(1)
    total = np.where(known, evidence, 0.0).sum(1)
    return np.where(count > 0, total / np.maximum(count, 1) ** power, np.nan)
