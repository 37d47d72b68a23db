"""From membership scores to an `Estimate`: AUC and accuracy over federations and records.

An audit scores n candidate records in F federations. The same record recurs in every federation and
one federation scores all records, so the F x n scores are dependent both ways and an interval that
takes them for independent trials is far too narrow. Two remedies live here: a variance that is
robust to clusters in both directions (`federated_auc`, `federated_mean`), and the use of each record
in one federation only (`one_score_per_unit`), after which binomial methods hold (`audits.roc`).

Scores point one way everywhere: higher = more likely a member. NaN = not scored.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from functools import partial

import numpy as np
from numpy.typing import NDArray
from scipy.stats import rankdata

from audits.intervals import Spread, clopper_pearson
from privfed.randomness import Stream
from reports.record import Estimate, Scope

Floats = NDArray[np.float64]
Bools = NDArray[np.bool_]

_METHOD_AUC = "Mann-Whitney AUC; two-way cluster-robust DeLong variance on the logit scale, Student t"
_METHOD_SHARED = f"{_METHOD_AUC}; jackknife over federations that are each other's references"
_METHOD_MEAN = "mean over federations; two-way cluster-robust variance on the logit scale, Student t"


def auc(scores: Floats, included: Bools) -> float:
    """Probability that a member outscores a non-member, ties counted one half (Mann-Whitney).

    Args:
        scores: shape (n,), higher = more likely a member; NaN is left out.
        included: shape (n,), whether the record was a member.

    Returns:
        The area under the ROC curve; NaN when no member or no non-member is scored.

    >>> auc(np.array([0.1, 0.2, 0.3, 0.3]), np.array([False, True, False, True]))
    0.625
    """
    _expect_same_shape(scores, included, ndim=1)
    return float(aucs(scores[None], included[None])[0])


def aucs(scores: Floats, included: Bools) -> Floats:
    """`auc` of each row, all at once.

    Args:
        scores: shape (F, n), higher = more likely a member; NaN is left out.
        included: shape (F, n).

    Returns:
        Shape (F,); NaN where no member or no non-member is scored.
    """
    _expect_same_shape(scores, included, ndim=2)
    scored = ~np.isnan(scores)
    inside = included & scored
    m, n = inside.sum(axis=1), (~included & scored).sum(axis=1)
    ranks = rankdata(scores, axis=1, nan_policy="omit")
    wins = np.where(inside, ranks, 0.0).sum(axis=1) - m * (m + 1) / 2
    found: Floats = np.where(m * n > 0, wins / np.maximum(m * n, 1), np.nan)
    return found


def placements(scores: Floats, included: Bools) -> Floats:
    """Where each record stands among the records of the other side.

    Args:
        scores: shape (n,), higher = more likely a member; NaN is left out.
        included: shape (n,).

    Returns:
        Shape (n,): for a member the share of non-members below it, for a non-member the share of
        members above it, ties one half; NaN where not scored. Both sides average to the AUC. In
        O(n log n), by sorting the other side (placement values: DeLong et al., 1988).
    """
    _expect_same_shape(scores, included, ndim=1)
    result = np.full(scores.shape, np.nan)
    inside, outside = included & ~np.isnan(scores), ~included & ~np.isnan(scores)
    if not inside.any() or not outside.any():
        return result
    result[inside] = _below(scores[inside], scores[outside]) / outside.sum()
    result[outside] = 1 - _below(scores[outside], scores[inside]) / inside.sum()
    return result


def _below(ours: Floats, theirs: Floats) -> Floats:
    """How many of theirs lie below each of ours, ties one half."""
    order = np.sort(theirs)
    counts: Floats = (np.searchsorted(order, ours, "left") + np.searchsorted(order, ours, "right")) / 2
    return counts


def federated_auc(scores: Floats, included: Bools, level: float) -> Estimate:
    """Mean AUC over federations, with bounds that hold under dependence both ways.

    Placement values give each record's influence on each federation's AUC (DeLong et al., 1988;
    Obuchowski, 1997, for clustered records); clusters by federation and by record are combined as
    in `Spread.variance`. Federations in which no member or no non-member is scored are left out.
    One federation alone gives DeLong's interval over records and speaks of that artefact only.

    Args:
        scores: shape (F, n), higher = more likely a member; NaN = not scored.
        included: shape (F, n), membership drawn independently for each record and federation.
        level: confidence of each bound.

    Assumes exchangeable federations and exchangeable records. In simulations with effects of either
    kind a bound at 0.95 misses about as often as it should; above an AUC of 0.98 with federations
    that differ strongly the lower bound is too high in about one case in ten. Without any spread
    (every federation perfectly separated, or all scores equal) the bounds are exact binomial ones
    on the number of federations and of member/non-member pairs; a federation unlike those seen is
    then taken to lie at most 1/2 away, as chance does from perfect separation.

    Federations must not have been scored with each other's help: what they share by that is not in
    these numbers. `auc_at` takes it from `audits.leave_one_out`.
    """
    return auc_at(scores, included)(level)


def auc_at(scores: Floats, included: Bools, shared: float | None = None) -> Callable[[float], Estimate]:
    """`federated_auc` as a function of the level alone: what is costly is done once.

    Args:
        scores: shape (F, n), higher = more likely a member; NaN = not scored.
        included: shape (F, n).
        shared: least variance of the mean AUC, where federations are each other's references.
    """
    _expect_same_shape(scores, included, ndim=2)
    place, included = _usable_placements(scores, included)
    if not len(place):
        reason = "no federation scored both a member and a non-member"
        return partial(_absent, "auc", _METHOD_AUC, reason=reason)
    scored = ~np.isnan(place)
    n_in = int((included & scored).any(axis=0).sum())
    n_out = int((~included & scored).any(axis=0).sum())
    method = _METHOD_AUC if shared is None else _METHOD_SHARED
    spread = replace(_auc_spread(place, included), shared=shared or 0.0)
    if len(place) == 1 and spread.units < 2:
        reason = f"one federation needs at least 2 members and 2 non-members, got {n_in} and {n_out}"
        return partial(_absent, "auc", _METHOD_AUC, reason=reason)
    return partial(_estimate, "auc", method, spread, n_in=n_in, n_out=n_out)


def auc_spread(scores: Floats, included: Bools) -> Spread | None:
    """AUC of each federation and each record's influence on their mean, for variances of contrasts.

    Args:
        scores: shape (F, n), higher = more likely a member; NaN = not scored.
        included: shape (F, n).

    Returns:
        Federations in which a member and a non-member are scored, in order; None where there is none.
    """
    _expect_same_shape(scores, included, ndim=2)
    place, included = _usable_placements(scores, included)
    return _auc_spread(place, included) if len(place) else None


def federated_mean(correct: Floats, level: float, metric: str = "accuracy") -> Estimate:
    """Mean over federations of a proportion of records, for example test accuracy.

    Args:
        correct: shape (F, n), in [0, 1]: 1 where federation f treats record i right, 0 where not, the
            share of its models that do where it has several, NaN where unknown. The same test
            record stands in the same column in every federation.
        level: confidence of each bound.
        metric: name for the estimate.

    The variance is that of `Spread`; one federation alone gives exact Clopper-Pearson bounds over
    records, for that artefact, unless some values are shares.
    """
    _expect_shares(correct)
    _expect_level(level)
    correct = correct[~np.isnan(correct).all(axis=1)]
    if not correct.size:
        return _absent(metric, _METHOD_MEAN, level, "no record was evaluated")
    known = ~np.isnan(correct)
    n_records = int(known.any(axis=0).sum())
    if len(correct) == 1 and set(np.unique(correct[known])) <= {0.0, 1.0}:
        return _one_proportion(int(np.nansum(correct)), n_records, level, metric)
    values, counts = np.nanmean(correct, axis=1), known.sum(axis=1)
    influence = np.where(known, (correct - values[:, None]) / (counts * len(correct))[:, None], 0.0)
    spread = Spread(values, influence, units=int(counts.min()), reach=1.0)
    return _estimate(metric, _METHOD_MEAN, spread, level, n_records, 0)


def one_score_per_unit(included: Bools, scores: Floats, stream: Stream) -> tuple[Floats, Floats]:
    """Each candidate's score in one federation only, drawn at random: members and non-members.

    The federation of a record is drawn uniformly among those that scored it, by `stream` alone, so
    the draw knows neither membership nor score and the membership bits that remain are independent
    coin flips, one per record.

    Args:
        included: shape (F, n).
        scores: shape (F, n), higher = more likely a member; NaN = not scored. Whether a record is
            scored must not depend on its membership.
        stream: random stream of this draw.

    Returns:
        Scores of shapes (n_in,) and (n_out,), n_in + n_out <= n.
    """
    _expect_same_shape(scores, included, ndim=2)
    lots = np.where(np.isnan(scores), -1.0, stream.numpy().random(scores.shape))
    chosen, column = lots.argmax(axis=0), np.arange(scores.shape[1])
    score, member = scores[chosen, column], included[chosen, column]
    scored = ~np.isnan(score)
    return score[member & scored], score[~member & scored]


def _usable_placements(scores: Floats, included: Bools) -> tuple[Floats, Bools]:
    """Placements and membership in the federations that score both sides."""
    place = np.stack([placements(s, b) for s, b in zip(scores, included, strict=True)])
    usable = ~np.isnan(place).all(axis=1)
    return place[usable], included[usable]


def _auc_spread(place: Floats, included: Bools) -> Spread:
    """AUC of each federation from its placements, and each record's influence on their mean."""
    inside = included & ~np.isnan(place)
    outside = ~included & ~np.isnan(place)
    m, n = inside.sum(axis=1), outside.sum(axis=1)
    values = np.where(inside, place, 0.0).sum(axis=1) / m
    # The root of m(m-1), not m: then one federation alone has exactly DeLong's variance.
    size = np.where(included, _unbiased(m)[:, None], _unbiased(n)[:, None])
    influence = np.where(inside | outside, (place - values[:, None]) / (size * len(place)), 0.0)
    return Spread(values, influence, units=int(np.minimum(m, n).max()), reach=0.5)


