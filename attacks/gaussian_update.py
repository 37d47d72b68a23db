"""Gaussian update: a likelihood ratio of a client's update with a record's gradient in it, and without.

Source: Leemann, Pawelczyk and Kasneci, "Gaussian membership inference privacy" (2023, arXiv 2306.07273),
sections 4 and 5 (GLiR). The exact ratio of two simple hypotheses is at least as strong (Neyman and
Pearson) and is the default. Shrinkage: Ledoit and Wolf (2004); folding: Charikar, Chen and
Farach-Colton, "Finding frequent items in data streams" (2002), section 3.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, field
from typing import Literal, get_args

import numpy as np
import torch
from scipy.stats import ncx2
from sklearn.covariance import ledoit_wolf_shrinkage
from torch import Tensor

from attacks._gradients import (
    Columns,
    Part,
    Site,
    check_part,
    gradients,
    laid_out,
    record_counts,
    sites,
)
from attacks.interface import Candidates, Floats, Observation, References, Signals
from privfed.nets import NetSpec
from privfed.randomness import Stream
from privfed.records import Records
from privfed.release import View

Test = Literal["exact", "glir"]

FLOOR = -250.0
"""Smallest log p of GLiR, as in the authors' code: below it digits run out."""
_FOLDED = 4096  # coordinates above which gradients are folded
_SMALLEST = 1e-8  # variance of a direction that is kept, relative to the largest


@dataclass(frozen=True, slots=True)
class UpdateLikelihood:
    """Log-likelihood ratio of each client's update with a record in it to without it, one query a round.

    Higher = more likely in. Gradients at the broadcast model are taken as Gaussian. Mean and covariance
    come from all records the attacker can evaluate there: candidates, whoever holds them, and population.
    They are cut to their leading principal directions, where Ledoit and Wolf's shrinkage acts on the
    variances, and whitened.

    Two things are not known. The number of records n is what the client stated, or half of its
    candidates. The scale of the update, learning rate times steps, is fitted by maximum likelihood
    (`fitted_scale`) under the hypothesis that the record is not in. Assumes that one mean step
    describes the update; local epochs bend it. NaN where the client sat out or did not move. Where the
    broadcast has no head each client's gradients are its own, and so is its background.

    Attributes:
        part: parameters that are read; see `_gradients.sites` for broadcasts without a head.
        test: "exact" = log-likelihood ratio in nats; "glir" = minus log p of GLiR, at most 250.
        dimensions: principal directions kept, at most; fewer where the background allows fewer.
    """

    part: Part = "representation"
    test: Test = "exact"
    dimensions: int = 300

    def __post_init__(self) -> None:
        check_part(self.part)
        if self.test not in get_args(Test):
            raise ValueError(
                f"expected test to be one of {', '.join(get_args(Test))}, got test={self.test!r}"
            )
        if self.dimensions < 1:
            raise ValueError(f"expected dimensions >= 1, got dimensions={self.dimensions}")

    def extract(self, view: View, candidates: Candidates, stream: Stream) -> Signals | None:
        """Ratios of candidates and population; None without updates whose start and head are known."""
        found = sites(view, self.part)
        if found is None:
            return None
        spec, places = found

        def read(site: Site, records: Records, columns: Columns) -> Floats:
            gradient, moved = _flat(spec, site, records, stream.child("fold"))
            counts = record_counts(view, candidates, site.clients)
            return self._evidence(gradient, moved, counts, columns)

        return laid_out(places, candidates, read)

    def _evidence(self, gradient: Floats, moved: Floats, counts: Floats, columns: Columns) -> Floats:
        """Of members against their own client's movement, of the others against each, shape (n, clients)."""
        values = np.full((len(gradient), len(moved)), np.nan)
        white = whitened(gradient, self.dimensions)
        if white is None:
            return values
        for k, (update, n) in enumerate(zip(moved @ white.directions, counts, strict=True)):
            if update.any():
                mean = fitted_scale(update, white.mean, n) * update - white.mean
                asked = np.append(columns == k, np.ones(len(gradient) - len(columns), dtype=np.bool_))
                rows = white.gradients[asked]
                exact = self.test == "exact"
                values[asked, k] = exact_log_ratio(mean, rows, n) if exact else -glir_log_p(mean, rows, n)
        return values


@dataclass(frozen=True, slots=True)
class GaussianUpdate:
    """Score each record by how much likelier its client's updates are with its gradient in them.

    Attributes:
        observation: the log-likelihood ratio that is read.
    """

    observation: Observation = field(default_factory=UpdateLikelihood)

    def score(self, target: Signals, references: References) -> Floats:
        """Sum of the evidence over the known rounds, which is taken as independent, shape (n,)."""
        known = ~np.isnan(target.candidates)
        return np.where(known.any(1), np.where(known, target.candidates, 0.0).sum(1), np.nan)


