"""Local training of small nets on records in memory: plain SGD, many models side by side."""

from __future__ import annotations

from dataclasses import dataclass

from privfed.nets import NetSpec, Params
from privfed.randomness import Stream
from privfed.records import Records


@dataclass(frozen=True, slots=True)
class Recipe:
    """How one model is trained.

    Attributes:
        epochs: passes over the records.
        batch: records a step; the last batch of an epoch may be smaller.
        lr, momentum, weight_decay: of SGD, as in torch.optim.SGD.
    """

    epochs: int
    batch: int
    lr: float
    momentum: float = 0.0
    weight_decay: float = 0.0


@dataclass(frozen=True, slots=True)
class Task:
    """One model to train: where it starts, on what, how, and with which randomness."""

    spec: NetSpec
    start: Params
    records: Records
    recipe: Recipe
    stream: Stream
