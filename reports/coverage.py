"""What was tested and what was not: attack by observer at a glance, and each arm in full."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from reports.findings import arm_order, auc, roles, setting_order, unique
from reports.record import Cell, Record

Place = tuple[str, str]
"""An observer and the artefact it reads."""
GAPS = ("not tested", "not applicable")


@dataclass(frozen=True, slots=True)
class Spot:
    """One attack at one place over the audited arms (over all arms where none is audited).

    Attributes:
        worst: the cell with the highest AUC of those that ran.
        ran: number of arms on which it ran.
        errors: cells that crashed.
        others: cells that did not run, for their status and reason; what nobody tried comes first.
    """

    worst: Cell | None
    ran: int
    errors: tuple[Cell, ...]
    others: tuple[Cell, ...]


@dataclass(frozen=True, slots=True)
class Line:
    """One attack at every place; `gap` holds the reason if it ran nowhere at all."""

    attack: str
    baseline: bool
    spots: tuple[Spot, ...]
    gap: str | None


@dataclass(frozen=True, slots=True)
class Coverage:
    """One setting: the matrix of attack by place, and the cells of each arm."""

    setting: str
    places: tuple[Place, ...]
    lines: tuple[Line, ...]
    arms: tuple[tuple[str, tuple[Cell, ...]], ...]
    audited: int


def coverage(record: Record) -> tuple[Coverage, ...]:
    """The coverage of each setting that has cells."""
    present = {cell.setting for cell in record.cells}
    return tuple(_coverage(record, s) for s in setting_order(record) if s in present)


def _coverage(record: Record, setting: str) -> Coverage:
    cells = [c for c in record.cells if c.setting == setting]
    by_arm = roles(record)
    audited = [c for c in cells if by_arm.get(c.arm) == "audited"] or cells
    places = unique((c.observer, c.artefact) for c in cells)
    lines = [_line(attack, audited, places) for attack in unique(c.attack for c in audited)]
    arms = ((arm, tuple(c for c in cells if c.arm == arm)) for arm in arm_order(record))
    return Coverage(
        setting,
        places,
        tuple(sorted(lines, key=lambda line: (line.gap is not None, line.baseline))),
        tuple((arm, found) for arm, found in arms if found),
        len({c.arm for c in audited}),
    )


def _line(attack: str, cells: Sequence[Cell], places: Sequence[Place]) -> Line:
    here = [c for c in cells if c.attack == attack]
    spots = tuple(_spot([c for c in here if (c.observer, c.artefact) == place]) for place in places)
    tried = any(c.status in ("run", "error") for c in here)
    reasons = ", ".join(unique(f"{c.status}: {c.reason}" if c.reason else c.status for c in here))
    return Line(attack, all(c.baseline for c in here), spots, None if tried else reasons)


def _spot(cells: Sequence[Cell]) -> Spot:
    ran = [c for c in cells if c.status == "run"]
    return Spot(
        worst=max(ran, key=auc, default=None),
        ran=len({c.arm for c in ran}),
        errors=tuple(c for c in cells if c.status == "error"),
        others=tuple(sorted((c for c in cells if c.status in GAPS), key=lambda c: GAPS.index(c.status))),
    )


def summary(cells: Sequence[Cell]) -> str:
    """One line on the cells of an arm: how many ran, and the strongest attack.

    >>> summary(())
    '0 of 0 ran'
    """
    ran = [c for c in cells if c.status == "run" and not c.baseline and auc(c) >= 0]
    text = f"{sum(c.status == 'run' for c in cells)} of {len(cells)} ran"
    if errors := sum(c.status == "error" for c in cells):
        text += f", {errors} stopped with an error"
    worst = max(ran, key=auc, default=None)
    return (
        text if worst is None else f"{text}; highest AUC {auc(worst):.3f} ({worst.attack}, {worst.observer})"
    )
