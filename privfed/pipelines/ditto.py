"""Ditto (Li et al. 2021, arXiv 2012.04221, Algorithm 1): FedAvg beside a model of each client's own."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

from privfed.nets import Params
from privfed.pipelines._averaging import Averaging, check_pull
from privfed.pipelines._local import check_participation
from privfed.pipelines._own_models import UNCOUNTED, train_own
from privfed.pipelines.fedavg import FedAvg, Weighting
from privfed.pipelines.interface import ClientJob, ClientMessage, ServerState, World
from privfed.training import Recipe


@dataclass(frozen=True, slots=True)
class Ditto(Averaging):
    """Federated averaging beside personal models that are pulled towards the global one.

    In each of its rounds a client trains the broadcast w for the average, and its own model v on
    F(v) + mu / 2 * ||v - w||^2, from where it left v. All v start as the initial model, are kept by
    their clients and are in no release; what is released is what FedAvg releases, bit for bit. A
    local defence acts on both trainings, and a claim counts the first alone; one that brings its own
    training, such as DP-SGD, decides itself what becomes of the pull.

    Attributes:
        rounds: communication rounds.
        local: a client's training of the global model in one round.
        own: a client's training of its own model in one round; its proximal weight is `mu`.
        mu: how strongly own models are pulled (lambda in the paper); 0 trains them alone.
        weighting: "records" weights clients by the number of records they state (a disclosure of
            its own); "equal" weights them alike.
        fraction: share of the clients in a round; the others leave their own model as it is.
    """

    rounds: int = 3
    local: Recipe = Recipe(epochs=5, batch=32, lr=0.1)
    own: Recipe = Recipe(epochs=5, batch=32, lr=0.1)
    mu: float = 0.1
    weighting: Weighting = "records"
    fraction: float = 1.0

    def __post_init__(self) -> None:
        check_participation(self.rounds, self.fraction)
        check_pull(self.mu, own=self.own)

    @property
    def average(self) -> FedAvg:
        """The solver of the global model."""
        return FedAvg(self.rounds, self.local, self.weighting, self.fraction)

    @property
    def outside_claim(self) -> tuple[str, ...]:
        """As FedAvg; and own models, which no claim on updates is about."""
        return (*self.average.outside_claim, UNCOUNTED)

    def share(self, round: int) -> float:
        """The same in every round."""
        return self.fraction

    def enrol(self, world: World, state: ServerState) -> Params:
        """The common initial model, where every client's own one starts."""
        return dict(state.surrogate)

    def shared(self, world: World, state: ServerState) -> Params:
        """The global model."""
        return state.surrogate

    def personal(self, world: World, state: ServerState, client: int, kept: Params) -> Params:
        """The client's own model."""
        return kept

    def client_round(self, world: World, jobs: Sequence[ClientJob]) -> list[ClientMessage]:
        """Trains both models of each client; the upload is FedAvg's."""
        messages = self.average.client_round(world, jobs)
        pulled = replace(self.own, proximal=self.mu)
        own = train_own(world, pulled, jobs, [j.kept for j in jobs], towards_broadcast=True)
        return [replace(m, kept=v) for m, v in zip(messages, own, strict=True)]
