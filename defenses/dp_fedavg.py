"""DP-FedAvg: client-level differential privacy of the sum, for those who do not see single updates.

McMahan et al. (arXiv 1710.06963, Algorithm 1): every client clips its update, clients take part by coins
of their own, and noise is added once, to the sum, which is divided by the expected number of clients.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

from scipy.stats import binom

from defenses._clipping import ROUNDING, change, clipped, expect, gaussian, moved, norm, within
from defenses._noise_witness import looks_like_noise
from defenses.local_noise import SIMULATED
from privfed.accounting import Accountant, calibrate
from privfed.claims import Assumption
from privfed.hooks import Spent
from privfed.nets import Params
from privfed.randomness import Stream

if TYPE_CHECKING:
    from dp_accounting import DpEvent

CURATOR = "what reaches the party that adds the noise: it is trusted with the sum before the noise"
SECRET_SAMPLE = "who took part in which round: the amplification by sampling needs that to stay secret"
ALARM = 1e-6


@dataclass(frozen=True, slots=True)
class DpFedAvg:
    """Clips updates at the clients and adds Gaussian noise to their sum.

    One round spends a Gaussian for the unit *client* and the relation *add or remove one*; with a
    `client_rate` below 1, a Poisson-sampled one. It bounds what clients and outsiders learn. The
    server sees single updates, and is bounded only beside `SecureAggregation`, which hides them.

    Attributes:
        noise_multiplier: standard deviation of the noise on the sum over `clip`; 0 clips alone.
        clip: largest L2 norm of one client's update.
        expected_clients: public divisor of the noisy sum: the rate times the number of clients.
        client_rate: probability that a client takes part in a round; the pipeline's `fraction`.
    """

    noise_multiplier: float
    clip: float
    expected_clients: float
    client_rate: float = 1.0

    def __post_init__(self) -> None:
        expect(
            0 <= self.noise_multiplier < math.inf,
            "a finite noise_multiplier >= 0",
            noise_multiplier=self.noise_multiplier,
        )
        expect(0 < self.clip < math.inf, "a finite clip > 0", clip=self.clip)
        expect(
            0 < self.expected_clients < math.inf,
            "a finite expected_clients > 0",
            expected_clients=self.expected_clients,
        )
        expect(0 < self.client_rate <= 1, "client_rate in (0, 1]", client_rate=self.client_rate)

    @classmethod
    def for_epsilon(
        cls,
        epsilon: float,
        delta: float | None,
        rounds: int,
        *,
        clip: float,
        expected_clients: float,
        client_rate: float = 1.0,
        accountant: Accountant = "pld",
    ) -> DpFedAvg:
        """The least noise that keeps every client within `epsilon` over `rounds` sums.

        Args:
            epsilon: of the finished run, in nats; infinity clips without noise.
            delta: failure probability, in (0, 1); below one over the number of clients.
            rounds: sums in all.
            clip: as the field.
            expected_clients: as the field.
            client_rate: as the field.
            accountant: the one the claim will be computed with.
        """
        expect(delta is not None, "a delta beside epsilon", delta=delta)
        expect(epsilon > 0, "epsilon > 0", epsilon=epsilon)
        silent = cls(0.0, clip, expected_clients, client_rate)
        if math.isinf(epsilon):
            return silent
        noise = calibrate(lambda n: _events(n, client_rate, rounds), epsilon, delta or 0.0, accountant)
        return replace(silent, noise_multiplier=noise)

    @property
    def poisson(self) -> bool:
        """Whether each client takes part by a coin of its own."""
        return self.client_rate < 1

    @property
    def event(self) -> DpEvent | None:
        """What one sum spends; None without noise."""
        return _event(self.noise_multiplier, self.client_rate) if self.noise_multiplier else None

    def uplink(self, start: Params, params: Params, stream: Stream) -> Spent[Params]:
        """The start moved by the clipped change; no guarantee of its own."""
        bounded = clipped(change(start, params), self.clip)
        return Spent(moved(start, bounded), None, (within(bounded, self.clip),))

    def aggregate(self, total: Params, clients: int, stream: Stream) -> Spent[Params]:
        """The sum with noise."""
        noise = gaussian(total, self.noise_multiplier * self.clip, stream)
        noisy = {k: t + noise[k] for k, t in total.items()}
        if self.event is None:
            return Spent(noisy, None)
        added = change(total, noisy)
        checked = (
            looks_like_noise(added, self.noise_multiplier * self.clip),
            self._counted(clients),
            self._bounded(total, clients),
        )
        outside = (SIMULATED, CURATOR) + ((SECRET_SAMPLE,) if self.poisson else ())
        needs = ("every update clipped",)
        return Spent(noisy, self.event, checked, outside, "client", "add_or_remove_one", needs=needs)

    def _bounded(self, total: Params, clients: int) -> Assumption:
        """Whether the sum is one that so many clipped updates can have."""
        length, most = norm(total), clients * self.clip
        return Assumption(
            "the sum within its clips",
            length <= most * (1 + ROUNDING),
            f"L2 norm of a sum {length:.4g}, at most {most:g}",
        )

    def _counted(self, clients: int) -> Assumption:
        """Whether so many clients are what the stated rate gives; false alarm at most 1e-6 a round."""
        population = round(self.expected_clients / self.client_rate)
        tails = (
            binom.cdf(clients, population, self.client_rate),
            binom.sf(clients - 1, population, self.client_rate),
        )
        return Assumption(
            "clients taking part as stated",
            bool(min(tails) > ALARM / 2),
            f"{clients} of {population} clients in a round, stated rate {self.client_rate:g}",
        )


def _event(noise: float, rate: float) -> DpEvent:
    from dp_accounting import GaussianDpEvent, PoissonSampledDpEvent

    gaussian_event = GaussianDpEvent(noise)
    return gaussian_event if rate == 1 else PoissonSampledDpEvent(rate, gaussian_event)


def _events(noise: float, rate: float, rounds: int) -> DpEvent:
    from dp_accounting import SelfComposedDpEvent

    return SelfComposedDpEvent(_event(noise, rate), rounds)
