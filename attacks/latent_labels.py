"""Labels a client lacks, from what FedDGM's server distilled of it: their slots carry no signal.

FedDGM makes as many synthetic images of every label whatever a client holds (Jia et al. 2024,
arXiv 2312.01537; released code), so images of labels that the client lacks were never shaped by its
records. They are told apart by training the broadcast model on them: what they teach it is compared
with what the records of each label would (`attacks.label_inference`), or with what it knew before.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal, get_args

import numpy as np
import torch
from torch.nn import functional as F

from attacks._head_movements import HeadMovement, by_label, change, labelled
from attacks._references import known_mean
from attacks._releases import labelled_inputs, lacks_head, net_of, owner, received, to_one, weights
from attacks.interface import Floats, Inference, Known
from attacks.label_inference import shares
from privfed.nets import NetSpec
from privfed.prior import Prior
from privfed.randomness import Stream
from privfed.records import Records
from privfed.release import Release, View
from privfed.training import Recipe, Task, predict, train

Reading = Literal["shares", "gain", "distance"]


@dataclass(frozen=True, slots=True)
class LatentLabels:
    """Infer which labels a client holds from its synthetic images and latents, without its update.

    Values: shape (clients, classes), higher = more likely held; NaN for clients and labels without images.
    On digits (8 clients, Dirichlet 0.5, 8 federations of 2 rounds) held labels scored above others with
    probability 0.84 by "gain" (95 % bounds 0.79 and 0.88), 0.78 by "shares" (0.72, 0.83) and 0.39 by
    "distance" (0.30, 0.50): Adam moves latents that have no signal of their own at least as far.

    Attributes:
        reading: "shares" = shares of labels in the head's movement when the broadcast model is trained on the
            images again, as `LabelInference` reads an update, rows adding up to 1; "gain" = by how
            much that training lowers the loss on a label's own images, in nats; "distance" =
            how far a label's latents lie from where the prior draws them, as the mean squared
            Mahalanobis distance less its expectation, per dimension.
        images, latents: names of the per-client releases.
        steps: gradient steps on the images, as the server took them; their size was released with the
            latents.
        points: as in `LabelInference`.
    """

    reading: Reading = "gain"
    images: str = "client_images"
    latents: str = "client_latents"
    steps: int = 5
    points: int = 3

    def __post_init__(self) -> None:
        if self.reading not in get_args(Reading):
            raise ValueError(
                f"expected reading to be one of {', '.join(get_args(Reading))}, got reading={self.reading!r}"
            )
        for name in ("steps", "points"):
            if getattr(self, name) < 1:
                raise ValueError(f"expected {name} >= 1, got {name}={getattr(self, name)}")

    def infer(self, view: View, known: Known, stream: Stream) -> Inference | None:
        """One row a client, up to the highest seen; None without what the reading needs."""
        slots = _slots(view, self.images, self.latents)
        if not slots:
            return None
        spec = net_of(view, "surrogate")
        if self.reading == "distance":
            if known.prior is None:
                return None
            found = [(s.client, _distances(s, known.prior, spec.classes)) for s in slots]
            return Inference(_averaged(found, spec.classes))
        replayed = [(s, m) for s in slots if (m := _replayed(spec, s, self.steps, view, stream)) is not None]
        if not replayed:
            return None
        if self.reading == "gain":
            gains = [(s.client, _gains(spec, s, m)) for s, m in replayed]
            return Inference(_averaged(gains, spec.classes))
        records = labelled(known, spec.classes)
        return self._shares(spec, [m for _, m in replayed], records) if len(records) else None

    def _shares(self, spec: NetSpec, movements: list[HeadMovement], records: Records) -> Inference:
        values = np.full((1 + max(m.client for m in movements), spec.classes), np.nan)
        for client in sorted({m.client for m in movements}):
            own = [m for m in movements if m.client == client]
            moved = np.concatenate([change(spec, m, bias_only=False) for m in own])
            each = np.concatenate([by_label(spec, m, records, self.points, bias_only=False) for m in own])
            values[client] = shares(moved, each)
        return Inference(values)


@dataclass(frozen=True, slots=True)
class _Slots:
    """One client's images and latents of one round, with the step size that was learnt with them."""

    client: int
    round: int
    images: Records
    latents: torch.Tensor
    rate: float


def _slots(view: View, images: str, latents: str) -> list[_Slots]:
    made = {(owner(r), r.round): labelled_inputs(r) for r in received(view, "synthetic", images)}
    found = []
    for release in received(view, "latents", latents):
        key = owner(release), release.round
        if key in made and len(made[key]) == len(release.tensors["latents"]):
            rate = float(release.tensors["eta"])
            found.append(_Slots(*key, made[key], release.tensors["latents"], rate))
    return found


def _replayed(spec: NetSpec, slots: _Slots, steps: int, view: View, stream: Stream) -> HeadMovement | None:
    """The broadcast model trained on the client's images as the server did; None without a whole one."""
    start = _start(spec, slots.round, received(view, "weights", "surrogate"))
    if start is None or not len(slots.images) or not slots.rate > 0:
        return None
    recipe = Recipe(epochs=steps, batch=len(slots.images), lr=slots.rate)
    before = weights(start, spec)
    (after,) = train([Task(spec, before, slots.images, recipe, stream)])
    return HeadMovement(slots.client, slots.round, before, after)


def _start(spec: NetSpec, round: int, broadcasts: tuple[Release, ...]) -> Release | None:
    return next(
        (r for r in broadcasts if r.round == round and not to_one(r) and not lacks_head(r, spec)), None
    )


def _gains(spec: NetSpec, slots: _Slots, movement: HeadMovement) -> Floats:
    labels = slots.images.labels
    before, after = (
        F.cross_entropy(predict(spec, p, slots.images.inputs).double(), labels, reduction="none")
        for p in (movement.start, movement.end)
    )
    return _of_labels((before - after).numpy(), labels.numpy(), spec.classes)


def _distances(slots: _Slots, prior: Prior, classes: int) -> Floats:
    flat, group = slots.latents.flatten(1), slots.images.labels.clamp_max(len(prior.mean) - 1)
    group = group if len(prior.mean) > 1 else torch.zeros_like(group)
    centred = (flat - prior.mean[group]).unsqueeze(2)
    whitened = torch.linalg.solve_triangular(prior.factor[group], centred, upper=False)
    squared = whitened.square().mean((1, 2)) - 1
    return _of_labels(squared.double().numpy(), slots.images.labels.numpy(), classes)


def _of_labels(
    values: Floats, labels: np.ndarray[tuple[int, ...], np.dtype[np.int64]], classes: int
) -> Floats:
    """Mean of each label, shape (classes,); NaN where there is none."""
    own = [values[labels == c] for c in range(classes)]
    return np.array([v.mean() if len(v) else np.nan for v in own])


def _averaged(found: list[tuple[int, Floats]], classes: int) -> Floats:
    """Mean over rounds of each client, shape (clients, classes)."""
    rows = np.full((1 + max(k for k, _ in found), classes), np.nan)
    for client in sorted({k for k, _ in found}):
        rows[client] = known_mean(np.stack([v for k, v in found if k == client]), 0)
    return rows
