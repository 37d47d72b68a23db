"""Votes on candidates from the public prior: synthetic records that are private by construction.

Private Evolution (Lin et al. 2023, arXiv 2305.15560, Algorithms 1 and 2) over a federation: the server
draws latents of a prior that never saw a private record, every record of a client votes for the candidate
it lies nearest to, and what the next round varies, and what is published in the end, are the winners.
Nothing else depends on the records, so noise on the histogram protects all that follows.
"""

from __future__ import annotations

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
from privfed.prior import CLIP_DEVIATIONS, Prior
from privfed.randomness import Stream
from privfed.records import Records
from privfed.release import CLIENTS, SERVER, Release
from privfed.training import Recipe

VOTES = "votes"
OPEN = -1
"""Label of a candidate that every class may vote for."""


@dataclass(frozen=True, slots=True)
class LatentVoting:
    """Clients vote on decoded latents of a public prior; the winners are the synthetic set.

    One record gives one vote a round, in the row of its label, to the nearest candidate of that label
    (pixel distance), so that it moves the histogram by an L2 norm of 1. Candidates have the labels they
    were drawn for or won; those of a prior that knows no labels are open to all in the first round.

    Attributes:
        rounds: of voting.
        candidates: on which a round votes; more than the winners, so that there are variations.
        ipc: winners a class.
        spread: size of the variation of winners, in standard deviations of public latents.
        threshold: votes taken off every entry before winners are chosen, against noise (section 4.1); where
            a mean of the clients' histograms is received in place of their sum, votes of the mean.
        training: of the large model on the last winners.
        fraction: share of the clients in a round.
    """

    rounds: int = 3
    candidates: int = 200
    ipc: int = 5
    spread: float = 0.5
    threshold: float = 0.0
    training: Recipe = Recipe(epochs=30, batch=64, lr=0.01, momentum=0.9, weight_decay=1e-5)
    fraction: float = 1.0

    def __post_init__(self) -> None:
        check_participation(self.rounds, self.fraction)
        if not 1 <= self.ipc <= self.candidates:
            raise ValueError(f"expected ipc in [1, {self.candidates}], the candidates, got ipc={self.ipc}")
        for name in ("spread", "threshold"):
            if not getattr(self, name) >= 0:
                raise ValueError(f"expected {name} >= 0, got {name}={getattr(self, name)}")

    @property
    def needs_prior(self) -> bool:
        """Always: candidates come from it."""
        return True

    @property
    def summed(self) -> tuple[str, ...]:
        """The histograms."""
        return (VOTES,)

    @property
    def record_sensitivity(self) -> float:
        """One vote."""
        return SENSITIVITY

    @property
    def outside_claim(self) -> tuple[str, ...]:
        """Nothing: clients send histograms alone."""
        return ()

    def announce(self, world: World, state: ServerState) -> Release:
        """The decoded candidates that clients vote on."""
        told = {"inputs": _prior(world).decode(state.memory["latents"]), "labels": state.memory["labels"]}
        return Release(state.round, SERVER, CLIENTS, "synthetic", "candidates", told)

    def nobody(self, world: World, state: ServerState) -> Params:
        """No votes."""
        latents = state.memory["latents"]
        return {VOTES: latents.new_zeros(world.surrogate.classes, len(latents))}

    def init(self, world: World, streams: Sequence[Stream]) -> list[ServerState]:
        """Candidates of every class in turn, drawn from the prior.

        Raises:
            ValueError: when there are no more candidates than winners.
        """
        prior, classes = _prior(world), world.surrogate.classes
        if self.candidates <= classes * self.ipc:
            rule = f"expected candidates > {classes * self.ipc}, the winners of {classes} classes"
            raise ValueError(f"{rule}, got candidates={self.candidates}")
        turns = (torch.arange(self.candidates) % classes).to(world.public.labels.device)
        known = world.public_labelled and len(prior.mean) > 1
        labels = turns if known else torch.full_like(turns, OPEN)
        return [
            replace(
                s, memory={"latents": prior.sample(turns, stream.child("latents").torch()), "labels": labels}
            )
            for s, stream in zip(initial_states(world, streams, with_large=True), streams, strict=True)
        ]

    def client_round(self, world: World, jobs: Sequence[ClientJob]) -> list[ClientMessage]:
        """Every client's histogram, by label and candidate."""
        return [send_sum(world, j, VOTES, self._votes(world, j)) for j in jobs]

    def server_round(
        self,
        world: World,
        states: Sequence[ServerState],
        inboxes: Sequence[Sequence[Release]],
        streams: Sequence[Stream],
    ) -> list[ServerState]:
        """The winners of each class; in the last round the model, before it the next candidates."""
        voted = [
            self._winners(world, s, inbox, stream)
            for s, inbox, stream in zip(states, inboxes, streams, strict=True)
        ]
        if voted and voted[0].round < self.rounds:
            return voted
        synthetic = [s.synthetic for s in voted if s.synthetic is not None]
        starts = [s.large or {} for s in voted]
        large = train_on(
            world, world.large, starts, synthetic, self.training, [s.child("large") for s in streams]
        )
        return [replace(s, large=m) for s, m in zip(voted, large, strict=True)]

    def publish(self, world: World, states: Sequence[ServerState]) -> list[tuple[Release, ...]]:
        """The large model and the winners it was trained on."""
        return [
            (publish_model(s, s.large or {}), publish_synthetic(s, s.synthetic))
            for s in states
            if s.synthetic is not None
        ]

    def _votes(self, world: World, job: ClientJob) -> Tensor:
        """One vote a record, shape (records, classes, candidates)."""
        candidates, records = job.start["inputs"].flatten(1), job.records
        distances = torch.cdist(records.inputs.flatten(1), candidates)
        eligible = _eligible(job.start["labels"], world.surrogate.classes)[records.labels]
        nearest = distances.masked_fill(~eligible, torch.inf).argmin(1)
        rows = F.one_hot(records.labels, world.surrogate.classes)
        columns = F.one_hot(nearest, len(candidates))
        return (rows.unsqueeze(2) * columns.unsqueeze(1)).to(records.inputs.dtype)

    def _winners(
        self, world: World, state: ServerState, inbox: Sequence[Release], stream: Stream
    ) -> ServerState:
        prior, latents = _prior(world), state.memory["latents"]
        none = self.nobody(world, state)[VOTES]
        votes = (received_sum(inbox, VOTES, none) - self.threshold).clamp_min(0)
        votes = votes.masked_fill(~_eligible(state.memory["labels"], len(votes)), -torch.inf)
        order = votes.argsort(dim=1, descending=True, stable=True)[:, : self.ipc]
        won = latents[order.flatten()]
        labels = torch.arange(len(order), device=won.device).repeat_interleave(order.shape[1])
        parents = torch.arange(self.candidates, device=won.device) % len(won)
        varied = self._varied(prior, won[parents], len(won), stream.child("variation").torch())
        synthetic = Records(prior.decode(won), labels)
        memory = {"latents": varied, "labels": labels[parents]}
        return replace(state, round=state.round + 1, synthetic=synthetic, memory=memory)

    def _varied(self, prior: Prior, parents: Tensor, winners: int, generator: torch.Generator) -> Tensor:
        """The winners, which come first, as they are; the others varied."""
        deviation = (prior.limit / CLIP_DEVIATIONS).view(prior.shape)
        noise = torch.randn(parents.shape, generator=generator).to(parents)
        noise[:winners] = 0
        return prior.clip(parents + self.spread * deviation * noise)


def _eligible(labels: Tensor, classes: int) -> Tensor:
    """Which candidates each class may vote for, shape (classes, candidates)."""
    rows = torch.arange(classes, device=labels.device).unsqueeze(1)
    return (labels == OPEN) | (labels == rows)


def _prior(world: World) -> Prior:
    if world.prior is None:
        raise ValueError("expected a generative prior for LatentVoting, got prior=None")
    return world.prior
