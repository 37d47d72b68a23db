"""Privacy events (dp_accounting) before any accountant reads them: their parts, other readings, words.

An event says what a mechanism is. A Gaussian event's noise is relative to the bound on one record's
share of a sum.
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Literal, get_args

if TYPE_CHECKING:
    from dp_accounting import DpEvent

Stopping = Literal["fixed", "geometric", "poisson"]


@dataclass(frozen=True, slots=True)
class Trace:
    """A composition that equals another by its key: events hold lists and cannot be hashed."""

    key: str
    event: Any = field(compare=False)


def trace(events: Iterable[DpEvent]) -> Trace:
    """All events as one, equal ones counted, in an order of its own."""
    from dp_accounting import ComposedDpEvent, SelfComposedDpEvent

    listed = tuple(events)
    counts = Counter(repr(event) for event in listed)
    kinds = {repr(event): event for event in listed}
    parts = [SelfComposedDpEvent(kinds[key], counts[key]) for key in sorted(kinds)]
    return Trace(repr(parts), ComposedDpEvent(parts))


def tuned(event: DpEvent, runs: float, stopping: Stopping = "fixed") -> DpEvent:
    """The price of running `event` many times and keeping the best, when only the best is shown.

    Args:
        event: one run.
        runs: how many, a whole number; where the number is random, its mean. At least 1.
        stopping: "fixed" composes the runs and holds even if all of them are shown. "geometric" and
            "poisson" hold only if the number was drawn beforehand from that distribution and nothing of
            the other runs is shown; a Poisson number can be 0, and then an answer independent of the
            data is given (Papernot and Steinke, arXiv 2110.03620, Theorems 2 and 6). RDP alone
            accounts for them.
    """
    from dp_accounting import SelfComposedDpEvent
    from dp_accounting.dp_event import RepeatAndSelectDpEvent

    if stopping not in get_args(Stopping):
        raise ValueError(f"expected stopping 'fixed', 'geometric' or 'poisson', got stopping={stopping!r}")
    if not (math.isfinite(runs) and runs >= 1):
        raise ValueError(f"expected finite runs >= 1, got runs={runs}")
    if stopping == "fixed":
        if runs != int(runs):
            raise ValueError(f"expected a whole number of runs, got runs={runs}")
        return SelfComposedDpEvent(event, int(runs))
    return RepeatAndSelectDpEvent(event, runs, 1 if stopping == "geometric" else math.inf)


def gaussians(event: DpEvent, times: int = 1) -> list[tuple[float, float, int] | None]:
    """(noise multiplier, sampling rate, steps) of every part; None for any other mechanism."""
    from dp_accounting import dp_event as dp

    match event:
        case dp.SelfComposedDpEvent():
            return gaussians(event.event, times * event.count)
        case dp.ComposedDpEvent():
            return [step for part in event.events for step in gaussians(part, times)]
        case dp.PoissonSampledDpEvent(event=dp.GaussianDpEvent() as inner):
            return [(inner.noise_multiplier, event.sampling_probability, times)]
        case dp.GaussianDpEvent():
            return [(event.noise_multiplier, 1.0, times)]
        case _:
            return [None]


def gaussian_noises(event: DpEvent) -> Iterator[float]:
    """The noise multiplier of every Gaussian, however deep it lies."""
    from dp_accounting import dp_event as dp

    match event:
        case dp.GaussianDpEvent():
            yield event.noise_multiplier
        case dp.ComposedDpEvent():
            for part in event.events:
                yield from gaussian_noises(part)
        case _ if (inner := getattr(event, "event", None)) is not None:
            yield from gaussian_noises(inner)


def without_amplification(event: DpEvent) -> DpEvent:
    """What holds of Poisson-sampled steps if records were dealt out in fixed batches instead.

    Each record is in ceil(rate x steps) steps of each event, and nothing hides in which.
    """
    from dp_accounting import dp_event as dp

    match event:
        case dp.SelfComposedDpEvent(event=dp.PoissonSampledDpEvent() as sampled):
            # Rounded first: 0.07 x 100 is a little above 7 in floating point.
            uses = math.ceil(round(sampled.sampling_probability * event.count, 9))
            return dp.SelfComposedDpEvent(sampled.event, max(1, uses))
        case dp.PoissonSampledDpEvent():
            return event.event
        case _:
            return _inside(event, without_amplification)


def unsampled(event: DpEvent) -> DpEvent:
    """What every step would cost if it read every record: never less than with sampling.

    Sampling mixes two neighbours that are alike with two that are not, which no attack tells apart better.
    """
    from dp_accounting import dp_event as dp

    return event.event if isinstance(event, dp.PoissonSampledDpEvent) else _inside(event, unsampled)


def replaced(event: DpEvent) -> DpEvent:
    """The event under which adding or removing a record costs what replacing one does under `event`.

    Exact for Gaussians: a replaced record moves a sum by up to twice the bound on its share. Of sampled
    ones it is the reach only: the two records come and go together, which an accountant must know.
    """
    from dp_accounting import dp_event as dp

    match event:
        case dp.GaussianDpEvent():
            return dp.GaussianDpEvent(event.noise_multiplier / 2)
        case dp.LaplaceDpEvent():
            return dp.LaplaceDpEvent(event.noise_multiplier / 2)
        case dp.PoissonSampledDpEvent():
            return dp.PoissonSampledDpEvent(event.sampling_probability, replaced(event.event))
        case _:
            return _inside(event, replaced)


def _inside(event: DpEvent, change: Callable[[DpEvent], DpEvent]) -> DpEvent:
    from dp_accounting import dp_event as dp

    match event:
        case dp.SelfComposedDpEvent():
            return dp.SelfComposedDpEvent(change(event.event), event.count)
        case dp.ComposedDpEvent():
            return dp.ComposedDpEvent([change(part) for part in event.events])
        case dp.RepeatAndSelectDpEvent():
            return dp.RepeatAndSelectDpEvent(change(event.event), event.mean, event.shape)
        case _:
            return event


def describe(events: Iterable[DpEvent]) -> str:
    """The events in words, equal ones counted."""
    counted = Counter(_words(event) for event in events)
    return "; ".join(f"{n} x ({words})" if n > 1 else words for words, n in counted.items())


def _words(event: DpEvent) -> str:
    from dp_accounting import dp_event as dp

    match event:
        case dp.SelfComposedDpEvent():
            return f"{event.count} steps of {_words(event.event)}"
        case dp.ComposedDpEvent():
            return describe(event.events)
        case dp.PoissonSampledDpEvent():
            return f"Poisson-sampled (rate {event.sampling_probability:g}) {_words(event.event)}"
        case dp.GaussianDpEvent():
            return f"Gaussian (noise multiplier {event.noise_multiplier:g})"
        case dp.RepeatAndSelectDpEvent():
            kind = {1: "geometric", math.inf: "Poisson"}.get(event.shape, "random")
            return f"the best of a {kind} number of runs (mean {event.mean:g}) of {_words(event.event)}"
        case _:
            return repr(event)
