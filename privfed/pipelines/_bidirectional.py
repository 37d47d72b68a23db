"""FedBKD's two distillations on generated records (arXiv 2506.20245): by features, heads untouched."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Literal, get_args

import torch
from torch import Tensor
from torch.nn import functional as F

from privfed.nets import NetSpec, Params, features, forward, head_names
from privfed.pipelines.interface import World
from privfed.randomness import Stream
from privfed.records import Records
from privfed.training import (
    FlatParams,
    Recipe,
    Task,
    descend,
    feature_divergence,
    is_bias,
    represent,
    stack,
    train,
)

Covering = Literal["held", "all"]


@dataclass(frozen=True, slots=True)
class Distillation:
    """How knowledge goes both ways on generated records.

    The published code has a temperature too, which acts on logits that no loss reads; here only logits
    that clients send have one.

    Attributes:
        to_local: mini-batch training of a local representation towards the averaged one.
        iterations: steps of the global representation towards each local one in turn; each sums the
            losses of all batches of `to_local`'s size.
        covering: "held" = only records of classes the client holds (as published); "all" = the
            whole bank.
    """

    to_local: Recipe = Recipe(
        epochs=4, batch=20, lr=0.01, momentum=0.5, weight_decay=1e-4, decay_biases=False
    )
    iterations: int = 3
    covering: Covering = "held"

    def __post_init__(self) -> None:
        if self.iterations < 0:
            raise ValueError(f"expected iterations >= 0, got iterations={self.iterations}")
        if self.covering not in get_args(Covering):
            raise ValueError(f"expected covering 'held' or 'all', got covering={self.covering!r}")


@dataclass(frozen=True, slots=True)
class Exchange:
    """One client's part in the distillation.

    Attributes:
        student: whole local model.
        teacher: the averaged model, or the broadcast one; its head may be absent.
        records: generated records that both read.
        stream: order of the mini-batches.
    """

    student: Params
    teacher: Params
    records: Records
    stream: Stream = field(default_factory=lambda: Stream(0))


@dataclass(frozen=True, slots=True)
class Lesson:
    """What clients said of generated records: inputs (m, ...), and logits of shape (m, classes)."""

    inputs: Tensor
    logits: Tensor


def to_locals(world: World, how: Distillation, exchanges: Sequence[Exchange]) -> list[Params]:
    """Every local model after learning from its teacher; heads stay bit for bit."""
    spec = world.surrogate
    tasks = [
        Task(
            spec,
            e.student,
            e.records,
            how.to_local,
            e.stream,
            head_names(spec),
            teacher=represent(spec, e.teacher, e.records.inputs),
        )
        for e in exchanges
    ]
    return train(tasks, world.engine)


def to_global(spec: NetSpec, how: Distillation, running: Params, exchange: Exchange) -> Params:
    """The running global model after learning from one local model, which is the exchange's teacher."""
    records, recipe = exchange.records, how.to_local
    if not len(records) or not how.iterations:
        return running
    taught = represent(spec, exchange.teacher, records.inputs).unsqueeze(0)
    inputs, share = records.inputs.unsqueeze(0), _shares(len(records), recipe.batch).to(taught.device)

    def gap(params: Params) -> Tensor:
        return (feature_divergence(features(spec, params, inputs), taught) * share).sum()

    return _taught(how, running, head_names(spec), gap)


def to_consensus(
    spec: NetSpec, how: Distillation, running: Params, lesson: Lesson, temperature: float
) -> Params:
    """The global model, head and all, after learning from logits that several clients gave.

    T^2 times the Kullback-Leibler divergence of its softmax at temperature T from that of the logits
    (Hinton et al., arXiv 1503.02531, section 2), in as many steps as `to_global` takes for one client.
    """
    if not len(lesson.inputs) or not how.iterations:
        return running
    inputs, share = lesson.inputs.unsqueeze(0), _shares(len(lesson.inputs), how.to_local.batch)
    wanted, share = (lesson.logits / temperature).log_softmax(-1), share.to(inputs.device)

    def gap(params: Params) -> Tensor:
        given = (forward(spec, params, inputs)[0] / temperature).log_softmax(-1)
        apart = F.kl_div(given, wanted, reduction="none", log_target=True).sum(-1)
        return temperature**2 * (apart * share).sum()

    return _taught(how, running, (), gap)


def _taught(
    how: Distillation, running: Params, frozen: tuple[str, ...], gap: Callable[[Params], Tensor]
) -> Params:
    """The model after descending `gap`, a scalar of its parameters that are not frozen, each (1, ...)."""
    recipe = how.to_local
    flat = FlatParams(stack([{name: t for name, t in running.items() if name not in frozen}]))
    decayed = None if recipe.decay_biases else flat.mask(lambda name: not is_bias(name))
    velocity = torch.zeros_like(flat.buffer)
    for _ in range(how.iterations):
        descend(flat.buffer, flat.gradient(gap(flat.views)), velocity, recipe, decayed=decayed)
    learnt = {name: t.squeeze(0).clone() for name, t in flat.detached().items()}
    return {name: learnt.get(name, t) for name, t in running.items()}


def _shares(records: int, batch: int) -> torch.Tensor:
    """Weight of each record when the mean losses of all batches are added up."""
    sizes = torch.arange(records).split(batch)
    return torch.cat([torch.full((len(part),), 1 / len(part)) for part in sizes])
