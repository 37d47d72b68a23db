"""Entropy of the prediction, judged against references of the same class.

Source: Song and Mittal, "Systematic evaluation of privacy risks of machine learning models" (USENIX
Security 2021), sections 4.1 (modified entropy, thresholds by class) and 4.3 (privacy risk score). With
correctness as the measure and no calibration it is the gap attack of Yeom et al. (2018), section 3.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Literal, get_args

import numpy as np
from torch import Tensor

from attacks._models import Artefact, check_artefact
from attacks._posteriors import by_label, correct, entropy, grouped, minus_log, modified_entropy
from attacks._references import check, over_queries
from attacks._signals import logit_confidence
from attacks.confidence import Measure, measured
from attacks.interface import Bools, Candidates, Floats, Observation, References, Signals
from privfed.randomness import Stream
from privfed.release import View

Kind = Literal["modified", "prediction", "confidence", "correctness"]
Calibration = Literal["risk", "threshold", "none"]

_BINS = 10


@dataclass(frozen=True, slots=True)
class ModelEntropy:
    """Minus the logarithm of the entropy of each record's prediction, one query a release or round.

    Higher = lower entropy. The logarithm changes no comparison with a threshold. `clients` and the
    columns of the population go by client and label (`attacks._posteriors.by_label`), so that attacks can
    calibrate by class.

    Attributes:
        artefact: as in `attacks.confidence.ModelConfidence`.
        kind: "modified" = entropy that knows the label, 0 only where the model is sure and right;
            "prediction" = plain entropy; "confidence" = logit-scaled confidence in the label;
            "correctness" = 1 where the label is the model's first choice, else 0.
    """

    artefact: Artefact = "large"
    kind: Kind = "modified"

    def __post_init__(self) -> None:
        check_artefact(self.artefact)
        _check_option("kind", self.kind, get_args(Kind))

    def extract(self, view: View, candidates: Candidates, stream: Stream) -> Signals | None:
        """Signals of candidates and population; None without such models, heads or rival classes."""
        found = measured(self.artefact, _MEASURES[self.kind], view, candidates, stream)
        return None if found is None else by_label(found, candidates)


@dataclass(frozen=True, slots=True)
class EntropyByClass:
    """Score each record by where its entropy lies among the references' members and non-members of its class.

    A class whose references are all on one side takes those of all classes.

    Attributes:
        observation: what is compared; any signal that rises with membership. One whose columns of the
            population go by label is calibrated by class, any other by its own columns.
        calibration: "risk" = log-ratio of the histograms of members and non-members of the class (ten
            bins of equal counts, one count added to each), the logit of the privacy risk score at even
            odds; "threshold" = signal less the threshold that tells the class's members from its
            non-members best (balanced accuracy), over the class's own spread: at least 0 is the
            verdict "member" of the source; "none" = the signal as it is, without references.
    """

    observation: Observation = field(default_factory=ModelEntropy)
    calibration: Calibration = "risk"

    def __post_init__(self) -> None:
        _check_option("calibration", self.calibration, get_args(Calibration))

    def score(self, target: Signals, references: References) -> Floats:
        """Mean over the known queries of the calibrated signal, shape (n,)."""
        if self.calibration == "none":
            return over_queries(target.candidates)
        check(target, references)
        calibrate = _beyond_threshold if self.calibration == "threshold" else _risk
        scores: Floats = np.full_like(target.candidates, np.nan)
        for query in range(scores.shape[1]):
            values = references.candidates[..., query]
            everybody = _two_sided(values, references.included)
            for mine in grouped(target):
                own = _two_sided(values[:, mine], references.included[:, mine]) or everybody
                if own is not None:
                    scores[mine, query] = calibrate(target.candidates[mine, query], *own)
        return over_queries(scores)


def best_threshold(inside: Floats, outside: Floats) -> float:
    """The threshold t for which "member where the value is >= t" has the best balanced accuracy.

    Args:
        inside: shape (m,), m >= 1.
        outside: shape (k,), k >= 1.

    Returns:
        Midway between two neighbouring values, or the lowest value; the lowest threshold of several.

    >>> best_threshold(np.array([3.0, 5.0]), np.array([1.0, 2.0]))
    2.5
    """
    values = np.unique(np.concatenate([inside, outside]))
    reached = 1 - np.searchsorted(np.sort(inside), values) / len(inside)
    rejected = np.searchsorted(np.sort(outside), values) / len(outside)
    at = int(np.argmax(reached + rejected))
    return float(values[at] if at == 0 else (values[at - 1] + values[at]) / 2)


def _beyond_threshold(values: Floats, inside: Floats, outside: Floats) -> Floats:
    residuals = np.concatenate([inside - inside.mean(), outside - outside.mean()])
    spread = float(np.sqrt(np.mean(residuals**2)))
    return (values - best_threshold(inside, outside)) / (spread or 1.0)


def _risk(values: Floats, inside: Floats, outside: Floats) -> Floats:
    edges = np.unique(np.quantile(np.concatenate([inside, outside]), np.arange(1, _BINS) / _BINS))
    shares = []
    for side in (inside, outside):
        counts = np.bincount(np.searchsorted(edges, side, side="right"), minlength=len(edges) + 1) + 1
        shares.append(counts / counts.sum())
    ratio = np.log(shares[0] / shares[1])[np.searchsorted(edges, values, side="right")]
    return np.where(np.isnan(values), np.nan, ratio)


def _two_sided(values: Floats, included: Bools) -> tuple[Floats, Floats] | None:
    """Known values of members and of non-members; None where one side has none."""
    known = ~np.isnan(values)
    inside, outside = values[known & included], values[known & ~included]
    return (inside, outside) if len(inside) and len(outside) else None


def _minus_log(measure: Measure) -> Measure:
    def composed(logits: Tensor, labels: Tensor) -> Tensor:
        return minus_log(measure(logits, labels))

    return composed


_MEASURES: dict[Kind, Measure] = {
    "modified": _minus_log(modified_entropy),
    "prediction": _minus_log(entropy),
    "confidence": logit_confidence,
    "correctness": correct,
}


def _check_option(name: str, value: str, options: tuple[str, ...]) -> None:
    if value not in options:
        raise ValueError(f"expected {name} to be one of {', '.join(options)}, got {name}={value!r}")
