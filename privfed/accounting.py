"""Accountants: the epsilon that privacy events add up to, and the noise that an epsilon asks for.

An event (dp_accounting) says what a mechanism is; an accountant reads it: RDP (Mironov, arXiv
1702.07476) or PLD (Koskela et al., arXiv 1906.03049; Doroshenko et al., arXiv 2207.04380), both of
dp_accounting. Opacus gives a second opinion, RDP and PRV (Gopi et al., arXiv 2106.02848, Algorithm
1). All of them return upper bounds on epsilon.
"""

from __future__ import annotations

import logging
import math
import warnings
from collections import Counter
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from functools import lru_cache, partial
from importlib.metadata import version
from typing import TYPE_CHECKING, Any, Literal, get_args

from privfed.claims import Neighbouring

if TYPE_CHECKING:
    from dp_accounting import DpEvent

Accountant = Literal["rdp", "pld"]

CALIBRATION_TOLERANCE = 1e-4
SMALLEST_NOISE, LARGEST_NOISE = 1e-3, 1e6

# PLD keeps the losses of one step, and of all steps together, in cells of one width: this one while both
# reach no further than so many nats, else so wide that there are at most so many cells.
_CELL = 1e-4
_NEAR_OF_STEP, _NEAR = 25.0, 400.0
_CELLS_OF_STEP, _CELLS = 50_000, 1_000_000
_TAIL = 1e-15
_NO_NOISE = 1e-6


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
    if accountant not in get_args(Accountant):
        raise ValueError(f"expected accountant 'rdp' or 'pld', got accountant={accountant!r}")
    listed = tuple(events)
    return math.inf if None in listed else _epsilon(_trace(listed), delta, accountant, neighbouring)


def calibrate(
    event_of: Callable[[float], DpEvent], target: float, delta: float, accountant: Accountant = "pld"
) -> float:
    """The smallest noise at which `event_of(noise)` costs at most `target` epsilon at `delta`.

    Add-or-remove-one neighbours; more noise must never cost more. The result is within 1e-4 of the
    optimum of that accountant and never on the wrong side of it. PLD starts from the noise that RDP
    asks for, a tenth or so too much, because PLD is slow where the noise is far too small.

    Raises:
        ValueError: also where delta alone covers every use of a record, so that no noise is needed and
            the promise would be empty, or where an epsilon asks for noise outside [1e-3, 1e6].
    """
    _require_delta(delta)
    if not (math.isfinite(target) and target > 0):
        raise ValueError(f"expected a finite epsilon > 0, got epsilon={target}")
    if delta >= (chance := _chance_of_use(event_of(1.0))):
        raise ValueError(
            f"expected delta below {chance:.3g}, the chance that a record is used at all, got delta={delta:g}"
        )
    if accountant == "rdp":
        return _search(event_of, target, delta, "rdp", 1.0, 2.0)
    # The orders that RDP tries cannot show an epsilon much below .02, whatever the noise.
    start = _search(event_of, max(target, 0.05), delta, "rdp", 1.0, 2.0)
    return _search(event_of, target, delta, "pld", start, 1.25)


def second_opinions(events: Iterable[DpEvent | None], delta: float) -> dict[str, float]:
    """Epsilon of the same events by other accountants and sampling assumptions, by name.

    The Poisson reading is what the events say. The shuffled reading is what holds if records were
    dealt out in fixed batches instead: no amplification, each record in ceil(rate x steps) steps
    of each event. Empty when an event is None or adds no noise to speak of; the Opacus entries are left
    out for traces that are not (Poisson-sampled) Gaussians, the only mechanism Opacus accounts for, and
    PRV where losses reach so far that its grid would not fit in memory.
    """
    listed = tuple(events)
    if not listed or None in listed:
        return {}
    found = {f"{name_of(a)}, as sampled": epsilon(listed, delta, a) for a in get_args(Accountant)}
    if not all(map(math.isfinite, found.values())):
        return {}
    steps = [step for event in listed for step in _gaussians(event)]
    if None in steps:
        return found
    shuffled = [_full_gaussian(step) for step in steps if step is not None]
    # PRV's grid does not widen: where losses reach this far it would fill the memory.
    far = _cell(_trace(listed).event, "add_or_remove_one") > _CELL
    found |= _opacus([step for step in steps if step is not None], delta, far)
    return found | {f"{name_of('pld')}, shuffled (no amplification)": epsilon(shuffled, delta)}


