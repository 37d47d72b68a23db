"""Privacy events as text: the record of what mechanisms ran, readable by any accountant later.

JSON trees of dp_accounting's events. A tree may come from a file of somebody else, so only events named
here are made, from numbers alone, no deeper than a few levels.
"""

from __future__ import annotations

import json
import math
from collections.abc import Callable, Iterable
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from dp_accounting import DpEvent

DEEPEST = 16
MOST, MOST_TIMES = 10**7, 10**4
ENDLESS = "inf"
PARTS = "events"
INNER = "event"
NUMBERS = {
    "GaussianDpEvent": ("noise_multiplier",),
    "LaplaceDpEvent": ("noise_multiplier",),
    "PoissonSampledDpEvent": ("sampling_probability",),
    "SelfComposedDpEvent": ("count",),
    "ComposedDpEvent": (),
    "RepeatAndSelectDpEvent": ("mean", "shape"),
    "NoOpDpEvent": (),
}
"""Events by class, with the numbers each is made of beside the events inside it."""
NESTED = ("PoissonSampledDpEvent", "SelfComposedDpEvent", "RepeatAndSelectDpEvent")


def dumps(events: Iterable[DpEvent]) -> str:
    """The events, in order, as JSON; equal neighbours are counted.

    Raises:
        ValueError: for an event that is not named in `NUMBERS`.
    """
    counted: list[list[Any]] = []
    for event in events:
        tree = _tree(event)
        if counted and counted[-1][1] == tree:
            counted[-1][0] += 1
        else:
            counted.append([1, tree])
    return json.dumps([{"times": n, "event": tree} for n, tree in counted], sort_keys=True)


def loads(text: str) -> tuple[DpEvent, ...]:
    """The events back from `dumps`.

    Raises:
        ValueError: for text that is no such tree.
    """
    try:
        listed = json.loads(text)
        found = [(_count(entry["times"], MOST_TIMES), _event(entry["event"], 0)) for entry in listed]
    except (TypeError, KeyError, AttributeError, RecursionError, ValueError) as error:
        raise ValueError(f"expected a tree of privacy events, got text={text[:60]!r}: {error}") from error
    # Apart, as they were: what is one event of many steps is read otherwise without amplification.
    return tuple(e for n, e in found for _ in range(n))


def _tree(event: DpEvent) -> dict[str, Any]:
    name = type(event).__name__
    if name not in NUMBERS:
        raise ValueError(f"expected an event of {', '.join(NUMBERS)}, got event={name}")
    numbers = {field: _written(getattr(event, field)) for field in NUMBERS[name]}
    tree: dict[str, Any] = {"kind": name, **numbers}
    if name in NESTED:
        tree[INNER] = _tree(event.event)
    if name == "ComposedDpEvent":
        tree[PARTS] = [_tree(part) for part in event.events]
    return tree


def _event(tree: dict[str, Any], depth: int) -> DpEvent:
    from dp_accounting import dp_event

    name = tree["kind"]
    if name not in NUMBERS or depth > DEEPEST:
        raise ValueError(f"expected an event of {', '.join(NUMBERS)} at most {DEEPEST} deep, got {name!r}")
    make: Callable[..., DpEvent] = getattr(dp_event, name)
    numbers = {field: _number(tree[field]) for field in NUMBERS[name]}
    if name == "SelfComposedDpEvent":
        return make(_event(tree[INNER], depth + 1), _count(tree["count"]))
    if name == "PoissonSampledDpEvent":
        return make(numbers["sampling_probability"], _event(tree[INNER], depth + 1))
    if name == "RepeatAndSelectDpEvent":
        return make(_event(tree[INNER], depth + 1), numbers["mean"], numbers["shape"])
    if name == "ComposedDpEvent":
        return make([_event(part, depth + 1) for part in tree[PARTS]])
    return make(**numbers)


def _written(number: float) -> float | str:
    return ENDLESS if number == math.inf else number  # JSON has no infinity


def _number(value: object) -> float:
    if value == ENDLESS:
        return math.inf
    if isinstance(value, bool) or not isinstance(value, int | float):
        raise ValueError(f"expected a number, got {value!r}")
    return value


def _count(value: object, most: int = MOST) -> int:
    if isinstance(value, bool) or not isinstance(value, int) or not 1 <= value <= most:
        raise ValueError(f"expected a whole number in [1, {most}], got {value!r}")
    return value
