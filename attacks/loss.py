"""Loss threshold: members are fitted better than non-members.

Source: Yeom et al., "Privacy risk in machine learning: analyzing the connection to overfitting"
(2018), section 3.
"""

from __future__ import annotations

from dataclasses import dataclass, field

from attacks import _signals
from attacks._references import over_queries
from attacks.confidence import ModelConfidence
from attacks.interface import Floats, Observation, References, Signals


@dataclass(frozen=True, slots=True)
class LossThreshold:
    """Score each record by minus its loss under the released models, without references.

    The weakest attack that needs no shadow federation: what it finds, everybody can find.

    Attributes:
        observation: models whose loss is read; any logit-scaled confidence.
    """

    observation: Observation = field(default_factory=ModelConfidence)

    def score(self, target: Signals, references: References) -> Floats:
        """Minus the mean cross-entropy (nats) over the known queries, shape (n,)."""
        return -over_queries(_signals.loss(target.candidates))


def gap_attack_accuracy(train_accuracy: float, test_accuracy: float) -> float:
    """Balanced accuracy of calling "member" exactly what the model classifies rightly.

    >>> gap_attack_accuracy(1.0, 0.75)
    0.625
    """
    for name, value in (("train_accuracy", train_accuracy), ("test_accuracy", test_accuracy)):
        if not 0 <= value <= 1:
            raise ValueError(f"expected {name} in [0, 1], got {name}={value}")
    return 0.5 + (train_accuracy - test_accuracy) / 2
