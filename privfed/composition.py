"""How one event is read by the accountants of dp_accounting, RDP and PLD, within time and memory.

RDP: Mironov, arXiv 1702.07476. PLD: Koskela et al., arXiv 1906.03049; Doroshenko et al., arXiv 2207.04380.
"""

from __future__ import annotations

import logging
import math
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from functools import lru_cache
from typing import TYPE_CHECKING, Any, Literal

from privfed.claims import Neighbouring
from privfed.dp_events import Trace, gaussian_noises, gaussians, replaced, trace, unsampled

if TYPE_CHECKING:
    from dp_accounting import DpEvent

Accountant = Literal["rdp", "pld"]

# PLD keeps the losses of one step, and of all steps together, in cells of one width: this one while both
# reach no further than so many nats, else so wide that there are at most so many cells.
_CELL = 1e-4
_NEAR_OF_STEP, _NEAR = 25.0, 400.0
_CELLS_OF_STEP, _CELLS = 50_000, 1_000_000
_TAIL = 1e-15
_NO_NOISE = 1e-6


@dataclass(frozen=True, slots=True)
class Reading:
    """One accountant of dp_accounting under one relation.

    Attributes:
        accountant: which.
        neighbouring: how neighbouring data sets differ.
        cell: width of PLD's cells in nats; unused by RDP.
        instead: RDP in the place of PLD. It has no analysis of records replaced in Poisson samples, so
            sampling is not counted on there.
    """

    accountant: Accountant
    neighbouring: Neighbouring
    cell: float = _CELL
    instead: bool = False

    def fresh(self) -> Any:
        """An accountant that has seen nothing."""
        from dp_accounting import NeighboringRelation
        from dp_accounting.pld import PLDAccountant
        from dp_accounting.rdp import RdpAccountant

        relation = NeighboringRelation[self.neighbouring.upper()]
        if self.accountant == "rdp":
            return RdpAccountant(neighboring_relation=relation)
        return PLDAccountant(relation, self.cell)

    def event(self, event: DpEvent) -> DpEvent:
        """The event as this accountant means it.

        RDP takes a noise as relative to what replacing a record moves, PLD to one record's share.
        """
        if (self.accountant, self.neighbouring) != ("rdp", "replace_one"):
            return event
        return replaced(unsampled(event) if self.instead else event)


def reading(
    event: DpEvent, accountant: Accountant, neighbouring: Neighbouring, cell: float = _CELL
) -> Reading:
    """How to read `event` in cells of at least `cell` nats; RDP where cells would be wider than a nat.

    Cells of more than a nat say less than RDP does.
    """
    if accountant == "rdp":
        return Reading("rdp", neighbouring)
    width = max(cell, _cell(event, neighbouring))
    return Reading("rdp", neighbouring, instead=True) if width > 1 else Reading("pld", neighbouring, width)


@lru_cache(maxsize=4)
def composed(events: Trace, accountant: Accountant, neighbouring: Neighbouring, cell: float = _CELL) -> Any:
    """The accountant after all events; None where their noise is next to none.

    Raises:
        ValueError: for an event that the accountant has no analysis of.
    """
    from dp_accounting import UnsupportedEventError

    # Under less noise the accountants' own arithmetic overflows, and RDP then answers 0.
    if any(noise < _NO_NOISE for noise in gaussian_noises(events.event)):
        return None
    try:
        with without_order_warnings():
            how = reading(events.event, accountant, neighbouring, cell)
            return how.fresh().compose(how.event(events.event))
    except UnsupportedEventError as error:
        raise ValueError(
            f"expected events that accountant {accountant!r} supports under {neighbouring}, got {events.key}"
        ) from error


def supports(events: Iterable[DpEvent], accountant: Accountant, neighbouring: Neighbouring) -> bool:
    """Whether that accountant has an analysis of all events under that relation."""
    return bool(Reading(accountant, neighbouring).fresh().supports(trace(events).event))


def _cell(event: DpEvent, neighbouring: Neighbouring) -> float:
    """Width of PLD's cells, in nats: wider where losses reach so far that time or memory would run out.

    One Gaussian step of noise s loses at most 1/(2 s^2) + 10/s, but for a tail below PLD's own truncation,
    and equal steps without sampling are one step to PLD. All steps together lose at most what RDP says
    at a failure probability next to nothing.
    """
    from dp_accounting import UnsupportedEventError

    # The reach is wanted, not a bound: sampled records may be replaced as if one came and went.
    near = replaced(event) if neighbouring == "replace_one" else event
    furthest = max((10 / s + 0.5 / s**2 for s in _at_once(near)), default=0.0)
    try:
        with without_order_warnings():
            together = float(Reading("rdp", "add_or_remove_one").fresh().compose(near).get_epsilon(_TAIL))
    except UnsupportedEventError:
        together = 0.0
    if furthest <= _NEAR_OF_STEP and together <= _NEAR:
        return _CELL
    return max(_CELL, furthest / _CELLS_OF_STEP, together / _CELLS)


def _at_once(event: DpEvent) -> list[float]:
    known = [step for step in gaussians(event) if step is not None]
    return [noise / math.sqrt(times) if rate >= 1 else noise for noise, rate, times in known]


@contextmanager
def without_order_warnings() -> Iterator[None]:
    """Hides two messages an RDP order.

    One that fails to converge is left out, which is safe; one that comes out below nothing by rounding is
    next to nothing.
    """

    def keep(record: logging.LogRecord) -> bool:
        told = record.getMessage()
        return "_compute_log_a_frac" not in told and "Negative Renyi divergence" not in told

    logger = logging.getLogger("absl")
    logger.addFilter(keep)
    try:
        yield
    finally:
        logger.removeFilter(keep)