def describe(events: Iterable[DpEvent]) -> str:
    """The events in words, equal ones counted."""
    counted = Counter(_words(event) for event in events)
    return "; ".join(f"{n} x ({words})" if n > 1 else words for words, n in counted.items())


def name_of(accountant: Accountant) -> str:
    """Library, version and method, as a claim names its accountant."""
    return f"dp-accounting {version('dp-accounting')} {accountant.upper()}"


@dataclass(frozen=True, slots=True)
class _Trace:
    """A composition that equals another by its key: events hold lists and cannot be hashed."""

    key: str
    event: Any = field(compare=False)


def _trace(events: tuple[DpEvent, ...]) -> _Trace:
    from dp_accounting import ComposedDpEvent, SelfComposedDpEvent

    counts = Counter(repr(event) for event in events)
    kinds = {repr(event): event for event in events}
    parts = [SelfComposedDpEvent(kinds[key], counts[key]) for key in sorted(kinds)]
    return _Trace(repr(parts), ComposedDpEvent(parts))


@lru_cache(maxsize=1024)
def _epsilon(trace: _Trace, delta: float, accountant: Accountant, neighbouring: Neighbouring) -> float:
    from dp_accounting import UnsupportedEventError

    try:
        with _without_order_warnings():
            return _read(trace.event, delta, accountant, neighbouring)
    except UnsupportedEventError as error:
        raise ValueError(
            f"expected events that accountant {accountant!r} supports under {neighbouring}, got {trace.key}"
        ) from error


def _read(event: DpEvent, delta: float, accountant: Accountant, neighbouring: Neighbouring) -> float:
    # Under less noise the accountants' own arithmetic overflows, and RDP then answers 0.
    if any(step is not None and step[0] < _NO_NOISE for step in _gaussians(event)):
        return math.inf
    cell = _cell(event, neighbouring) if accountant == "pld" else None
    # Cells of more than a nat say less than RDP does.
    fresh = _accountant("rdp" if cell is not None and cell > 1 else accountant, neighbouring, cell)
    value = float(fresh.compose(event).get_epsilon(delta))
    return math.inf if math.isnan(value) else max(0.0, value)


def _cell(event: DpEvent, neighbouring: Neighbouring) -> float:
    """Width of PLD's cells, in nats: wider where losses reach so far that time or memory would run out.

    One Gaussian step of noise s loses at most 1/(2 s^2) + 10/s, but for a tail below PLD's own truncation;
    all steps together lose at most what RDP says at a failure probability next to nothing.
    """
    from dp_accounting import UnsupportedEventError

    half = 0.5 if neighbouring == "replace_one" else 1.0
    noises = [half * step[0] for step in _gaussians(event) if step is not None]
    furthest = max((10 / s + 0.5 / s**2 for s in noises), default=0.0)
    try:
        together = float(_accountant("rdp", neighbouring).compose(event).get_epsilon(_TAIL))
    except UnsupportedEventError:
        together = 0.0
    if furthest <= _NEAR_OF_STEP and together <= _NEAR:
        return _CELL
    return max(_CELL, furthest / _CELLS_OF_STEP, together / _CELLS)


def _chance_of_use(event: DpEvent) -> float:
    """How likely any step reads a given record; 1 for what is not a (Poisson-sampled) Gaussian."""
    unused = 0.0
    for step in _gaussians(event):
        if step is None or step[1] >= 1:
            return 1.0
        unused += step[2] * math.log1p(-step[1])
    return -math.expm1(unused)


def _accountant(
    name: Accountant, neighbouring: Neighbouring = "add_or_remove_one", cell: float | None = None
) -> Any:
    from dp_accounting import NeighboringRelation
    from dp_accounting.pld import PLDAccountant
    from dp_accounting.rdp import RdpAccountant

    relation = NeighboringRelation[neighbouring.upper()]
    if name == "rdp":
        return RdpAccountant(neighboring_relation=relation)
    return PLDAccountant(relation, _CELL if cell is None else cell)


