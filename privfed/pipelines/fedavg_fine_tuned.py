"""FedAvg whose clients fine-tune the final model, each for itself.

The baseline "FedAvg+FT" of personalised learning (Collins et al. 2021, arXiv 2102.07078, section 5),
whose released scripts tune the head for ten epochs after the last round.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal, get_args

from privfed.nets import Params, head_of
from privfed.pipelines._averaging import Averaging
from privfed.pipelines._local import check_participation
from privfed.pipelines._own_models import UNCOUNTED, silent, train_own
from privfed.pipelines._personal import Fit, fit_heads
from privfed.pipelines.fedavg import FedAvg, Weighting
from privfed.pipelines.interface import ClientJob, ClientMessage, ServerState, World
from privfed.randomness import Stream
from privfed.release import Release
from privfed.training import Recipe

Part = Literal["head", "whole"]


@dataclass(frozen=True, slots=True)
class FedAvgFineTuned(Averaging):
    """Federated averaging, then fine-tuning at every client, which stays there.

    Until the last round this is FedAvg; in the last one every client tunes what the server made, and
    sends nothing. What is released is what FedAvg of one round less releases, bit for bit. A local
    defence acts on the fine-tuning too, and a claim counts the rounds before alone.

    Attributes:
        rounds: communication rounds, and the last one, of fine-tuning.
        local: a client's training in one communication round; with a proximal weight this is
            FedProx with fine-tuning.
        tuning: the fine-tuning.
        part: what is tuned: "head" = the last layer on frozen features, "whole" = every weight.
        weighting: "records" weights clients by the number of records they state (a disclosure of
            its own); "equal" weights them alike.
        fraction: share of the clients in a round but the last.
    """

    rounds: int = 4
    local: Recipe = Recipe(epochs=5, batch=32, lr=0.1)
    tuning: Recipe = Recipe(epochs=10, batch=32, lr=0.1)
    part: Part = "head"
    weighting: Weighting = "records"
    fraction: float = 1.0

    def __post_init__(self) -> None:
        check_participation(self.rounds, self.fraction)
        if self.part not in get_args(Part):
            raise ValueError(f"expected part 'head' or 'whole', got part={self.part!r}")

    @property
    def average(self) -> FedAvg:
        """What runs before the fine-tuning; its rounds are counted by the one around it."""
        return FedAvg(self.rounds, self.local, self.weighting, self.fraction)

    @property
    def trainings(self) -> int:
        """Local trainings of one client that anything released depends on, at most."""
        return max(1, self.rounds - 1)

    @property
    def outside_claim(self) -> tuple[str, ...]:
        """As FedAvg; and tuned models, which no claim on updates is about."""
        return (*self.average.outside_claim, UNCOUNTED)

    def share(self, round: int) -> float:
        """All clients in the last round."""
        return 1.0 if self._is_last(round) else self.fraction

    def enrol(self, world: World, state: ServerState) -> Params:
        """Nothing."""
        return {}

    def shared(self, world: World, state: ServerState) -> Params:
        """The global model."""
        return state.surrogate

    def personal(self, world: World, state: ServerState, client: int, kept: Params) -> Params:
        """The global model with what the client tuned in its place."""
        return {**state.surrogate, **kept}

    def client_round(self, world: World, jobs: Sequence[ClientJob]) -> list[ClientMessage]:
        """FedAvg's; in the last round the fine-tuning."""
        if not all(self._is_last(j.round) for j in jobs):
            return self.average.client_round(world, jobs)
        tuned = self._heads(world, jobs) if self.part == "head" else self._whole(world, jobs)
        return [silent(j, own) for j, own in zip(jobs, tuned, strict=True)]

    def server_round(
        self,
        world: World,
        states: Sequence[ServerState],
        inboxes: Sequence[Sequence[Release]],
        streams: Sequence[Stream],
    ) -> list[ServerState]:
        """FedAvg's; after the fine-tuning the same states."""
        if all(self._is_last(s.round) for s in states):
            return list(states)
        return self.average.server_round(world, states, inboxes, streams)

    def _is_last(self, round: int) -> bool:
        return round == self.rounds - 1

    def _heads(self, world: World, jobs: Sequence[ClientJob]) -> list[Params]:
        fits = [Fit(j.start, j.records, j.stream.child("personal")) for j in jobs]
        tuned = fit_heads(world, self.tuning, fits) if fits else []
        return [head_of(world.surrogate, spent.value) for spent in tuned]

    def _whole(self, world: World, jobs: Sequence[ClientJob]) -> list[Params]:
        return train_own(world, self.tuning, jobs, [j.start for j in jobs])
