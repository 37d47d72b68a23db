"""What attacks on clients' labels, properties and attributes get right, beside what is known without them.

Pure measures. F federations and K clients give F x K values; a client holds almost the same records in every
federation, so intervals are clustered both ways (`audits.statistics.federated_mean`). Errors: lower =
more is given away. NaN = nothing inferred.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray
from scipy.stats import t

from audits.statistics import federated_auc, federated_mean
from privfed.records import Records
from reports.record import Estimate

Floats = NDArray[np.float64]
Bools = NDArray[np.bool_]

L1_BOUND = 2.0
LINF_BOUND = 1.0
FLOOR = 1e-3
"""Added to every inferred share before KL, which one share of 0 would make infinite."""

_METHOD_R2 = "1 - SSE / SSE of the baseline; linearised, two-way cluster-robust variance, Student t"


def label_shares(clients: Sequence[Records], classes: int) -> Floats:
    """The truth: share of each label in each client's records, shape (K, classes); NaN without records."""
    counts = np.stack([np.bincount(c.labels.cpu().numpy(), minlength=classes) for c in clients])
    totals = counts.sum(axis=1, keepdims=True)
    return np.where(totals > 0, counts / np.maximum(totals, 1), np.nan)


def padded(values: Floats | None, clients: int, width: int) -> Floats:
    """What was inferred of `clients` clients, shape (K, width): NaN for those an attack never saw.

    Raises:
        ValueError: when there are more clients than that, or another width.
    """
    found = np.empty((0, width)) if values is None else values
    if len(found) > clients or found.shape[1] != width:
        raise ValueError(f"expected at most {clients} rows of width {width}, got values={found.shape}")
    return np.vstack([found, np.full((clients - len(found), width), np.nan)])


def uniform_shares(truth: Floats) -> Floats:
    """Baseline: every label equally likely; the shape of `truth` (..., classes)."""
    return np.full(truth.shape, 1 / truth.shape[-1])


def prior_shares(population: Records, truth: Floats) -> Floats:
    """Baseline: the shares of the population, which the attacker knows; the shape of `truth`."""
    counts = np.bincount(population.labels.cpu().numpy(), minlength=truth.shape[-1])
    return np.broadcast_to(counts / max(1, len(population)), truth.shape).copy()


def l1(estimates: Floats, truth: Floats) -> Floats:
    """Sum of absolute differences over labels, in [0, 2]: (..., classes) to (...)."""
    distance: Floats = np.abs(estimates - truth).sum(axis=-1)
    return distance


def linf(estimates: Floats, truth: Floats) -> Floats:
    """Largest absolute difference over labels, in [0, 1]: (..., classes) to (...)."""
    distance: Floats = np.abs(estimates - truth).max(axis=-1)
    return distance


def kl(estimates: Floats, truth: Floats) -> Floats:
    """Divergence of the estimate from the truth in nats, KL(truth || estimate): (..., classes) to (...).

    The estimate is smoothed by `FLOOR`; in [0, kl_bound(classes)].
    """
    smoothed = (estimates + FLOOR) / (1 + FLOOR * estimates.shape[-1])
    terms = np.where(truth > 0, truth * np.log(np.where(truth > 0, truth, 1.0) / smoothed), 0.0)
    divergence: Floats = np.where(np.isnan(truth).any(axis=-1), np.nan, terms.sum(axis=-1))
    return divergence


def kl_bound(classes: int) -> float:
    """Largest possible `kl`."""
    return math.log((1 + FLOOR * classes) / FLOOR)


def mean_error(errors: Floats, bound: float, level: float, metric: str) -> Estimate:
    """Mean error over federations, lower = more is given away.

    Args:
        errors: shape (F, K), in [0, bound]; NaN = nothing inferred.
        bound: largest possible error.
        level: confidence of each bound of the interval.
        metric: name for the estimate.
    """
    return _stretched(federated_mean(np.minimum(errors / bound, 1.0), level, metric), 0.0, bound)


def improvement(errors: Floats, baseline: Floats, bound: float, level: float, metric: str) -> Estimate:
    """By how much the attack errs less than the baseline, in pairs; above 0 = more than was known.

    Args:
        errors: shape (F, K), in [0, bound].
        baseline: of the same shape: the errors of guessing.
        bound: largest possible error.
        level: confidence of each bound of the interval.
        metric: name for the estimate.
    """
    shares = ((baseline - errors) / bound + 1) / 2
    return _stretched(federated_mean(shares.clip(0, 1), level, metric), -bound, bound)


