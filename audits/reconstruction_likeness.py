"""What pictures made for one client look like beside its members, in pixels and to an independent network."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from audits.identification import Lineup, nearest_is_member, singled_out
from audits.reconstruction_deal import Dealt
from audits.reconstruction_measures import Evaluator, Floats, l2, perceptual_distance, psnr, ssim
from privfed.records import Records

MOST = 60.0
"""Decibels that a PSNR counts at most in a mean; an exact copy has infinitely many."""


@dataclass(frozen=True, slots=True)
class Likeness:
    """Likeness of pictures to one client's members; None where there is no picture.

    Attributes:
        first: whether the nearest candidate of the picture that the attack itself thinks best is a
            member; 0 without a picture.
        every: the same, mean over all pictures.
        found: share of the members to which some picture is closer than to every decoy.
        decibels: PSNR to the nearest member, mean over the pictures, each at most `MOST`.
        structure: SSIM to the member that is nearest by Euclidean distance, mean over the pictures.
        perceptual: distance to that member between unit-normalised features of the judge, in [0, 2],
            mean over the pictures; None too where their features are all 0, which point nowhere.
        first_seen, every_seen: as `first` and `every`, the nearest candidate being that of the judge's
            features; a picture without a distance is a miss.
    """

    first: float
    every: float | None
    found: float
    decibels: float | None
    structure: float | None
    perceptual: float | None
    first_seen: float
    every_seen: float | None


@dataclass(frozen=True, slots=True, eq=False)
class Beside:
    """The candidates of one client.

    Attributes:
        candidates: members first, then decoys, shape (n, channels, side, side).
        seen: their features, shape (n, d).
        members: shape (n,): which of them the client held.
        judge: whose features they are.
    """

    candidates: Tensor
    seen: Tensor
    members: NDArray[np.bool_]
    judge: Evaluator

    @property
    def lineup(self) -> Lineup:
        """Without any picture: it has the shares that chance gives."""
        return Lineup(np.empty((0, len(self.members))), self.members)

    def likeness(self, pictures: Records) -> Likeness:
        """Of pictures in [-1, 1], the one that the attack itself thinks best first."""
        if not len(pictures):
            return Likeness(0.0, None, 0.0, None, None, None, 0.0, None)
        inputs = pictures.inputs.to(self.candidates)
        lineup = Lineup(l2(inputs, self.candidates), self.members)
        distances = _between(self.judge.features(inputs), self.seen)
        hits = np.nan_to_num(nearest_is_member(lineup))
        seen = np.nan_to_num(nearest_is_member(Lineup(distances, self.members)))
        own = self.candidates[torch.from_numpy(self.members)]
        nearest = lineup.distances[:, self.members].argmin(1)
        decibels = np.minimum(np.nan_to_num(psnr(inputs, own)), MOST)
        known = distances[:, self.members][np.arange(len(inputs)), nearest]
        known = known[~np.isnan(known)]
        return Likeness(
            float(hits[0]),
            float(hits.mean()),
            float(np.nanmean(np.nan_to_num(singled_out(lineup))[lineup.members])),
            float(decibels.max(axis=1).mean()),
            float(_structure(inputs, own, nearest).mean()),
            float(known.mean()) if len(known) else None,
            float(seen[0]),
            float(seen.mean()),
        )


def beside(dealt: Dealt, client: int, judge: Evaluator) -> Beside:
    """The line-up of one client, with what the judge sees in it."""
    own, decoys = dealt.clients[client].inputs, dealt.decoys[client].inputs
    candidates = torch.cat([own, decoys])
    members: NDArray[np.bool_] = np.arange(len(candidates)) < len(own)
    return Beside(candidates, judge.features(candidates), members, judge)


def _between(x: Tensor, y: Tensor) -> Floats:
    return perceptual_distance(x, y, lambda features: features)


def _structure(pictures: Tensor, members: Tensor, nearest: NDArray[np.int64]) -> Floats:
    """SSIM of each picture to its own member, shape (m,); not of every pair, which costs memory."""
    found = np.empty(len(pictures))
    for j in np.unique(nearest):
        at = np.flatnonzero(nearest == j)
        found[at] = ssim(pictures[torch.from_numpy(at)], members[j : j + 1])[:, 0]
    return found
