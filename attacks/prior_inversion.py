"""Inversion with a generative prior: latents first, then the decoder's own features, layer by layer.

Sources: Jeon et al., "Gradient inversion with generative image prior" (GIAS, arXiv 2110.14962), section 4;
Fang et al., "GIFD" (arXiv 2308.04699), section 3.3: successive layers, each within an l1 ball about where
the one before left off, and the layer that matches best is kept.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

import torch
from torch import Tensor

from attacks._descent import Budget, Descent, Project, Variables, as_floats, best_restart, minimise, restarted
from attacks._inversion import (
    IMAGE,
    Objective,
    check_choice,
    check_positive,
    mismatch,
    replayed,
    total_variation,
)
from attacks._stages import Stage, into_ball, stages, through
from attacks._updates import Lanes, lanes, movements, rebuilt, recovered_labels
from attacks.interface import Known, Reconstruction
from privfed.prior import Prior
from privfed.randomness import Stream
from privfed.release import View


@dataclass(frozen=True, slots=True)
class PriorInversion:
    """Rebuild images that a public generator can make and that move the weights as a client's did.

    Latents drawn for the labels recovered are optimised first; then the features after each stage of
    the decoder in turn, and at last the pixels. Of all layers the one with the least objective is kept.
    With `matching` off nothing is optimised: what comes out is what labels and public data give away
    by themselves, the control every figure of this attack belongs beside.

    Attributes:
        records: records to rebuild of each update, also the batch assumed.
        rounds: first updates of each client that are inverted.
        layers: layers freed after the latents; more than there are means all of them, pixels included.
        radius: mean absolute change of a feature, per value, that freeing its layer allows.
        matching: whether the update is matched at all.
        objective: distance between movements: "cosine" or "squared".
        tv: weight of the total variation.
        lr: of Adam.
        local_lr, local_steps: recipe assumed of the client: full-batch steps.
        masked: entries that did not move count as withheld, not as unmoved.
        budget: steps of each layer; restarts are of the latents.
    """

    records: int = 1
    rounds: int = 1
    layers: int = 9
    radius: float = 0.3
    matching: bool = True
    objective: Objective = "cosine"
    tv: float = 0.0
    lr: float = 0.05
    local_lr: float = 0.1
    local_steps: int = 1
    masked: bool = False
    budget: Budget = field(default_factory=lambda: Budget(iterations=150, restarts=2, patience=60))

    def __post_init__(self) -> None:
        check_choice("objective", self.objective, Objective)
        check_positive(self, "records", "rounds", "radius", "lr", "local_lr", "local_steps")
        for name in ("layers", "tv"):
            if not getattr(self, name) >= 0:
                raise ValueError(f"expected {name} >= 0, got {name}={getattr(self, name)}")

    def reconstruct(self, view: View, known: Known, stream: Stream) -> Reconstruction | None:
        """`records` a client and round; None without a prior, images, or updates of whole models.

        Labels are all in turn where the movement of the head is unknown.

        Raises:
            ValueError: when the prior makes images of another shape.
        """
        found = movements(view, self.rounds)
        if found is None or known.prior is None or len(found[0].input_shape) != IMAGE:
            return None
        spec, moves = found
        labels = recovered_labels(spec, moves, known, self.records, self.local_lr * self.local_steps)
        one = restarted(lanes(spec, moves, labels), self.budget.restarts if self.matching else 1)
        latents = _drawn(known.prior, one, stream)
        parts = stages(known.prior)
        with torch.no_grad():
            images = through(parts, latents)
        if images.shape[2:] != spec.input_shape:
            raise ValueError(
                f"expected a prior of images of shape {spec.input_shape}, "
                f"got images={tuple(images.shape[2:])}"
            )
        if not self.matching:
            objective = matching_loss(self, one, images).detach()
            return rebuilt(moves, images, labels, as_floats(objective), len(one), False)
        images, last = inverted(self, one, latents, parts, known.prior)
        return rebuilt(moves, images, labels, as_floats(last.objective), last.work, last.stopped)


def inverted(
    knobs: PriorInversion, one: Lanes, latents: Tensor, parts: Sequence[Stage], prior: Prior
) -> tuple[Tensor, Descent]:
    """Images (L, n, ...) of the best-matching layer of each lane, and what all layers took together.

    Args:
        knobs: objective, recipe, layers and budget.
        one: observed movements, repeated for the restarts.
        latents: where to start, shape (R L, n, ...).
        parts: the stages from latents to images.
        prior: for the range of its latents.
    """

    def within(now: Variables) -> None:
        now[0].copy_(prior.clip(now[0].flatten(0, 1)).view_as(now[0]))

    restarts = knobs.budget.restarts
    layer = best_restart(_freed(knobs, one, latents, parts, within), restarts)
    one = one.take(torch.arange(len(one) // restarts, device=one.labels.device))
    values = layer.variables[0]
    with torch.no_grad():
        best, objective = through(parts, values), layer.objective
    work, stopped = layer.work, layer.stopped
    for depth in range(1, 1 + min(knobs.layers, len(parts))):
        with torch.no_grad():
            values = through(parts[depth - 1 : depth], values)
        layer = _freed(knobs, one, values, parts[depth:], _ball(values, knobs.radius))
        values = layer.variables[0]
        with torch.no_grad():
            images = through(parts[depth:], values)
        better = layer.objective < objective
        best[better], objective = images[better], torch.where(better, layer.objective, objective)
        work, stopped = work + layer.work, stopped and layer.stopped
    return best, Descent((best,), objective, work, stopped)


def matching_loss(knobs: PriorInversion, at: Lanes, images: Tensor) -> Tensor:
    """Objective of images (L, n, ...), shape (L,)."""
    made = replayed(at, [(images, at.targets())] * knobs.local_steps, knobs.local_lr)
    apart = mismatch(at, made, knobs.objective, masked=knobs.masked)
    return apart + knobs.tv * total_variation(images)


def _freed(
    knobs: PriorInversion, one: Lanes, values: Tensor, parts: Sequence[Stage], project: Project
) -> Descent:
    def loss(at: Lanes, now: Variables) -> Tensor:
        return matching_loss(knobs, at, through(parts, now[0]))

    return minimise(one, (values,), loss, knobs.budget, knobs.lr, "adam", project)


def _ball(centre: Tensor, radius: float) -> Project:
    def project(now: Variables) -> None:
        now[0].copy_(into_ball(now[0], centre, radius))

    return project


def _drawn(prior: Prior, one: Lanes, stream: Stream) -> Tensor:
    like = next(iter(one.start.values()))
    latents = prior.sample(one.labels.flatten(), stream.child("latents").torch())
    drawn: Tensor = latents.to(like).unflatten(0, one.labels.shape)
    return drawn
