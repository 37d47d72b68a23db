"""Where a defence acts: four boundaries, each a Protocol of one method.

Local training, uplink, aggregate and release follow one another: a hook sees only what the hook
before it let through. A defence is a frozen dataclass whose fields are its knobs and which has one
or more of these methods; what it does to a value comes back with the privacy event it spent (the
split of pfl-research's postprocessors, with dp_accounting's events as the record).

An event of None is no statement. After an event it is post-processing and costs nothing; where no
hook on the way gave an event, the value left without a guarantee. An event protects a unit, a record
or a whole client, against those who see nothing that left before its boundary.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any, Generic, Protocol, TypeVar

from privfed.claims import Assumption, Neighbouring, Unit
from privfed.randomness import Stream

if TYPE_CHECKING:
    from dp_accounting import DpEvent

    from privfed.nets import Params
    from privfed.release import Release
    from privfed.training import Task

T = TypeVar("T")
H = TypeVar("H")


@dataclass(frozen=True, slots=True)
class Charge:
    """A mechanism that ran, and whom it protects.

    Attributes:
        event: as a dp_accounting event.
        unit: whose presence its noise covers.
        neighbouring: the relation between neighbouring data sets that its noise is measured by.
    """

    event: DpEvent
    unit: Unit = "record"
    neighbouring: Neighbouring = "add_or_remove_one"


@dataclass(frozen=True, slots=True)
class Spent(Generic[T]):
    """A value after a defence, and what it cost.

    Attributes:
        value: what goes on.
        event: the mechanism that ran, as a dp_accounting event; None when it gives no guarantee.
        checked: what the run found about the assumptions behind the event.
        outside: what the event does not cover, in words, for the reader of a claim.
        unit, neighbouring: whom the event protects.
        others: mechanisms that ran beside it for another unit.
        needs: assumptions, by name, that somebody must have checked for the event to mean anything.
    """

    value: T
    event: DpEvent | None
    checked: tuple[Assumption, ...] = ()
    outside: tuple[str, ...] = ()
    unit: Unit = "record"
    neighbouring: Neighbouring = "add_or_remove_one"
    others: tuple[Charge, ...] = ()
    needs: tuple[str, ...] = ()

    @property
    def charges(self) -> tuple[Charge, ...]:
        """Everything that ran; empty when nothing gives a guarantee."""
        own = () if self.event is None else (Charge(self.event, self.unit, self.neighbouring),)
        return own + self.others


class TaskHook(Protocol):
    """Changes what a client trains on, or how; the training itself stays what it is."""

    def adapt(self, task: Task) -> Task:
        """The task to train in place of this one."""
        ...


class LocalHook(Protocol):
    """Replaces the local training of one client in one round."""

    def train(self, task: Task) -> Spent[Params]:
        """Trained parameters; all randomness comes from `task.stream`."""
        ...


class UplinkHook(Protocol):
    """Acts on a client's trained parameters before they leave the client."""

    def uplink(self, start: Params, params: Params, stream: Stream) -> Spent[Params]:
        """The parameters to send, given those the client started the round from."""
        ...


class AggregateHook(Protocol):
    """Acts on the sum over clients before anyone uses it."""

    def aggregate(self, total: Params, clients: int, stream: Stream) -> Spent[Params]:
        """The sum to use; `total` is the unweighted sum of what `clients` clients changed."""
        ...


class ReleaseHook(Protocol):
    """Acts on a release before it crosses its trust boundary."""

    def release(self, release: Release, stream: Stream) -> Spent[Release]:
        """The release to send; all but its tensors stays as it is, or weights become answers."""
        ...


@dataclass(frozen=True, slots=True)
class Hooks:
    """The defences of one arm, in the order in which they act at each boundary.

    An aggregate hook may say more by attributes, each optional: `expected_clients` is the public divisor
    that makes a mean of the sum (else the number of clients that took part), `poisson` that clients must
    be drawn independently of one another, `hides_updates` that nobody sees what is summed.
    """

    local: LocalHook | None = None
    uplink: tuple[UplinkHook, ...] = ()
    aggregate: tuple[AggregateHook, ...] = ()
    release: tuple[ReleaseHook, ...] = ()
    tasks: tuple[TaskHook, ...] = ()

    @property
    def poisson(self) -> bool:
        """Whether each client takes part by a coin of its own."""
        return any(getattr(hook, "poisson", False) for hook in self.aggregate)

    @property
    def hides_updates(self) -> bool:
        """Whether single updates are shown to nobody."""
        return any(getattr(hook, "hides_updates", False) for hook in self.aggregate)

    def divisor(self, clients: int) -> float:
        """What the sum over `clients` clients is divided by."""
        stated = [v for hook in self.aggregate if (v := getattr(hook, "expected_clients", None)) is not None]
        return float(stated[0]) if stated else float(clients)


