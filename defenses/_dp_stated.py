"""What a DP-SGD run is held against: its knobs, and what the ledger was told of them."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Literal

if TYPE_CHECKING:
    from dp_accounting import DpEvent

Clipping = Literal["flat", "per_layer", "adaptive", "ghost"]
Random = Literal["seeded", "system"]


@dataclass(frozen=True, slots=True)
class Adaptation:
    """How the clip moves: by exp(-rate (noisy fraction unclipped - quantile)), within bounds.

    Attributes:
        quantile: of gradient norms, that the clip is to follow.
        rate: of the geometric update.
        count_noise: standard deviation of the noise on the sum over records of (unclipped - 1/2).
        smallest, largest: bounds of the clip.
    """

    quantile: float
    rate: float
    count_noise: float
    smallest: float
    largest: float


@dataclass(frozen=True, slots=True)
class Stated:
    """What the steps are held against: the knobs of the claim, and the number of records."""

    noise_multiplier: float
    clip: float
    sampling_rate: float
    steps: int
    expected_batch: float
    records: int
    clipping: Clipping = "flat"
    random: Random = "seeded"
    adaptation: Adaptation | None = None

    @property
    def gradient_noise(self) -> float:
        """Noise on the gradient, in clips; more than the noise multiplier if a count is released too."""
        return gradient_noise(
            self.noise_multiplier, None if self.adaptation is None else self.adaptation.count_noise
        )


def as_accounted(stated: Stated, event: DpEvent | None) -> Stated:
    """The same with noise, rate and steps as the ledger has them; as they are without an event.

    An accountant that was told another rate than the one records were drawn with must not pass,
    so the run is held against the event and not against the knobs.
    """
    import dp_accounting as dp

    match event:
        case None:
            return stated
        case dp.SelfComposedDpEvent(event=dp.PoissonSampledDpEvent(event=dp.GaussianDpEvent()) as sampled):
            return replace(
                stated,
                noise_multiplier=sampled.event.noise_multiplier,
                sampling_rate=sampled.sampling_probability,
                steps=event.count,
            )
        case _:
            raise ValueError(f"expected an event of Poisson-sampled Gaussians, got event={event}")


def gradient_noise(noise_multiplier: float, count_noise: float | None) -> float:
    """Noise multiplier of the gradient alone when a noisy count is released beside it.

    Andrew et al., Theorem 1: with noise of deviation `count_noise` on a sum that one record moves by 1/2,
    both together cost what the gradient alone costs at `noise_multiplier`.

    >>> round(gradient_noise(1.0, 1.0), 4)
    1.1547
    """
    if count_noise is None or noise_multiplier == 0:
        return noise_multiplier
    return float((noise_multiplier**-2 - (2 * count_noise) ** -2) ** -0.5)
