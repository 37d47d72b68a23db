"""Analytic inversion of a first linear layer: a neuron that one record alone moved gives that record.

Sources: Phong et al., "Privacy-preserving deep learning via additively homomorphic encryption" (2018),
section III; Geiping et al., "Inverting gradients" (arXiv 2003.14053), proposition 3.1. For softmax
regression: class sums of one full-batch step, derived in `_first_layer.class_differences`.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from attacks._first_layer import (
    FirstLayer,
    class_differences,
    excess,
    explained_labels,
    first_layer,
    in_shape,
)
from attacks._inversion import check_positive
from attacks._updates import Movement, movements, rebuilt_each
from attacks.interface import Known, Reconstruction
from privfed.nets import NetSpec
from privfed.randomness import Stream
from privfed.release import View

NOTHING = 1e-6  # bias movement, as a share of the largest, below which a neuron was hit by rounding alone


@dataclass(frozen=True, slots=True)
class AnalyticInversion:
    """Rebuild records by dividing the movement of each first-layer neuron by that of its bias.

    A neuron that one record alone activated gives that record, exactly, after several local steps too;
    one that several activated gives a mixture. Two neurons that agree were moved by the same record
    alone, so the distance to the nearest other neuron's record, plus that by which a record leaves
    the range of pixels, says without any truth which are which. It is the objective; records
    that lie within `agreement` of a better one are the same.

    Nets whose first layer is not linear on the inputs (convnet, cnn, lstm) cannot be inverted so. For
    softmax regression, differences between classes are divided, which gives class means, and the
    record of a class that has just one.

    Attributes:
        records: records rebuilt of each update, at most.
        rounds: first updates of each client that are inverted.
        agreement: root mean square distance, per value, below which two records count as one.
    """

    records: int = 8
    rounds: int = 1
    agreement: float = 0.02

    def __post_init__(self) -> None:
        check_positive(self, "records", "rounds", "agreement")

    def reconstruct(self, view: View, known: Known, stream: Stream) -> Reconstruction | None:
        """Up to `records` a client and round, best first; None without a linear first layer's movements."""
        found = movements(view, self.rounds, whole=False)
        if found is None:
            return None
        spec, moves = found
        layers = [(m, layer) for m in moves if (layer := first_layer(spec, m)) is not None]
        if not layers:
            return None
        parts = [self._one(spec, m, layer) for m, layer in layers]
        work = sum(len(layer.bias) for _, layer in layers)
        return rebuilt_each([m for m, _ in layers], spec.input_shape, parts, work, False)

    def _one(self, spec: NetSpec, move: Movement, layer: FirstLayer) -> tuple[Tensor, Tensor, Tensor]:
        """Records, labels and objectives of one movement."""
        rows = class_differences(layer) if spec.family == "linear" else layer
        flat, objective, at = candidates(rows, spec.input_shape)
        order = distinct(flat, objective, self.agreement, self.records)
        inputs = in_shape(flat[order], spec.input_shape)
        if spec.family == "linear":
            classes = torch.arange(spec.classes)[torch.arange(spec.classes) != int(layer.bias.argmax())]
            return inputs, classes[at[order].cpu()], objective[order]
        agree = torch.cdist(flat[order], flat) / flat.shape[1] ** 0.5 < self.agreement
        pushes = layer.bias.new_zeros(len(order), len(layer.bias))
        pushes[:, at] = agree.to(pushes) * layer.bias[at]
        return inputs, explained_labels(spec, move, inputs, pushes), objective[order]


def candidates(layer: FirstLayer, shape: tuple[int, ...]) -> tuple[Tensor, Tensor, Tensor]:
    """One record a neuron that moved: weights over bias.

    Returns:
        Flat records (k, d); their objective (k,), lower = more likely one record alone; and the neurons
        they come from (k,).
    """
    size = layer.bias.abs()
    at = (size > NOTHING * size.max().clamp_min(torch.finfo(size.dtype).tiny)).nonzero().flatten()
    flat = layer.weight[at] / layer.bias[at].unsqueeze(1)
    if len(at) < 2:
        return flat, excess(flat, shape), at
    apart = torch.cdist(flat, flat) / flat.shape[1] ** 0.5
    nearest = apart.fill_diagonal_(torch.inf).amin(1)
    return flat, nearest + excess(flat, shape), at


def distinct(flat: Tensor, objective: Tensor, agreement: float, most: int) -> Tensor:
    """Places of the best records of which no two are the same, at most `most`, best first, shape (m,)."""
    chosen: list[int] = []
    for i in objective.argsort(stable=True).tolist():
        near = torch.cdist(flat[i : i + 1], flat[chosen]) / flat.shape[1] ** 0.5 if chosen else None
        if near is None or float(near.amin()) >= agreement:
            chosen.append(i)
        if len(chosen) == most:
            break
    return torch.tensor(chosen, dtype=torch.int64, device=flat.device)
