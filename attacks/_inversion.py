"""What inversions of updates share: local training replayed on dummy records, and how far off it is.

Everything runs on L lanes side by side (`attacks._updates.Lanes`) and keeps a graph to the dummy records.
Inputs may be images or embedded text; only the total variation asks which.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal, get_args

import torch
from torch import Tensor

from attacks._updates import Lanes
from privfed.nets import Params

Objective = Literal["cosine", "squared"]
Layers = Literal["equal", "increasing"]
Batch = tuple[Tensor, Tensor]
"""Inputs (L, n, ...) and label distributions (L, n, classes); a row of zeros is no record."""

IMAGE = 3  # dimensions of one image: channels, height, width
BOX = 1.0  # pixels lie in [-1, 1]


def check_choice(name: str, value: str, choices: object) -> None:
    """Refuse a knob that is not one of the alternatives of a Literal.

    Raises:
        ValueError: naming them.
    """
    known = get_args(choices)
    if value not in known:
        raise ValueError(f"expected {name} to be one of {', '.join(known)}, got {name}={value!r}")


def check_positive(attack: object, *names: str) -> None:
    """Refuse knobs that are not above 0.

    Raises:
        ValueError: naming the first.
    """
    for name in names:
        if not getattr(attack, name) > 0:
            raise ValueError(f"expected {name} > 0, got {name}={getattr(attack, name)}")


def gradients(lanes: Lanes, params: Params, batch: Batch) -> Params:
    """Gradients of the mean cross-entropy of each lane, by name, each (L, ...), with a graph."""
    inputs, targets = batch
    log_p = lanes.model(params, inputs).log_softmax(-1)
    count = (targets.detach().sum(-1) > 0).sum(1).clamp_min(1)
    loss = -((targets * log_p).sum((1, 2)) / count).sum()
    found = torch.autograd.grad(loss, list(params.values()), create_graph=True, allow_unused=True)
    return {
        k: torch.zeros_like(v) if g is None else g for (k, v), g in zip(params.items(), found, strict=True)
    }


def replayed(lanes: Lanes, batches: Sequence[Batch], lr: float | Tensor) -> Params:
    """How plain SGD on the batches moves the start: start less result, by name, with a graph.

    Args:
        lanes: where training starts.
        batches: one a local step.
        lr: learning rate, one number or one a lane, shape (L,).
    """
    params = {k: v.detach().requires_grad_() for k, v in lanes.start.items()}
    total: Params = {}
    for batch in batches:
        step = {k: _scaled(g, lr) for k, g in gradients(lanes, params, batch).items()}
        params = {k: v - step[k] for k, v in params.items()}
        total = {k: total[k] + g for k, g in step.items()} if total else step
    return total


def surrogate_gradient(lanes: Lanes, batch: Batch, mix: Tensor) -> Params:
    """Gradient at mix x start + (1 - mix) x trained, mix of shape (L,): the surrogate point of SME."""
    params = {k: _scaled(v, mix) + _scaled(lanes.trained[k], 1 - mix) for k, v in lanes.start.items()}
    return gradients(
        lanes, {k: v if v.requires_grad else v.requires_grad_() for k, v in params.items()}, batch
    )


def mismatch(
    lanes: Lanes, made: Params, objective: Objective, layers: Layers = "equal", masked: bool = False
) -> Tensor:
    """How far the movement made is from the one observed, shape (L,); 0 = the same.

    "squared" is the squared distance over that of no movement (Zhu et al. 2019, section 3.2, normalised);
    "cosine" is 1 less the cosine (Geiping et al. 2020, section 4), which does not ask for a learning
    rate. A tensor in which nothing moved says nothing and is left out: it was frozen, or not sent.

    Args:
        lanes: observed movements.
        made: movement or gradient on dummy records, by name, each (L, ...).
        objective: which distance.
        layers: "increasing" weighs the k-th of K parameter tensors by 2 k / (K + 1).
        masked: leave out single entries that did not move too, as of an update that was sparsified.
    """
    names = list(made)
    dots, made_sq, true_sq, apart = [], [], [], []
    for place, name in enumerate(names):
        ours, theirs = made[name].flatten(1), (lanes.start[name] - lanes.trained[name]).flatten(1)
        weight = 2 * (place + 1) / (len(names) + 1) if layers == "increasing" else 1.0
        told = (theirs != 0).any(1).to(ours.dtype) * weight
        ours = torch.where(theirs != 0, ours, 0.0) if masked else ours
        dots.append(told * (ours * theirs).sum(1))
        made_sq.append(told * ours.square().sum(1))
        true_sq.append(told * theirs.square().sum(1))
        apart.append(told * (ours - theirs).square().sum(1))
    observed = torch.stack(true_sq).sum(0)
    if objective == "squared":
        return torch.stack(apart).sum(0) / observed
    tiny = torch.finfo(observed.dtype).tiny
    length = (torch.stack(made_sq).sum(0).clamp_min(tiny) * observed).sqrt()
    return 1 - torch.stack(dots).sum(0) / length


def total_variation(inputs: Tensor) -> Tensor:
    """Mean absolute difference of neighbouring pixels, down plus across, shape (L,); 0 for text.

    Args:
        inputs: shape (L, n, *shape of a record).
    """
    if not is_image(inputs):
        return inputs.new_zeros(len(inputs))
    down, across = inputs.diff(dim=-2).abs(), inputs.diff(dim=-1).abs()
    return down.flatten(1).mean(1) + across.flatten(1).mean(1)


def is_image(inputs: Tensor) -> bool:
    """Whether inputs (L, n, ...) are images."""
    return inputs.ndim == IMAGE + 2


def boxed(inputs: Tensor) -> None:
    """Holds images, (L, n, c, h, w), within the range of pixels, in place; text is left alone."""
    if is_image(inputs):
        inputs.clamp_(-BOX, BOX)


def _scaled(tensor: Tensor, factor: float | Tensor) -> Tensor:
    if isinstance(factor, Tensor):
        return tensor * factor.view(-1, *(1,) * (tensor.ndim - 1))
    return tensor * factor
