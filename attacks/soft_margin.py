"""Observation: softened confidence, the signal that RMIA was published with.

Sources: Zarifzadeh, Liu and Shokri (2024), appendix on signals (temperature 2, margin 0.6, order 4);
Banerjee et al., "Exploring alternatives to softmax function" (arXiv 2011.11538), section 3.3.
"""

from __future__ import annotations

from dataclasses import dataclass

from torch import Tensor

from attacks._models import Artefact, check_artefact
from attacks._posteriors import soft_margin_confidence
from attacks.confidence import measured
from attacks.interface import Candidates, Signals
from privfed.randomness import Stream
from privfed.release import View


@dataclass(frozen=True, slots=True)
class SoftMarginConfidence:
    """Logit of the soft-margin Taylor softmax of each record's label, one query a release or round.

    Higher = more confident; the sigmoid of the signal is the probability, as everywhere, so any attack
    on logit-scaled confidence reads it. With z the logits over the temperature and f the Taylor
    polynomial of exp, p_y = f(z_y - margin) / (f(z_y - margin) + sum_{i != y} f(z_i)).

    A polynomial is no exponential: it rises again below its minimum (near -1.6 at order 4), so it
    depends on what is added to all logits, and a very negative logit counts as a likely one: on nets with
    logits that large order 0 is the stronger signal. Odd
    orders become negative there and are refused. (The public code of the source takes its "n = 4" to
    mean the terms up to the third power, which gives probabilities outside [0, 1] on such logits.)

    Attributes:
        artefact: as in `attacks.confidence.ModelConfidence`.
        temperature: that logits are divided by, > 0.
        margin: by which the label's own logit is held back, >= 0.
        order: even degree of the polynomial; 0 = the exponential. With order 0, margin 0 and
            temperature 1 this is `ModelConfidence`.
    """

    artefact: Artefact = "large"
    temperature: float = 2.0
    margin: float = 0.6
    order: int = 4

    def __post_init__(self) -> None:
        check_artefact(self.artefact)
        if not self.temperature > 0:
            raise ValueError(f"expected temperature > 0, got temperature={self.temperature}")
        if not self.margin >= 0:
            raise ValueError(f"expected margin >= 0, got margin={self.margin}")
        if self.order < 0 or self.order % 2:
            raise ValueError(f"expected an even order >= 0, got order={self.order}")

    def extract(self, view: View, candidates: Candidates, stream: Stream) -> Signals | None:
        """Confidences of candidates and population; None without such models, heads or rival classes."""
        return measured(self.artefact, self._measure, view, candidates, stream)

    def _measure(self, logits: Tensor, labels: Tensor) -> Tensor:
        return soft_margin_confidence(logits.double() / self.temperature, labels, self.margin, self.order)