def presence_auc(estimates: Floats, truth: Floats, level: float) -> Estimate:
    """Probability that a label some client holds scores above one that some client lacks.

    Args:
        estimates: shape (F, K, classes), higher = more likely held.
        truth: shares, of the same shape; held = above 0.
        level: confidence of each bound.
    """
    scores = np.where(np.isnan(truth), np.nan, estimates).reshape(len(truth), -1)
    found = federated_auc(scores, (truth > 0).reshape(len(truth), -1), level)
    return found.model_copy(update={"metric": "label_presence_auc"})


def presence_accuracy(estimates: Floats, truth: Floats, least: float, level: float) -> Estimate:
    """Share of (client, label) pairs in which "held", said of shares above `least`, is true.

    Args:
        estimates: shape (F, K, classes).
        truth: of the same shape.
        least: threshold, fixed beforehand.
        level: confidence of each bound.
    """
    unknown = np.isnan(estimates) | np.isnan(truth)
    correct = np.where(unknown, np.nan, (estimates > least) == (truth > 0))
    return federated_mean(correct.reshape(len(truth), -1), level, "label_presence_accuracy")


def r_squared(estimates: Floats, baseline: Floats, truth: Floats, level: float) -> Estimate:
    """Share of the baseline's squared error that the attack explains; 1 = all, 0 or less = nothing.

    Args:
        estimates: shape (F, K): inferred.
        baseline: of the same shape: guessed without the attack (the mean share).
        truth: of the same shape.
        level: confidence of each bound.

    The interval linearises the ratio and clusters by federation and by client; its degrees of freedom are
    those of the fewer.
    """
    known = ~np.isnan(estimates + baseline + truth)
    ours, theirs = (np.where(known, (e - truth) ** 2, 0.0) for e in (estimates, baseline))
    federations, clients = int(known.any(axis=1).sum()), int(known.any(axis=0).sum())
    reason = ""
    if min(federations, clients) < 2:
        reason = f"needs at least 2 federations and 2 clients, got {federations} and {clients}"
    elif not theirs.sum() > 0:
        reason = "the baseline makes no error"
    value = lower = upper = None
    if not reason:
        value = float(1 - ours.sum() / theirs.sum())
        influence = -(ours - (1 - value) * theirs) / theirs.sum()
        half = float(t.ppf(level, min(federations, clients) - 1)) * math.sqrt(_two_way(influence))
        lower, upper = value - half, value + half
    return Estimate(
        metric="r_squared", value=value, lower=lower, upper=upper, level_lower=level, level_upper=level,
        method=_METHOD_R2, n_in=int(known.sum()), n_out=0, n_federations=federations,
        scope="training algorithm", reason=reason,
    )  # fmt: skip


def attribute_advantage(correct: Floats, included: Bools, level: float) -> Estimate:
    """Accuracy on members less accuracy on non-members, in [-1, 1]; 0 = what was learnt is statistics.

    Args:
        correct: shape (F, n): 1 where the attribute was inferred, 0 where not, NaN where nothing was.
        included: shape (F, n).
        level: confidence of each bound.

    Twice the AUC of being right, less 1: so the interval is that of `federated_auc`.
    """
    return _renamed(_stretched(federated_auc(correct, included, level), -1.0, 1.0), "attribute_advantage")


def excess_over_imputation(correct: Floats, imputed: Floats, included: Bools, level: float) -> Estimate:
    """Accuracy on members less that of the imputation without the model, in pairs, in [-1, 1].

    Args:
        correct: shape (F, n): 1 where right, 0 where not, NaN where nothing was inferred.
        imputed: of the same shape: whether the imputation was right.
        included: shape (F, n): only members count.
        level: confidence of each bound.
    """
    shares = np.where(included, (correct - imputed + 1) / 2, np.nan)
    return _stretched(federated_mean(shares, level, "excess_over_imputation"), -1.0, 1.0)


def _two_way(influence: Floats) -> float:
    """Variance of a sum with clusters by row and by column, as `audits.intervals.Spread.variance`."""
    rows = float(np.square(influence.sum(axis=1)).sum())
    columns = float(np.square(influence.sum(axis=0)).sum())
    return max(rows + columns - float(np.square(influence).sum()), rows, columns)


def _stretched(estimate: Estimate, lowest: float, highest: float) -> Estimate:
    """An estimate of a share of the way from `lowest` to `highest`, as the number itself."""
    parts = {name: getattr(estimate, name) for name in ("value", "lower", "upper")}
    moved = {k: None if v is None else lowest + (highest - lowest) * v for k, v in parts.items()}
    return estimate.model_copy(update=moved)


def _renamed(estimate: Estimate, metric: str) -> Estimate:
    return estimate.model_copy(update={"metric": metric})
