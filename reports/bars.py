"""Each check as an interval against its limit."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

from reports.axes import CHANCE_AUC, Scale, numbers
from reports.record import Check
from reports.text import plain

WIDTH, EDGE = 240, 8


@dataclass(frozen=True, slots=True)
class Bar:
    """An interval against its limit; a missing bound leaves its end open.

    Attributes:
        allowed: left edge and width of the range that the policy allows.
        chance: where guessing lies, for metrics that have such a point.
    """

    low: str
    high: str
    allowed: tuple[float, float]
    limit: float
    lower: float
    upper: float
    value: float | None
    chance: float | None


def bars(checks: Sequence[Check]) -> tuple[Bar | None, ...]:
    """A bar for each check, None without an estimate; checks of one metric and limit share an axis."""
    alike: dict[tuple[object, ...], list[Check]] = {}
    for check in checks:
        alike.setdefault(_kind(check), []).append(check)
    ranges = {kind: _range(group) for kind, group in alike.items()}
    return tuple(_bar(check, *ranges[_kind(check)]) for check in checks)


def _kind(check: Check) -> tuple[object, ...]:
    estimate = check.estimate
    return () if estimate is None else (check.limit, estimate.metric, *sorted(estimate.params.items()))


def _bar(check: Check, low: float, high: float) -> Bar | None:
    estimate = check.estimate
    if estimate is None or not numbers(estimate):
        return None
    scale = Scale(low, high, EDGE, WIDTH - EDGE)
    limit = scale.at(check.limit.value)
    left, right = (scale.start, limit) if check.limit.op == "<=" else (limit, scale.end)
    return Bar(
        low=plain(low),
        high=plain(high),
        allowed=(left, round(right - left, 1)),
        limit=limit,
        lower=scale.at(low if estimate.lower is None else estimate.lower),
        upper=scale.at(high if estimate.upper is None else estimate.upper),
        value=None if estimate.value is None else scale.at(estimate.value),
        chance=scale.at(CHANCE_AUC) if estimate.metric == "auc" else None,
    )


def _range(alike: Sequence[Check]) -> tuple[float, float]:
    metric = alike[0].estimate.metric if alike[0].estimate else ""
    values = [v for c in alike for v in (*numbers(c.estimate), c.limit.value)]
    if metric == "auc":
        return (0.4 if min(values) >= 0.4 else min(0.0, *values)), max(1.0, *values)
    if metric == "accuracy":
        return min(0.0, *values), max(1.0, *values)
    return min(0.0, *values), _round_up(1.1 * max(values))


def _round_up(value: float) -> float:
    if value <= 0:
        return 1.0
    size = 10.0 ** math.floor(math.log10(value))
    return round(next(m * size for m in (1, 1.5, 2, 3, 4, 5, 6, 8, 10) if m * size >= value), 10)
