"""Noisy logits: the delivered model answers with noise and is not handed out.

Output perturbation of single answers with plain Gaussian noise. MemGuard (Jia et al. 2019, arXiv
1909.10594) chooses its noise to mislead one attacker and keeps the label; this chooses nothing.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

from defenses._clipping import expect
from privfed.answers import Interface, put_behind
from privfed.hooks import Spent
from privfed.randomness import Stream
from privfed.release import Release


@dataclass(frozen=True, slots=True)
class NoisyLogits:
    """Puts the published model behind an interface that adds fresh noise to the logits of every query.

    Outsiders no longer get weights: they ask. It earns no claim, however large the noise: queries are
    not limited, so whoever asks k times averages it down by the root of k, which the attacks here do;
    and how far one record can move a logit is bounded by nothing. Whoever holds the model otherwise, the
    server, and clients where it is what they were broadcast, is not concerned.

    Accuracy is that of one noisy answer a record.

    Attributes:
        deviation: standard deviation of the noise, in units of logits; 0 leaves them as they are.
    """

    deviation: float

    def __post_init__(self) -> None:
        expect(0 <= self.deviation < math.inf, "a finite deviation >= 0", deviation=self.deviation)

    def release(self, release: Release, stream: Stream) -> Spent[Release]:
        """The delivered model behind the interface, anything else as it is; no guarantee."""
        if release.name != "large":
            return Spent(release, None)
        return Spent(put_behind(release, Interface(deviation=self.deviation, seed=stream.integer())), None)
