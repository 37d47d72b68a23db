"""FedAvg (McMahan et al. 2017, arXiv 1602.05629, Algorithm 1): the server averages what clients train."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Literal

from privfed.pipelines._local import (
    check_participation,
    count,
    initial_states,
    mean_update,
    publish_model,
    train_and_upload,
)
from privfed.pipelines.interface import ClientJob, ClientMessage, ServerState, World
from privfed.randomness import Stream
from privfed.release import Release
from privfed.training import Recipe

Weighting = Literal["records", "equal"]


@dataclass(frozen=True, slots=True)
class FedAvg:
    """Federated averaging; the averaged surrogate is also the model delivered.

    Attributes:
        rounds: communication rounds.
        local: a client's training in one round.
        weighting: "records" weights clients by the number of records they state (a disclosure of
            its own, recorded as a release); "equal" weights them alike.
        fraction: share of the clients in a round.
    """

    rounds: int = 3
    local: Recipe = Recipe(epochs=5, batch=32, lr=0.1)
    weighting: Weighting = "records"
    fraction: float = 1.0

    def __post_init__(self) -> None:
        check_participation(self.rounds, self.fraction)

    @property
    def outside_claim(self) -> tuple[str, ...]:
        """Counts, when clients state them."""
        return ("number of records of each client",) if self.weighting == "records" else ()

    def init(self, world: World, streams: Sequence[Stream]) -> list[ServerState]:
        """Random surrogates."""
        return initial_states(world, streams, with_large=False)

    def client_round(self, world: World, jobs: Sequence[ClientJob]) -> list[ClientMessage]:
        """Local training; the update, and the count where clients are weighted by it."""
        messages = train_and_upload(world, self.local, jobs)
        if self.weighting == "equal":
            return messages
        return [replace(m, releases=(*m.releases, count(j))) for m, j in zip(messages, jobs, strict=True)]

    def server_round(
        self,
        world: World,
        states: Sequence[ServerState],
        inboxes: Sequence[Sequence[Release]],
        streams: Sequence[Stream],
    ) -> list[ServerState]:
        """Replaces the surrogate by the weighted mean of the updates."""
        return [
            replace(s, round=s.round + 1, surrogate=mean_update(inbox))
            for s, inbox, stream in zip(states, inboxes, streams, strict=True)
        ]

    def publish(self, world: World, states: Sequence[ServerState]) -> list[tuple[Release, ...]]:
        """The averaged model."""
        return [(publish_model(s, s.surrogate),) for s in states]
