"""Fake federations small enough to build in a second: noise images, nets that memorise, or do not."""

from __future__ import annotations

from collections.abc import Hashable
from dataclasses import replace
from functools import lru_cache
from typing import Any

import numpy as np
import torch
from torch.nn import functional as F

from attacks.ascent import Recovery
from attacks.interface import Bools, Candidates, MembershipAttack, Observation, References, Signals
from attacks.isolation import IsolatedConfidence
from attacks.representation import RepresentationConfidence
from privfed.nets import NetSpec, Params, forward, initial, representation_of
from privfed.randomness import Stream
from privfed.records import Records, concatenate
from privfed.release import (
    CLIENTS,
    PUBLIC,
    SERVER,
    Observer,
    Release,
    Transcript,
    View,
    client_name,
)
from privfed.training import predict
from tests.attacks.generators import plateaus, released
from tests.attacks.latents import identity_prior, latents
from tests.attacks.simulation import Game

SPEC = NetSpec("mlp", channels=1, size=6, classes=5, width=48, depth=1)
CLIENT_COUNT = 2
ROUNDS = 2
FEDERATIONS = 10


def noise(n: int, seed: int) -> Records:
    generator = torch.Generator().manual_seed(seed)
    images = torch.rand(n, SPEC.channels, SPEC.size, SPEC.size, generator=generator) * 2 - 1
    return Records(images, torch.randint(SPEC.classes, (n,), generator=generator))


def candidates(n: int = 80, z: int = 40, seed: int = 0) -> Candidates:
    return Candidates(noise(n, seed), torch.arange(n) % CLIENT_COUNT, noise(z, seed + 1), noise(60, seed + 2))


def weights(params: Params, name: str, round: int = 0, about: int | None = None) -> Release:
    sender = SERVER if about is None else client_name(about)
    receiver = SERVER if about is not None else PUBLIC if name == "large" else CLIENTS
    return Release(round, sender, receiver, "weights", name, params, about)


def personal(params: Params, round: int, client: int) -> Release:
    return Release(round, SERVER, client_name(client), "weights", "personal", params, client)


def images(records: Records, round: int = ROUNDS, about: int | None = None) -> Release:
    tensors = {"inputs": records.inputs, "labels": records.labels}
    if about is None:
        return Release(round, SERVER, PUBLIC, "synthetic", "synthetic", tensors)
    return Release(round, SERVER, SERVER, "synthetic", "client_images", tensors, about)


def bank(records: Records, round: int) -> Release:
    tensors = {"inputs": records.inputs, "labels": records.labels}
    return Release(round, SERVER, SERVER, "synthetic", "bank", tensors)


def logits(params: Params, asked: Records, round: int, client: int) -> Release:
    """What a client's model says of the records that went to all clients in the round before."""
    given = {"logits": predict(SPEC, params, asked.inputs)}
    return Release(round, client_name(client), SERVER, "logits", "logits", given, client)


def shared_bank(records: Records, round: int) -> Release:
    tensors = {"inputs": records.inputs, "labels": records.labels}
    return Release(round, SERVER, CLIENTS, "synthetic", "shared_bank", tensors)


def without_heads(view: View) -> View:
    """The same, as a pipeline leaves it that shares representations alone."""
    releases = (
        replace(r, tensors=representation_of(SPEC, dict(r.tensors))) if r.kind == "weights" else r
        for r in view.releases
    )
    return View(view.observer, tuple(releases), view.nets)


def server_view(*releases: Release) -> View:
    return Transcript(releases, {"surrogate": SPEC, "large": SPEC}).view(Observer("server"))


def memorise(records: Records, held: torch.Tensor, seed: int, steps: int = 120) -> list[Params]:
    """Trains one net on the records held in each row of `held`, shape (M, n), all rows at once."""
    models = len(held)
    starts = [initial(SPEC, torch.Generator().manual_seed(seed + m)) for m in range(models)]
    params = {k: torch.stack([s[k] for s in starts]).requires_grad_() for k in starts[0]}
    optimiser = torch.optim.Adam(list(params.values()), lr=0.02)
    batch = records.inputs.expand(models, *records.inputs.shape)
    labels = records.labels.expand(models, -1)
    for _ in range(steps):
        loss = F.cross_entropy(forward(SPEC, params, batch).flatten(0, 1), labels.flatten(), reduction="none")
        optimiser.zero_grad()
        (loss.view(models, -1) * held).sum().backward()
        optimiser.step()
    return [{k: v[m].detach() for k, v in params.items()} for m in range(models)]