def _unbiased(count: NDArray[np.int_]) -> Floats:
    """Root of count * (count - 1), and 1 for a count of 1, whose record has no influence anyway."""
    size: Floats = np.sqrt(count * np.maximum(count - 1.0, 1.0))
    return size


def _estimate(metric: str, method: str, spread: Spread, level: float, n_in: int, n_out: int) -> Estimate:
    _expect_level(level)
    lower, upper = spread.bounds(level)
    scope: Scope = "training algorithm" if len(spread.values) > 1 else "artefact"
    return Estimate(
        metric=metric, value=float(spread.values.mean()), lower=lower, upper=upper,
        level_lower=level, level_upper=level, method=method, n_in=n_in, n_out=n_out,
        n_federations=len(spread.values), scope=scope,
    )  # fmt: skip


def _one_proportion(successes: int, trials: int, level: float, metric: str) -> Estimate:
    lower, upper = clopper_pearson(successes, trials, level)
    return Estimate(
        metric=metric, value=successes / trials, lower=lower, upper=upper, level_lower=level,
        level_upper=level, method="Clopper-Pearson over records", n_in=trials, n_out=0,
        n_federations=1, scope="artefact",
    )  # fmt: skip


def _absent(metric: str, method: str, level: float, reason: str) -> Estimate:
    _expect_level(level)
    return Estimate(
        metric=metric, value=None, lower=None, upper=None, level_lower=level, level_upper=level,
        method=method, n_in=0, n_out=0, n_federations=0, scope="training algorithm", reason=reason,
    )  # fmt: skip


def _expect_same_shape(scores: Floats, included: Bools, ndim: int) -> None:
    if scores.ndim != ndim or scores.shape != included.shape:
        raise ValueError(
            f"expected scores and included of one shape with {ndim} axes, "
            f"got scores.shape={scores.shape}, included.shape={included.shape}"
        )
    if included.dtype != np.bool_:
        raise ValueError(f"expected included of type bool, got included.dtype={included.dtype}")


def _expect_shares(correct: Floats) -> None:
    if correct.ndim != 2:
        raise ValueError(f"expected correct with axes (federations, records), got shape={correct.shape}")
    strange = correct[(correct < 0) | (correct > 1)]
    if strange.size:
        raise ValueError(f"expected correct to lie in [0, 1] or be NaN, got correct={strange[0]:g}")


def _expect_level(level: float) -> None:
    if not 0.5 < level < 1:
        raise ValueError(f"expected level in (0.5, 1), got level={level}")
