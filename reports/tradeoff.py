"""Leakage against accuracy: one panel per setting and observer, all on the same axes."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from reports.axes import CHANCE_AUC, FRAME, Box, Panel, Scale, numbers
from reports.findings import arm_order, setting_order, titles, unique
from reports.labels import Cross, Spot, drawn, label_box, overlap, place_labels
from reports.record import PERSONALISED, Record, TradeOff, Utility
from reports.text import shorten

GUESSING = "guessing"
MOST_NAMES = 6
"""Arms whose names fit into one panel."""


@dataclass(frozen=True, slots=True)
class Mark:
    """An arm as a cross of two intervals, and where its label stands."""

    arm: str
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
class Reference:
    """A baseline that this observer learns nothing from: a line at its accuracy, labelled at the top."""

    arm: str
    x: float
    label: str
    label_x: float
    label_y: float
    anchor: str


@dataclass(frozen=True, slots=True)
class TradeOffPanel(Panel):
    """Leakage against accuracy under one observer; `chance` is the pixel of AUC 0.5 and `guess` its label."""

    marks: tuple[Mark, ...]
    references: tuple[Reference, ...]
    chance: float
    guess: Spot


def trade_off(record: Record) -> tuple[tuple[str, tuple[TradeOffPanel, ...]], ...]:
    """Panels for each setting, one per observer; leakage has one axis on the page, accuracy one a setting."""
    rows = [t for t in record.tradeoff if t.accuracy.value is not None and t.leakage.value is not None]
    if not rows:
        return ()
    y = padded([v for t in rows for v in (*numbers(t.leakage), CHANCE_AUC)], FRAME.bottom, FRAME.top)
    names = {i: name.split(" (")[0] for i, name in titles(record).items()}
    settings = [s for s in setting_order(record) if any(t.setting == s for t in rows)]
    return tuple(
        (s, _panels([t for t in rows if t.setting == s], record, y, _labels(record, s, names)))
        for s in settings
    )


def numbered(panels: Sequence[TradeOffPanel]) -> tuple[tuple[str, str], ...]:
    """Number and arm where marks are too many to carry names; empty where they carry them."""
    found = {m.label: m.arm for p in panels for m in p.marks if m.label.isdigit()}
    return tuple(sorted(found.items(), key=lambda pair: int(pair[0])))


def _labels(record: Record, setting: str, names: dict[str, str]) -> dict[str, str]:
    """Names of the arms, or numbers in their order where a panel would be full of names."""
    drawn = [a for a in arm_order(record) if any((t.setting, t.arm) == (setting, a) for t in record.tradeoff)]
    if len(drawn) <= MOST_NAMES:
        return names
    return names | {arm: str(i) for i, arm in enumerate(drawn, start=1)}


def _panels(
    rows: Sequence[TradeOff], record: Record, y: Scale, names: dict[str, str]
) -> tuple[TradeOffPanel, ...]:
    lines = _reference_rows(record, rows[0].setting)
    reach = [v for e in (*(t.accuracy for t in rows), *(u.estimate for u in lines)) for v in numbers(e)]
    x = padded(reach, FRAME.left, FRAME.right)
    observers = unique(t.observer for t in rows)
    return tuple(_panel([t for t in rows if t.observer == o], lines, x, y, names) for o in observers)


def _reference_rows(record: Record, setting: str) -> list[Utility]:
    """The best shared model of each baseline arm that nobody could attack: it has no leakage to draw."""
    attacked = {t.arm for t in record.tradeoff if t.setting == setting}
    best: dict[str, Utility] = {}
    for row in record.utility:
        baseline = any(a.id == row.arm and a.role == "baseline" for a in record.arms)
        baseline = baseline and row.model != PERSONALISED
        if baseline and row.setting == setting and row.arm not in attacked and row.estimate.value is not None:
            best[row.arm] = max(best.get(row.arm, row), row, key=lambda u: u.estimate.value or 0.0)
    return [best[arm] for arm in arm_order(record) if arm in best]


def padded(values: Sequence[float], start: float, end: float) -> Scale:
    """A scale over shares between 0 and 1, with room at both ends."""
    low, high = min(values), max(values)
    room = max(0.08 * (high - low), 0.02)
    return Scale(max(0.0, low - room), min(1.02, high + room), start, end)


def _panel(
    rows: Sequence[TradeOff], lines: Sequence[Utility], x: Scale, y: Scale, names: dict[str, str]
) -> TradeOffPanel:
    references = tuple(_reference(u, i, x, names) for i, u in enumerate(lines))
    crosses = [_cross(t, x, y) for t in rows]
    guess = guess_spot(y.at(CHANCE_AUC), crosses)
    taken = [
        Box(FRAME.left, y.at(CHANCE_AUC) - 1, FRAME.right, y.at(CHANCE_AUC) + 1),
        label_box(guess, GUESSING),
    ]
    taken += [label_box((r.label_x, r.label_y, r.anchor), r.label) for r in references]
    taken += [Box(r.x - 1, FRAME.top, r.x + 1, FRAME.bottom) for r in references]
    labels = [shorten(names[t.arm]) for t in rows]
    spots = place_labels(crosses, labels, FRAME, taken)
    marks = tuple(
        Mark(t.arm, *cross, label, *spot)
        for t, cross, label, spot in zip(rows, crosses, labels, spots, strict=True)
    )
    title, chance = rows[0].observer, y.at(CHANCE_AUC)
    return TradeOffPanel(FRAME, title, x.ticks(7), y.ticks(6), marks, references, chance, guess)


def guess_spot(chance: float, crosses: Sequence[Cross]) -> Spot:
    """Below the line of chance, at the side where it covers less."""
    sides: tuple[Spot, Spot] = (
        (FRAME.right - 2, chance + 13, "end"),
        (FRAME.left + 3, chance + 13, "start"),
    )
    marks = [box for cross in crosses for box in drawn(cross)]
    return min(sides, key=lambda spot: sum(overlap(label_box(spot, GUESSING), box) for box in marks))


def _reference(row: Utility, index: int, x: Scale, names: dict[str, str]) -> Reference:
    at = x.at(row.estimate.value or 0.0)
    label = shorten(names.get(row.arm, row.arm), 32)
    right = at > (FRAME.left + FRAME.right) / 2
    spot: Spot = (at - 5 if right else at + 5, FRAME.top + 9 + 14 * index, "end" if right else "start")
    return Reference(row.arm, at, label, *spot)


def _cross(row: TradeOff, x: Scale, y: Scale) -> Cross:
    px, py = x.at(row.accuracy.value or 0.0), y.at(row.leakage.value or 0.0)
    x0, x1 = (px if v is None else x.at(v) for v in (row.accuracy.lower, row.accuracy.upper))
    y0, y1 = (py if v is None else y.at(v) for v in (row.leakage.lower, row.leakage.upper))
    return px, py, x0, x1, y0, y1
