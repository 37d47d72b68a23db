"""What reference federations say of each record: mean and spread when in, and when out.

Every statistic is per record and per query, ignores NaN, and is total: a record that lacks
references on one side borrows from the others as each function states, so a score is NaN only
where the target's signal is NaN or nothing at all is known.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from attacks.interface import Bools, Floats, References, Signals

FLOOR = 1e-12
"""Smallest variance: keeps a signal that never varies from dividing by zero."""


@dataclass(frozen=True, slots=True)
class Side:
    """Reference signals of one side (IN or OUT) of every record.

    Attributes:
        mean: shape (n, queries).
        pooled: shape (queries,): variance of the residuals about each record's own mean.
        variance: shape (n, queries): each record's own variance; `pooled` where it has fewer than
            two references on this side.
    """

    mean: Floats
    pooled: Floats
    variance: Floats


def check(target: Signals, references: References) -> None:
    """Refuse references that are none, or not of the target's records and queries.

    Raises:
        ValueError: naming the first shape that does not fit.
    """
    count = references.candidates.shape[0]
    if count < 1:
        raise ValueError(f"expected at least one reference, got references={count}")
    expected = (count, *target.candidates.shape)
    if references.candidates.shape != expected:
        raise ValueError(
            f"expected reference signals of shape {expected}, got candidates={references.candidates.shape}"
        )
    if references.included.shape != expected[:2]:
        raise ValueError(
            f"expected inclusion of shape {expected[:2]}, got included={references.included.shape}"
        )


def known_mean(values: Floats, axis: int) -> Floats:
    """Mean along `axis` of the values that are not NaN; NaN where there are none."""
    return _mean(values, ~np.isnan(values), axis)


def over_queries(values: Floats) -> Floats:
    """Mean over the queries that are known; shape (..., n, queries) -> (..., n)."""
    return values[..., 0] if values.shape[-1] == 1 else known_mean(values, -1)


def side_means(values: Floats, included: Bools) -> tuple[Floats, Floats]:
    """Mean reference signal of each record when in and when out.

    A record never seen on one side takes the mean of its other side, shifted by the mean difference
    between the sides over the records that have both: without leakage that difference is 0 and the
    substitute is unbiased. A record without any reference takes the mean over records.

    Args:
        values: shape (references, n, queries).
        included: shape (references, n).

    Returns:
        Means when in and when out, each of shape (n, queries).
    """
    mask = included[..., np.newaxis]
    inside, outside = (_mean(values, side & ~np.isnan(values), 0) for side in (mask, ~mask))
    gap = np.nan_to_num(known_mean(inside - outside, 0))
    filled_in = np.where(np.isnan(inside), outside + gap, inside)
    filled_out = np.where(np.isnan(outside), inside - gap, outside)
    return _or_average(filled_in), _or_average(filled_out)


def sides(values: Floats, included: Bools) -> tuple[Side, Side]:
    """Mean and variance of each record when in and when out.

    Variances are of residuals about the record's own mean, with one degree of freedom a record
    taken off, separately for IN and OUT. A side with no residual at all uses the other side's
    pooled variance, or 1 when neither has any.

    Args:
        values: shape (references, n, queries).
        included: shape (references, n).

    Returns:
        The IN side and the OUT side.
    """
    means = side_means(values, included)
    mask = included[..., np.newaxis]
    squares = [_squares(values, m, mean) for m, mean in zip((mask, ~mask), means, strict=True)]
    pooled = [_pooled(total, count) for total, count in squares]
    known = [
        np.nan_to_num(np.where(np.isnan(mine), other, mine), nan=1.0)
        for mine, other in (pooled, pooled[::-1])
    ]
    inside, outside = (
        Side(mean, np.maximum(base, FLOOR), _own(total, count, base))
        for mean, base, (total, count) in zip(means, known, squares, strict=True)
    )
    return inside, outside


def _squares(values: Floats, mask: Bools, mean: Floats) -> tuple[Floats, Floats]:
    """Sum of squared residuals and degrees of freedom of each record and query."""
    known = mask & ~np.isnan(values)
    residual = np.where(known, values - mean, 0.0)
    return np.einsum("rnq,rnq->nq", residual, residual), np.maximum(known.sum(0) - 1.0, 0.0)


def _pooled(total: Floats, freedom: Floats) -> Floats:
    shared = freedom.sum(0)
    return _divide(total.sum(0), shared)


def _own(total: Floats, freedom: Floats, pooled: Floats) -> Floats:
    own = np.divide(total, freedom, out=np.broadcast_to(pooled, total.shape).copy(), where=freedom > 0)
    return np.maximum(own, FLOOR)


def _or_average(values: Floats) -> Floats:
    return np.where(np.isnan(values), known_mean(values, 0), values)


def _mean(values: Floats, mask: Bools, axis: int) -> Floats:
    return _divide(np.where(mask, values, 0.0).sum(axis), mask.sum(axis, dtype=np.float64))


def _divide(total: Floats, count: Floats) -> Floats:
    """Quotient; NaN where `count` is 0."""
    quotient = np.full(total.shape, np.nan)
    np.divide(total, count, out=quotient, where=count > 0)
    return quotient
