"""Small federations under a malicious server: noise records, which only a client that holds them can fit."""

from __future__ import annotations

from collections.abc import Sequence
from functools import lru_cache

import numpy as np
import torch

from attacks.ascent import Ascent
from attacks.interface import Floats, MembershipAttack
from attacks.isolation import Isolation
from privfed.deviation import Deviation, MaliciousServer, Targets, Turn
from privfed.federation import Federation, run
from privfed.hooks import Hooks
from privfed.nets import NetSpec, Params
from privfed.pipelines.fedavg import FedAvg
from privfed.pipelines.interface import World
from privfed.randomness import Stream
from privfed.records import Records
from privfed.release import Observer, Release, View
from privfed.training import Recipe
from tests.attacks.federations import CLIENT_COUNT, SPEC, candidates
from tests.attacks.simulation import Game

FEDERATIONS = 8
N = 64
PIPELINE = FedAvg(rounds=3, local=Recipe(epochs=6, batch=8, lr=0.2))


def world(deviation: Deviation | None, hooks: Hooks | None = None) -> World:
    known = candidates(N)
    server = None if deviation is None else MaliciousServer(deviation, Targets(known.records, known.clients))
    return World(SPEC, SPEC, known.public, True, hooks=hooks or Hooks(), engine="stacked", deviation=server)


def dealt(included: torch.Tensor, federation: int) -> Federation:
    known = candidates(N)
    held = [known.records.take(included & (known.clients == k)) for k in range(CLIENT_COUNT)]
    return Federation(tuple(held), Stream(3, ("federation", federation)))


@lru_cache(maxsize=8)
def views(deviation: Ascent | Isolation | None) -> tuple[View, ...]:
    """Of every federation, in each of which half of the candidates take part."""
    included = torch.from_numpy(coins())
    federations = [dealt(included[f], f) for f in range(FEDERATIONS)]
    outcomes = run(PIPELINE, world(deviation), federations)
    return tuple(o.transcript.view(Observer("malicious_server")) for o in outcomes)


def coins(seed: int = 0) -> np.ndarray[tuple[int, int], np.dtype[np.bool_]]:
    return np.random.default_rng(seed).random((FEDERATIONS, N)) < 0.5


def played(attack: MembershipAttack, deviation: Ascent | Isolation | None) -> Game:
    found = [attack.observation.extract(v, candidates(N), Stream(0)) for v in views(deviation)]
    read = [s for s in found if s is not None]
    assert len(read) == FEDERATIONS
    signals: tuple[Floats, Floats] = (
        np.stack([s.candidates for s in read]),
        np.stack([s.population for s in read]),
    )
    return Game(*signals, coins(), read[0].clients)


def turn(
    spec: NetSpec,
    honest: Params,
    records: Records,
    clients: Sequence[int],
    client: int = 0,
    round: int = 0,
    seen: Sequence[Release] = (),
    stream: Stream | None = None,
) -> Turn:
    """What a server has before it that is after those records."""
    nothing = records.take(torch.arange(0))
    targets = Targets(records, torch.tensor(clients))
    return Turn(
        World(spec, spec, nothing, False),
        round,
        client,
        len(set(clients)),
        honest,
        tuple(seen),
        targets,
        stream or Stream(0),
    )
