"""Identification: do reconstructions point at members rather than at others of the same distribution?

For each reconstruction of a client the nearest candidate is looked up among the client's members and
decoys: non-members of the same distribution. Anchored at chance, unlike a threshold on PSNR or SSIM. The
same is asked from a member's side: is some reconstruction closer to it than to every decoy? Then chance
is 1 / (decoys + 1) whatever the number of members.

Direction: higher = more is given away. Distances point the other way; turn a likeness round first.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy.optimize import linear_sum_assignment

from audits.intervals import clopper_pearson
from audits.statistics import federated_mean
from reports.record import Estimate

Floats = NDArray[np.float64]
Bools = NDArray[np.bool_]

METRIC = "identification_at_1"
_EXACT = "Clopper-Pearson, reconstructions taken for independent"
_FAR = 1e300
_SLACK = 1e-9  # of sums of shared-out ties


@dataclass(frozen=True, slots=True)
class Lineup:
    """Reconstructions of one client in one federation beside the candidates that they may show.

    Attributes:
        distances: shape (m, n), lower = closer; NaN = cannot be said, and counts as far.
        members: shape (n,): which candidates the client held; the others are decoys.
    """

    distances: Floats
    members: Bools

    def __post_init__(self) -> None:
        if self.distances.ndim != 2 or self.members.shape != self.distances.shape[1:]:
            raise ValueError(
                "expected distances of shape (m, n) and members of shape (n,), "
                f"got distances={self.distances.shape} and members={self.members.shape}"
            )

    @property
    def chance(self) -> float:
        """Share of members among the candidates: what reconstructions that know nothing reach."""
        return float(self.members.mean()) if len(self.members) else math.nan

    @property
    def chance_of_member(self) -> float:
        """Of one member to be closer than all decoys by luck, 1 / (decoys + 1): none is special."""
        return 1 / (1 + int((~self.members).sum()))


def nearest_is_member(lineup: Lineup) -> Floats:
    """Whether each reconstruction's nearest candidate is a member, shape (m,), in [0, 1].

    Of several nearest ones the share that are members. NaN where no distance is known or there are no
    candidates.
    """
    distances = np.where(np.isnan(lineup.distances), np.inf, lineup.distances)
    if not distances.shape[1]:
        return np.full(len(distances), np.nan)
    least = distances.min(axis=1, keepdims=True)
    tied = (distances == least) & np.isfinite(distances)
    count = tied.sum(axis=1)
    found: Floats = np.where(count > 0, (tied & lineup.members).sum(axis=1) / np.maximum(count, 1), np.nan)
    return found


def one_to_one(lineup: Lineup) -> Floats:
    """The same where no candidate may be named twice, shape (m,).

    The matching of least total distance (Hungarian method): a hundred copies of one member count as one
    hit. NaN for reconstructions left over when there are more of them than candidates, and for those
    without any known distance. Chance is that of `nearest_is_member`.
    """
    found = np.full(len(lineup.distances), np.nan)
    known = np.flatnonzero(~np.isnan(lineup.distances).all(axis=1))
    if not len(known) or not len(lineup.members):
        return found
    # A sum with infinity or NaN has no minimum; far is far enough.
    costs = np.nan_to_num(lineup.distances[known], nan=_FAR, posinf=_FAR)
    rows, columns = linear_sum_assignment(np.minimum(costs, _FAR / 1e6))
    found[known[rows]] = lineup.members[columns]
    return found


def singled_out(lineup: Lineup) -> Floats:
    """Whether some reconstruction is closer to a member than to every decoy, shape (n,).

    Each member is set against the decoys alone; ties count by the share of the tied. NaN for decoys, and
    for all where no distance is known. Chance: `Lineup.chance_of_member`, exactly, where members
    and decoys are exchangeable.
    """
    found = np.full(len(lineup.members), np.nan)
    if not len(lineup.distances) or np.isnan(lineup.distances).all():
        return found
    closest = np.where(np.isnan(lineup.distances), np.inf, lineup.distances).min(axis=0)
    decoys = closest[~lineup.members]
    best = decoys.min(initial=np.inf)
    for i in np.flatnonzero(lineup.members):
        if closest[i] == best:
            found[i] = 1 / (1 + int((decoys == best).sum()))
        else:
            found[i] = float(closest[i] < best)
    return found


@dataclass(frozen=True, slots=True)
class Identified:
    """What an attack's reconstructions identified, beside what chance would have.

    Attributes:
        clustered: with the interval that federations allow: the one to judge by.
        exact: the same share with the exact binomial interval, which takes reconstructions of one
            federation for independent. They are not, so it is too narrow with few federations.
        chance: mean share that knowing nothing reaches in the same line-ups.
        reconstructions: how many were looked up.
        decoys: smallest number of decoys in a line-up.
    """

    clustered: Estimate
    exact: Estimate
    chance: float
    reconstructions: int
    decoys: int


def identification(
    federations: Sequence[Sequence[Lineup]], level: float, matched: bool = False
) -> Identified:
    """identification@1 over federations.

    Args:
        federations: of each federation one line-up a client, in the order of the clients; a client
            nobody reconstructed has one without rows.
        level: confidence of each bound.
        matched: one-to-one instead of nearest.
    """
    look = one_to_one if matched else nearest_is_member
    metric = f"{METRIC}_matched" if matched else METRIC
    found = [[look(lineup) for lineup in lineups] for lineups in federations]
    chances = [
        np.full(len(of), lineup.chance)[~np.isnan(of)]
        for looked, lineups in zip(found, federations, strict=True)
        for of, lineup in zip(looked, lineups, strict=True)
    ]
    rows = _aligned(found)
    decoys = [int((~lineup.members).sum()) for lineups in federations for lineup in lineups]
    expected = np.concatenate([np.empty(0), *chances])
    return Identified(
        federated_mean(rows, level, metric),
        exact(rows[~np.isnan(rows)], level, metric, int((~np.isnan(rows)).any(axis=1).sum())),
        float(expected.mean()) if len(expected) else math.nan,
        len(expected),
        min(decoys, default=0),
    )


def exact(found: Floats, level: float, metric: str, federations: int) -> Estimate:
    """Share of hits with exact binomial bounds, every look-up taken for an independent trial.

    Ties that were shared out are rounded down for the lower bound and up for the upper one.

    Args:
        found: shape (m,), in [0, 1].
        level: confidence of each bound.
        metric: name for the estimate.
        federations: how many the look-ups come from.
    """
    hits, value, lower, upper = float(found.sum()), None, None, None
    if len(found):
        value = hits / len(found)
        lower = clopper_pearson(math.floor(hits + _SLACK), len(found), level)[0]
        upper = clopper_pearson(math.ceil(hits - _SLACK), len(found), level)[1]
    return Estimate(
        metric=metric, value=value, lower=lower, upper=upper, level_lower=level, level_upper=level,
        method=_EXACT, n_in=len(found), n_out=0, n_federations=federations,
        scope="artefact" if federations == 1 else "training algorithm",
        reason="" if len(found) else "nothing was reconstructed",
    )  # fmt: skip


def _aligned(found: Sequence[Sequence[Floats]]) -> Floats:
    """One row a federation, clients side by side, NaN where a client has fewer reconstructions.

    A column holds what a client's slot gave in every federation: the same label in most attacks.
    """
    clients = max((len(f) for f in found), default=0)
    widths = [max((len(f[k]) for f in found if k < len(f)), default=0) for k in range(clients)]
    rows = np.full((len(found), sum(widths)), np.nan)
    for row, federation in zip(rows, found, strict=True):
        for k, of in enumerate(federation):
            start = sum(widths[:k])
            row[start : start + len(of)] = of
    return rows
