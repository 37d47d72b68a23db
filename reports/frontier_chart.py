"""The picture of a sweep: one panel per setting and observer, a line per arm along the knob."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import groupby, pairwise

from reports.axes import CHANCE_AUC, FRAME, Box, Panel, Scale, numbers
from reports.findings import unique
from reports.frontier import UNDEFENDED, Frontier, Point, Yardstick, is_gap, titles
from reports.labels import Cross, Spot, label_box, place_labels
from reports.record import Estimate
from reports.text import shorten
from reports.tradeoff import GUESSING, Mark, Reference, guess_spot, padded

CLASS_MEANS = "class means"
BEAD = 5.0  # pixels


@dataclass(frozen=True, slots=True)
class Path:
    """An arm's measured points in the order of the knob; a gap breaks the line."""

    arm: str
    d: str


@dataclass(frozen=True, slots=True)
class Level:
    """What class means alone give away: a line at their AUC in a band of its interval, and its label."""

    y: float
    y0: float
    y1: float
    label: Spot


@dataclass(frozen=True, slots=True)
class Gap:
    """A point that could not be measured: a mark at the top, at its accuracy where that is known."""

    arm: str
    x: float | None
    label: str
    reason: str


@dataclass(frozen=True, slots=True)
class FrontierPanel(Panel):
    """Leakage against accuracy under one observer; `chance` is the pixel of AUC 0.5, `guess` its label."""

    paths: tuple[Path, ...]
    marks: tuple[Mark, ...]
    hollow: tuple[Mark, ...]
    lines: tuple[Reference, ...]
    level: Level | None
    gaps: tuple[Gap, ...]
    chance: float
    guess: Spot


def panels(frontier: Frontier) -> tuple[tuple[str, tuple[FrontierPanel, ...]], ...]:
    """Panels for each setting, one per observer; leakage has one axis on the page, accuracy one a setting."""
    leaks = [v for row in _rows(frontier) for v in numbers(row.leakage)]
    if not any(not is_gap(p) for p in frontier.points):
        return ()
    y = padded([*leaks, CHANCE_AUC], FRAME.bottom, FRAME.top)
    settings = unique(p.setting for p in frontier.points)
    return tuple((s, tuple(_of_setting(frontier, s, y))) for s in settings)


def _rows(frontier: Frontier) -> tuple[Point | Yardstick, ...]:
    return (*frontier.points, *frontier.yardsticks)


def _of_setting(frontier: Frontier, setting: str, y: Scale) -> Iterator[FrontierPanel]:
    rows = [row for row in _rows(frontier) if row.setting == setting]
    reach = [v for row in rows for v in numbers(row.accuracy)]
    x = padded(reach or [0.0, 1.0], FRAME.left, FRAME.right)
    for observer in unique(p.observer for p in frontier.points if p.setting == setting):
        points = [p for p in frontier.points if (p.setting, p.observer) == (setting, observer)]
        beside = [w for w in frontier.yardsticks if w.setting == setting and w.observer in (observer, "")]
        yield _panel(observer, points, beside, x, y, titles(frontier))


def _panel(
    observer: str,
    points: Sequence[Point],
    beside: Sequence[Yardstick],
    x: Scale,
    y: Scale,
    names: dict[str, str],
) -> FrontierPanel:
    solid = [p for p in points if not is_gap(p)]
    open_ = [w for w in beside if w.arm and w.leakage is not None and w.accuracy is not None]
    shown: tuple[Point | Yardstick, ...] = (*solid, *open_)
    crosses = [_cross(row.accuracy, row.leakage, x, y) for row in shown]
    lines = tuple(_line(w, i, x, names) for i, w in enumerate(w for w in beside if not w.observer))
    level = next((_level(w.leakage, y) for w in beside if not w.arm and w.leakage is not None), None)
    guess = guess_spot(y.at(CHANCE_AUC), crosses)
    labels = [p.value for p in solid] + [shorten(names[w.arm].split(" (")[0]) for w in open_]
    taken = [*_taken(y.at(CHANCE_AUC), guess, lines, level), *_along(points, x, y)]
    spots = place_labels(crosses, labels, FRAME, taken)
    marks = [
        Mark(row.arm, *cross, label, *spot)
        for row, cross, label, spot in zip(shown, crosses, labels, spots, strict=True)
    ]
    return FrontierPanel(
        FRAME, observer, x.ticks(7), y.ticks(6), tuple(_paths(points, x, y)), tuple(marks[: len(solid)]),
        tuple(marks[len(solid) :]), lines, level, tuple(_gaps(points, x)), y.at(CHANCE_AUC), guess,
    )  # fmt: skip


