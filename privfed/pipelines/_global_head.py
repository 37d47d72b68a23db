"""The head of FedBKD's global model: averaged as published, or made in one of three other ways.

No client uses that head, so that whichever is chosen, personal models stay the same to the bit.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import Literal

import torch
from torch import Tensor

from privfed.hooks import after, apply_uplink, beside
from privfed.nets import NetSpec, Params, head_names, head_of, head_spec
from privfed.pipelines._personal import HEAD, Fit, fit_heads
from privfed.pipelines.interface import ClientJob, ClientMessage, World
from privfed.randomness import Stream
from privfed.records import Records
from privfed.release import SERVER, Release, client_name
from privfed.training import Recipe, Task, represent, train

GlobalHead = Literal["averaged", "holders", "synthetic", "federated"]
SHARED_HEAD = "head"
"""Name of the release that brings the server a client's copy of the global head."""


def remember(spec: NetSpec, memory: Params, inbox: Sequence[Release]) -> Params:
    """The server's memory with the heads and label sets of this round's clients in place of older ones."""
    weight, bias = head_names(spec)
    known = dict(memory)
    for release in inbox:
        if release.name == "update" and weight in release.tensors:
            known[f"head.{release.about}.weight"] = release.tensors[weight]
            known[f"head.{release.about}.bias"] = release.tensors[bias]
        if release.kind == "label_set":
            known[f"head.{release.about}.labels"] = release.tensors["labels"]
    return known


def with_shared_heads(
    world: World,
    recipe: Recipe,
    jobs: Sequence[ClientJob],
    models: Sequence[Params],
    messages: Sequence[ClientMessage],
) -> list[ClientMessage]:
    """The messages with each client's copy of the broadcast head, trained on its own representation.

    Averaged, these copies are FedAvg of one layer: small steps from a common start, which can be
    averaged, where heads that clients trained for themselves round after round cannot.
    """
    spec = world.surrogate
    fits = [
        Fit({**m, **head_of(spec, j.start)}, j.records, j.stream.child("global_head"))
        for j, m in zip(jobs, models, strict=True)
    ]
    trained = fit_heads(world, recipe, fits) if fits else []
    out = []
    for job, message, spent in zip(jobs, messages, trained, strict=True):
        stream = job.stream.child("global_head", "uplink")
        sent = apply_uplink(world.hooks, head_of(spec, job.start), head_of(spec, spent.value), stream)
        sender = client_name(job.client)
        release = Release(job.round, sender, SERVER, "weights", SHARED_HEAD, sent.value, job.client)
        cost = beside(after(spent, sent), message.spent)
        out.append(replace(message, releases=(*message.releases, release), spent=cost))
    return out


def holders_head(spec: NetSpec, memory: Params, fallback: Params) -> Params:
    """Row by row the mean over all clients seen so far that hold the class; no client, the fallback's row.

    A client's head learns of a class it does not hold only that it never occurs; averaged over
    clients with few classes each, those rows drown the ones that know something.
    """
    weight, bias = (fallback[name].clone() for name in head_names(spec))
    clients = sorted(
        {key.split(".")[1] for key in memory if key.startswith("head.") and key.endswith("labels")}
    )
    for label in range(spec.classes):
        rows = [
            (memory[f"head.{k}.weight"][label], memory[f"head.{k}.bias"][label])
            for k in clients
            if bool((memory[f"head.{k}.labels"] == label).any()) and f"head.{k}.weight" in memory
        ]
        if rows:
            weight[label] = torch.stack([w for w, _ in rows]).mean(0)
            bias[label] = torch.stack([b for _, b in rows]).mean(0)
    return dict(zip(head_names(spec), (weight, bias), strict=True))


def fitted_head(spec: NetSpec, model: Params, records: Records, recipe: Recipe, stream: Stream) -> Params:
    """The model's head trained further on generated records and the labels they were made for."""
    names = head_names(spec)
    features: Tensor = represent(spec, model, records.inputs)
    start = {own: model[name] for own, name in zip(HEAD, names, strict=True)}
    task = Task(head_spec(spec), start, Records(features, records.labels), recipe, stream)
    (head,) = train([task])
    return {name: head[own] for own, name in zip(HEAD, names, strict=True)}
