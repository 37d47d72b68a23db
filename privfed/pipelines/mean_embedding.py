"""A mean embedding of the records, and synthetic records that have the same: private by construction.

DP-MERF (Harder et al. 2021, arXiv 2002.11603, section 4) over a federation: each client sends, once, the
sum of random Fourier features of its records by class. The server fits synthetic records whose mean
embedding is nearest. Nothing else depends on the records, so noise on the sum protects all that follows.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace

import torch
from torch import Tensor
from torch.nn import functional as F

from privfed.nets import Params
from privfed.pipelines._local import (
    check_participation,
    initial_states,
    publish_model,
    publish_synthetic,
    train_on,
)
from privfed.pipelines._sums import SENSITIVITY, received_sum, send_sum
from privfed.pipelines.interface import ClientJob, ClientMessage, ServerState, World
from privfed.randomness import Stream
from privfed.records import Records
from privfed.release import CLIENTS, SERVER, Release
from privfed.training import Recipe

EMBEDDING = "embedding"


@dataclass(frozen=True, slots=True)
class MeanEmbedding:
    """Clients send sums of random features; the server fits records to them.

    One record contributes its features (norm 1) and a 1 that counts it, over the root of 2, in the row
    of its label: an L2 norm of 1. The count is needed to make a mean of a sum, and is as noisy as it.

    Synthetic records are latents of the prior where the world has one, else records that start from
    public ones and move freely.

    Attributes:
        rounds: in each a share of the clients is asked; what they send is added up, and the records are
            fitted in the last.
        features: random frequencies; each gives a cosine and a sine.
        bandwidth: of the Gaussian kernel, in units of the median distance of public records.
        ipc: synthetic records a class.
        steps, lr: of Adam on them.
        training: of the large model on the synthetic records.
        fraction: share of the clients that are asked.
    """

    rounds: int = 1
    features: int = 500
    bandwidth: float = 1.0
    ipc: int = 10
    steps: int = 200
    lr: float = 0.05
    training: Recipe = Recipe(epochs=30, batch=64, lr=0.01, momentum=0.9, weight_decay=1e-5)
    fraction: float = 1.0

    def __post_init__(self) -> None:
        check_participation(self.rounds, self.fraction)
        for name in ("features", "ipc"):
            if getattr(self, name) < 1:
                raise ValueError(f"expected {name} >= 1, got {name}={getattr(self, name)}")
        for name in ("bandwidth", "lr"):
            if not getattr(self, name) > 0:
                raise ValueError(f"expected {name} > 0, got {name}={getattr(self, name)}")
        if self.steps < 0:
            raise ValueError(f"expected steps >= 0, got steps={self.steps}")

    @property
    def summed(self) -> tuple[str, ...]:
        """The embeddings."""
        return (EMBEDDING,)

    @property
    def record_sensitivity(self) -> float:
        """Norm of one record's features and count."""
        return SENSITIVITY

    @property
    def outside_claim(self) -> tuple[str, ...]:
        """Nothing: clients send sums alone."""
        return ()

    def announce(self, world: World, state: ServerState) -> Release:
        """The frequencies, drawn without a look at any private record."""
        told = {"frequencies": state.memory["frequencies"]}
        return Release(state.round, SERVER, CLIENTS, "generator", "frequencies", told)

    def nobody(self, world: World, state: ServerState) -> Params:
        """No features and no count."""
        frequencies = state.memory["frequencies"]
        return {EMBEDDING: frequencies.new_zeros(world.surrogate.classes, 2 * self.features + 1)}

    def init(self, world: World, streams: Sequence[Stream]) -> list[ServerState]:
        """Frequencies of a Gaussian kernel as wide as public records lie apart."""
        public = world.public.inputs.flatten(1)
        width = self.bandwidth * _median_distance(public)
        return [
            self._asking(world, replace(s, memory=_frequencies(public, self.features, width, stream)))
            for s, stream in zip(initial_states(world, streams, with_large=True), streams, strict=True)
        ]

    def client_round(self, world: World, jobs: Sequence[ClientJob]) -> list[ClientMessage]:
        """Every client's sum, shape (classes, 2 features + 1)."""
        classes = world.surrogate.classes
        return [
            send_sum(world, j, EMBEDDING, contributions(j.records, j.start["frequencies"], classes))
            for j in jobs
        ]

    def server_round(
        self,
        world: World,
        states: Sequence[ServerState],
        inboxes: Sequence[Sequence[Release]],
        streams: Sequence[Stream],
    ) -> list[ServerState]:
        """Records with the mean embedding that was received, and the model trained on them."""
        states = [self._added(world, s, inbox) for s, inbox in zip(states, inboxes, strict=True)]
        if states and states[0].round < self.rounds:
            return states
        made = [self._fitted(world, s, stream) for s, stream in zip(states, streams, strict=True)]
        starts = [s.large or {} for s in states]
        large = train_on(world, world.large, starts, made, self.training, [s.child("large") for s in streams])
        return [replace(s, synthetic=m, large=p) for s, m, p in zip(states, made, large, strict=True)]

    def publish(self, world: World, states: Sequence[ServerState]) -> list[tuple[Release, ...]]:
        """The large model and the records it was trained on."""
        return [
            (publish_model(s, s.large or {}), publish_synthetic(s, s.synthetic))
            for s in states
            if s.synthetic is not None
        ]

    def _asking(self, world: World, state: ServerState) -> ServerState:
        return replace(state, memory={**state.memory, **self.nobody(world, state)})

    def _added(self, world: World, state: ServerState, inbox: Sequence[Release]) -> ServerState:
        total = state.memory[EMBEDDING]
        total = total + received_sum(inbox, EMBEDDING, total)
        return replace(state, round=state.round + 1, memory={**state.memory, EMBEDDING: total})

    def _fitted(self, world: World, state: ServerState, stream: Stream) -> Records:
        frequencies, classes = state.memory["frequencies"], world.surrogate.classes
        target = means(state.memory[EMBEDDING])
        labels = torch.arange(classes, device=frequencies.device).repeat_interleave(self.ipc)
        moved = self._start(world, labels, stream).requires_grad_()
        optimiser = torch.optim.Adam([moved], lr=self.lr)
        for _ in range(self.steps):
            made = fourier(_records(world, moved), frequencies).view(classes, self.ipc, -1).mean(1)
            (gradient,) = torch.autograd.grad((made - target).square().sum(), moved)
            moved.grad = gradient
            optimiser.step()
            if world.prior is not None:
                with torch.no_grad():
                    moved.copy_(world.prior.clip(moved))
        with torch.no_grad():
            return Records(_records(world, moved), labels)

    def _start(self, world: World, labels: Tensor, stream: Stream) -> Tensor:
        generator = stream.child("start").torch()
        if world.prior is not None:
            return world.prior.sample(labels, generator).clone()
        chosen = torch.randint(len(world.public), (len(labels),), generator=generator)
        return world.public.inputs[chosen].clone()


