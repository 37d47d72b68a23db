"""What a pipeline that averages as FedAvg does hands on to FedAvg."""

from __future__ import annotations

from collections.abc import Sequence

from privfed.pipelines.fedavg import FedAvg
from privfed.pipelines.interface import ClientJob, ClientMessage, ServerState, World
from privfed.randomness import Stream
from privfed.release import Release
from privfed.training import Recipe


class Averaging:
    """A pipeline whose releases are those of the FedAvg that `average` names."""

    __slots__ = ()

    @property
    def average(self) -> FedAvg:
        """The FedAvg that runs inside."""
        raise NotImplementedError

    @property
    def outside_claim(self) -> tuple[str, ...]:
        """As FedAvg."""
        return self.average.outside_claim

    def init(self, world: World, streams: Sequence[Stream]) -> list[ServerState]:
        """Random surrogates."""
        return self.average.init(world, streams)

    def client_round(self, world: World, jobs: Sequence[ClientJob]) -> list[ClientMessage]:
        """Local training and the upload."""
        return self.average.client_round(world, jobs)

    def server_round(
        self,
        world: World,
        states: Sequence[ServerState],
        inboxes: Sequence[Sequence[Release]],
        streams: Sequence[Stream],
    ) -> list[ServerState]:
        """Replaces the surrogate by the weighted mean of the updates."""
        return self.average.server_round(world, states, inboxes, streams)

    def publish(self, world: World, states: Sequence[ServerState]) -> list[tuple[Release, ...]]:
        """The averaged model."""
        return self.average.publish(world, states)


def check_pull(mu: float, **recipes: Recipe) -> None:
    """Refuses a negative weight of the proximal term, and a recipe that sets a weight of its own."""
    if not mu >= 0:
        raise ValueError(f"expected mu >= 0, got mu={mu}")
    for name, recipe in recipes.items():
        if recipe.proximal:
            raise ValueError(
                f"expected the proximal weight as mu alone, got {name}.proximal={recipe.proximal}"
            )
