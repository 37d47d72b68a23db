"""FedProx (Li et al. 2020, arXiv 1812.06127, Algorithm 2): FedAvg whose clients stay near the broadcast.

Without the paper's partial work: every client trains for the epochs of its recipe.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

from privfed.pipelines._averaging import Averaging, check_pull
from privfed.pipelines._local import check_participation
from privfed.pipelines.fedavg import FedAvg, Weighting
from privfed.training import Recipe


@dataclass(frozen=True, slots=True)
class FedProx(Averaging):
    """Federated averaging with a proximal term in each client's objective.

    A client minimises F(w) + mu / 2 * ||w - w_t||^2 (equation 2), w_t being the broadcast. A local
    defence that brings its own training, such as DP-SGD, decides itself what becomes of the term.

    Attributes:
        rounds: communication rounds.
        local: a client's training in one round; its proximal weight is `mu`.
        mu: weight of the proximal term; 0 is FedAvg.
        weighting: "records" weights clients by the number of records they state (a disclosure of
            its own); "equal" weights them alike.
        fraction: share of the clients in a round.
    """

    rounds: int = 3
    local: Recipe = Recipe(epochs=5, batch=32, lr=0.1)
    mu: float = 0.1
    weighting: Weighting = "records"
    fraction: float = 1.0

    def __post_init__(self) -> None:
        check_participation(self.rounds, self.fraction)
        check_pull(self.mu, local=self.local)

    @property
    def average(self) -> FedAvg:
        """FedAvg with the proximal term."""
        return FedAvg(self.rounds, replace(self.local, proximal=self.mu), self.weighting, self.fraction)
