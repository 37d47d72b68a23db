"""How often any reconstruction can succeed under a claim, given how often a blind guess does.

Reconstruction robustness: against an adversary that knows all other records and draws the missing one from
its prior, a mechanism with trade-off function f lets it succeed with probability at most 1 - f(kappa),
kappa being the success of the best guess made before anything is released (Balle, Cherubin and Hayes,
arXiv 2201.04845; Hayes, Mahloujifar and Balle, arXiv 2302.07225, Theorem 2; Kaissis et al., arXiv
2307.03928, for Gaussians in closed form). 1 - f(kappa) is the largest true-positive rate at the
false-positive rate kappa, so the trade-off code answers. That holds with the record added to the
others just as with it replaced: the release without it is a reference that does not depend on it.

Both speak of one record that was fixed beforehand. Where the attacker chooses which of many candidates a
reconstruction shows, it takes the one it is surest of, and can be right more often: `pointing_success`.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
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


def pointing_success(profile: Sequence[tuple[float, float]], chance: float, candidates: int) -> float:
    """Largest share of members among the candidates that reconstructions point at, each at any it likes.

    Let one candidate i be pointed at with probability p_i if it was in and q_i if not, and pi be the
    chance of being in. Then p_i <= e^eps q_i + delta for every point of the privacy profile; summed over n
    candidates, with pi p_i + (1 - pi) q_i adding up to 1, the share s = sum of pi p_i obeys

        s <= 1 - (1 - pi n delta) / (1 + e^eps pi / (1 - pi)).

    The lowest over the profile counts. For n = 2 candidates and mu-GDP that is Phi(mu / 2); it grows with n
    and passes Phi(Phi^-1(pi) + mu), which holds for a record fixed beforehand, at about 20 of them.
    The same holds where a record is exchanged for another and the number of members is known: at each
    number for its share, and on average as the bound is concave in pi.

    Args:
        profile: (epsilon, delta) pairs that all hold, epsilon in nats.
        chance: of a candidate to be a member, in (0, 1).
        candidates: that a reconstruction can point at, members and decoys.

    >>> round(pointing_success([(0.1, 1e-5)], 0.5, 100), 4)
    0.5252
    """
    if not 0 < chance < 1:
        raise ValueError(f"expected chance in (0, 1), got chance={chance}")
    if candidates < 1 or not len(profile):
        raise ValueError(
            f"expected candidates and a profile, got candidates={candidates} and {len(profile)} points"
        )
    odds, weight = chance / (1 - chance), chance * candidates
    # Beyond 700 the exponential overflows, and the share is 1 to the last bit long before.
    shares = (1 - (1 - weight * d) / (1 + odds * math.exp(min(e, 700.0))) for e, d in profile)
    return min(1.0, *shares)


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
