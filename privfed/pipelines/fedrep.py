"""FedRep (Collins et al. 2021, arXiv 2102.07078, Algorithm 1): a shared representation, personal heads.

A client trains its own head on the broadcast representation, then the representation under that
head, and uploads the representation. After the last round every client fits its head once more.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

import torch

from privfed.hooks import Spent, after, apply_uplink
from privfed.nets import Params, head_of, representation_of
from privfed.pipelines._local import (
    check_participation,
    count,
    initial_states,
    mean_update,
    publish_model,
)
from privfed.pipelines._personal import Fit, fit_heads, fit_representations, in_turn, start_of
from privfed.pipelines.fedavg import Weighting
from privfed.pipelines.interface import ClientJob, ClientMessage, ServerState, World
from privfed.randomness import Stream
from privfed.release import SERVER, Release, client_name
from privfed.training import Recipe

SGD = Recipe(epochs=10, batch=10, lr=0.01, momentum=0.5, weight_decay=1e-4, decay_biases=False)
LAST_HEAD_EPOCHS = 10
"""Epochs of the heads in the last round, at least (as in the authors' released code)."""


@dataclass(frozen=True, slots=True)
class FedRep:
    """Federated representation learning: clients share a representation and keep their heads.

    Attributes:
        rounds: communication rounds, with the last one, in which all clients fit their heads and
            nothing else.
        head: training of the head, the representation frozen.
        representation: training of the representation, the head frozen.
        fraction: share of the clients in a round but the last.
        weighting: "equal" or "records", which discloses the number of records of each client.
        share_heads: whether clients upload their heads too, so that there is an averaged head and
            with it a global model that predicts. Without it the delivered model has the initial head.
    """

    rounds: int = 6
    head: Recipe = SGD
    representation: Recipe = replace(SGD, epochs=1)
    fraction: float = 1.0
    weighting: Weighting = "equal"
    share_heads: bool = False

    def __post_init__(self) -> None:
        check_participation(self.rounds, self.fraction)

    @property
    def trainings(self) -> int:
        """Local trainings of one client over all rounds, at most: two a round, one in the last."""
        return 2 * self.rounds - 1

    @property
    def outside_claim(self) -> tuple[str, ...]:
        """Counts, when clients state them."""
        return ("number of records of each client",) if self.weighting == "records" else ()

    @property
    def needs_each(self) -> str:
        """Why sums do not suffice: heads that are shared start from each client's own."""
        shared = "the heads it shares start from each client's own; share_heads false keeps them at home"
        return shared if self.share_heads else ""

    def share(self, round: int) -> float:
        """All clients in the last round."""
        return 1.0 if round == self.rounds - 1 else self.fraction

    def enrol(self, world: World, state: ServerState) -> Params:
        """The head of the common initial model."""
        return head_of(world.surrogate, state.surrogate)

    def shared(self, world: World, state: ServerState) -> Params:
        """The representation."""
        return representation_of(world.surrogate, state.surrogate)

    def personal(self, world: World, state: ServerState, client: int, kept: Params) -> Params:
        """The representation with the client's own head."""
        return {**self.shared(world, state), **kept}

    def init(self, world: World, streams: Sequence[Stream]) -> list[ServerState]:
        """Random models."""
        return initial_states(world, streams, with_large=False)

    def client_round(self, world: World, jobs: Sequence[ClientJob]) -> list[ClientMessage]:
        """Both local phases (in the last round the first alone), and the upload."""
        trained = train_locally(world, self.head, self.representation, jobs, self.rounds)
        return [
            upload(world, job, spent, self.share_heads, self.weighting)
            for job, spent in zip(jobs, trained, strict=True)
        ]

    def server_round(
        self,
        world: World,
        states: Sequence[ServerState],
        inboxes: Sequence[Sequence[Release]],
        streams: Sequence[Stream],
    ) -> list[ServerState]:
        """Replaces the representation, and the head if it was shared, by the weighted mean."""
        return [
            replace(s, round=s.round + 1, surrogate={**s.surrogate, **mean_update(inbox)})
            for s, inbox, stream in zip(states, inboxes, streams, strict=True)
        ]

    def publish(self, world: World, states: Sequence[ServerState]) -> list[tuple[Release, ...]]:
        """The shared representation, with the averaged or the initial head."""
        return [(publish_model(s, s.surrogate),) for s in states]


def train_locally(
    world: World, head: Recipe, representation: Recipe, jobs: Sequence[ClientJob], rounds: int
) -> list[Spent[Params]]:
    """Each client's whole model after its local phases of this round."""
    spec, last = world.surrogate, [j.round == rounds - 1 for j in jobs]
    if all(last):
        head = replace(head, epochs=max(LAST_HEAD_EPOCHS, head.epochs))
    fits = [Fit(start_of(spec, j), j.records, j.stream.child("head")) for j in jobs]
    heads = fit_heads(world, head, fits) if fits else []
    if all(last):
        return heads
    fits = [
        Fit(spent.value, j.records, j.stream.child("representation"))
        for j, spent in zip(jobs, heads, strict=True)
    ]
    return in_turn(heads, fit_representations(world, representation, fits))


def upload(
    world: World, job: ClientJob, trained: Spent[Params], with_head: bool, weighting: Weighting
) -> ClientMessage:
    """The update (with or without the head) after the uplink hooks; the head is kept."""
    spec = world.surrogate
    whole = trained.value
    sent = whole if with_head else representation_of(spec, whole)
    # A head that no server sent counts from zero: a bound on its last change would leave it itself unbounded.
    start = {k: job.start.get(k, torch.zeros_like(t)) for k, t in sent.items()}
    spent = apply_uplink(world.hooks, start, sent, job.stream.child("uplink"))
    update = Release(job.round, client_name(job.client), SERVER, "weights", "update", spent.value, job.client)
    extras = (count(job),) if weighting == "records" else ()
    return ClientMessage(job.client, (update, *extras), after(trained, spent), head_of(spec, whole))