def fourier(inputs: Tensor, frequencies: Tensor) -> Tensor:
    """Random Fourier features of norm 1, shape (n, 2 features) (Rahimi and Recht 2007)."""
    angles = inputs.flatten(1) @ frequencies.T
    return torch.cat([angles.cos(), angles.sin()], 1) / math.sqrt(len(frequencies))


def contributions(records: Records, frequencies: Tensor, classes: int) -> Tensor:
    """What each record adds to the sum, shape (n, classes, 2 features + 1), norm 1 each."""
    features = fourier(records.inputs, frequencies)
    counted = torch.cat([features, features.new_ones(len(features), 1)], 1) / math.sqrt(2)
    return F.one_hot(records.labels, classes).to(counted).unsqueeze(2) * counted.unsqueeze(1)


def means(total: Tensor) -> Tensor:
    """Mean features of each class from a (noisy) sum; a class of less than half a record has none: zero."""
    count = total[:, -1:]
    return torch.where(count > 0.5 / math.sqrt(2), total[:, :-1] / count.clamp_min(1e-12), 0.0)


def _records(world: World, moved: Tensor) -> Tensor:
    """Records from what is moved: decoded latents, or the records themselves within the range of images."""
    if world.prior is not None:
        return world.prior.decode(moved)
    return moved.clamp(-1, 1) if moved.dim() == 4 else moved


def _frequencies(public: Tensor, features: int, width: float, stream: Stream) -> Params:
    drawn = torch.randn(features, public.shape[1], generator=stream.child("frequencies").torch())
    return {"frequencies": drawn.to(public) / width}


def _median_distance(public: Tensor) -> float:
    distances = torch.pdist(public[:500])
    known = distances[distances > 0]
    return float(known.median()) if len(known) else 1.0
