"""How like members reconstructions are, in pixels and to a network that saw nothing of the federation.

No figure here is judged: an image may be like a record because every image of its class is. They stand beside
identification, and what an independent network says of a class beside how often that is anybody's record.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial

import numpy as np
import torch
from torch import Tensor

from attacks.interface import Bools, Floats
from audits.examined import Measure
from audits.property_game import mean_error
from audits.reconstruction_measures import (
    Evaluator,
    l2,
    memorisation_ratio,
    perceptual_distance,
    psnr,
    ssim,
)
from privfed.records import Records

MOST = 100.0
"""Decibels at which two images count as the same; keeps a mean finite."""
FARTHEST = 2.0
"""Distance of two unit-normalised features that point away from each other."""
COPIED = 0.5
"""Ratio of distances to the nearest and the second nearest member below which an image counts as a copy."""

_BLOCK = 16
"""Images that `ssim` compares pair by pair to read the pairs wanted: one call each costs more."""


@dataclass(frozen=True, slots=True)
class Beside:
    """What was rebuilt in one federation beside the members it may show.

    Attributes:
        rebuilt: m images, in [-1, 1].
        candidates: inputs of all candidates, shape (n, channels, side, side).
        theirs: bool, shape (m, n): members of the client that a reconstruction is of.
    """

    rebuilt: Tensor
    candidates: Tensor
    theirs: Bools

    @property
    def decibels(self) -> Floats:
        """PSNR of each to the nearest member, shape (m,), at most `MOST`."""
        return np.minimum(self._best(psnr(self.rebuilt, self.candidates), -np.inf), MOST)

    @property
    def distances(self) -> Floats:
        """Euclidean, of each to every candidate, shape (m, n)."""
        return l2(self.rebuilt, self.candidates)

    def structure(self, distances: Floats) -> Floats:
        """SSIM of each to the member that is nearest by these distances, shape (m,)."""
        distances = np.where(self.theirs & ~np.isnan(distances), distances, np.inf)
        found = np.full(len(distances), np.nan)
        known = np.flatnonzero(np.isfinite(distances).any(axis=1))
        for at in np.split(known, range(_BLOCK, len(known), _BLOCK)):
            nearest = self.candidates[torch.from_numpy(distances[at].argmin(axis=1))]
            found[at] = np.diag(ssim(self.rebuilt[torch.from_numpy(at)], nearest))
        return found

    def copied(self, distances: Floats) -> Floats:
        """1 where the nearest member is less than half as far as the second nearest, shape (m,)."""
        ratio = memorisation_ratio(np.where(self.theirs, distances, np.nan))
        return np.where(np.isnan(ratio), np.nan, ratio < COPIED)

    def perceptual(self, seen: tuple[Tensor, Tensor]) -> Floats:
        """Distance of each to the nearest member in features of reconstructions and candidates."""
        return self._best(-between(*seen), -np.inf) * -1

    def _best(self, likeness: Floats, worst: float) -> Floats:
        allowed = self.theirs & ~np.isnan(likeness)
        best = np.where(allowed, likeness, worst).max(axis=1, initial=worst)
        return np.where(best > worst, best, np.nan)


def between(ours: Tensor, theirs: Tensor) -> Floats:
    """`perceptual_distance` of features that are known already, shape (m, n)."""
    return perceptual_distance(ours, theirs, lambda features: features)


def in_pixels(federations: Sequence[Beside]) -> dict[str, Measure]:
    """Likeness that needs no network, by name."""
    away = [(b, b.distances) for b in federations]
    return {
        "PSNR to the nearest member, dB": mean_of(
            [b.decibels for b in federations], MOST, "psnr_to_nearest_member"
        ),
        "SSIM to the nearest member": mean_of(
            [b.structure(d) for b, d in away], 1.0, "ssim_to_nearest_member"
        ),
        "memorisation ratio below 1/2": mean_of([b.copied(d) for b, d in away], 1.0, "memorised"),
    }


def in_features(federations: Sequence[Beside], seen: Sequence[tuple[Tensor, Tensor]]) -> dict[str, Measure]:
    """Likeness in features of an independent network, of reconstructions and candidates, by name."""
    distances = [b.perceptual(features) for b, features in zip(federations, seen, strict=True)]
    name = "perceptual distance to the nearest member"
    return {name: mean_of(distances, FARTHEST, "perceptual_distance_to_nearest_member")}


def of_classes(
    federations: Sequence[Records], named: Sequence[Floats], judge: Evaluator
) -> dict[str, Measure]:
    """Of images made for a class: how often an independent network takes them for it, and then whose.

    Its word alone is no proof: such networks often recognise what nobody would call alike (Ho et al. 2025).

    Args:
        federations: what was rebuilt, with the label it was made for.
        named: of each federation whether the nearest candidate is a member, shape (m,).
        judge: the network.
    """
    taken = [judge.recognised(r) for r in federations]
    accepted = [np.where(t == 1, n, np.nan) for t, n in zip(taken, named, strict=True)]
    return {
        "taken for its class by an independent network": mean_of(taken, 1.0, "evaluator_accuracy_at_1"),
        "of these, nearest to a member": mean_of(accepted, 1.0, "identification_at_1_of_accepted"),
    }


def mean_of(values: Sequence[Floats], most: float, metric: str) -> Measure:
    """Mean over federations of the mean over reconstructions, with the usual two-way bounds.

    Args:
        values: of each federation, from 0 to `most`, what lies below counted as 0; NaN = not known.
        most: the largest value there can be.
        metric: name for the estimate.
    """
    rows = np.full((len(values), max(1, *(len(v) for v in values))), np.nan)
    for row, known in zip(rows, values, strict=True):
        row[: len(known)] = known.clip(0, most)
    return partial(mean_error, rows, most, metric=metric)
