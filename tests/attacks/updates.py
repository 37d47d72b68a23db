"""One round of small clients' local training, as the server sees it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import numpy as np
import torch

from attacks.interface import Known, Reconstruction
from privfed.nets import NetSpec, Params, initial
from privfed.randomness import Stream
from privfed.records import Records
from privfed.release import CLIENTS, SERVER, Observer, Release, Transcript, View, client_name
from privfed.training import Recipe, Task, train

MLP = NetSpec("mlp", channels=1, size=8, classes=10, width=64, depth=1)
STREAM = Stream(0, ("attack",))


def digits(start: int, count: int, dtype: torch.dtype = torch.float32) -> Records:
    from sklearn.datasets import load_digits

    data = load_digits()
    order = np.random.default_rng(0).permutation(len(data.target))[start : start + count]
    images = torch.tensor(data.images[order], dtype=dtype).unsqueeze(1) / 8 - 1
    return Records(images, torch.tensor(data.target[order]))


def known(population: int = 100) -> Known:
    return Known(digits(1000, 50), digits(1400, population))


def unlabelled() -> Known:
    """What an attacker knows who has records of the same kind, but none with a label."""
    records = digits(1000, 50)
    nameless = Records(records.inputs, torch.full_like(records.labels, -1))
    return Known(nameless, nameless)


def broadcast(spec: NetSpec, dtype: torch.dtype = torch.float32) -> Params:
    return {k: v.to(dtype) for k, v in initial(spec, Stream(0).torch()).items()}


def one_round(
    spec: NetSpec, clients: Sequence[Records], recipe: Recipe, start: Params | None = None
) -> tuple[Release, ...]:
    """The broadcast and the update of each client."""
    before = start or broadcast(spec, clients[0].inputs.dtype)
    tasks = [Task(spec, before, r, recipe, Stream(k)) for k, r in enumerate(clients)]
    sent = Release(0, SERVER, CLIENTS, "weights", "surrogate", before)
    return (
        sent,
        *(
            Release(0, client_name(k), SERVER, "weights", "update", p, k)
            for k, p in enumerate(train(tasks, "looped"))
        ),
    )


def view(spec: NetSpec, releases: Sequence[Release]) -> View:
    return Transcript(tuple(releases), {"surrogate": spec}).view(Observer("server"))


def trained(spec: NetSpec, clients: Sequence[Records], steps: int = 1, lr: float = 0.1) -> View:
    """Updates of `steps` full-batch steps."""
    return view(spec, one_round(spec, clients, Recipe(steps, max(map(len, clients)), lr)))


def without_head(release: Release, names: tuple[str, str]) -> Release:
    return replace(release, tensors={k: v for k, v in release.tensors.items() if k not in names})


def psnr(made: Reconstruction, clients: Sequence[Records]) -> list[float]:
    """Of each true record to the nearest one rebuilt of its client, in dB; pixels span 2."""
    found = []
    for k, own in enumerate(clients):
        mine = made.records.inputs[made.clients == k].flatten(1).double()
        for record in own.inputs.flatten(1).double():
            error = (mine - record).square().mean(1).min().clamp_min(1e-30)
            found.append(float(10 * torch.log10(4 / error)))
    return found
