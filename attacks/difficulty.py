"""Difficulty calibration: how much better a record is fitted than without it.

Source: Watson et al., "On the importance of difficulty calibration in membership inference attacks"
(arXiv 2111.08440), section 3.
"""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from typing import Literal, get_args

from attacks import _signals
from attacks._calibration import calibrated
from attacks.confidence import ModelConfidence
from attacks.interface import Floats, Observation, References, Signals

Scale = Literal["logit", "loss", "probability"]


@dataclass(frozen=True, slots=True)
class DifficultyCalibrated:
    """Score each record by its fit in the target less its mean fit in references without it.

    One reference is enough to take away what makes a record hard for every model.

    Attributes:
        observation: models whose fit is read; any logit-scaled confidence.
        scale: what is subtracted: "logit" = logit-scaled confidence, in which easy records differ as much
            as hard ones; "loss" = minus the cross-entropy in nats, as in the source, in which an easy
            member gains little; "probability" = of the true label.
    """

    observation: Observation = field(default_factory=ModelConfidence)
    scale: Scale = "logit"

    def __post_init__(self) -> None:
        if self.scale not in get_args(Scale):
            raise ValueError(
                f"expected scale to be one of {', '.join(get_args(Scale))}, got scale={self.scale!r}"
            )

    def score(self, target: Signals, references: References) -> Floats:
        """Difference on the scale chosen, mean over the known queries, shape (n,)."""
        return calibrated(
            replace(target, candidates=self._scaled(target.candidates)),
            replace(references, candidates=self._scaled(references.candidates)),
        )

    def _scaled(self, phi: Floats) -> Floats:
        if self.scale == "logit":
            return phi
        return -_signals.loss(phi) if self.scale == "loss" else _signals.probability(phi)
