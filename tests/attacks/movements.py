"""Fake federations whose updates start from what was broadcast, for attacks that read the movement."""

from __future__ import annotations

from functools import lru_cache

import numpy as np
import torch

from attacks.fedmia import OtherClients
from attacks.gaussian_update import UpdateLikelihood
from attacks.gradient_alignment import UpdateAlignment
from attacks.loss_slope import SignalSlope
from attacks.part_update import PartConfidence
from attacks.white_box import WhiteBoxFeatures
from privfed.federation import Federation, run
from privfed.pipelines.fedavg import FedAvg
from privfed.pipelines.interface import World
from privfed.randomness import Stream
from privfed.records import Records
from privfed.release import Observer, View
from privfed.training import Recipe
from tests.attacks.federations import CLIENT_COUNT, SPEC, federations, noise

OTHERS = 6
"""Clients beside those of the candidates: others to stand out from."""
ROUNDS = 3
LOCAL = Recipe(epochs=40, batch=64, lr=0.1)
READERS = (UpdateAlignment, UpdateLikelihood, OtherClients, SignalSlope, WhiteBoxFeatures, PartConfidence)
"""Observations that are played on these federations."""


@lru_cache(maxsize=2)
def trained(leaky: bool) -> tuple[View, ...]:
    """Server views of FedAvg on the same candidates as `federations`, with the same members.

    Without leak clients train on records drawn afresh.
    """
    known, included, _ = federations(leaky)
    source = included if leaky else np.random.default_rng(8).random(included.shape) < 0.5
    world = World(SPEC, SPEC, known.public, True, engine="stacked")
    played = [
        Federation((*_own(known.records, known.clients, held), *_others(f)), Stream(0, ("fake", f)))
        for f, held in enumerate(torch.from_numpy(source))
    ]
    outcomes = run(FedAvg(ROUNDS, LOCAL, "equal"), world, played)
    return tuple(o.transcript.view(Observer("server")) for o in outcomes)


def _own(records: Records, owners: torch.Tensor, held: torch.Tensor) -> list[Records]:
    return [records.take(held & (owners == k)) for k in range(CLIENT_COUNT)]


def _others(federation: int) -> list[Records]:
    return [noise(20, 1000 + OTHERS * federation + k) for k in range(OTHERS)]
