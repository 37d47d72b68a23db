"""Coordinates of the report's charts; the templates write the markup around them.

The charts are drawn by the page's own templates and not by a plotting library for three reasons: the
template engine then escapes the text in them like all other text, style sheets can recolour them for
dark mode and print, and the same record gives the same bytes. Pixels grow downwards.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from reports.findings import arm_order, setting_order, strongest, titles, unique
from reports.record import Cell, Check, Estimate, Record, RocPoint, TradeOff
from reports.text import plain, shorten

# Chosen for a contrast of at least 3:1 on their ground; order is arm order. Light ground, dark ground.
PALETTE = (
    ("#0b62a8", "#6cb4f0"),
    ("#b8470b", "#f59a63"),
    ("#0a7a5a", "#45c79b"),
    ("#82449c", "#cf9ee6"),
    ("#7d6200", "#dcb94a"),
    ("#a8326a", "#f08fbd"),
    ("#4a5a68", "#a9b7c4"),
    ("#3b3fa8", "#a3a7f5"),
)
CHANCE_AUC = 0.5


@dataclass(frozen=True, slots=True)
class Tick:
    """A position on an axis and what is written there."""

    at: float
    label: str


@dataclass(frozen=True, slots=True)
class Scale:
    """Maps values to pixels; values outside are drawn at the edge."""

    low: float
    high: float
    start: float
    end: float
    log: bool = False

    def at(self, value: float) -> float:
        """The pixel of a value, to a tenth."""
        low, high, here = (self._bend(v) for v in (self.low, self.high, value))
        share = min(1.0, max(0.0, (here - low) / (high - low)))
        return round(self.start + share * (self.end - self.start), 1)

    def _bend(self, value: float) -> float:
        return math.log10(max(value, self.low)) if self.log else value

    def ticks(self, count: int = 5) -> tuple[Tick, ...]:
        """Round values inside the scale: powers of ten, or steps of 1, 2, 2.5 or 5."""
        values = _decades(self.low, self.high) if self.log else _steps(self.low, self.high, count)
        return tuple(Tick(self.at(v), plain(v)) for v in values)


def _decades(low: float, high: float) -> list[float]:
    first, last = math.ceil(math.log10(low) - 1e-9), math.floor(math.log10(high) + 1e-9)
    return [float(f"1e{power}") for power in range(first, last + 1)]


def _steps(low: float, high: float, count: int) -> list[float]:
    size = 10.0 ** math.floor(math.log10((high - low) / count))
    step = next(m * size for m in (1, 2, 2.5, 5, 10) if (high - low) / (m * size) <= count)
    first = math.ceil(low / step - 1e-9)
    return [round(i * step, 10) for i in range(first, math.floor(high / step + 1e-9) + 1)]


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


BAR_WIDTH, BAR_EDGE = 240, 8


def bars(checks: Sequence[Check]) -> tuple[Bar | None, ...]:
    """A bar for each check, None without an estimate; checks of one metric share one axis."""
    return tuple(_bar(c, [o for o in checks if _kind(o) == _kind(c)]) for c in checks)


def _kind(check: Check) -> tuple[object, ...]:
    return () if check.estimate is None else (check.estimate.metric, *sorted(check.estimate.params.items()))


def _bar(check: Check, alike: Sequence[Check]) -> Bar | None:
    estimate = check.estimate
    if estimate is None or (estimate.value is None and estimate.lower is None and estimate.upper is None):
        return None
    low, high = _bar_range(alike)
    scale = Scale(low, high, BAR_EDGE, BAR_WIDTH - BAR_EDGE)
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


def _bar_range(alike: Sequence[Check]) -> tuple[float, float]:
    metric = alike[0].estimate.metric if alike[0].estimate else ""
    values = [v for c in alike for v in (*_numbers(c.estimate), c.limit.value)]
    if metric == "auc":
        return (0.4 if min(values) >= 0.4 else min(0.0, *values)), max(1.0, *values)
    if metric == "accuracy":
        return min(0.0, *values), max(1.0, *values)
    return min(0.0, *values), _round_up(1.1 * max(values))


def _numbers(estimate: Estimate | None) -> list[float]:
    bounds = () if estimate is None else (estimate.value, estimate.lower, estimate.upper)
    return [v for v in bounds if v is not None]


def _round_up(value: float) -> float:
    if value <= 0:
        return 1.0
    size = 10.0 ** math.floor(math.log10(value))
    return round(next(m * size for m in (1, 1.5, 2, 3, 4, 5, 6, 8, 10) if m * size >= value), 10)


@dataclass(frozen=True, slots=True)
class Box:
    """A rectangle in pixels."""

    left: float
    top: float
    right: float
    bottom: float


@dataclass(frozen=True, slots=True)
class Mark:
    """An arm in the trade-off chart: a cross of two intervals, and where its label stands."""

    series: int
    x: float
    y: float
    x0: float
    x1: float
    y0: float
    y1: float
    label: str
    label_x: float
    label_y: float
    anchor: str


@dataclass(frozen=True, slots=True)
class Panel:
    """One chart of a row that shares its axes."""

    title: str
    x_ticks: tuple[Tick, ...]
    y_ticks: tuple[Tick, ...]


@dataclass(frozen=True, slots=True)
class TradeOffPanel(Panel):
    """Leakage against accuracy under one observer; `chance` is the pixel of AUC 0.5."""

    marks: tuple[Mark, ...]
    chance: float


PANEL = Box(left=46, top=12, right=388, bottom=262)


def trade_off(record: Record) -> tuple[tuple[str, tuple[TradeOffPanel, ...]], ...]:
    """Panels for each setting, one per observer; all of them share both axes."""
    rows = [t for t in record.tradeoff if t.accuracy.value is not None and t.leakage.value is not None]
    if not rows:
        return ()
    x = _padded([v for t in rows for v in _numbers(t.accuracy)], PANEL.left, PANEL.right)
    y = _padded([v for t in rows for v in (*_numbers(t.leakage), CHANCE_AUC)], PANEL.bottom, PANEL.top)
    arms, names = arm_order(record), titles(record)
    return tuple(
        (setting, tuple(_trade_off_panel(group, x, y, arms, names) for group in _by_observer(rows, setting)))
        for setting in setting_order(record)
        if any(t.setting == setting for t in rows)
    )


def _by_observer(rows: Sequence[TradeOff], setting: str) -> list[list[TradeOff]]:
    here = [t for t in rows if t.setting == setting]
    return [[t for t in here if t.observer == o] for o in unique(t.observer for t in here)]


def _padded(values: Sequence[float], start: float, end: float) -> Scale:
    low, high = min(values), max(values)
    room = max(0.08 * (high - low), 0.02)
    return Scale(max(0.0, low - room), min(1.02, high + room), start, end)


def _trade_off_panel(
    rows: Sequence[TradeOff], x: Scale, y: Scale, arms: Sequence[str], names: dict[str, str]
) -> TradeOffPanel:
    crosses = [(arms.index(t.arm), _cross(t, x, y), shorten(names[t.arm])) for t in rows]
    labels = place_labels([c for _, c, _ in crosses], [label for _, _, label in crosses])
    marks = tuple(Mark(s, *c, label, *spot) for (s, c, label), spot in zip(crosses, labels, strict=True))
    return TradeOffPanel(rows[0].observer, x.ticks(5), y.ticks(6), marks, y.at(CHANCE_AUC))


Cross = tuple[float, float, float, float, float, float]
Spot = tuple[float, float, str]


def _cross(row: TradeOff, x: Scale, y: Scale) -> Cross:
    across, up = row.accuracy, row.leakage
    centre = x.at(across.value or 0.0), y.at(up.value or 0.0)
    ends = [centre[0] if v is None else x.at(v) for v in (across.lower, across.upper)]
    tops = [centre[1] if v is None else y.at(v) for v in (up.lower, up.upper)]
    return (*centre, *ends, *tops)  # type: ignore[return-value]


def place_labels(crosses: Sequence[Cross], labels: Sequence[str]) -> list[Spot]:
    """Positions for the labels, each where it covers least of what is already drawn."""
    taken = [box for cross in crosses for box in _arms_of(cross)]
    spots: list[Spot] = []
    for cross, label in zip(crosses, labels, strict=True):
        spot = min(_spots(cross), key=lambda s: _covered(_label_box(s, label), taken))
        taken.append(_label_box(spot, label))
        spots.append(spot)
    return spots


def _arms_of(cross: Cross) -> list[Box]:
    x, y, x0, x1, y0, y1 = cross
    return [
        Box(x - 6, y - 6, x + 6, y + 6),
        Box(min(x0, x1), y - 1, max(x0, x1), y + 1),
        Box(x - 1, min(y0, y1), x + 1, max(y0, y1)),
    ]


def _spots(cross: Cross) -> list[Spot]:
    x, y = cross[:2]
    sides = [(x + 9, "start"), (x - 9, "end")]
    rows = (-8, 16, -22, 30, -36, 44, -50, 58)
    return [(round(px, 1), round(y + dy, 1), anchor) for dy in rows for px, anchor in sides]


def _label_box(spot: Spot, label: str) -> Box:
    x, y, anchor = spot
    width = 6.4 * len(label)
    left = x if anchor == "start" else x - width
    return Box(left, y - 11, left + width, y + 3)


def _covered(box: Box, taken: Iterable[Box]) -> float:
    inside = _overlap(box, PANEL)
    outside = (box.right - box.left) * (box.bottom - box.top) - inside
    return 10 * outside + sum(_overlap(box, other) for other in taken)


def _overlap(a: Box, b: Box) -> float:
    width = min(a.right, b.right) - max(a.left, b.left)
    height = min(a.bottom, b.bottom) - max(a.top, b.top)
    return max(0.0, width) * max(0.0, height)


@dataclass(frozen=True, slots=True)
class Curve:
    """A ROC curve of one arm with its pointwise band, as SVG path data."""

    series: int
    line: str
    band: str


@dataclass(frozen=True, slots=True)
class RocPanel(Panel):
    """Curves of the strongest attack per arm for one observer and artefact.

    Attributes:
        cells: the cells drawn, in the order of the curves.
        resolution: where both axes start: one false alarm (or one member) in this many.
        chance: path of the diagonal.
    """

    cells: tuple[Cell, ...]
    curves: tuple[Curve, ...]
    resolution: int
    chance: str


SQUARE = Box(left=46, top=12, right=312, bottom=278)


def roc_panels(record: Record) -> tuple[tuple[str, tuple[RocPanel, ...]], ...]:
    """Panels for each setting, one per observer and artefact that has a curve."""
    arms, audited = arm_order(record), {a.id for a in record.arms if a.role == "audited"}
    found = []
    for setting in setting_order(record):
        cells = [c for c in record.cells if c.setting == setting]
        places = unique((c.observer, c.artefact) for c in cells)
        groups = [strongest(c for c in cells if (c.observer, c.artefact) == place) for place in places]
        panels = tuple(_roc_panel(group, arms, audited) for group in groups if group)
        if panels:
            found.append((setting, panels))
    return tuple(found)


def _roc_panel(cells: Sequence[Cell], arms: Sequence[str], audited: set[str]) -> RocPanel:
    n = max(_resolution(c) for c in cells)
    x = Scale(1 / n, 1.0, SQUARE.left, SQUARE.right, log=True)
    y = Scale(1 / n, 1.0, SQUARE.bottom, SQUARE.top, log=True)
    curves = tuple(_curve(c, arms.index(c.arm), c.arm in audited, x, y) for c in cells)
    title = f"{cells[0].observer} · {cells[0].artefact}"
    chance = f"M{x.start:g},{y.start:g}L{x.end:g},{y.end:g}"
    return RocPanel(title, x.ticks(), y.ticks(), tuple(cells), curves, n, chance)


def _resolution(cell: Cell) -> int:
    if cell.auc is not None and cell.auc.n_out > 1:
        return cell.auc.n_out
    smallest = min((p.fpr for p in cell.roc if 0 < p.fpr < 1), default=0.01)
    return max(2, round(1 / smallest))


def _curve(cell: Cell, series: int, banded: bool, x: Scale, y: Scale) -> Curve:
    # The slack keeps a point at exactly 1/n that rounding put a hair below it.
    points = [p for p in cell.roc if p.fpr >= x.low * (1 - 1e-9)]
    line = _path((x.at(p.fpr), y.at(p.tpr)) for p in points)
    return Curve(series, line, _band(points, x, y) if banded else "")


def _band(points: Sequence[RocPoint], x: Scale, y: Scale) -> str:
    there = [(x.at(p.fpr), y.at(p.upper)) for p in points]
    back = [(x.at(p.fpr), y.at(p.lower)) for p in reversed(points)]
    return _path(there + back) + "Z" if points else ""


def _path(points: Iterable[tuple[float, float]]) -> str:
    text = "L".join(f"{px:g},{py:g}" for px, py in points)
    return f"M{text}" if text else ""
