"""Gradient inversion: dummy records are changed until training on them moves the weights as observed.

Sources: Zhu et al., "Deep leakage from gradients" (arXiv 1906.08935), section 3.2; Zhao et al., "iDLG"
(arXiv 2001.02610), section 3; Geiping et al., "Inverting gradients" (arXiv 2003.14053), sections 4 and 6.

GradInversion's term on the statistics of batch normalisation (arXiv 2104.07586, section 3.2) has no
counterpart here: no net of this package has batch statistics, running or not.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Literal

import torch
from torch import Tensor

from attacks._descent import (
    Budget,
    Descent,
    Optimiser,
    Variables,
    as_floats,
    best_restart,
    minimise,
    restarted,
)
from attacks._inversion import (
    Objective,
    boxed,
    check_choice,
    check_positive,
    mismatch,
    replayed,
    total_variation,
)
from attacks._updates import Lanes, lanes, movements, rebuilt, recovered_labels, tells_labels
from attacks.interface import Known, Reconstruction
from privfed.randomness import Stream
from privfed.release import View

Labels = Literal["recovered", "joint"]


@dataclass(frozen=True, slots=True)
class GradientInversion:
    """Rebuild records whose gradient points the way a client's weights moved.

    As it stands, "Inverting gradients"; with objective "squared", optimiser "lbfgs", labels "joint", tv 0
    and lr 1 it is DLG, with labels "recovered" and one record iDLG. Local training is replayed as
    `local_steps` full-batch steps, through all of which the gradient runs. Several records come out in
    no order. Weak against many steps on many records, and blind to records outside the batch it
    assumes.

    Attributes:
        records: records to rebuild of each update, also the batch assumed.
        rounds: first updates of each client that are inverted.
        objective: distance between movements: "cosine" or "squared".
        optimiser: "signed_adam", "adam" or "lbfgs".
        labels: "recovered" from the bias of the head, or from how the rest moved where that is unknown
            (`attacks._updates.recovered_labels`); or "joint" = optimised with the inputs, as they
            are too where nothing tells them.
        tv: weight of the total variation of images.
        lr: of the optimiser.
        local_lr, local_steps: recipe assumed of the client. With one step and "cosine" the learning
            rate matters to the counts of labels only.
        masked: entries that did not move count as withheld, not as unmoved.
        budget: steps, restarts and when to stop.
    """

    records: int = 1
    rounds: int = 1
    objective: Objective = "cosine"
    optimiser: Optimiser = "signed_adam"
    labels: Labels = "recovered"
    tv: float = 1e-3
    lr: float = 0.1
    local_lr: float = 0.1
    local_steps: int = 1
    masked: bool = False
    budget: Budget = field(default_factory=Budget)

    def __post_init__(self) -> None:
        for name, choices in (("objective", Objective), ("optimiser", Optimiser), ("labels", Labels)):
            check_choice(name, getattr(self, name), choices)
        check_positive(self, "records", "rounds", "lr", "local_lr", "local_steps")
        if not self.tv >= 0:
            raise ValueError(f"expected tv >= 0, got tv={self.tv}")

    def reconstruct(self, view: View, known: Known, stream: Stream) -> Reconstruction | None:
        """`records` a client and round; None without the updates of whole models and their broadcasts."""
        found = movements(view, self.rounds)
        if found is None:
            return None
        spec, moves = found
        rate = self.local_lr * self.local_steps
        labels = recovered_labels(spec, moves, known, self.records, rate)
        joint = self.labels == "joint" or not tells_labels(spec, moves, known)
        one = restarted(lanes(spec, moves, labels), self.budget.restarts)
        variables = initial(one, spec.input_shape, joint, stream)
        descent = best_restart(inverted(self, one, variables), self.budget.restarts)
        given = descent.variables[1].argmax(-1) if joint else labels
        return rebuilt(
            moves, descent.variables[0], given, as_floats(descent.objective), descent.work, descent.stopped
        )


def inverted(knobs: GradientInversion, one: Lanes, variables: Variables) -> Descent:
    """Dummy records of least objective in each lane.

    Args:
        knobs: objective, optimiser, recipe and budget.
        one: observed movements.
        variables: inputs (L, n, ...), and logits of their labels (L, n, classes) where those are joint.
    """

    def loss(at: Lanes, now: Variables) -> Tensor:
        targets = now[1].softmax(-1) if len(now) > 1 else at.targets()
        made = replayed(at, [(now[0], targets)] * knobs.local_steps, knobs.local_lr)
        apart = mismatch(at, made, knobs.objective, masked=knobs.masked)
        return apart + knobs.tv * total_variation(now[0]) if knobs.tv else apart

    def project(now: Variables) -> None:
        # L-BFGS remembers the way it came; a step aside would leave it with the wrong curvature.
        if knobs.optimiser != "lbfgs":
            boxed(now[0])

    return minimise(one, variables, loss, knobs.budget, knobs.lr, knobs.optimiser, project)


def initial(one: Lanes, shape: tuple[int, ...], joint: bool, stream: Stream) -> Variables:
    """Standard normal inputs, (L, n, *shape), held in the box, and logits of labels where they are joint."""
    like = next(iter(one.start.values()))
    generator = stream.child("start").torch()

    def noise(*size: int) -> Tensor:
        return torch.randn(*one.labels.shape, *size, generator=generator).to(like)

    inputs = noise(*shape)
    boxed(inputs)
    return (inputs, noise(one.classes)) if joint else (inputs,)
