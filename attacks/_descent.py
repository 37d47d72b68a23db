"""Optimising dummy records lane by lane, with a budget and a rule for stopping of its own.

A lane ends when its objective falls below a tolerance or makes no progress for a while, never because of
any likeness to a truth that no attacker has. Lanes do not influence one another.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np
import torch
from torch import Tensor

from attacks._updates import Lanes

Optimiser = Literal["signed_adam", "adam", "lbfgs"]
Variables = tuple[Tensor, ...]
Loss = Callable[[Lanes, Variables], Tensor]
"""Objective of each lane, shape (L,), from variables of shapes (L, ...)."""
Project = Callable[[Variables], None]

MILESTONES = (3 / 8, 5 / 8, 7 / 8)  # of the iterations, at which the learning rate falls
DECAY = 0.1
PROGRESS = 1e-3  # least relative fall of the objective that counts as progress
HISTORY = 20  # evaluations of one L-BFGS iteration


@dataclass(frozen=True, slots=True)
class Budget:
    """How long an attack may work, and when it ends by itself.

    Attributes:
        iterations: optimiser steps of a lane at most; for L-BFGS of up to 20 evaluations each.
        restarts: starts from fresh noise; the one with the least objective is kept.
        tolerance: objective below which a lane is done.
        patience: steps without a fall of the objective by a thousandth after which a lane gives up.
    """

    iterations: int = 400
    restarts: int = 1
    tolerance: float = 1e-6
    patience: int = 150

    def __post_init__(self) -> None:
        for name in ("iterations", "restarts", "patience"):
            if getattr(self, name) < 1:
                raise ValueError(f"expected {name} >= 1, got {name}={getattr(self, name)}")
        if not self.tolerance >= 0:
            raise ValueError(f"expected tolerance >= 0, got tolerance={self.tolerance}")


@dataclass(frozen=True, slots=True)
class Descent:
    """Where each lane got to.

    Attributes:
        variables: those with the least objective, shapes (L, ...), detached.
        objective: shape (L,); infinite where it never was a number.
        work: evaluations of the objective, over all lanes.
        stopped: whether every lane ended before its iterations were spent.
    """

    variables: Variables
    objective: Tensor
    work: int
    stopped: bool


class _Best:
    """The least objective of each lane so far, and which lanes still work."""

    def __init__(self, variables: Variables, budget: Budget) -> None:
        lanes = len(variables[0])
        self.budget = budget
        self.variables = [v.detach().clone() for v in variables]
        self.objective = torch.full((lanes,), torch.inf, dtype=variables[0].dtype, device=variables[0].device)
        self.mark = self.objective.clone()  # the objective at the last progress
        self.waited = torch.zeros(lanes, dtype=torch.int64, device=variables[0].device)
        self.running = torch.ones(lanes, dtype=torch.bool, device=variables[0].device)

    def note(self, loss: Tensor, variables: Variables) -> None:
        loss = loss.detach()
        better = self.running & (loss < self.objective)
        self.objective = torch.where(better, loss, self.objective)
        for kept, v in zip(self.variables, variables, strict=True):
            kept[better] = v.detach()[better]
        # Clamped, so that infinity, the first mark, less a share of itself is still infinity.
        progress = self.objective < self.mark - PROGRESS * self.mark.abs().clamp_max(1e30)
        self.mark = torch.where(progress, self.objective, self.mark)
        self.waited = torch.where(progress, 0, self.waited + 1)
        self.running &= (self.objective > self.budget.tolerance) & (self.waited < self.budget.patience)


def minimise(
    lanes: Lanes,
    variables: Variables,
    loss: Loss,
    budget: Budget,
    lr: float | Sequence[float],
    optimiser: Optimiser = "adam",
    project: Project = lambda _: None,
) -> Descent:
    """Variables of least objective in each lane.

    Args:
        lanes: what the objective compares with.
        variables: where to start, shapes (L, ...).
        loss: the objective.
        budget: steps, tolerance, patience; restarts are the caller's.
        lr: learning rate, of all variables or of each. For both kinds of Adam it falls to a tenth at
            3/8, 5/8 and 7/8 of the iterations (Geiping et al. 2020, appendix).
        optimiser: "signed_adam" feeds Adam the signs of the gradient; "lbfgs" works lane by lane, as its
            line of curvature is one lane's own.
        project: brings variables back into their range, in place, after each step.
    """
    rates = [lr] * len(variables) if isinstance(lr, (int, float)) else list(lr)
    if optimiser != "lbfgs":
        return _adam(lanes, variables, loss, budget, rates, optimiser == "signed_adam", project)
    found = []
    for i in range(len(lanes)):
        at = torch.tensor([i], device=variables[0].device)
        found.append(_lbfgs(lanes.take(at), tuple(v[at] for v in variables), loss, budget, rates[0], project))
    parts = zip(*(d.variables for d in found), strict=True)
    return Descent(
        tuple(torch.cat(p) for p in parts),
        torch.cat([d.objective for d in found]),
        sum(d.work for d in found),
        all(d.stopped for d in found),
    )


def restarted(lanes: Lanes, restarts: int) -> Lanes:
    """Every lane `restarts` times, in blocks of all lanes."""
    return lanes.take(torch.arange(len(lanes), device=lanes.labels.device).repeat(restarts))


def best_restart(found: Descent, restarts: int) -> Descent:
    """The restart of least objective of each lane, from lanes repeated by `restarted`."""
    objective = found.objective.view(restarts, -1)
    chosen, at = objective.argmin(0), torch.arange(objective.shape[1], device=objective.device)
    index = chosen * objective.shape[1] + at
    return Descent(
        tuple(v[index] for v in found.variables), found.objective[index], found.work, found.stopped
    )


def as_floats(values: Tensor) -> np.ndarray[tuple[int, ...], np.dtype[np.float64]]:
    """A tensor as float64 numbers."""
    numbers: np.ndarray[tuple[int, ...], np.dtype[np.float64]] = values.detach().double().cpu().numpy()
    return numbers


def _adam(
    lanes: Lanes,
    start: Variables,
    loss: Loss,
    budget: Budget,
    rates: Sequence[float],
    signed: bool,
    project: Project,
) -> Descent:
    variables = tuple(v.detach().clone().requires_grad_() for v in start)
    optimizer = torch.optim.Adam([{"params": [v], "lr": r} for v, r in zip(variables, rates, strict=True)])
    milestones = [int(budget.iterations * m) for m in MILESTONES]
    schedule = torch.optim.lr_scheduler.MultiStepLR(optimizer, milestones, DECAY)
    best, work = _Best(variables, budget), 0
    for _ in range(budget.iterations):
        work += int(best.running.sum())
        value = loss(lanes, variables)
        found = torch.autograd.grad(value.sum(), variables, allow_unused=True)
        best.note(value, variables)
        if not bool(best.running.any()):
            break
        for v, g in zip(variables, found, strict=True):
            gradient = torch.zeros_like(v) if g is None else g.nan_to_num()
            v.grad = gradient.sign() if signed else gradient
        optimizer.step()
        schedule.step()
        with torch.no_grad():
            project(variables)
    return Descent(tuple(best.variables), best.objective, work, not bool(best.running.any()))


def _lbfgs(
    lanes: Lanes, start: Variables, loss: Loss, budget: Budget, rate: float, project: Project
) -> Descent:
    variables = tuple(v.detach().clone().requires_grad_() for v in start)
    optimizer = torch.optim.LBFGS(variables, lr=rate, max_iter=HISTORY)
    best, work = _Best(variables, budget), 0

    def closure() -> float:
        nonlocal work
        work += 1
        value = loss(lanes, variables)
        found = torch.autograd.grad(value.sum(), variables, allow_unused=True)
        for v, g in zip(variables, found, strict=True):
            v.grad = torch.zeros_like(v) if g is None else g.nan_to_num()
        return float(value.detach().sum())

    for _ in range(budget.iterations):
        optimizer.step(closure)
        with torch.no_grad():
            project(variables)
        work += 1
        best.note(loss(lanes, variables), variables)
        if not bool(best.running.any()):
            break
    return Descent(tuple(best.variables), best.objective, work, not bool(best.running.any()))