def apply_local(
    hooks: Hooks, tasks: Sequence[Task], plain: Callable[[Sequence[Task]], Sequence[Params]]
) -> tuple[Spent[Params], ...]:
    """Train every task, adapted: with the local hook if there is one, else all of them by `plain`."""
    for hook in hooks.tasks:
        tasks = [hook.adapt(task) for task in tasks]
    if hooks.local is None:
        return tuple(Spent(params, None) for params in plain(tasks))
    return tuple(hooks.local.train(task) for task in tasks)


def apply_uplink(hooks: Hooks, start: Params, params: Params, stream: Stream) -> Spent[Params]:
    """What the client sends after all uplink hooks."""
    return _chain(params, hooks.uplink, lambda hook, p, s: hook.uplink(start, p, s), stream)


def apply_aggregate(hooks: Hooks, total: Params, clients: int, stream: Stream) -> Spent[Params]:
    """The sum over `clients` clients after all aggregate hooks."""
    return _chain(total, hooks.aggregate, lambda hook, t, s: hook.aggregate(t, clients, s), stream)


def apply_release(hooks: Hooks, release: Release, stream: Stream) -> Spent[Release]:
    """What crosses the boundary after all release hooks."""
    return _chain(release, hooks.release, lambda hook, r, s: hook.release(r, s), stream)


def compose(*events: DpEvent | None) -> DpEvent | None:
    """One event for several on the same data, in order; None when there is none.

    >>> compose(None, None) is None
    True
    """
    spent = [event for event in events if event is not None]
    if len(spent) < 2:
        return spent[0] if spent else None
    from dp_accounting import ComposedDpEvent

    return ComposedDpEvent(spent)


def after(first: Spent[Any], second: Spent[T]) -> Spent[T]:
    """The second value, with what both hooks spent and found."""
    return _joined(first, second, merge(first.charges + second.charges))


def beside(first: Spent[Any], second: Spent[T]) -> Spent[T]:
    """The second value, with what both messages spent: a guarantee only for what both guarantee."""
    kinds = [{(c.unit, c.neighbouring) for c in part.charges} for part in (first, second)]
    both = kinds[0] & kinds[1]
    charges = [c for c in first.charges + second.charges if (c.unit, c.neighbouring) in both]
    return _joined(first, second, merge(charges))


def _joined(first: Spent[Any], second: Spent[T], charges: tuple[Charge, ...]) -> Spent[T]:
    checked, outside = first.checked + second.checked, first.outside + second.outside
    found = Spent(second.value, None, checked, outside, needs=first.needs + second.needs)
    if not charges:
        return found
    main = charges[0]
    return replace(
        found, event=main.event, unit=main.unit, neighbouring=main.neighbouring, others=charges[1:]
    )


def merge(charges: Iterable[Charge]) -> tuple[Charge, ...]:
    """One charge for each unit and relation, its events composed in order."""
    kinds: dict[tuple[Unit, Neighbouring], DpEvent | None] = {}
    for charge in charges:
        kind = charge.unit, charge.neighbouring
        kinds[kind] = compose(kinds.get(kind), charge.event)
    return tuple(Charge(event, *kind) for kind, event in kinds.items() if event is not None)


def _chain(value: T, hooks: Sequence[H], act: Callable[[H, T, Stream], Spent[T]], stream: Stream) -> Spent[T]:
    so_far: Spent[T] = Spent(value, None)
    for index, hook in enumerate(hooks):
        # A stream per place, so that two hooks of one kind never share their noise.
        spent = act(hook, so_far.value, stream.child(index))
        so_far = after(so_far, spent)
    return so_far
