"""Digits, clients that train on crafted models, and what a malicious server sees of them."""

from __future__ import annotations

from collections.abc import Sequence
from functools import lru_cache

import torch

from attacks.interface import Known
from privfed.datasets import load
from privfed.nets import NetSpec, Params, initial
from privfed.randomness import Stream
from privfed.records import Records
from privfed.release import AGGREGATOR, CLIENTS, SERVER, Observer, Release, Transcript, View, client_name
from privfed.training import Recipe, Task, train

SPEC = NetSpec("mlp", channels=1, size=8, classes=10, width=128)
GIVEN_UP = 0
_NOTHING = Records(torch.empty(0, 1, 8, 8), torch.empty(0, dtype=torch.int64))
NONE_PUBLIC = Known(_NOTHING, _NOTHING)


@lru_cache(maxsize=1)
def digits() -> Records:
    return load("digits").records


def drawn(n: int, seed: int) -> Records:
    """Records of a client, never those that the server knows."""
    order = torch.randperm(1200, generator=torch.Generator().manual_seed(seed))
    return digits().take(order[:n])


def unseen_label(n: int, seed: int, label: int = GIVEN_UP) -> Records:
    own = drawn(1200, seed)
    return own.take((own.labels != label).nonzero()[:n, 0])


def public(n: int = 300) -> Known:
    return Known(digits().take(torch.arange(1200, 1200 + n)), digits().take(torch.arange(1500, 1797)))


def start(seed: int = 0, spec: NetSpec = SPEC) -> Params:
    return initial(spec, torch.Generator().manual_seed(seed))


def trained(sent: Params, own: Records, steps: int = 1, batch: int = 4096, spec: NetSpec = SPEC) -> Params:
    recipe = Recipe(epochs=steps, batch=batch, lr=0.1)
    return train([Task(spec, sent, own, recipe, Stream(1, ("client",)))])[0]


def matched(found: torch.Tensor, own: Records) -> torch.Tensor:
    """Largest difference in a pixel of each own record to its best reading, shape (n,)."""
    if not len(found):
        return torch.full((len(own),), torch.inf)
    return torch.cdist(own.inputs.flatten(1), found.flatten(1), p=torch.inf).amin(1)


def sent_to(params: Params, client: int | None = None, round: int = 0) -> Release:
    receiver = CLIENTS if client is None else client_name(client)
    return Release(round, SERVER, receiver, "weights", "surrogate", params)


def returned(params: Params, client: int = 0, round: int = 0) -> Release:
    return Release(round, client_name(client), SERVER, "weights", "update", params, client)


def summed(models: Sequence[Params], round: int = 0) -> Release:
    mean = {k: torch.stack([m[k] for m in models]).mean(0) for k in models[0]}
    return Release(round, AGGREGATOR, SERVER, "weights", "aggregate", mean)


def view(*releases: Release, spec: NetSpec = SPEC) -> View:
    return Transcript(releases, {"surrogate": spec}).view(Observer("malicious_server"))
