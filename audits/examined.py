"""What came of one attack that asks for the data themselves, on one arm."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field

from audits.inquiry import Inquiry
from reports.record import Estimate

Measure = Callable[[float], Estimate]
"""Bounds at a level of confidence."""


@dataclass(frozen=True, slots=True)
class Pointed:
    """Which candidates were pointed at, counted as a claim is held against it.

    Attributes:
        among: candidates that a reconstruction could point at: the longest line-up where every federation
            pointed as often for every client, else all line-ups of a federation together.
        records: candidates of all federations.
        named: as many as could be named once each: the most of any federation, times federations.
        right: members among those named once each, over all federations.
        silent: federations in which nothing was pointed at.
    """

    among: int
    records: int
    named: int
    right: int
    silent: int


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
        pointed: of rebuilt records alone, where there are any.
    """

    inquiry: Inquiry
    measure: Measure | None = None
    chance: float = 0.5
    details: dict[str, Measure] = field(default_factory=dict, repr=False)
    baselines: dict[str, Measure] = field(default_factory=dict, repr=False)
    work: int = 0
    asked: int = 0
    crashed: str = ""
    pointed: Pointed | None = None
