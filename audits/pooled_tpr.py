"""TPR at a low FPR of a training algorithm: all scores of all federations, with a variance that says so.

One score a unit (`audits.roc`) has exact bounds but few non-members: a thousand records resolve no FPR of
0.1 %. Pooled over F federations there are F times as many scores, all dependent: every record recurs in
every federation. So the variance is clustered both ways, as everywhere else.
"""

from __future__ import annotations

import math

import numpy as np
from scipy.special import expit, logit
from scipy.stats import t

from audits.intervals import clopper_pearson
from audits.roc import resolvable_from
from audits.statistics import Bools, Floats
from reports.record import Estimate

METHOD = "pooled over federations; two-way cluster-robust variance with the threshold's share, Student t"
_WIDEN = 2.0


def pooled_tpr(scores: Floats, included: Bools, fpr: float, level: float) -> Estimate:
    """TPR over all federations at the one threshold whose FPR over all federations is at most `fpr`.

    Args:
        scores: shape (F, n), higher = more likely a member, comparable between federations; NaN = not scored.
        included: shape (F, n).
        fpr: false-positive rate, in (0, 1).
        level: confidence of each bound.

    Returns:
        Value and bounds; None with a reason below one over the number of non-member scores, or with fewer
        than two federations. Members and non-members are counted as records, not as scores.

    The threshold is itself estimated: a non-member above it moves it, and with it the TPR, by the slope
    of the ROC curve there, which is taken between half and twice the FPR. Influences are summed by
    federation and by record (Cameron, Gelbach and Miller, 2011), with as many degrees of freedom as there
    are federations or records behind the threshold, whichever are fewer. In simulations of 64 federations
    with 500 records (four designs, 150 games each) a bound at 0.95 missed in 3 to 7 % of games at an FPR
    of 1 %; at 0.1 % the lower one in 3 to 11 %, for few records lie behind that threshold.
    """
    if scores.ndim != 2 or scores.shape != included.shape:
        raise ValueError(
            f"expected scores and included of one shape (F, n), got {scores.shape} and {included.shape}"
        )
    if not 0 < fpr < 1 or not 0.5 < level < 1:
        raise ValueError(f"expected fpr in (0, 1) and level in (0.5, 1), got fpr={fpr}, level={level}")
    known = ~np.isnan(scores)
    inside, outside = included & known, ~included & known
    n_in, n_out = (int(side.any(axis=0).sum()) for side in (inside, outside))
    reason = _unresolved(int(inside.sum()), int(outside.sum()), len(scores), fpr)
    value = lower = upper = None
    if not reason:
        value, variance, behind = _value(scores, inside, outside, fpr)
        lower, upper = _bounds(value, variance, min(len(scores), behind), n_in, level)
    return Estimate(
        metric="tpr_at_fpr", params={"fpr": fpr}, value=value, lower=lower, upper=upper,
        level_lower=level, level_upper=level, method=METHOD, n_in=n_in, n_out=n_out,
        n_federations=len(scores), scope="training algorithm", reason=reason,
    )  # fmt: skip


def _value(scores: Floats, inside: Bools, outside: Bools, fpr: float) -> tuple[float, float, int]:
    """TPR at the threshold, its variance, and how many records lie behind the threshold, at least two."""
    threshold = _threshold(scores[outside], fpr)
    above = scores > threshold
    m, n = int(inside.sum()), int(outside.sum())
    tpr, rate = float(above[inside].mean()), float(above[outside].mean())
    steep = _slope(scores, inside, outside, fpr)
    influence = np.where(inside, (above - tpr) / m, 0.0) - steep * np.where(outside, (above - rate) / n, 0.0)
    both = float(np.square(influence).sum())
    by_record = float(np.square(influence.sum(axis=0)).sum())
    count = len(scores)
    by_federation = float(np.square(influence.sum(axis=1)).sum()) * count / (count - 1)
    behind = int((above & outside).any(axis=0).sum())
    return tpr, max(by_federation + by_record - both, by_federation, by_record), max(2, behind)


def _slope(scores: Floats, inside: Bools, outside: Bools, fpr: float) -> float:
    """How much the TPR rises with the FPR, between half and twice the FPR as far as it resolves."""
    rates = max(fpr / _WIDEN, 1 / int(outside.sum())), min(_WIDEN * fpr, 1.0)
    low, high = (float((scores[inside] > _threshold(scores[outside], r)).mean()) for r in rates)
    return (high - low) / (rates[1] - rates[0]) if rates[1] > rates[0] else 0.0


def _bounds(value: float, variance: float, clusters: int, n_in: int, level: float) -> tuple[float, float]:
    exact = clopper_pearson(round(value * n_in), n_in, level)
    if value in (0.0, 1.0):
        return exact
    away = float(t.ppf(level, clusters - 1)) * math.sqrt(variance) / (value * (1 - value))
    return float(expit(logit(value) - away)), float(expit(logit(value) + away))


def _threshold(outside: Floats, fpr: float) -> float:
    """Score above which at most `fpr` of the non-members lie; plus nothing beyond the last."""
    rank = math.floor(fpr * len(outside) + 1e-9) + 1
    return -math.inf if rank > len(outside) else float(np.partition(outside, -rank)[-rank])


def _unresolved(n_in: int, n_out: int, federations: int, fpr: float) -> str:
    if federations < 2:
        return f"needs at least 2 federations, got {federations}"
    if n_in == 0:
        return "needs at least 1 member, got 0"
    needed = resolvable_from(fpr)
    return f"needs at least {needed} non-member scores, got {n_out}" if n_out < needed else ""
