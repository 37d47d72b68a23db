"""How often any reconstruction can succeed under a claim, given how often a blind guess does.

Reconstruction robustness: against an adversary that knows all other records and draws the missing one from
its prior, a mechanism with trade-off function f lets it succeed with probability at most 1 - f(kappa),
kappa being the success of the best guess made before anything is released (Balle, Cherubin and Hayes,
arXiv 2201.04845; Hayes, Mahloujifar and Balle, arXiv 2302.07225, Theorem 2; Kaissis et al., arXiv
2307.03928, for Gaussians in closed form). 1 - f(kappa) is the largest true-positive rate at the
false-positive rate kappa, so the trade-off code answers. That holds with the record added to the
others just as with it replaced: the release without it is a reference that does not depend on it.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from audits.intervals import clopper_pearson
from privfed.accounting import Accountant
from privfed.claims import Neighbouring, max_tpr
from privfed.trade_off import gdp_tpr, tpr_bound

if TYPE_CHECKING:
    from dp_accounting import DpEvent

Floats = NDArray[np.float64]


def gdp_success(mu: float, kappa: float) -> float:
    """Largest success of a reconstruction under mu-GDP: Phi(Phi^-1(kappa) + mu).

    >>> round(gdp_success(1.0, 0.01), 3)
    0.092
    """
    _check(kappa)
    if not mu >= 0:
        raise ValueError(f"expected mu >= 0, got mu={mu}")
    return gdp_tpr(mu, kappa)


def claimed_success(epsilon: float, delta: float, kappa: float) -> float:
    """The same from one (epsilon, delta), which knows a single point of the privacy profile.

    >>> round(claimed_success(2.0, 1e-5, 0.01), 3)
    0.074
    """
    _check(kappa)
    return max_tpr(epsilon, delta, kappa)


def success(
    events: Iterable[DpEvent | None],
    kappa: float,
    accountant: Accountant = "pld",
    neighbouring: Neighbouring = "add_or_remove_one",
) -> float:
    """The same from the whole trade-off of what ran (`tpr_bound`); 1 without a guarantee."""
    _check(kappa)
    return tpr_bound(events, kappa, accountant, neighbouring)


def guess_success(distances: Floats, radius: float, level: float) -> tuple[float, float]:
    """kappa: how often the best blind guess hits, and an upper bound of it for use in a bound.

    Args:
        distances: shape (g, n), from each of g guesses (public records, class means, draws of the prior)
            to n records of the private distribution that played no part in choosing the guesses.
        radius: a record within it counts as reconstructed.
        level: confidence of the upper bound.

    Returns:
        Share of records that the best guess hits, and a Clopper-Pearson bound on it, with the
        level shared out among the guesses, as the best one is picked by the same records.

    Raises:
        ValueError: without guesses or records.
    """
    if distances.ndim != 2 or not distances.size:
        raise ValueError(f"expected distances of shape (g, n), g and n >= 1, got {distances.shape}")
    hits = int((distances <= radius).sum(axis=1).max())
    records = distances.shape[1]
    return hits / records, clopper_pearson(hits, records, 1 - (1 - level) / len(distances))[1]


def _check(kappa: float) -> None:
    if not 0 <= kappa <= 1:
        raise ValueError(f"expected kappa in [0, 1], got kappa={kappa}")
