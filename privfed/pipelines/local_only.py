"""No federation: what a client reaches with its own records, the baseline of personalised learning."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from privfed.nets import Params
from privfed.pipelines._local import check_participation, initial_states, publish_model
from privfed.pipelines._own_models import UNCOUNTED, silent, train_own
from privfed.pipelines.interface import ClientJob, ClientMessage, ServerState, World
from privfed.randomness import Stream
from privfed.release import Release
from privfed.training import Recipe


@dataclass(frozen=True, slots=True)
class LocalOnly:
    """Every client trains alone from the common initial model and sends nothing.

    The server broadcasts the initial model once, receives no byte, and delivers that same untrained
    model, so that nothing released depends on any record. The rounds are a client's own: in each it
    trains on from where it was, as often and as long as in a federation of the same settings.

    Attributes:
        rounds: of local training.
        local: a client's training in one round.
        fraction: share of the clients that train in a round.
    """

    rounds: int = 3
    local: Recipe = Recipe(epochs=5, batch=32, lr=0.1)
    fraction: float = 1.0

    def __post_init__(self) -> None:
        check_participation(self.rounds, self.fraction)

    @property
    def needs_each(self) -> str:
        """Why there is no sum to defend."""
        return "its clients send nothing"

    @property
    def outside_claim(self) -> tuple[str, ...]:
        """The models of the clients; there is nothing else to claim anything about."""
        return (UNCOUNTED,)

    def share(self, round: int) -> float:
        """The same in every round."""
        return self.fraction

    def enrol(self, world: World, state: ServerState) -> Params:
        """The common initial model."""
        return dict(state.surrogate)

    def shared(self, world: World, state: ServerState) -> Params:
        """The common initial model."""
        return state.surrogate

    def personal(self, world: World, state: ServerState, client: int, kept: Params) -> Params:
        """What the client trained."""
        return kept

    def init(self, world: World, streams: Sequence[Stream]) -> list[ServerState]:
        """Random models."""
        return initial_states(world, streams, with_large=False)

    def client_round(self, world: World, jobs: Sequence[ClientJob]) -> list[ClientMessage]:
        """Trains on; sends nothing."""
        trained = train_own(world, self.local, jobs, [j.kept for j in jobs])
        return [silent(j, own) for j, own in zip(jobs, trained, strict=True)]

    def server_round(
        self,
        world: World,
        states: Sequence[ServerState],
        inboxes: Sequence[Sequence[Release]],
        streams: Sequence[Stream],
    ) -> list[ServerState]:
        """The same states: without a message there is no communication round to count."""
        return list(states)

    def publish(self, world: World, states: Sequence[ServerState]) -> list[tuple[Release, ...]]:
        """The initial model."""
        return [(publish_model(s, s.surrogate),) for s in states]
