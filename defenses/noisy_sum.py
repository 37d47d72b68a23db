"""Gaussian noise on a client's sum of bounded contributions: record-level privacy by construction.

The Gaussian mechanism (Dwork and Roth 2014, Appendix A) on a sum to which no record adds a norm of more
than 1, for pipelines whose clients send nothing else: votes (Private Evolution) and mean embeddings
(DP-MERF). All that the server makes of the sums is post-processing.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING

from defenses._clipping import change, expect, gaussian
from defenses._noise_witness import looks_like_noise
from defenses.local_noise import SIMULATED
from privfed.accounting import Accountant, calibrate
from privfed.hooks import Spent
from privfed.nets import Params
from privfed.randomness import Stream

if TYPE_CHECKING:
    from dp_accounting import DpEvent


BOUNDED, FIRST = "each record contributes at most 1", "noise on the sum itself"
"""What the pipelines check that send such sums."""


@dataclass(frozen=True, slots=True)
class NoisySum:
    """Adds Gaussian noise to what a client sends, a sum to which each record adds at most 1.

    One message spends a Gaussian for the unit *record* and the relation *add or remove one*. It fits
    pipelines that state a `record_sensitivity`; those measure it in the run.

    Attributes:
        noise_multiplier: standard deviation of the noise on every entry; 0 adds none, and earns no claim.
    """

    noise_multiplier: float

    on_bounded_sums = True

    def __post_init__(self) -> None:
        expect(
            0 <= self.noise_multiplier < math.inf,
            "a finite noise_multiplier >= 0",
            noise_multiplier=self.noise_multiplier,
        )

    @classmethod
    def for_epsilon(
        cls, epsilon: float, delta: float | None, rounds: int, *, accountant: Accountant = "pld"
    ) -> NoisySum:
        """The least noise that keeps a record within `epsilon` over `rounds` messages.

        Args:
            epsilon: of the finished run, in nats; infinity adds no noise.
            delta: failure probability, in (0, 1).
            rounds: the most messages that one client sends.
            accountant: the one the claim will be computed with.
        """
        expect(delta is not None, "a delta beside epsilon", delta=delta)
        expect(epsilon > 0, "epsilon > 0", epsilon=epsilon)
        if math.isinf(epsilon):
            return cls(0.0)
        return cls(calibrate(lambda noise: _events(noise, rounds), epsilon, delta or 0.0, accountant))

    @property
    def event(self) -> DpEvent | None:
        """What one message spends; None without noise."""
        from dp_accounting import GaussianDpEvent

        return GaussianDpEvent(self.noise_multiplier) if self.noise_multiplier else None

    def uplink(self, start: Params, params: Params, stream: Stream) -> Spent[Params]:
        """The sums with noise on every entry."""
        noise = gaussian(params, self.noise_multiplier, stream)
        sent = {k: t + noise[k] for k, t in params.items()}
        if self.event is None:
            return Spent(sent, None)
        checked = (looks_like_noise(change(params, sent), self.noise_multiplier),)
        return Spent(sent, self.event, checked, (SIMULATED,), needs=(BOUNDED, FIRST))


def _events(noise: float, rounds: int) -> DpEvent:
    from dp_accounting import GaussianDpEvent, SelfComposedDpEvent

    return SelfComposedDpEvent(GaussianDpEvent(noise), rounds)
