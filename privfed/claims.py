"""The promise a defence makes: (epsilon, delta) for a stated unit and neighbouring relation."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Literal

Unit = Literal["record", "client"]
Neighbouring = Literal["add_or_remove_one", "replace_one"]
Adversary = Literal["server", "clients", "outsiders"]

EVERYBODY: tuple[Adversary, ...] = ("server", "clients", "outsiders")


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
        trace: the events behind it, as `privfed.event_trees` writes them; empty where there are none.
        against: whose observations it bounds. Noise added at the client holds against everybody,
            noise added to a sum holds against those who see no single update.
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
    against: tuple[Adversary, ...] = EVERYBODY
    trace: str = ""

    def __post_init__(self) -> None:
        if not (math.isfinite(self.epsilon) and self.epsilon >= 0):
            raise ValueError(f"expected a finite epsilon >= 0, got epsilon={self.epsilon}")
        if not 0 < self.delta < 1:
            raise ValueError(f"expected delta in (0, 1), got delta={self.delta}")

    @property
    def verified(self) -> bool:
        """Whether the run verified every assumption."""
        return all(a.verified for a in self.assumptions)


def max_tpr(epsilon: float, delta: float, fpr: float) -> float:
    """The largest true-positive rate any attack can have at `fpr` under (epsilon, delta).

    Kairouz, Oh and Viswanath (arXiv 1311.0776, Theorem 2.1): both error trade-offs at once. It knows one
    point of the privacy profile; `privfed.trade_off.tpr_bound` reads all of it and is never above.

    >>> round(max_tpr(2.0, 1e-5, 0.01), 3)
    0.074
    """
    if not epsilon >= 0 or not 0 <= delta < 1:
        raise ValueError(f"expected epsilon >= 0 and delta in [0, 1), got epsilon={epsilon}, delta={delta}")
    if not 0 <= fpr <= 1:
        raise ValueError(f"expected fpr in [0, 1], got fpr={fpr}")
    if math.isinf(epsilon):
        return 1.0
    growth = math.exp(min(epsilon, 700.0))  # beyond 700 the other bound decides, and exp overflows
    return min(1.0, growth * fpr + delta, 1 - math.exp(-epsilon) * (1 - fpr - delta))
