"""FedDGM (Jia et al. 2024, arXiv 2312.01537): the server distils client updates through a frozen prior.

Each round a client trains the broadcast surrogate and sends its weights, nothing else. For each
client the server optimises latents of a frozen generative prior until training on the decoded
images reproduces the client's movement; on the pooled images it trains the surrogate it broadcasts
next and a larger model that never leaves it before publication. After the released code
(FedDG23/FedDG-main); where this differs (Adam on the latents, a line search for the inner step
size, an autoencoder in place of a GAN), the knobs say so.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Literal, get_args

import torch
from torch import Tensor

from privfed.distillation import Job, Matching, match
from privfed.distillation import Matched as Distilled
from privfed.pipelines._local import (
    check_participation,
    client_images,
    initial_states,
    mean_update,
    publish_model,
    publish_synthetic,
    train_and_upload,
    train_on,
    updates,
)
from privfed.pipelines.interface import ClientJob, ClientMessage, ServerState, World
from privfed.prior import Prior
from privfed.randomness import Stream
from privfed.records import Records, concatenate
from privfed.release import SERVER, Release, client_name
from privfed.training import Recipe, stack_size

LabelMode = Literal["all", "held"]
Target = Literal["clients", "aggregate"]
Initial = Literal["prior", "real"]


@dataclass(frozen=True, slots=True)
class FedDGM:
    """Federated learning with distilled generative knowledge.

    Attributes:
        rounds: communication rounds.
        local: a client's training in one round (the published method: plain SGD, no momentum).
        surrogate_training, large_training: the server's training on the synthetic set.
        ipc: synthetic images a class, client and round.
        matching: knobs of the distillation; 0 iterations is the control "prior only".
        label_mode: "all" = images of every class whatever the client holds (as published);
            "held" = only classes the client says it holds, which discloses its label set.
        accumulate: whether synthetic sets of earlier rounds stay in the training set.
        target: "clients" = the movement of each client is matched (as published); "aggregate" = the mean
            movement of all is, by one set of images, so that the server needs nothing but the sum: secure
            aggregation and noise on the sum then apply. `ipc` counts images of a round instead of images
            of a client.
        initial: "prior" = latents drawn from the prior; "real" = latents encoded from the client's
            own images, which the client then uploads. The latter is the known catastrophic case of
            data set distillation and only exists to show that the attacks see it.
        fraction: share of the clients in a round.
    """

    rounds: int = 3
    local: Recipe = Recipe(epochs=5, batch=32, lr=0.1)
    surrogate_training: Recipe = Recipe(epochs=60, batch=64, lr=0.01, momentum=0.9, weight_decay=1e-5)
    large_training: Recipe = Recipe(epochs=30, batch=64, lr=0.01, momentum=0.9, weight_decay=1e-5)
    ipc: int = 3
    matching: Matching = Matching()
    label_mode: LabelMode = "all"
    accumulate: bool = False
    initial: Initial = "prior"
    fraction: float = 1.0
    target: Target = "clients"

    def __post_init__(self) -> None:
        check_participation(self.rounds, self.fraction)
        if self.ipc < 1:
            raise ValueError(f"expected ipc >= 1, got ipc={self.ipc}")
        if self.target not in get_args(Target):
            known = ", ".join(get_args(Target))
            raise ValueError(f"expected target to be one of {known}, got target={self.target!r}")
        if self.target == "aggregate" and (self.label_mode, self.initial) != ("all", "prior"):
            raise ValueError(
                "expected label_mode 'all' and initial 'prior' for target 'aggregate', "
                f"got label_mode={self.label_mode!r}, initial={self.initial!r}"
            )

    @property
    def needs_each(self) -> str:
        """Why sums do not suffice: matching goes client by client unless the aggregate is matched."""
        each = "it matches the movement of each client; target 'aggregate' matches that of the sum"
        return each if self.target == "clients" else ""

    @property
    def needs_prior(self) -> bool:
        """Always: the distillation moves through it."""
        return True

    @property
    def outside_claim(self) -> tuple[str, ...]:
        """Label sets and raw images, where a client sends them."""
        held = ("set of labels of each client",) if self.label_mode == "held" else ()
        return (*held, "raw images of the clients") if self.initial == "real" else held

    def init(self, world: World, streams: Sequence[Stream]) -> list[ServerState]:
        """Random surrogate and random large model."""
        _require_prior(world)
        return initial_states(world, streams, with_large=True)

    def client_round(self, world: World, jobs: Sequence[ClientJob]) -> list[ClientMessage]:
        """Local training; the update, and the label set or images that an option asks for."""
        messages = train_and_upload(world, self.local, jobs)
        return [
            replace(m, releases=m.releases + self._extras(world, j))
            for m, j in zip(messages, jobs, strict=True)
        ]

    def server_round(
        self,
        world: World,
        states: Sequence[ServerState],
        inboxes: Sequence[Sequence[Release]],
        streams: Sequence[Stream],
    ) -> list[ServerState]:
        """Distils every client's update (or their mean), pools the images, trains both models on them."""
        if self.target == "aggregate":
            inboxes = [_mean_of(inbox) for inbox in inboxes]
        jobs = [
            self._job(world, state, inbox, update, stream)
            for state, inbox, stream in zip(states, inboxes, streams, strict=True)
            for update in updates(inbox)
        ]
        prior = _require_prior(world)
        matched = iter(match(world.surrogate, jobs, prior, self.matching, stack_size(world.engine)))
        pooled, kept = [], []
        for state, inbox in zip(states, inboxes, strict=True):
            results = [(u, next(matched)) for u in updates(inbox)]
            kept.append(tuple(r for u, m in results for r in _server_releases(state.round, u, m)))
            pooled.append(self._pool(world, state, [m for _, m in results]))
        return self._train(world, states, pooled, kept, streams)

    def publish(self, world: World, states: Sequence[ServerState]) -> list[tuple[Release, ...]]:
        """The large model and the synthetic set."""
        return [
            (publish_model(s, s.large or {}), publish_synthetic(s, s.synthetic or _nothing(world)))
            for s in states
        ]

    def _extras(self, world: World, job: ClientJob) -> tuple[Release, ...]:
        sender = client_name(job.client)
        extras: tuple[Release, ...] = ()
        if self.label_mode == "held":
            held = {"labels": job.records.labels.unique()}
            extras += (Release(job.round, sender, SERVER, "label_set", "labels", held, job.client),)
        if self.initial == "real":
            kept = _first_of_each_class(job.records, world.surrogate.classes, self.ipc)
            raw = {"inputs": kept.inputs, "labels": kept.labels}
            extras += (Release(job.round, sender, SERVER, "synthetic", "raw_images", raw, job.client),)
        return extras

    def _job(
        self, world: World, state: ServerState, inbox: Sequence[Release], update: Release, stream: Stream
    ) -> Job:
        extras = {r.name: r.tensors for r in inbox if r.about == update.about}
        labels = torch.arange(world.surrogate.classes, device=world.public.labels.device)
        if "labels" in extras:
            labels = extras["labels"]["labels"]
        labels = labels.repeat_interleave(self.ipc)
        latents = None
        if "raw_images" in extras:
            labels = extras["raw_images"]["labels"]
            latents = _require_prior(world).encode(extras["raw_images"]["inputs"])
        client = -1 if update.about is None else update.about
        return Job(state.surrogate, dict(update.tensors), labels, stream.child("client", client), latents)

    def _pool(self, world: World, state: ServerState, matched: Sequence[Distilled]) -> Records:
        fresh = [Records(m.images, m.labels) for m in matched]
        if self.accumulate and state.synthetic is not None:
            fresh.insert(0, state.synthetic)
        return concatenate(fresh) if fresh else _nothing(world)

    def _train(
        self,
        world: World,
        states: Sequence[ServerState],
        pooled: Sequence[Records],
        kept: Sequence[tuple[Release, ...]],
        streams: Sequence[Stream],
    ) -> list[ServerState]:
        small = train_on(
            world,
            world.surrogate,
            [s.surrogate for s in states],
            pooled,
            self.surrogate_training,
            [s.child("surrogate") for s in streams],
        )
        large = train_on(
            world,
            world.large,
            [s.large or {} for s in states],
            pooled,
            self.large_training,
            [s.child("large") for s in streams],
        )
        return [
            ServerState(s.round + 1, a, b, pool, keep)
            for s, a, b, pool, keep in zip(states, small, large, pooled, kept, strict=True)
        ]


