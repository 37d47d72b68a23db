"""Gaussian noise at the client on its clipped update: client-level privacy that needs to trust nobody.

The Gaussian mechanism (Dwork and Roth 2014, Appendix A) in the local model: whoever holds the other end,
an update looks almost the same whatever the client's records are.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

from defenses._clipping import change, clipped, expect, gaussian, moved, within
from defenses._noise_witness import looks_like_noise
from privfed.accounting import Accountant, calibrate
from privfed.hooks import Spent
from privfed.nets import Params
from privfed.randomness import Stream

if TYPE_CHECKING:
    from dp_accounting import DpEvent

SIMULATED = (
    "the quality of the random numbers: noise comes from a seeded pseudo-random generator, so that a run can "
    "be repeated; a deployment must draw it from a cryptographically secure one and guard against "
    "floating-point attacks (Mironov 2012)"
)
TAKING_PART = "whether a client takes part at all: local noise covers what it sends, not that it sends"


@dataclass(frozen=True, slots=True)
class LocalNoise:
    """Clips a client's update and adds Gaussian noise before it leaves the client.

    One message spends a Gaussian for the unit *client* and the relation *replace one*: all records of a
    client may change, so its clipped update moves by up to twice the clip. The server gets no
    amplification: it knows who sent what.

    Attributes:
        noise_multiplier: standard deviation of the noise over `clip`; 0 clips alone, and earns no claim.
        clip: largest L2 norm of an update.
    """

    noise_multiplier: float
    clip: float

    def __post_init__(self) -> None:
        expect(
            0 <= self.noise_multiplier < math.inf,
            "a finite noise_multiplier >= 0",
            noise_multiplier=self.noise_multiplier,
        )
        expect(0 < self.clip < math.inf, "a finite clip > 0", clip=self.clip)

    @classmethod
    def for_epsilon(
        cls,
        epsilon: float,
        delta: float | None,
        rounds: int,
        *,
        clip: float,
        accountant: Accountant = "pld",
    ) -> LocalNoise:
        """The least noise that keeps a client within `epsilon` over `rounds` messages.

        Args:
            epsilon: of the finished run, in nats; infinity clips without noise.
            delta: failure probability, in (0, 1).
            rounds: the most messages that one client sends.
            clip: as the field.
            accountant: the one the claim will be computed with.
        """
        expect(delta is not None, "a delta beside epsilon", delta=delta)
        expect(epsilon > 0, "epsilon > 0", epsilon=epsilon)
        silent = cls(0.0, clip)
        if math.isinf(epsilon):
            return silent
        # Accountants calibrate for add-or-remove: replacing costs as much as half the noise does there.
        half = calibrate(lambda noise: _events(noise, rounds), epsilon, delta or 0.0, accountant)
        return replace(silent, noise_multiplier=2 * half)

    @property
    def event(self) -> DpEvent | None:
        """What one message spends; None without noise."""
        from dp_accounting import GaussianDpEvent

        return GaussianDpEvent(self.noise_multiplier) if self.noise_multiplier else None

    def uplink(self, start: Params, params: Params, stream: Stream) -> Spent[Params]:
        """The start moved by the clipped and noised change."""
        bounded = clipped(change(start, params), self.clip)
        noise = gaussian(bounded, self.noise_multiplier * self.clip, stream)
        sent = moved(start, {k: t + noise[k] for k, t in bounded.items()})
        if self.event is None:
            return Spent(sent, None)
        added = change(moved(start, bounded), sent)
        checked = (
            within(bounded, self.clip),
            looks_like_noise(added, self.noise_multiplier * self.clip),
        )
        return Spent(sent, self.event, checked, (SIMULATED, TAKING_PART), "client", "replace_one")


def _events(noise: float, rounds: int) -> DpEvent:
    from dp_accounting import GaussianDpEvent, SelfComposedDpEvent

    return SelfComposedDpEvent(GaussianDpEvent(noise), rounds)
