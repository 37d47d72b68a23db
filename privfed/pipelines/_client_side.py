"""FedBKD with generator and distillation at the client (the placement its public summaries describe)."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import torch

from privfed.generator import (
    Discriminator,
    GeneratorTraining,
    draw_bank,
    holding,
    synthesise,
    train_generator,
)
from privfed.hooks import Spent
from privfed.nets import Params, head_of, representation_of
from privfed.pipelines._bidirectional import Distillation, Exchange, to_global, to_locals
from privfed.pipelines.fedavg import Weighting
from privfed.pipelines.fedrep import upload
from privfed.pipelines.interface import ClientJob, ClientMessage, World
from privfed.records import Records

OWN = "own."
ROUND = "round"


def distil_at_clients(
    world: World,
    generator: GeneratorTraining | None,
    how: Distillation,
    jobs: Sequence[ClientJob],
    trained: Sequence[Spent[Params]],
    share_heads: bool,
    weighting: Weighting,
) -> list[ClientMessage]:
    """Each client's message: the broadcast representation after it learnt from the local model.

    The local model learns from the broadcast representation in its turn and stays with the client.
    Of the records it reads the set of their labels, which no noise in the training covers: the pipeline names
    that outside the claim. All else is read from the trained model.
    """
    if generator is None:
        return [upload(world, j, s, share_heads, weighting) for j, s in zip(jobs, trained, strict=True)]
    made = [_own_records(world, generator, j, s.value) for j, s in zip(jobs, trained, strict=True)]
    exchanges = [
        Exchange(s.value, j.start, r, j.stream.child("to_local"))
        for j, s, r in zip(jobs, trained, made, strict=True)
    ]
    personal = to_locals(world, how, exchanges)
    messages = []
    for job, spent, records, own in zip(jobs, trained, made, personal, strict=True):
        head = head_of(world.surrogate, spent.value)
        copy = {**representation_of(world.surrogate, job.start), **head}
        taught = to_global(world.surrogate, how, copy, Exchange(copy, spent.value, records))
        message = upload(world, job, replace(spent, value=taught), share_heads, weighting)
        messages.append(replace(message, kept={**head, **_tagged(own, job.round + 1)}))
    return messages


def own_model(representation: Params, kept: Params, round: int) -> Params:
    """The model distilled in the round just ended, or the broadcast representation with the own head."""
    whole = {name.removeprefix(OWN): t for name, t in kept.items() if name.startswith(OWN)}
    if whole and int(kept[ROUND]) == round:
        return whole
    head = {name: t for name, t in kept.items() if not name.startswith(OWN) and name != ROUND}
    return {**representation, **head}


def _own_records(world: World, recipe: GeneratorTraining, job: ClientJob, model: Params) -> Records:
    """Records of the client's own classes from a generator of its own."""
    labels = job.records.labels.unique()
    device = world.public.inputs.device
    bank = draw_bank(recipe.size, world.surrogate.classes, job.stream.child("bank"), device)
    params = train_generator(
        world.surrogate, [Discriminator(model, labels)], bank, recipe, job.stream.child("generator")
    )
    return holding(synthesise(world.surrogate, params, bank, recipe.mode), labels)


def _tagged(model: Params, round: int) -> Params:
    return {**{f"{OWN}{name}": t for name, t in model.items()}, ROUND: torch.tensor(round)}
