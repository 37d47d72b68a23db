"""ROC curves on logarithmic axes that start at the resolution: one panel per setting and observer."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from reports.axes import FRAME, Panel, Scale
from reports.findings import setting_order, strongest, unique
from reports.record import Cell, Record, RocPoint

STEP = 3.0  # pixels: finer than this the eye sees no difference, and the page grows


@dataclass(frozen=True, slots=True)
class Curve:
    """The curve of one cell with its pointwise band, as SVG path data."""

    cell: Cell
    line: str
    band: str


@dataclass(frozen=True, slots=True)
class RocPanel(Panel):
    """Curves of the strongest attack per arm for one observer and artefact.

    Attributes:
        resolution: where both axes start: one false alarm (or one member) in this many.
        chance: path of the diagonal.
    """

    curves: tuple[Curve, ...]
    resolution: int
    chance: str


def roc_panels(record: Record) -> tuple[tuple[str, tuple[RocPanel, ...]], ...]:
    """Panels for each setting, one per observer and artefact that has a curve."""
    audited = {a.id for a in record.arms if a.role == "audited"}
    found = []
    for setting in setting_order(record):
        cells = [c for c in record.cells if c.setting == setting]
        places = unique((c.observer, c.artefact) for c in cells)
        groups = [strongest(c for c in cells if (c.observer, c.artefact) == place) for place in places]
        panels = tuple(_panel(group, audited) for group in groups if group)
        if panels:
            found.append((setting, panels))
    return tuple(found)


def _panel(cells: Sequence[Cell], audited: set[str]) -> RocPanel:
    n = max(_resolution(c) for c in cells)
    x = Scale(1 / n, 1.0, FRAME.left, FRAME.right, log=True)
    y = Scale(1 / n, 1.0, FRAME.bottom, FRAME.top, log=True)
    curves = tuple(_curve(c, c.arm in audited, x, y) for c in cells)
    title = f"{cells[0].observer} · {cells[0].artefact}"
    chance = f"M{x.start:g},{y.start:g}L{x.end:g},{y.end:g}"
    return RocPanel(FRAME, title, x.ticks(), y.ticks(), curves, n, chance)


def _resolution(cell: Cell) -> int:
    """Non-members behind the curve: one false alarm among them is the lowest rate it can show."""
    smallest = min((p.fpr for p in cell.roc if 0 < p.fpr < 1), default=0.01)
    return max(2, round(1 / smallest))


def _curve(cell: Cell, banded: bool, x: Scale, y: Scale) -> Curve:
    # The slack keeps a point at exactly 1/n that rounding put a hair below it.
    points = _thinned([p for p in cell.roc if p.fpr >= x.low * (1 - 1e-9)], x, y)
    return Curve(
        cell, _path((x.at(p.fpr), y.at(p.tpr)) for p in points), _band(points, x, y) if banded else ""
    )


def _thinned(points: Sequence[RocPoint], x: Scale, y: Scale) -> list[RocPoint]:
    """The first and last point, and between them those that lie a visible step from the one before."""
    kept: list[RocPoint] = []
    for point in points:
        if not kept or _steps(kept[-1], point, x, y) >= STEP:
            kept.append(point)
    if points and kept[-1] is not points[-1]:
        kept.append(points[-1])
    return kept


def _steps(a: RocPoint, b: RocPoint, x: Scale, y: Scale) -> float:
    return max(abs(x.at(a.fpr) - x.at(b.fpr)), abs(y.at(a.tpr) - y.at(b.tpr)))


def _band(points: Sequence[RocPoint], x: Scale, y: Scale) -> str:
    there = [(x.at(p.fpr), y.at(p.upper)) for p in points]
    back = [(x.at(p.fpr), y.at(p.lower)) for p in reversed(points)]
    return _path(there + back) + "Z" if points else ""


def _path(points: Iterable[tuple[float, float]]) -> str:
    text = "L".join(f"{px:g},{py:g}" for px, py in points)
    return f"M{text}" if text else ""
