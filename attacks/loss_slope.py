"""Loss slope: the loss of a record falls faster over the rounds in the models of the client that holds it.

Source: Chang et al., "Efficient privacy auditing in federated learning" (USENIX Security 2024): the slope
of each record's signal over communication rounds, without shadow models.
"""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from typing import Literal, get_args

import numpy as np

from attacks import _signals
from attacks._models import Artefact, check_artefact, released
from attacks._references import over_queries
from attacks._releases import lacks_head
from attacks.confidence import ModelConfidence
from attacks.interface import Candidates, Floats, Observation, References, Signals
from privfed.randomness import Stream
from privfed.release import View

Measure = Literal["loss", "confidence"]


@dataclass(frozen=True, slots=True)
class SignalSlope:
    """How fast each record's loss falls, or its confidence rises, over the rounds; a single query.

    Higher = faster. The slope of the least-squares line on the round's number. NaN for a client with
    fewer than two rounds.

    Attributes:
        artefact: as in `ModelConfidence`: "update" = the models of the record's own client.
        measure: "loss" = minus cross-entropy (nats a round); "confidence" = its logit-scaled form.
    """

    artefact: Artefact = "update"
    measure: Measure = "loss"

    def __post_init__(self) -> None:
        check_artefact(self.artefact)
        if self.measure not in get_args(Measure):
            raise ValueError(
                f"expected measure to be one of {', '.join(get_args(Measure))}, got measure={self.measure!r}"
            )

    def extract(self, view: View, candidates: Candidates, stream: Stream) -> Signals | None:
        """Slopes of candidates and population; None with fewer than two rounds of whole models."""
        found = released(view, self.artefact)
        if found is None:
            return None
        spec, releases = found
        rounds = sorted({r.round for r in releases if not lacks_head(r, spec)})
        read = ModelConfidence(self.artefact).extract(view, candidates, stream)
        if read is None or len(rounds) < 2:
            return None
        at = np.array(rounds, dtype=np.float64)
        rising = (lambda phi: -_signals.loss(phi)) if self.measure == "loss" else (lambda phi: phi)
        return replace(
            read,
            candidates=slope(at, rising(read.candidates))[:, np.newaxis],
            population=slope(at, rising(read.population).swapaxes(1, 2))[:, np.newaxis],
        )


@dataclass(frozen=True, slots=True)
class LossSlope:
    """Score each record by how fast its loss falls over the rounds, without references.

    Attributes:
        observation: the slope that is read.
    """

    observation: Observation = field(default_factory=SignalSlope)

    def score(self, target: Signals, references: References) -> Floats:
        """Minus the slope of the loss, shape (n,)."""
        return over_queries(target.candidates)


def slope(at: Floats, values: Floats) -> Floats:
    """Slope of the least-squares line through the known values.

    Args:
        at: where they were taken, shape (q,).
        values: shape (..., q); NaN where unknown.

    Returns:
        Shape (...); NaN with fewer than two different places.

    >>> slope(np.array([0.0, 1.0, 3.0]), np.array([[1.0, 3.0, 7.0], [1.0, np.nan, np.nan]]))
    array([ 2., nan])
    """
    known = ~np.isnan(values)
    count = np.maximum(known.sum(-1, keepdims=True), 1)
    from_mean = np.where(known, at - np.where(known, at, 0.0).sum(-1, keepdims=True) / count, 0.0)
    spread = (from_mean**2).sum(-1)
    result = np.full(spread.shape, np.nan)
    np.divide((from_mean * np.where(known, values, 0.0)).sum(-1), spread, out=result, where=spread > 0)
    return result
