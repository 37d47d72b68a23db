"""Update inversion: gradient inversion of several epochs of local training in batches.

Sources: Dimitrov et al., "Data leakage in federated averaging" (arXiv 2206.12395), section 4 (a copy of
the dummy records for each epoch, tied by an order-invariant prior); Zhu et al., "Surrogate model
extension (SME)" (arXiv 2306.00127), section 4 (one gradient at a learnt point between start and end).
"""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from typing import Literal

import torch
from scipy.optimize import linear_sum_assignment
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
    Layers,
    Objective,
    boxed,
    check_choice,
    check_positive,
    mismatch,
    replayed,
    surrogate_gradient,
    total_variation,
)
from attacks._updates import Lanes, lanes, movements, rebuilt, recovered_labels
from attacks.gradient_inversion import initial
from attacks.interface import Known, Reconstruction
from privfed.nets import Params
from privfed.randomness import Stream
from privfed.release import View

Simulate = Literal["epochs", "surrogate"]
HALFWAY = 0.5  # where between trained and start the surrogate point begins
MIX_RATE = 0.1  # learning rate of that place, as a share of that of the records


@dataclass(frozen=True, slots=True)
class UpdateInversion:
    """Rebuild records that, trained on for several epochs in batches, move the weights as a client's did.

    "epochs" replays them with an order of batches of its own, since the client's is not known: each epoch
    has its own copy of every record, and copies of different epochs are pulled together by what does
    not depend on order. At the end copies are matched up between epochs and averaged. One epoch in one
    batch is gradient inversion, bit for bit. "surrogate" compares the whole movement with one gradient
    at a learnt point between start and end: as cheap for a hundred steps as for one, and blind to the
    learning rate.

    Attributes:
        records: records to rebuild of each update.
        rounds: first updates of each client that are inverted.
        simulate: "epochs" or "surrogate".
        epochs, batch, local_lr: recipe assumed of the client.
        objective: distance between movements: "cosine" or "squared" (the latter for "epochs" only).
        layers: "equal", or "increasing" = later layers weigh more.
        prior: weight of the order-invariant prior.
        tv: weight of the total variation of images.
        optimiser, lr: "signed_adam", "adam" or "lbfgs", and its learning rate.
        masked: entries that did not move count as withheld, not as unmoved.
        budget: steps, restarts and when to stop.
    """

    records: int = 8
    rounds: int = 1
    simulate: Simulate = "epochs"
    epochs: int = 5
    batch: int = 32
    local_lr: float = 0.1
    objective: Objective = "cosine"
    layers: Layers = "equal"
    prior: float = 1.0
    tv: float = 1e-3
    optimiser: Optimiser = "signed_adam"
    lr: float = 0.1
    masked: bool = False
    budget: Budget = field(default_factory=Budget)

    def __post_init__(self) -> None:
        for name, choices in (
            ("simulate", Simulate),
            ("objective", Objective),
            ("layers", Layers),
            ("optimiser", Optimiser),
        ):
            check_choice(name, getattr(self, name), choices)
        check_positive(self, "records", "rounds", "epochs", "batch", "local_lr", "lr")
        for name in ("prior", "tv"):
            if not getattr(self, name) >= 0:
                raise ValueError(f"expected {name} >= 0, got {name}={getattr(self, name)}")
        if self.simulate == "surrogate" and self.objective == "squared":
            raise ValueError("expected objective='cosine' with simulate='surrogate', got objective='squared'")

    def reconstruct(self, view: View, known: Known, stream: Stream) -> Reconstruction | None:
        """`records` a client and round; None without the updates of whole models and their broadcasts.

        Labels come from the bias of the head, or from how the rest moved where that is unknown
        (`attacks._updates.recovered_labels`).
        """
        found = movements(view, self.rounds)
        if found is None:
            return None
        spec, moves = found
        rate = self.local_lr * self.epochs * -(-self.records // self.batch)
        labels = recovered_labels(spec, moves, known, self.records, rate)
        one = restarted(lanes(spec, moves, labels), self.budget.restarts)
        descent = best_restart(inverted(self, one, spec.input_shape, stream), self.budget.restarts)
        copies = self.epochs if self.simulate == "epochs" else 1
        inputs = averaged(descent.variables[0], labels, copies)
        return rebuilt(moves, inputs, labels, as_floats(descent.objective), descent.work, descent.stopped)


def inverted(knobs: UpdateInversion, one: Lanes, shape: tuple[int, ...], stream: Stream) -> Descent:
    """Dummy records of least objective in each lane, their copies one epoch after another.

    The first variable has shape (L, epochs n, ...), or (L, n, ...) with a surrogate point, whose place is
    the second variable, shape (L,).
    """
    copies = knobs.epochs if knobs.simulate == "epochs" else 1
    order = batches(one.labels.shape[1], copies, knobs.batch, stream.child("order"))
    one = replace(one, labels=one.labels.repeat(1, copies))
    variables = initial(one, shape, False, stream)
    if knobs.simulate == "surrogate":
        variables = (*variables, torch.full((len(one),), HALFWAY).to(variables[0]))

    def loss(at: Lanes, now: Variables) -> Tensor:
        made = _surrogate(at, now) if len(now) > 1 else _replayed(knobs, at, now[0], order)
        apart = mismatch(at, made, knobs.objective, knobs.layers, knobs.masked)
        if copies > 1:
            apart = apart + knobs.prior * order_invariant(now[0], copies)
        return apart + knobs.tv * total_variation(now[0]) if knobs.tv else apart

    def project(now: Variables) -> None:
        if knobs.optimiser != "lbfgs":
            boxed(now[0])
        for mix in now[1:]:
            mix.clamp_(0.0, 1.0)

    rates = [knobs.lr, *(knobs.lr * MIX_RATE for _ in variables[1:])]
    return minimise(one, variables, loss, knobs.budget, rates, knobs.optimiser, project)


def batches(records: int, epochs: int, batch: int, stream: Stream) -> list[Tensor]:
    """Places of the copies that each local step uses, in the order of the steps.

    Copies of epoch e stand at e `records` to (e + 1) `records`. An epoch in one batch keeps its order,
    since a mean over a batch does not depend on it.
    """
    generator = stream.torch()
    steps: list[Tensor] = []
    for epoch in range(epochs):
        drawn = torch.randperm(records, generator=generator)
        order = drawn if batch < records else torch.arange(records)
        steps += [epoch * records + part for part in order.split(batch)]
    return steps


def order_invariant(inputs: Tensor, epochs: int) -> Tensor:
    """How far the mean records of the epochs are apart, shape (L,): mean square over pairs and values.

    A mean does not depend on the order within its epoch (arXiv 2206.12395, section 4.3, mean and l2).

    Args:
        inputs: shape (L, epochs n, ...).
        epochs: at least 2.
    """
    means = inputs.unflatten(1, (epochs, -1)).mean(2).flatten(2)
    first, second = torch.triu_indices(epochs, epochs, 1, device=inputs.device)
    apart: Tensor = (means[:, first] - means[:, second]).square().mean((1, 2))
    return apart


def _replayed(knobs: UpdateInversion, at: Lanes, inputs: Tensor, order: list[Tensor]) -> Params:
    targets = at.targets()
    if len(order) == 1:
        return replayed(at, [(inputs, targets)], knobs.local_lr)
    steps = [(inputs[:, places], targets[:, places]) for places in order]
    return replayed(at, steps, knobs.local_lr)


def _surrogate(at: Lanes, now: Variables) -> Params:
    return surrogate_gradient(at, (now[0], at.targets()), now[1])


def averaged(inputs: Tensor, labels: Tensor, epochs: int) -> Tensor:
    """Copies of the same record in different epochs, matched up and averaged.

    Each epoch's copies are assigned to the first epoch's one to one, within a label, at the least sum
    of squared distances (arXiv 2206.12395, section 4.4).

    Args:
        inputs: shape (L, epochs n, ...).
        labels: shape (L, n), the same in each epoch.
        epochs: number of copies.

    Returns:
        Shape (L, n, ...), in the order of the first epoch.
    """
    if epochs == 1:
        return inputs
    copies = inputs.unflatten(1, (epochs, -1))
    means = []
    for lane, own in zip(copies, labels, strict=True):
        first = lane[0].flatten(1).double()
        other = own.unsqueeze(0) != own.unsqueeze(1)
        matched = [lane[0]]
        for copy in lane[1:]:
            cost = torch.cdist(first, copy.flatten(1).double()).square()
            # Larger than any sum of distances: labels are kept apart.
            cost += other.to(cost) * (cost.max() + 1) * len(own)
            matched.append(copy[torch.from_numpy(linear_sum_assignment(cost.cpu().numpy())[1])])
        means.append(torch.stack(matched).mean(0))
    return torch.stack(means)
