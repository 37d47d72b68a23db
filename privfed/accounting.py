"""Accountants: the epsilon that privacy events add up to, and the noise that an epsilon asks for.

An event (dp_accounting) says what a mechanism is; an accountant reads it: RDP or PLD of dp_accounting
(privfed.composition). Opacus gives a second opinion, RDP and PRV (privfed.opacus_accountants). All of
them return upper bounds on epsilon.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from functools import lru_cache
from importlib.metadata import version
from typing import TYPE_CHECKING, Literal, get_args

from privfed.claims import Neighbouring
from privfed.composition import Accountant, composed, reading, supports, without_order_warnings
from privfed.dp_events import (
    Trace,
    describe,
    gaussians,
    replaced,
    trace,
    without_amplification,
)
from privfed.opacus_accountants import opacus_epsilons

if TYPE_CHECKING:
    from dp_accounting import DpEvent

__all__ = [
    "Accountant", "Opinion", "Sampling", "calibrate", "delta_at", "describe", "epsilon", "name_of",
    "opinions", "second_opinions", "supports",
]  # fmt: skip

Sampling = Literal["poisson", "shuffled"]

CALIBRATION_TOLERANCE = 1e-4
SMALLEST_NOISE, LARGEST_NOISE = 1e-3, 1e6
READINGS: dict[Sampling, str] = {"poisson": "as sampled", "shuffled": "shuffled (no amplification)"}

_COARSE_CELL = 1e-3
_LARGEST_STEP = 1.25


@dataclass(frozen=True, slots=True)
class Opinion:
    """One accountant's epsilon under one sampling assumption.

    Attributes:
        accountant: library, version and method.
        sampling: "poisson" if the steps are read as the events say, "shuffled" if no step's sampling
            is counted on.
        epsilon: in nats; infinity where there is no bound.
    """

    accountant: str
    sampling: Sampling
    epsilon: float


def epsilon(
    events: Iterable[DpEvent | None],
    delta: float,
    accountant: Accountant = "pld",
    neighbouring: Neighbouring = "add_or_remove_one",
) -> float:
    """Epsilon (nats) at `delta` of all `events` on the same data, in any order.

    Args:
        events: what ran; infinity if one of them is None.
        delta: failure probability, in (0, 1).
        accountant: "rdp" or "pld" of dp_accounting; PLD is tighter and slower.
        neighbouring: how neighbouring data sets differ. A Gaussian event's noise is relative to the
            bound on one record's share of a sum, so replacing a record costs as much as half the
            noise would under add-or-remove-one.

    PLD keeps losses in cells of 1e-4 nats, wider ones where they reach far, which is looser by less than
    a thousandth and still an upper bound; where one step loses more than 5e4 nats, or all together
    more than 1e6, the bound is RDP's. Gaussians of less noise than 1e-6, and what no number comes of,
    cost infinity.
    """
    _require_delta(delta)
    _require_accountant(accountant)
    listed = tuple(events)
    return math.inf if None in listed else _epsilon(trace(listed), delta, accountant, neighbouring)


def delta_at(
    events: Iterable[DpEvent | None],
    at: float,
    accountant: Accountant = "pld",
    neighbouring: Neighbouring = "add_or_remove_one",
) -> float:
    """The privacy profile: an upper bound on delta at epsilon `at` (nats, >= 0).

    It is `epsilon` read the other way round; 1 if an event is None or its noise is next to none.
    """
    _require_accountant(accountant)
    if not at >= 0:
        raise ValueError(f"expected epsilon >= 0, got epsilon={at}")
    listed = tuple(events)
    return 1.0 if None in listed else _delta(trace(listed), at, accountant, neighbouring)


def calibrate(
    event_of: Callable[[float], DpEvent],
    target: float,
    delta: float,
    accountant: Accountant = "pld",
    neighbouring: Neighbouring = "add_or_remove_one",
) -> float:
    """The smallest noise at which `event_of(noise)` costs at most `target` epsilon at `delta`.

    More noise must never cost more. The result is within 1e-4 of the optimum of that accountant and never
    on the wrong side of it. PLD is slow where the noise is far too small, so it starts from noise that
    is enough for RDP, at most twice too much, and looks in wide cells before it does in narrow ones.

    Raises:
        ValueError: also where delta alone covers every use of a record, so that no noise is needed and
            the promise would be empty, or where an epsilon asks for noise outside [1e-3, 1e6].
    """
    _require_delta(delta)
    _require_accountant(accountant)
    if not (math.isfinite(target) and target > 0):
        raise ValueError(f"expected a finite epsilon > 0, got epsilon={target}")
    if delta >= (chance := _chance_of_use(event_of(1.0))):
        raise ValueError(
            f"expected delta below {chance:.3g}, the chance that a record is used at all, got delta={delta:g}"
        )
    search = _Search(event_of, target, delta, neighbouring)
    if accountant == "rdp":
        return search.run("rdp", 1.0, 2.0)
    # RDP reads no sampling where records are replaced, but half the noise is near enough to start from.
    # The orders that it tries cannot show an epsilon much below .02, whatever the noise.
    replacing = neighbouring == "replace_one"
    halved: Callable[[float], DpEvent] = (lambda noise: replaced(event_of(noise))) if replacing else event_of
    _, start = _Search(halved, max(target, 0.05), delta, "add_or_remove_one").ends("rdp", 1.0, 2.0)
    found = search.run("pld", start, _LARGEST_STEP, _COARSE_CELL, CALIBRATION_TOLERANCE / 5)
    if search.near(found, CALIBRATION_TOLERANCE * 0.8):
        return found
    return search.run("pld", found, 1.002)


def opinions(
    events: Iterable[DpEvent | None], delta: float, neighbouring: Neighbouring = "add_or_remove_one"
) -> tuple[Opinion, ...]:
    """Epsilon of the same events by every accountant that can read them, under each sampling assumption.

    The Poisson reading is what the events say. The shuffled reading is what holds if records were
    dealt out in fixed batches instead: no amplification, each record in ceil(rate x steps) steps
    of each event. Left out are RDP where records are replaced in Poisson samples or PLD where the number
    of runs is random, which have no such analysis; Opacus for what is not (Poisson-sampled) Gaussians;
    and PRV where its grid, which does not widen, would not fit in memory. None at all if an event is None.
    """
    _require_delta(delta)
    listed = tuple(events)
    if not listed or None in listed:
        return ()
    known = [event for event in listed if event is not None]
    found: list[Opinion] = []
    for sampling in get_args(Sampling):
        read = known if sampling == "poisson" else [without_amplification(event) for event in known]
        for accountant in get_args(Accountant):
            if supports(read, accountant, neighbouring):
                value = epsilon(read, delta, accountant, neighbouring)
                found.append(Opinion(name_of(accountant), sampling, value))
        if not math.isinf(found[0].epsilon if found else math.inf):
            others = opacus_epsilons(_steps(read, neighbouring), delta)
            found += [Opinion(name, sampling, value) for name, value in others.items()]
    return tuple(found)


def second_opinions(
    events: Iterable[DpEvent | None], delta: float, neighbouring: Neighbouring = "add_or_remove_one"
) -> dict[str, float]:
    """`opinions` by name; empty where one of them finds no bound."""
    found = opinions(events, delta, neighbouring)
    if not all(math.isfinite(o.epsilon) for o in found):
        return {}
    return {f"{o.accountant}, {READINGS[o.sampling]}": o.epsilon for o in found}


def name_of(accountant: Accountant) -> str:
    """Library, version and method, as a claim names its accountant."""
    return f"dp-accounting {version('dp-accounting')} {accountant.upper()}"


@lru_cache(maxsize=1024)
def _epsilon(
    events: Trace, delta: float, accountant: Accountant, neighbouring: Neighbouring, cell: float = 0.0
) -> float:
    spent = composed(events, accountant, neighbouring, cell)
    with without_order_warnings():
        value = math.inf if spent is None else float(spent.get_epsilon(delta))
    return math.inf if math.isnan(value) else max(0.0, value)


@lru_cache(maxsize=4096)
def _delta(events: Trace, at: float, accountant: Accountant, neighbouring: Neighbouring) -> float:
    spent = composed(events, accountant, neighbouring)
    with without_order_warnings():
        value = 1.0 if spent is None else float(spent.get_delta(at))
    return 1.0 if math.isnan(value) else min(1.0, max(0.0, value))


def _chance_of_use(event: DpEvent) -> float:
    """How likely any step reads a given record; 1 for what is not a (Poisson-sampled) Gaussian."""
    unused = 0.0
    for step in gaussians(event):
        if step is None or step[1] >= 1:
            return 1.0
        unused += step[2] * math.log1p(-step[1])
    return -math.expm1(unused)


def _steps(events: Iterable[DpEvent], neighbouring: Neighbouring) -> list[tuple[float, float, int]] | None:
    """(noise, rate, steps) as Opacus takes them, which knows adding and removing only; None if it cannot."""
    replacing = neighbouring == "replace_one"
    steps = [step for event in events for step in gaussians(replaced(event) if replacing else event)]
    listed = [step for step in steps if step is not None]
    if len(listed) < len(steps) or (replacing and any(rate < 1 for _, rate, _ in listed)):
        return None
    return listed


@dataclass(frozen=True, slots=True)
class _Search:
    """For the noise at which an epsilon is met."""

    event_of: Callable[[float], DpEvent]
    target: float
    delta: float
    neighbouring: Neighbouring

    def near(self, noise: float, slack: float) -> bool:
        """Whether that noise is enough, and less by `slack` is not, in narrow cells."""
        enough = self._cost(noise, "pld", 0.0) <= self.target
        return enough and slack < noise and self._cost(noise - slack, "pld", 0.0) > self.target

    def run(
        self,
        accountant: Accountant,
        start: float,
        factor: float,
        cell: float = 0.0,
        tolerance: float = CALIBRATION_TOLERANCE,
    ) -> float:
        """Brent's method between noises that enclose the target."""
        from dp_accounting import ExplicitBracketInterval, calibrate_dp_mechanism

        ends = self.ends(accountant, start, factor, cell)
        # The least noise reaches furthest, and one width must do for the whole interval.
        how = reading(self.event_of(ends[0]), accountant, self.neighbouring, cell)
        bracket = ExplicitBracketInterval(*ends)
        with without_order_warnings():
            found = calibrate_dp_mechanism(
                how.fresh, lambda noise: how.event(self.event_of(noise)), self.target, self.delta, bracket,
                tol=tolerance,
            )  # fmt: skip
        return float(found)

    def ends(
        self, accountant: Accountant, start: float, factor: float, cell: float = 0.0
    ) -> tuple[float, float]:
        """The last two of start, start x factor, ... that enclose the target; small factors grow."""
        low = high = start
        while self._cost(low, accountant, cell) <= self.target:
            low, high = low / factor, low
            factor = max(factor, min(factor**2, _LARGEST_STEP))
            if low < SMALLEST_NOISE:
                raise ValueError(
                    f"expected an epsilon that asks for noise >= {SMALLEST_NOISE}, got epsilon={self.target}"
                )
        if low < start:
            return low, high
        while self._cost(high, accountant, cell) > self.target:
            low, high = high, high * factor
            factor = max(factor, min(factor**2, _LARGEST_STEP))
            if high > LARGEST_NOISE:
                raise ValueError(
                    f"expected an epsilon that accountant {accountant!r} can show, got epsilon={self.target}"
                )
        return low, high

    def _cost(self, noise: float, accountant: Accountant, cell: float) -> float:
        return _epsilon(trace([self.event_of(noise)]), self.delta, accountant, self.neighbouring, cell)


def _require_accountant(accountant: str) -> None:
    if accountant not in get_args(Accountant):
        raise ValueError(f"expected accountant 'rdp' or 'pld', got accountant={accountant!r}")


def _require_delta(delta: float) -> None:
    if not 0 < delta < 1:
        raise ValueError(f"expected delta in (0, 1), got delta={delta}")
