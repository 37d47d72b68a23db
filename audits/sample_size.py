"""How many privacy units per side an audit needs before it can decide.

`required_n` plans ahead, for a pipeline that leaks nothing; `n_to_decide` extrapolates from an
estimate that could not decide.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping

import numpy as np
from numpy.typing import NDArray
from scipy.stats import binom, hypergeom, norm

from audits.roc import resolvable_from
from reports.record import Estimate

Counts = NDArray[np.int64]
Floats = NDArray[np.float64]

_MOST = 2**22
_GRID = 500


_FEASIBLE = 1_000_000
"""Units per side beyond which no plan could follow the advice."""


def required_n(
    metric: str, params: Mapping[str, float], limit: float, power: float = 0.8, alpha: float = 0.05
) -> int | None:
    """Units per side with which a pipeline without leakage passes `limit` with probability `power`.

    Args:
        metric: "auc"; "tpr_at_fpr" with params {"fpr": f}; or "proportion" with {"chance": p}, the
            rate of an attacker who guesses.
        params: what the metric is evaluated at.
        limit: largest value allowed.
        power: probability of PASS without leakage.
        alpha: largest probability of PASS when the true value is over the limit.

    Returns:
        The number from which on every larger one suffices, or None when the limit is not above
        chance and none does. For AUC by the normal approximation of the Mann-Whitney statistic
        within one federation; otherwise from exact probabilities (on a grid finer than 1 %), and
        for TPR never below the resolution 1/fpr.
    """
    _expect_plan(power, alpha)
    match metric:
        case "auc":
            return _n_for_auc(limit, power, alpha)
        case "tpr_at_fpr":
            fpr = params["fpr"]
            found = _search(lambda n: power_of_tpr(n, fpr, limit, alpha), power) if fpr < limit else None
            return None if found is None else max(found, resolvable_from(fpr))
        case "proportion":
            chance = params["chance"]
            return (
                _search(lambda n: _power_of_proportion(n, chance, limit, alpha), power)
                if chance < limit
                else None
            )
        case _:
            raise ValueError(f"expected metric 'auc', 'tpr_at_fpr' or 'proportion', got metric={metric!r}")


def power_of_tpr(n: Counts, fpr: float, limit: float, alpha: float) -> Floats:
    """Probability that `audits.roc.tpr_at_fpr` bounds the TPR by `limit` when nothing leaks.

    Without leakage all orders of the 2n scores are equally likely. At most x members stand above
    the k-th non-member exactly if the top k + x scores hold at least k non-members, which is a
    hypergeometric tail.

    Args:
        n: units per side, any shape.
        fpr: false-positive rate.
        limit: largest TPR allowed.
        alpha: shared equally by the threshold and by the bound.

    Returns:
        Probabilities in the shape of `n`.
    """
    rank = binom.ppf(1 - alpha / 2, n, fpr) + 1
    most = binom.ppf(alpha / 2, n, limit) - 1
    power = hypergeom.sf(rank - 1, 2 * n, n, rank + np.maximum(most, 0))
    return np.where((rank <= n) & (most >= 0), power, 0.0)


def n_to_decide(estimate: Estimate, limit: float) -> int | None:
    """Units per side at which an interval of this estimate would no longer hold `limit`.

    Approximate: the value is taken to stay, and the half width towards the limit to shrink with the
    root of the number of units, federations growing along where they carry the spread. None when
    there is no value, when it lies so near the limit that more than a million would be needed, or when it
    is about clients' shares, which more records of the same clients do not tell better.
    """
    if estimate.value is None or estimate.value == limit or estimate.metric == "r_squared":
        return None
    bound = estimate.upper if estimate.value < limit else estimate.lower
    if bound is None:
        return None
    units = min(estimate.n_in, estimate.n_out) or max(estimate.n_in, estimate.n_out)
    growth = abs(bound - estimate.value) / abs(limit - estimate.value)
    needed = math.ceil(units * max(1.0, growth) ** 2)
    if needed > _FEASIBLE:
        return None
    if estimate.metric != "tpr_at_fpr" or estimate.value < limit:
        return needed
    return max(needed, least_to_fail(estimate.params["fpr"], estimate.level_lower))


def least_to_fail(fpr: float, level: float) -> int:
    """Fewest non-members with which a TPR at `fpr` can be bounded from below at all.

    >>> least_to_fail(0.001, 0.95)
    3688
    """
    return math.ceil(math.log((1 - level) / 2) / math.log1p(-fpr))


def _n_for_auc(limit: float, power: float, alpha: float) -> int | None:
    """Smallest n with (z_power + z_alpha) sd(AUC) <= limit - 1/2, where var(AUC) = (2n+1)/(12 n^2)."""
    if limit <= 0.5:
        return None
    ratio = 12 * ((limit - 0.5) / float(norm.ppf(power) + norm.ppf(1 - alpha))) ** 2
    return math.ceil((1 + math.sqrt(1 + ratio)) / ratio)


def _power_of_proportion(n: Counts, chance: float, limit: float, alpha: float) -> Floats:
    most = binom.ppf(alpha, n, limit) - 1
    return np.where(most >= 0, binom.cdf(most, n, chance), 0.0)


def _search(power_at: Callable[[Counts], Floats], power: float) -> int | None:
    """The n from which on the power stays at `power`, seen on a fine grid around the first such n.

    Counts are whole, so power climbs in saw teeth that fall back below the target for a while; the
    teeth are below a third of n in width wherever n is large enough to matter.
    """
    high = 1
    while high < _MOST and power_at(np.array(high)) < power:
        high *= 2
    if high >= _MOST:
        return None
    grid = np.unique(np.linspace(high // 2, high * 2, 2 * _GRID, dtype=np.int64))
    enough = power_at(grid) >= power
    last = int(np.flatnonzero(~enough)[-1]) if not enough.all() else -1
    return int(grid[min(last + 1, len(grid) - 1)])


def _expect_plan(power: float, alpha: float) -> None:
    if not 0 < power < 1 or not 0 < alpha < 0.5:
        raise ValueError(f"expected power in (0, 1) and alpha in (0, 0.5), got power={power}, alpha={alpha}")
