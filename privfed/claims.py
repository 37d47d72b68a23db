"""The promise a defence makes: (epsilon, delta) for a stated unit and neighbouring relation."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Literal

Unit = Literal["record", "client"]
Neighbouring = Literal["add_or_remove_one", "replace_one"]


@dataclass(frozen=True, slots=True)
class Assumption:
    """Something a claim rests on, and whether the run itself verified it."""

    name: str
    verified: bool
    evidence: str


@dataclass(frozen=True, slots=True)
class Claim:
    """A differential-privacy statement with everything needed to read it.

    Attributes:
        epsilon: bound on the privacy loss, in nats; finite and >= 0.
        delta: failure probability, in (0, 1).
        unit: whose presence is protected.
        neighbouring: how neighbouring data sets differ.
        accountant: library, version and method that computed epsilon.
        sampling: the sampling assumption behind the amplification, for example "poisson".
        mechanism: the event tree in words, for example "Poisson-sampled Gaussian, ...".
        outside: disclosures the claim does not cover, for example label sets.
        assumptions: what the claim rests on.
    """

    epsilon: float
    delta: float
    unit: Unit
    neighbouring: Neighbouring
    accountant: str
    sampling: str
    mechanism: str
    outside: tuple[str, ...] = ()
    assumptions: tuple[Assumption, ...] = ()

    def __post_init__(self) -> None:
        if not (math.isfinite(self.epsilon) and self.epsilon >= 0):
            raise ValueError(f"expected a finite epsilon >= 0, got epsilon={self.epsilon}")
        if not 0 < self.delta < 1:
            raise ValueError(f"expected delta in (0, 1), got delta={self.delta}")

    @property
    def verified(self) -> bool:
        """Whether the run verified every assumption."""
        return all(a.verified for a in self.assumptions)
