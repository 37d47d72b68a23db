"""Noise on final latents and synthetic records: offered without a guarantee, because there is none."""

from __future__ import annotations

import math
from dataclasses import dataclass, replace

import torch

from defenses._clipping import expect
from privfed.hooks import Spent
from privfed.randomness import Stream
from privfed.release import Release


@dataclass(frozen=True, slots=True)
class NoisyLatents:
    """Adds Gaussian noise to the published synthetic set, or to published latents.

    It earns no guarantee at any deviation. What is published is the arg-min of an objective that the
    private records define, and an arg-min has unbounded sensitivity: one record more can move it to
    another minimum, however far away, so that no noise is large against what it has to hide. To earn a
    claim, noise the inputs: the updates before anything is distilled from them (`dp_sgd`, `local_noise`,
    `dp_fedavg`), or votes on candidates. What is computed from those is covered as it is.

    Labels stay, and so does the delivered model: it was trained before, on the set without noise.

    Attributes:
        deviation: standard deviation of the noise, in units of the published values: images span
            [-1, 1].
    """

    deviation: float

    def __post_init__(self) -> None:
        expect(0 <= self.deviation < math.inf, "a finite deviation >= 0", deviation=self.deviation)

    def release(self, release: Release, stream: Stream) -> Spent[Release]:
        """The release with noise where it is latents or synthetic records; no guarantee, so no event."""
        if release.kind not in ("latents", "synthetic"):
            return Spent(release, None)
        generator = stream.torch()
        noisy = {
            name: t + (self.deviation * torch.randn(t.shape, generator=generator)).to(t)
            if t.is_floating_point()
            else t
            for name, t in release.tensors.items()
        }
        return Spent(replace(release, tensors=noisy), None)
