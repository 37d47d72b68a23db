"""Steps of pipelines that share a representation and keep a head: cached features, two local phases."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

from privfed.hooks import Spent, after, apply_local
from privfed.nets import NetSpec, Params, head_names, head_of, head_spec, representation_of
from privfed.pipelines.interface import ClientJob, World
from privfed.randomness import Stream
from privfed.records import Records
from privfed.training import Recipe, Task, represent, train

HEAD = ("0.weight", "0.bias")
"""Names of a head's parameters when it is a net of its own."""


@dataclass(frozen=True, slots=True)
class Fit:
    """One model to fit to one client's records.

    Attributes:
        start: the whole model.
        records: the client's.
        stream: randomness of this fit.
    """

    start: Params
    records: Records
    stream: Stream


def start_of(spec: NetSpec, job: ClientJob) -> Params:
    """The broadcast representation with the client's own head, in the order of the architecture."""
    return {**representation_of(spec, job.start), **head_of(spec, job.kept)}


def fit_heads(world: World, recipe: Recipe, fits: Sequence[Fit]) -> list[Spent[Params]]:
    """Trains the head of every model, its representation frozen.

    Without augmentation the features never change, so they are worked out once: the same numbers as
    training through the whole net, up to floating-point summation order.
    """
    if recipe.dsa is not None:
        return _fit(world, recipe, fits, tuple(representation_of(world.surrogate, fits[0].start)))
    tasks = [_on_features(world.surrogate, recipe, fit) for fit in fits]
    # Heads are so small that stacking them wins whatever the net.
    trained = apply_local(world.hooks, tasks, lambda t: train(t, "stacked"))
    return [
        replace(spent, value={**fit.start, **_as_part(world.surrogate, spent.value)})
        for fit, spent in zip(fits, trained, strict=True)
    ]


def fit_representations(world: World, recipe: Recipe, fits: Sequence[Fit]) -> list[Spent[Params]]:
    """Trains the representation of every model, its head frozen."""
    return _fit(world, recipe, fits, head_names(world.surrogate))


def in_turn(first: Sequence[Spent[Params]], second: Sequence[Spent[Params]]) -> list[Spent[Params]]:
    """The models after the second phase, with what both phases spent."""
    return [after(a, b) for a, b in zip(first, second, strict=True)]


def _fit(world: World, recipe: Recipe, fits: Sequence[Fit], frozen: tuple[str, ...]) -> list[Spent[Params]]:
    tasks = [Task(world.surrogate, f.start, f.records, recipe, f.stream, frozen) for f in fits]
    return list(apply_local(world.hooks, tasks, lambda t: train(t, world.engine)))


def _on_features(spec: NetSpec, recipe: Recipe, fit: Fit) -> Task:
    features = represent(spec, fit.start, fit.records.inputs)
    head = dict(zip(HEAD, head_of(spec, fit.start).values(), strict=True))
    return Task(head_spec(spec), head, Records(features, fit.records.labels), recipe, fit.stream)


def _as_part(spec: NetSpec, head: Params) -> Params:
    """A head trained as a net of its own, by its names in the whole model."""
    return {name: head[own] for name, own in zip(head_names(spec), HEAD, strict=True)}
