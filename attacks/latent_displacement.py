"""Optimised latents: do they lie near a record's latent, and have they moved towards it?

FedDGM (arXiv 2312.01537) optimises latents of a public prior until they stand for a client's update. Where
they are released, a record is encoded by the same prior and compared. No published attack on optimised
distilled latents is known; the two here are the nearest latent under the prior's own metric, as GAN-Leaks
(Chen et al. 2020) with latents for images, and the direction of the movement.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Literal, get_args

import numpy as np
import torch
from torch import Tensor

from attacks._calibration import calibrated
from attacks._distances import distances
from attacks._releases import describe, received
from attacks._sets import Owned, against
from attacks.interface import Candidates, Floats, Observation, References, Signals
from privfed.prior import Prior
from privfed.randomness import Stream
from privfed.records import Records
from privfed.release import Release, View

Metric = Literal["prior", "euclidean"]
_UNKNOWN = -1  # label of a latent that no image of the same release tells


@dataclass(frozen=True, slots=True)
class LatentNearest:
    """Minus the distance of each record's latent to the nearest released latent.

    Higher = closer. The metric of the prior is the Mahalanobis distance under the covariance of the latents
    of the record's class: sqrt((e - w)^T S^-1 (e - w)).

    Attributes:
        artefact: name of the releases with latents; those about a client are read by its candidates.
        images: name of the releases with the labels of the latents, in the same order.
        metric: "prior" or "euclidean".
        same_label: compare only with latents of the record's own label; where labels are unknown with all.
    """

    artefact: str = "client_latents"
    images: str = "client_images"
    metric: Metric = "prior"
    same_label: bool = False

    def __post_init__(self) -> None:
        _check_metric(self.metric)

    def extract(self, view: View, candidates: Candidates, stream: Stream) -> Signals | None:
        """Closeness of candidates and population; None without latents or the prior that made them."""

        def value(prior: Prior, records: Records, latents: Records) -> Floats:
            found = _by_group(prior, records, latents, self.metric, self.same_label, _closeness)
            return np.where(np.isfinite(found), found, np.nan)

        return _read(view, candidates, self.artefact, self.images, value)


@dataclass(frozen=True, slots=True)
class LatentDisplacement:
    """Largest cosine between the way of a released latent and the way to the record's own latent.

    Higher = some latent moved towards the record. Where latents started is in no release, so both ways
    are taken from the centre of the prior's latents of the record's class, from which starts are drawn:
    the draw itself is part of what is read, as noise.

    Attributes:
        artefact, images: as in `LatentNearest`.
        metric: "prior" = ways are measured in standard deviations of the prior; "euclidean".
        same_label: as in `LatentNearest`.
    """

    artefact: str = "client_latents"
    images: str = "client_images"
    metric: Metric = "prior"
    same_label: bool = False

    def __post_init__(self) -> None:
        _check_metric(self.metric)

    def extract(self, view: View, candidates: Candidates, stream: Stream) -> Signals | None:
        """Cosines of candidates and population; None without latents or the prior that made them."""

        def value(prior: Prior, records: Records, latents: Records) -> Floats:
            found = _by_group(prior, records, latents, self.metric, self.same_label, _cosine)
            return np.where(np.isfinite(found), found, np.nan)

        return _read(view, candidates, self.artefact, self.images, value)


@dataclass(frozen=True, slots=True)
class LatentAttack:
    """Score each record by what released latents say of it beyond what they do without the record.

    Attributes:
        observation: distance or displacement.
    """

    observation: Observation = field(default_factory=LatentDisplacement)

    def score(self, target: Signals, references: References) -> Floats:
        """Signal less its mean over references without the record, shape (n,)."""
        return calibrated(target, references)


Compare = Callable[[Records, Records, bool], Floats]
"""Whitened, centred latents of n records and of what was released, and whether labels count: shape (n,)."""


def _read(
    view: View,
    candidates: Candidates,
    artefact: str,
    images: str,
    value: Callable[[Prior, Records, Records], Floats],
) -> Signals | None:
    prior, sent = candidates.prior, received(view, "latents", artefact)
    if prior is None or not sent or candidates.records.inputs.ndim != 4:
        return None
    labels = {(r.round, r.about): r.tensors.get("labels") for r in received(view, "synthetic", images)}
    sets: list[Owned] = [(r.about, _latents(r, prior, labels.get((r.round, r.about)))) for r in sent]

    def read(pool: Records, members: Records, population: Records) -> tuple[Floats, Floats]:
        own, free = (
            value(prior, Records(prior.encode(r.inputs).flatten(1), r.labels), pool)
            for r in (members, population)
        )
        return own, free

    return against(sets, candidates, read)


def _latents(release: Release, prior: Prior, labels: Tensor | None) -> Records:
    """The latents, flat, with the labels of their images where these are as many.

    Raises:
        ValueError: when they are not finite latents of this prior.
    """
    latents = release.tensors.get("latents", torch.empty(0))
    whole = latents.ndim == 4 and latents.is_floating_point() and tuple(latents.shape[1:]) == prior.shape
    if not whole or not bool(torch.isfinite(latents).all()):
        raise ValueError(
            f"expected finite latents of shape (m, {', '.join(map(str, prior.shape))}) in "
            f"{describe(release)}, got latents={tuple(latents.shape)} {latents.dtype}"
        )
    if labels is None or labels.shape != latents.shape[:1]:
        labels = torch.full(latents.shape[:1], _UNKNOWN, device=latents.device)
    return Records(latents.flatten(1).float(), labels.long())


def _by_group(
    prior: Prior, records: Records, latents: Records, metric: Metric, same_label: bool, compare: Compare
) -> Floats:
    """`compare` in the coordinates of each record's own group of the prior, shape (n,)."""
    found = np.full(len(records), np.nan)
    groups = len(prior.mean)
    labels = records.labels if groups > 1 else torch.zeros_like(records.labels)
    strict = same_label and bool((latents.labels != _UNKNOWN).all())
    for group in labels.unique().tolist():
        mine = labels == group
        own, made = (
            Records(_coordinates(prior, r.inputs, min(group, groups - 1), metric), r.labels)
            for r in (records.take(mine), latents)
        )
        found[mine.cpu().numpy()] = compare(own, made, strict)
    return found


def _coordinates(prior: Prior, latents: Tensor, group: int, metric: Metric) -> Tensor:
    centred = (latents - prior.mean[group]).double()
    if metric == "euclidean":
        return centred
    whitened: Tensor = torch.linalg.solve_triangular(prior.factor[group].double(), centred.T, upper=False)
    return whitened.T


def _closeness(records: Records, latents: Records, same_label: bool) -> Floats:
    parts = [d.amin(1) for d in distances(records, latents, same_label)]
    return np.asarray(-torch.cat(parts).numpy(), dtype=np.float64)


def _cosine(records: Records, latents: Records, same_label: bool) -> Floats:
    one, other = (torch.nn.functional.normalize(r.inputs, dim=1) for r in (records, latents))
    cosine = one @ other.T
    if same_label:
        cosine = cosine.masked_fill(records.labels.unsqueeze(1) != latents.labels, -torch.inf)
    return np.asarray(cosine.amax(1).cpu().numpy(), dtype=np.float64)


def _check_metric(metric: str) -> None:
    if metric not in get_args(Metric):
        known = ", ".join(get_args(Metric))
        raise ValueError(f"expected metric to be one of {known}, got metric={metric!r}")