@lru_cache(maxsize=2)
def federations(leaky: bool) -> tuple[Candidates, Bools, tuple[View, ...]]:
    """Server views of federations whose every artefact gives its members away, or none does.

    Without leak the artefacts are made in the same way from inclusions drawn afresh.
    """
    known = candidates(z=200)
    known = replace(known, prior=identity_prior(known.public))
    rng = np.random.default_rng(5)
    included = rng.random((FEDERATIONS, len(known.records))) < 0.5
    source = included if leaky else rng.random(included.shape) < 0.5
    return known, included, tuple(_views(known, torch.from_numpy(source)))


def _views(known: Candidates, source: torch.Tensor) -> list[View]:
    of_client = [source & (known.clients == k) for k in range(CLIENT_COUNT)]
    # The public shard too: whoever fits a head on it must find a representation that knows its labels.
    held = F.pad(torch.cat([*of_client, source]), (0, len(known.public)), value=True)
    nets = memorise(concatenate([known.records, known.public]), held, 100)
    clients, everybody = nets[: -len(source)], nets[-len(source) :]
    views = []
    for f in range(len(source)):
        own = [clients[k * len(source) + f] for k in range(CLIENT_COUNT)]
        copies = _copies(known.records, [held[f] for held in of_client], f)
        views.append(server_view(*_models(own, everybody[f]), *copies, *_answers(own, copies)))
    return views


def _answers(clients: list[Params], copies: list[Release]) -> list[Release]:
    made = next(r.tensors for r in copies if r.name == "bank")
    asked = Records(made["inputs"], made["labels"])
    return [shared_bank(asked, 0), *(logits(p, asked, 1, k) for k, p in enumerate(clients))]


def _models(clients: list[Params], everybody: Params) -> list[Release]:
    start = weights(initial(SPEC, torch.Generator().manual_seed(0)), "surrogate")
    updates = [weights(p, "update", r, k) for r in range(ROUNDS) for k, p in enumerate(clients)]
    own = [personal(p, r, k) for r in range(ROUNDS) for k, p in enumerate(clients)]
    broadcasts = [weights(everybody, "surrogate", r + 1) for r in range(ROUNDS)]
    return [start, *updates, *own, *broadcasts, weights(everybody, "large", ROUNDS)]


def _copies(records: Records, held: list[torch.Tensor], seed: int) -> list[Release]:
    generator = torch.Generator().manual_seed(seed)
    own = [records.take(h) for h in held]
    near = [
        Records(r.inputs + 0.01 * torch.randn(r.inputs.shape, generator=generator), r.labels) for r in own
    ]
    made = concatenate(near)
    return [
        *(images(r, ROUNDS - 1, k) for k, r in enumerate(near)),
        *(latents(r.inputs.clamp(-1, 1).mul(0.999).atanh(), ROUNDS - 1, k) for k, r in enumerate(near)),
        images(made),
        bank(made, ROUNDS - 1),
        *released(plateaus(made, SPEC.classes, seed), ROUNDS),
    ]


def sent_alone(view: View) -> View:
    """The same under a malicious server: each client is first sent the start alone, then its own upload."""
    start, updates = view.select(name="surrogate")[0], view.select(name="update")
    sent = {u.about: start for u in updates}
    own = []
    for update in updates:
        tensors = sent[update.about].tensors
        own.append(replace(start, round=update.round, receiver=update.sender, tensors=tensors))
        sent[update.about] = update
    return View(view.observer, (*view.releases, *own), view.nets)


def extract(observation: Observation, known: Candidates, view: View) -> Signals:
    if isinstance(observation, (Recovery, IsolatedConfidence)):
        view = sent_alone(view)
    signals = observation.extract(view, known, Stream(0, ("attack",)))
    assert signals is not None, f"{observation} reads nothing: let these fake federations release it"
    return signals


def play(attack: MembershipAttack, leaky: bool) -> Game:
    observation = attack.observation
    assert isinstance(observation, Hashable)
    read = signals(observation, leaky)
    return Game(
        np.stack([s.candidates for s in read]),
        np.stack([s.population for s in read]),
        federations(leaky)[1],
        read[0].clients,
    )


@lru_cache(maxsize=64)
def signals(observation: Any, leaky: bool) -> tuple[Signals, ...]:
    from tests.attacks.movements import READERS, trained  # which is made of the federations here

    known, _, views = federations(leaky)
    if isinstance(observation, RepresentationConfidence):
        views = tuple(without_heads(v) for v in views)
    if isinstance(observation, READERS):
        views = trained(leaky)
    return tuple(extract(observation, known, v) for v in views)


def no_references(signals: Signals) -> References:
    n = signals.candidates.shape[0]
    return References(
        np.empty((0, *signals.candidates.shape)),
        np.empty((0, *signals.population.shape)),
        np.empty((0, n), bool),
    )