def _taken(chance: float, guess: Spot, lines: Sequence[Reference], level: Level | None) -> list[Box]:
    """What no label should cover, beside the crosses."""
    taken = [Box(FRAME.left, chance - 1, FRAME.right, chance + 1), label_box(guess, GUESSING)]
    taken += [label_box((r.label_x, r.label_y, r.anchor), r.label) for r in lines]
    taken += [Box(r.x - 1, FRAME.top, r.x + 1, FRAME.bottom) for r in lines]
    if level is not None:
        taken += [Box(FRAME.left, level.y - 1, FRAME.right, level.y + 1), label_box(level.label, CLASS_MEANS)]
    return taken


def _paths(points: Sequence[Point], x: Scale, y: Scale) -> Iterator[Path]:
    """The points of each arm with the defence, joined in the order in which they come."""
    for arm in unique(p.arm for p in points):
        own = _stretches([p for p in points if p.arm == arm], x, y)
        if own:
            yield Path(arm, "".join("M" + "L".join(f"{px:g},{py:g}" for px, py in s) for s in own))


def _stretches(points: Sequence[Point], x: Scale, y: Scale) -> list[list[tuple[float, float]]]:
    """Pixels of neighbouring points of one arm with the defence, two and more together."""
    defended = [p for p in points if p.value != UNDEFENDED]
    runs = [list(run) for gap, run in groupby(defended, is_gap) if not gap]
    return [
        [(x.at(_value(p.accuracy)), y.at(_value(p.leakage))) for p in run] for run in runs if len(run) > 1
    ]


def _along(points: Sequence[Point], x: Scale, y: Scale) -> Iterator[Box]:
    """Small boxes along the lines, for labels to keep off."""
    for arm in unique(p.arm for p in points):
        for stretch in _stretches([p for p in points if p.arm == arm], x, y):
            for (ax, ay), (bx, by) in pairwise(stretch):
                steps = max(1, round(math.dist((ax, ay), (bx, by)) / BEAD))
                for i in range(steps + 1):
                    px, py = ax + (bx - ax) * i / steps, ay + (by - ay) * i / steps
                    yield Box(px - BEAD / 2, py - BEAD / 2, px + BEAD / 2, py + BEAD / 2)


def _gaps(points: Sequence[Point], x: Scale) -> Iterator[Gap]:
    for p in (p for p in points if is_gap(p)):
        known = p.accuracy is not None and p.accuracy.value is not None
        yield Gap(p.arm, x.at(_value(p.accuracy)) if known else None, p.value, p.reason)


def _cross(accuracy: Estimate | None, leakage: Estimate | None, x: Scale, y: Scale) -> Cross:
    """Where two estimates meet; a bound that is not known reaches the end of its axis."""
    (x0, x1), (y0, y1) = _ends(accuracy, x), _ends(leakage, y)
    return x.at(_value(accuracy)), y.at(_value(leakage)), x0, x1, y0, y1


def _ends(estimate: Estimate | None, scale: Scale) -> tuple[float, float]:
    lower, upper = (None, None) if estimate is None else (estimate.lower, estimate.upper)
    return (
        scale.start if lower is None else scale.at(lower),
        scale.end if upper is None else scale.at(upper),
    )


def _value(estimate: Estimate | None) -> float:
    return 0.0 if estimate is None or estimate.value is None else estimate.value


def _level(leakage: Estimate, y: Scale) -> Level:
    at, (y0, y1) = y.at(_value(leakage)), _ends(leakage, y)
    return Level(at, y0, y1, (FRAME.left + 3, round(at - 4, 1), "start"))


def _line(row: Yardstick, index: int, x: Scale, names: dict[str, str]) -> Reference:
    """A baseline that this observer learns nothing from: a line at its accuracy, labelled at the top."""
    at, label = x.at(_value(row.accuracy)), shorten(names[row.arm], 32)
    right = at > (FRAME.left + FRAME.right) / 2
    spot: Spot = (at - 5 if right else at + 5, FRAME.top + 9 + 14 * index, "end" if right else "start")
    return Reference(row.arm, at, label, *spot)