@dataclass(frozen=True, slots=True)
class White:
    """A background in whitened coordinates.

    Attributes:
        directions: shape (d, r): maps a gradient to whitened coordinates, the mean left in.
        mean: shape (r,): of the background.
        gradients: shape (n, r): of the background, the mean taken off.
    """

    directions: Floats
    mean: Floats
    gradients: Floats


def whitened(background: Floats, dimensions: int) -> White | None:
    """Principal directions of a background, scaled to unit variance after shrinkage.

    Along its principal directions the shrunk covariance stays diagonal, so it is whitened by a division.
    Directions with next to no variance are dropped: classes' gradients in a head sum to zero.

    Args:
        background: shape (n, d).
        dimensions: directions kept, at most.

    Returns:
        None where the background does not vary.
    """
    mean = background.mean(0)
    centred = background - mean
    n, d = centred.shape
    kept = min(dimensions, n, d)
    if d <= n:
        variance, directions = np.linalg.eigh(centred.T @ centred / n)
        variance, directions = variance[-kept:], directions[:, -kept:]
    else:
        variance, left = np.linalg.eigh(centred @ centred.T / n)
        variance = variance[-kept:]
        directions = (
            centred.T @ left[:, -kept:] / np.sqrt(np.maximum(variance * n, np.finfo(np.float64).tiny))
        )
    large = variance > _SMALLEST * variance.max()
    if not variance.max() > 0:
        return None
    variance, directions = variance[large], directions[:, large]
    shrinkage = ledoit_wolf_shrinkage(centred @ directions, assume_centered=True)
    shrunk = (1 - shrinkage) * variance + shrinkage * variance.mean()
    directions = directions / np.sqrt(shrunk)
    return White(directions, mean @ directions, centred @ directions)


def fitted_scale(update: Floats, mean: Floats, n: float) -> float:
    """The factor that makes a whitened update most likely as a mean of n gradients, > 0.

    With a u ~ N(mean, I / n), u has log-density d log a - n / 2 |a u - mean|^2, which is largest at
    a = (<u, mean> + sqrt(<u, mean>^2 + 4 d |u|^2 / n)) / (2 |u|^2).

    Args:
        update: u, shape (d,), not all zero.
        mean: of the background, shape (d,).
        n: records that made the update.
    """
    along, length = float(update @ mean), float(update @ update)
    return (along + math.sqrt(along**2 + 4 * len(update) * length / n)) / (2 * length)


def exact_log_ratio(mean: Floats, gradients: Floats, n: float) -> Floats:
    """Log-likelihood ratio in nats of a mean of n whitened gradients, with each gradient in it to without.

    N(g / n, (n - 1) / n^2 I) against N(0, I / n).

    Args:
        mean: shape (d,) or (m, d), less the background's mean.
        gradients: shape (m, d), likewise.
        n: records that made the mean, > 1.

    Returns:
        Shape (m,).
    """
    d = gradients.shape[1]
    apart = ((mean - gradients / n) ** 2).sum(-1)
    ratio: Floats = -d / 2 * np.log((n - 1) / n) - n**2 / (2 * (n - 1)) * apart + n / 2 * (mean**2).sum(-1)
    return ratio


def glir_log_p(mean: Floats, gradients: Floats, n: float) -> Floats:
    """GLiR's log p of a mean of n whitened gradients; small = member; at least -250.

    log F(S) with S = (n - 1) |m - g|^2 and F noncentral chi-squared with d degrees of freedom and
    noncentrality n |g|^2.

    Args:
        mean: shape (d,) or (m, d), less the background's mean.
        gradients: shape (m, d), likewise.
        n: records that made the mean, > 1.

    Returns:
        Shape (m,).
    """
    distance = (n - 1) * ((mean - gradients) ** 2).sum(-1)
    with np.errstate(divide="ignore"):
        p: Floats = ncx2.logcdf(distance, gradients.shape[1], n * (gradients**2).sum(-1))
    floored: Floats = np.maximum(np.nan_to_num(p, nan=FLOOR, neginf=FLOOR), FLOOR)
    return floored


def _flat(spec: NetSpec, site: Site, records: Records, stream: Stream) -> tuple[Floats, Floats]:
    """Gradients (n, P) and movements (clients, P), both folded where P is large."""
    moved = site.moved.cpu()
    if moved.shape[1] <= _FOLDED:
        parts = list(gradients(spec, site.model, site.names, records))
    else:
        generator = stream.torch()
        place = torch.randint(_FOLDED, (moved.shape[1],), generator=generator)
        sign = torch.randint(2, (moved.shape[1],), generator=generator) * 2.0 - 1.0

        def fold(rows: Tensor) -> Tensor:
            return rows.new_zeros(len(rows), _FOLDED).index_add_(1, place, rows * sign)

        parts = [fold(g) for g in gradients(spec, site.model, site.names, records)]
        moved = fold(moved)
    return torch.cat(parts).double().numpy(), moved.double().numpy()
