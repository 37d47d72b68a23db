"""Models that clients train for themselves: kept by the client, in no release."""

from __future__ import annotations

from collections.abc import Sequence

from privfed.hooks import Spent, apply_local
from privfed.nets import Params
from privfed.pipelines.interface import ClientJob, ClientMessage, World
from privfed.training import Recipe, Task, train

UNCOUNTED = "personal models: they stay with their clients, and their training is not counted"
"""What a claim about releases leaves out: a client that hands its own model on discloses more."""


def train_own(
    world: World,
    recipe: Recipe,
    jobs: Sequence[ClientJob],
    starts: Sequence[Params],
    towards_broadcast: bool = False,
) -> list[Params]:
    """Each client's own model after training on its records.

    The local hook acts here too. What it spent is left out of account: nothing made here is sent.

    Args:
        world: what everybody knows.
        recipe: of the training; its proximal term pulls towards the start unless said otherwise.
        jobs: whose records and randomness.
        starts: whole models, one a job.
        towards_broadcast: whether the proximal term pulls towards what the server broadcast.
    """
    tasks = [
        Task(
            world.surrogate,
            start,
            job.records,
            recipe,
            job.stream.child("personal"),
            anchor=job.start if towards_broadcast else None,
        )
        for job, start in zip(jobs, starts, strict=True)
    ]
    return [spent.value for spent in apply_local(world.hooks, tasks, lambda t: train(t, world.engine))]


def silent(job: ClientJob, kept: Params) -> ClientMessage:
    """A client that keeps something and sends nothing."""
    return ClientMessage(job.client, (), Spent({}, None), kept)
