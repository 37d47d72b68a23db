"""What privacy events leave to any attack: the whole trade-off between its two errors, not one point of it.

A privacy profile, delta as a function of epsilon, says as much as the trade-off function does (Dong,
Roth and Su, arXiv 1905.02383, Proposition 6). A mechanism is mu-GDP if telling its neighbouring inputs apart
is no easier than telling N(0, 1) from N(mu, 1); for Gaussians that is exact, and composition adds squares
(Corollary 2).
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable
from typing import TYPE_CHECKING

import numpy as np
from scipy.optimize import minimize_scalar
from scipy.special import log_ndtr, ndtr, ndtri

from privfed.accounting import delta_at, epsilon
from privfed.claims import Neighbouring
from privfed.composition import Accountant
from privfed.dp_events import gaussians

if TYPE_CHECKING:
    from dp_accounting import DpEvent

GRID = 60
LEAST_DELTA = 1e-8
"""An envelope has so many epsilons, even from 0 to where PLD's profile has come down to this delta."""

_MU_STEPS = 60
_SAME = 1e-9
# Beyond it the second line bounds errors smaller than the arithmetic resolves.
_FURTHEST = 40.0


def gdp_tpr(mu: float, fpr: float) -> float:
    """TPR at `fpr` of the best attack on a mu-GDP mechanism.

    >>> round(gdp_tpr(1.0, 0.01), 4)
    0.0924
    """
    _require_fpr(fpr)
    return float(ndtr(mu + ndtri(fpr)))


def gdp_auc(mu: float) -> float:
    """AUC of the best attack on a mu-GDP mechanism, Phi(mu / sqrt 2)."""
    return float(ndtr(mu / math.sqrt(2)))


def gdp_delta(mu: float, epsilon: float) -> float:
    """The privacy profile of a mu-GDP mechanism (Balle and Wang, arXiv 1805.06530, Theorem 8).

    >>> round(gdp_delta(1.0, 0.0), 4)
    0.3829
    """
    if mu == 0:
        return 0.0
    return float(ndtr(mu / 2 - epsilon / mu) - math.exp(epsilon + log_ndtr(-mu / 2 - epsilon / mu)))


def gdp_mu(
    events: Iterable[DpEvent | None], neighbouring: Neighbouring = "add_or_remove_one"
) -> float | None:
    """Mu for which all `events` together are mu-GDP; None where that is not defined.

    Exact for full-batch Gaussians: the root of the sum of 1 / noise^2, twice that where a record is
    replaced. With Poisson sampling no mu is exact, and what comes back is a numerical envelope: the
    smallest mu whose profile is nowhere below PLD's on a grid of 60 epsilons, even from 0 to where
    PLD's delta is 1e-8, and never more than mu without amplification, which holds everywhere. Below
    a delta of 1e-8 the envelope is not looked at and may not hold. Infinity for noise next to none.
    """
    listed = tuple(events)
    steps = None if None in listed else [step for event in listed for step in gaussians(event)]
    if steps is None or None in steps:
        return None
    known = [step for step in steps if step is not None]
    scale = 2.0 if neighbouring == "replace_one" else 1.0
    if any(noise <= 0 for noise, _, _ in known):
        return math.inf
    # Sampling mixes two neighbours that are the same with two that are not: never easier to tell apart.
    most = scale * math.sqrt(sum(times / noise**2 for noise, _, times in known))
    if all(rate >= 1 for _, rate, _ in known):
        return most
    return _envelope(listed, neighbouring, most)


def tpr_bound(
    events: Iterable[DpEvent | None],
    fpr: float,
    accountant: Accountant = "pld",
    neighbouring: Neighbouring = "add_or_remove_one",
) -> float:
    """The largest TPR that any attack can have at `fpr`, from the whole privacy profile.

    The lowest, over all epsilon, of the two lines of Kairouz, Oh and Viswanath (arXiv 1311.0776): e^epsilon
    fpr + delta(epsilon) and 1 - e^-epsilon (1 - fpr - delta(epsilon)). So it is never above what one
    (epsilon, delta) of the same accountant implies, `privfed.claims.max_tpr`. Full-batch Gaussians
    have it in closed form, whatever the accountant.

    Args:
        events: what ran; the bound is 1 if one of them is None.
        fpr: false-positive rate, in [0, 1].
        accountant: whose profile; "pld" unless it has no analysis of the events.
        neighbouring: how neighbouring data sets differ.
    """
    _require_fpr(fpr)
    listed = tuple(events)
    if None in listed or fpr == 1:
        return 1.0
    steps = [step for event in listed if event is not None for step in gaussians(event)]
    if all(step is not None and step[1] >= 1 for step in steps):
        mu = gdp_mu(listed, neighbouring)
        return 1.0 if mu is None else gdp_tpr(mu, fpr)

    def delta(at: float) -> float:
        return delta_at(listed, at, accountant, neighbouring)

    # Where e^epsilon fpr is 1 the first line says nothing; a profile still near 1 there has no other to say.
    end = min(_FURTHEST, -math.log(max(fpr, 1e-300)))
    if delta(end) > 1 - _SAME:
        return 1.0
    rising = _least(lambda at: math.exp(at) * fpr + delta(at), end)
    falling = _least(lambda at: 1 - math.exp(-at) * (1 - fpr - delta(at)), _FURTHEST)
    return min(1.0, rising, falling)


def _least(line: Callable[[float], float], end: float) -> float:
    """Either line is convex in e^epsilon or its inverse: it falls, then rises, so one search finds it."""
    found = minimize_scalar(line, bounds=(0.0, end), method="bounded", options={"xatol": 1e-5})
    return min(float(found.fun), line(0.0), line(end))


def _envelope(listed: tuple[DpEvent | None, ...], neighbouring: Neighbouring, most: float) -> float:
    furthest = epsilon(listed, LEAST_DELTA, "pld", neighbouring)
    if not math.isfinite(furthest):
        return most
    grid = np.linspace(0.0, furthest, GRID)
    profile = [(float(at), delta_at(listed, float(at), "pld", neighbouring)) for at in grid]
    low, high = 0.0, most
    for _ in range(_MU_STEPS):
        middle = (low + high) / 2
        enough = all(gdp_delta(middle, at) >= delta for at, delta in profile)
        low, high = (low, middle) if enough else (middle, high)
    return high


def _require_fpr(fpr: float) -> None:
    if not 0 <= fpr <= 1:
        raise ValueError(f"expected fpr in [0, 1], got fpr={fpr}")