def _search(
    event_of: Callable[[float], DpEvent],
    target: float,
    delta: float,
    accountant: Accountant,
    start: float,
    factor: float,
) -> float:
    """Brent's method between the last two of start, start x factor, ... that enclose the target."""
    from dp_accounting import ExplicitBracketInterval, calibrate_dp_mechanism

    low = high = start
    while epsilon([event_of(low)], delta, accountant) <= target:
        low /= factor
        if low < SMALLEST_NOISE:
            raise ValueError(
                f"expected an epsilon that asks for noise >= {SMALLEST_NOISE}, got epsilon={target}"
            )
    while epsilon([event_of(high)], delta, accountant) > target:
        high *= factor
        if high > LARGEST_NOISE:
            raise ValueError(
                f"expected an epsilon that accountant {accountant!r} can show, got epsilon={target}"
            )
    ends = (low, low * factor) if low < start else (high / factor, high)
    fresh, bracket = partial(_accountant, accountant), ExplicitBracketInterval(*ends)
    with _without_order_warnings():
        found = calibrate_dp_mechanism(fresh, event_of, target, delta, bracket, tol=CALIBRATION_TOLERANCE)
    return float(found)


def _opacus(steps: list[tuple[float, float, int]], delta: float, far: bool) -> dict[str, float]:
    from opacus.accountants import PRVAccountant, RDPAccountant

    counts: Counter[tuple[float, float]] = Counter()
    for noise, rate, times in steps:
        counts[noise, rate] += times
    found = {}
    history = [(*step, times) for step, times in counts.items()]
    for name, kind in (("RDP", RDPAccountant), ("PRV", PRVAccountant)):
        if name == "PRV" and far:
            continue
        accountant = kind()
        accountant.history = history
        with warnings.catch_warnings():
            # Opacus warns of log(0) at rate 1 and of its range of orders; the bounds hold all the same.
            warnings.simplefilter("ignore")
            value = float(accountant.get_epsilon(delta))
        found[f"opacus {version('opacus')} {name}, as sampled"] = value
    return found


def _gaussians(event: DpEvent, times: int = 1) -> list[tuple[float, float, int] | None]:
    """(noise multiplier, sampling rate, steps) of every part; None for any other mechanism."""
    import dp_accounting as dp

    match event:
        case dp.SelfComposedDpEvent():
            return _gaussians(event.event, times * event.count)
        case dp.ComposedDpEvent():
            return [step for part in event.events for step in _gaussians(part, times)]
        case dp.PoissonSampledDpEvent(event=dp.GaussianDpEvent() as inner):
            return [(inner.noise_multiplier, event.sampling_probability, times)]
        case dp.GaussianDpEvent():
            return [(event.noise_multiplier, 1.0, times)]
        case _:
            return [None]


def _full_gaussian(step: tuple[float, float, int]) -> DpEvent:
    from dp_accounting import GaussianDpEvent, SelfComposedDpEvent

    noise, rate, steps = step
    # Rounded first: 0.07 x 100 is a little above 7 in floating point.
    return SelfComposedDpEvent(GaussianDpEvent(noise), math.ceil(round(rate * steps, 9)))


def _words(event: DpEvent) -> str:
    import dp_accounting as dp

    match event:
        case dp.SelfComposedDpEvent():
            return f"{event.count} steps of {_words(event.event)}"
        case dp.ComposedDpEvent():
            return describe(event.events)
        case dp.PoissonSampledDpEvent():
            return f"Poisson-sampled (rate {event.sampling_probability:g}) {_words(event.event)}"
        case dp.GaussianDpEvent():
            return f"Gaussian (noise multiplier {event.noise_multiplier:g})"
        case _:
            return repr(event)


def _require_delta(delta: float) -> None:
    if not 0 < delta < 1:
        raise ValueError(f"expected delta in (0, 1), got delta={delta}")


@contextmanager
def _without_order_warnings() -> Iterator[None]:
    """Hides one message an RDP order: an order that fails to converge is left out, which is safe."""

    def keep(record: logging.LogRecord) -> bool:
        return "_compute_log_a_frac" not in record.getMessage()

    logger = logging.getLogger("absl")
    logger.addFilter(keep)
    try:
        yield
    finally:
        logger.removeFilter(keep)
