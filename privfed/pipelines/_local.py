"""Steps that several pipelines share: local training and upload, training on synthetic records."""

from __future__ import annotations

from collections.abc import Sequence

import torch

from privfed.hooks import after, apply_local, apply_uplink
from privfed.nets import NetSpec, Params, initial
from privfed.pipelines.interface import ClientJob, ClientMessage, ServerState, World
from privfed.randomness import Stream
from privfed.records import Records
from privfed.release import PUBLIC, SERVER, Release, client_name
from privfed.training import Recipe, Task, train


def check_participation(rounds: int, fraction: float) -> None:
    """Refuses a federation without rounds or without clients in a round."""
    if rounds < 1:
        raise ValueError(f"expected rounds >= 1, got rounds={rounds}")
    if not 0 < fraction <= 1:
        raise ValueError(f"expected fraction in (0, 1], got fraction={fraction}")


def train_and_upload(world: World, recipe: Recipe, jobs: Sequence[ClientJob]) -> list[ClientMessage]:
    """Trains the surrogate on each client's records and uploads its weights (4 P bytes in float32)."""
    tasks = [Task(world.surrogate, j.start, j.records, recipe, j.stream.child("train")) for j in jobs]
    trained = apply_local(world.hooks, tasks, lambda t: train(t, world.engine))
    messages = []
    for job, local in zip(jobs, trained, strict=True):
        sent = apply_uplink(world.hooks, job.start, local.value, job.stream.child("uplink"))
        update = Release(
            job.round, client_name(job.client), SERVER, "weights", "update", sent.value, job.client
        )
        messages.append(ClientMessage(job.client, (update,), after(local, sent)))
    return messages


def initial_states(world: World, streams: Sequence[Stream], with_large: bool) -> list[ServerState]:
    """Random initial weights for every federation."""
    return [
        ServerState(
            0,
            _fresh(world, world.surrogate, s.child("surrogate")),
            _fresh(world, world.large, s.child("large")) if with_large else None,
        )
        for s in streams
    ]


def _fresh(world: World, spec: NetSpec, stream: Stream) -> Params:
    """Initial weights, drawn on the CPU so that every device starts from the same ones."""
    device = world.public.inputs.device
    return {name: t.to(device) for name, t in initial(spec, stream.torch()).items()}


def train_on(
    world: World,
    spec: NetSpec,
    starts: Sequence[Params],
    records: Sequence[Records],
    recipe: Recipe,
    streams: Sequence[Stream],
) -> list[Params]:
    """Trains one model per federation on the records the server holds."""
    tasks = [Task(spec, p, r, recipe, s) for p, r, s in zip(starts, records, streams, strict=True)]
    return train(tasks, world.large_engine if spec == world.large else world.engine)


def publish_model(state: ServerState, params: Params) -> Release:
    """The delivered model, handed to everybody."""
    return Release(state.round, SERVER, PUBLIC, "weights", "large", params)


def publish_synthetic(state: ServerState, records: Records) -> Release:
    """The synthetic set, handed to everybody."""
    tensors = {"inputs": records.inputs, "labels": records.labels}
    return Release(state.round, SERVER, PUBLIC, "synthetic", "synthetic", tensors)


def client_images(round: int, client: int, records: Records) -> Release:
    """One client's synthetic images, as they lie on the server."""
    tensors = {"inputs": records.inputs, "labels": records.labels}
    return Release(round, SERVER, SERVER, "synthetic", "client_images", tensors, client)


def updates(inbox: Sequence[Release], name: str = "update") -> list[Release]:
    """The model updates (or other releases of a name) among those received, in the order of the clients."""
    found = [r for r in inbox if r.name == name]
    return sorted(found, key=lambda r: -1 if r.about is None else r.about)


def count(job: ClientJob) -> Release:
    """How many records a client states that it has."""
    tensors = {"n": torch.tensor(len(job.records))}
    return Release(job.round, client_name(job.client), SERVER, "counts", "count", tensors, job.client)


def mean_update(inbox: Sequence[Release], name: str = "update") -> Params:
    """Mean of the updates, weighted by the counts where clients state them; of one sum, itself."""
    received = updates(inbox, name)
    counts = {r.about: float(r.tensors["n"]) for r in inbox if r.kind == "counts"}
    return weighted_mean([dict(r.tensors) for r in received], [counts.get(r.about, 1.0) for r in received])


def weighted_mean(params: Sequence[Params], weights: Sequence[float]) -> Params:
    """Mean of models with weights that need not sum to one; all weights zero count as equal."""
    total = sum(weights)
    share = [w / total for w in weights] if total > 0 else [1 / len(weights)] * len(weights)
    return {
        name: torch.stack([p[name] * s for p, s in zip(params, share, strict=True)]).sum(0)
        for name in params[0]
    }