def _server_releases(round: int, update: Release, matched: Distilled) -> tuple[Release, ...]:
    """What lies on the server after one update was distilled: latents, step size, images."""
    tensors = {"latents": matched.latents, "eta": torch.tensor(matched.eta), "losses": matched.losses}
    made = Records(matched.images, matched.labels)
    if update.about is None:
        images = {"inputs": made.inputs, "labels": made.labels}
        bank = Release(round, SERVER, SERVER, "synthetic", "bank", images)
        return Release(round, SERVER, SERVER, "latents", "latents", tensors), bank
    latents = Release(round, SERVER, SERVER, "latents", "client_latents", tensors, update.about)
    return latents, client_images(round, update.about, made)


def _mean_of(inbox: Sequence[Release]) -> tuple[Release, ...]:
    """The mean of the updates as one that is nobody's; what is one sum already stays as it is."""
    received = updates(inbox)
    if len(received) < 2 and all(r.about is None for r in received):
        return tuple(received)
    return (replace(received[0], sender=SERVER, tensors=mean_update(received), about=None),)


def _first_of_each_class(records: Records, classes: int, limit: int) -> Records:
    keep: list[Tensor] = [(records.labels == c).nonzero().flatten()[:limit] for c in range(classes)]
    return records.take(torch.cat(keep))


def _nothing(world: World) -> Records:
    inputs, labels = world.public.inputs, world.public.labels
    return Records(inputs.new_empty(0, *world.surrogate.input_shape), labels.new_empty(0))


def _require_prior(world: World) -> Prior:
    if world.prior is None:
        raise ValueError("expected a generative prior for FedDGM, got prior=None")
    return world.prior
