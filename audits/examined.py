"""What came of one attack that asks for the data themselves, on one arm."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field

from audits.inquiry import Inquiry
from reports.record import Estimate

Measure = Callable[[float], Estimate]
"""Bounds at a level of confidence."""


@dataclass(frozen=True, slots=True)
class Examined:
    """One inquiry on one arm.

    Attributes:
        measure: bounds at any level; None where there was nothing to examine.
        chance: what knowing nothing reaches.
        details: further figures at a level, by name.
        baselines: the same measure of what needs no access, by name.
        work: steps, restarts and queries of all federations.
        asked: federations that were asked.
        crashed: why the attack failed to run, if it did.
    """

    inquiry: Inquiry
    measure: Measure | None = None
    chance: float = 0.5
    details: dict[str, Measure] = field(default_factory=dict, repr=False)
    baselines: dict[str, Measure] = field(default_factory=dict, repr=False)
    work: int = 0
    asked: int = 0
    crashed: str = ""
