"""Where a defence acts: four boundaries, each a Protocol of one method.

Local training, uplink, aggregate and release follow one another: a hook sees only what the hook
before it let through. A defence is a frozen dataclass whose fields are its knobs and which has one
or more of these methods; what it does to a value comes back with the privacy event it spent (the
split of pfl-research's postprocessors, with dp_accounting's events as the record).

An event of None is no statement. After an event it is post-processing and costs nothing; where no
hook on the way gave an event, the value left without a guarantee.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Generic, Protocol, TypeVar

from privfed.claims import Assumption
from privfed.randomness import Stream

if TYPE_CHECKING:
    from dp_accounting import DpEvent

    from privfed.nets import Params
    from privfed.release import Release
    from privfed.training import Task

T = TypeVar("T")
H = TypeVar("H")


@dataclass(frozen=True, slots=True)
class Spent(Generic[T]):
    """A value after a defence, and what it cost.

    Attributes:
        value: what goes on.
        event: the mechanism that ran, as a dp_accounting event; None when it gives no guarantee.
        checked: what the run found about the assumptions behind the event.
        outside: what the event does not cover, in words, for the reader of a claim.
    """

    value: T
    event: DpEvent | None
    checked: tuple[Assumption, ...] = ()
    outside: tuple[str, ...] = ()


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
        """The sum to use; `total` is the unweighted sum over `clients` clients."""
        ...


class ReleaseHook(Protocol):
    """Acts on a release before it crosses its trust boundary."""

    def release(self, release: Release, stream: Stream) -> Spent[Release]:
        """The release to send; round, sender, receiver and kind stay as they are."""
        ...


@dataclass(frozen=True, slots=True)
class Hooks:
    """The defences of one arm, in the order in which they act at each boundary."""

    local: LocalHook | None = None
    uplink: tuple[UplinkHook, ...] = ()
    aggregate: tuple[AggregateHook, ...] = ()
    release: tuple[ReleaseHook, ...] = ()


def apply_local(
    hooks: Hooks, tasks: Sequence[Task], plain: Callable[[Sequence[Task]], Sequence[Params]]
) -> tuple[Spent[Params], ...]:
    """Train every task: with the local hook if there is one, else all of them by `plain`."""
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
    return Spent(
        second.value,
        compose(first.event, second.event),
        first.checked + second.checked,
        first.outside + second.outside,
    )


def _chain(value: T, hooks: Sequence[H], act: Callable[[H, T, Stream], Spent[T]], stream: Stream) -> Spent[T]:
    so_far: Spent[T] = Spent(value, None)
    for index, hook in enumerate(hooks):
        # A stream per place, so that two hooks of one kind never share their noise.
        spent = act(hook, so_far.value, stream.child(index))
        so_far = after(so_far, spent)
    return so_far
