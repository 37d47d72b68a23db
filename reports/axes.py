"""Scales, ticks and colours that all charts share. Pixels grow downwards."""

from __future__ import annotations

import math
from dataclasses import dataclass

from reports.record import Estimate
from reports.text import plain

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
class Box:
    """A rectangle in pixels."""

    left: float
    top: float
    right: float
    bottom: float


FRAME = Box(left=52, top=12, right=388, bottom=262)


@dataclass(frozen=True, slots=True)
class Tick:
    """A position on an axis and what is written there."""

    at: float
    label: str


@dataclass(frozen=True, slots=True)
class Panel:
    """One chart of a row that shares its axes."""

    frame: Box
    title: str
    x_ticks: tuple[Tick, ...]
    y_ticks: tuple[Tick, ...]


@dataclass(frozen=True, slots=True)
class Scale:
    """Maps values to pixels; values outside are drawn at the edge."""

    low: float
    high: float
    start: float
    end: float
    log: bool = False

    def at(self, value: float) -> float:
        """The pixel of a value, to a tenth.

        >>> Scale(0.001, 1.0, start=0, end=300, log=True).at(0.01)
        100.0
        """
        low, high, here = (self._bend(v) for v in (self.low, self.high, value))
        share = min(1.0, max(0.0, (here - low) / (high - low)))
        return round(self.start + share * (self.end - self.start), 1)

    def _bend(self, value: float) -> float:
        return math.log10(max(value, self.low)) if self.log else value

    def ticks(self, count: int = 5) -> tuple[Tick, ...]:
        """Round values inside the scale: powers of ten, or at most `count` steps of 1, 2, 2.5 or 5."""
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


def numbers(estimate: Estimate | None) -> list[float]:
    """The value and bounds of an estimate, as far as they are known."""
    bounds = () if estimate is None else (estimate.value, estimate.lower, estimate.upper)
    return [v for v in bounds if v is not None]
