"""Fishing: a head whose logits let one record of a batch have all of the gradient.

Wen et al., "Fishing for user data in large-batch federated learning via gradient magnification"
(arXiv 2202.00580), section 3. The single-record gradient is inverted analytically, by the first layer, not
by optimisation.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

import numpy as np
import torch
from torch import Tensor

from attacks._imprint import (
    BOX,
    Recovered,
    check_fits,
    check_label,
    exchanges,
    fits,
    gathered,
    knowledge,
    known_inputs,
    moved,
)
from attacks.interface import Known, Reconstruction
from privfed.deviation import WITHHELD
from privfed.nets import NetSpec, Params, head_names
from privfed.randomness import Stream
from privfed.records import Records
from privfed.release import View
from privfed.training import represent

if TYPE_CHECKING:
    from privfed.deviation import Turn


@dataclass(frozen=True, slots=True)
class Fishing:
    """Rebuild the one record of a label, or the one with the largest feature, from a client's update.

    All rows of the head are 0 but that of `label`, so what reaches the features is that row times
    p_label - 1[y = label]. Class fishing (no `cutoff`) lowers the bias of the label by `depth`, and more
    where there are features: the factor is -1 for its records and next to 0 for all others. The row is
    `-pull` throughout, so that a step silences the hidden units that the label's records activate: what
    they hold stays when other rows of the head begin to learn, as they do in every later step. One record
    of the label in the client's data is exact after one step and close after many, with one hidden
    layer; several give a mixture, which `objective` tells: the part of the movement that is not of rank one.

    Feature fishing (a `cutoff`) lets the logit jump by `depth` to both sides where one feature exceeds what
    public records do with that chance: only records above it count, if the client has none of the
    label, since those would all count below it.

    Attributes:
        label: to fish for; with a cutoff, one that the client should lack.
        depth: nats between the label and the others.
        pull: minus the weights of the label's row, without a cutoff.
        cutoff: share of records above the threshold of the feature; None = class fishing.
    """

    label: int = 0
    depth: float = 30.0
    pull: float = 1e3
    cutoff: float | None = None

    def __post_init__(self) -> None:
        for name in ("depth", "pull"):
            if not getattr(self, name) > 0:
                raise ValueError(f"expected {name} > 0, got {name}={getattr(self, name)}")
        if self.cutoff is not None and not 0 < self.cutoff < 1:
            raise ValueError(f"expected cutoff in (0, 1), got cutoff={self.cutoff}")

    def craft(self, spec: NetSpec, known: Known, start: Params, stream: Stream) -> Params:
        """The model to send in place of `start`: another head on the same representation.

        Raises:
            ValueError: when the net is no mlp, has no such label, or a cutoff has no public record.
        """
        check_fits(spec)
        check_label(spec, self.label)
        weight, bias = head_names(spec)
        row, offset = torch.full_like(start[weight][self.label], -self.pull), -self.depth
        if self.cutoff is not None:
            row, offset = cutoff_row(spec, start, known, self.cutoff, self.depth)
        made = {**start, weight: torch.zeros_like(start[weight]), bias: torch.zeros_like(start[bias])}
        made[weight][self.label] = row
        made[bias][self.label] = offset
        return made

    def send(self, turn: Turn) -> Params:
        """As a deviation: fishes for the next label each round; whatever is no whole mlp is sent as it is.

        The representation is that of the first honest broadcast: later ones are averages of what crafted
        models became. With a cutoff the label stays.
        """
        if not fits(turn):
            return turn.honest
        spec = turn.world.surrogate
        label = (self.label + turn.round) % spec.classes if self.cutoff is None else self.label
        first = next((dict(r.tensors) for r in turn.seen if r.name == WITHHELD), turn.honest)
        return replace(self, label=label).craft(spec, knowledge(turn), first, turn.stream)

    def recover(self, spec: NetSpec, before: Params, after: Params) -> Recovered:
        """The record that moved the first layer, or none where nothing did."""
        return lone(spec, *moved(before, after))

    def reconstruct(self, view: View, known: Known, stream: Stream) -> Reconstruction | None:
        """One record of every client that trained a model crafted so; None when none was.

        Records fished by class carry that label.
        """
        found = exchanges(view)
        if found is None or found[0].family != "mlp":
            return None
        spec, ours = found[0], [e for e in found[1] if fished(found[0], e.sent) is not None]
        if not ours:
            return None
        parts = [(e.client, self.recover(spec, e.sent, e.returned)) for e in ours]
        made = gathered(spec, known, parts)
        if self.cutoff is not None:
            return made
        labels = [fished(spec, e.sent) for e, (_, r) in zip(ours, parts, strict=True) for _ in r.inputs]
        return replace(made, records=Records(made.records.inputs, torch.tensor(labels, dtype=torch.int64)))


def cutoff_row(
    spec: NetSpec, start: Params, known: Known, share: float, depth: float
) -> tuple[Tensor, float]:
    """Row and bias of a logit that passes from -depth to depth where one feature crosses a public quantile.

    The feature is the one whose public values spread most; the logit moves by 2 depth over a tenth of
    its standard deviation.
    """
    values = features(spec, start, known)
    feature = int(values.std(0).argmax())
    cut = float(torch.quantile(values[:, feature], 1 - share))
    slope = 20 * depth / max(float(values[:, feature].std()), 1e-6)
    row = torch.zeros_like(start[head_names(spec)[0]][0])
    row[feature] = slope
    return row, -slope * cut


def features(spec: NetSpec, start: Params, known: Known) -> Tensor:
    """What the head reads of the public records, float64, shape (n, width)."""
    inputs = known_inputs(known).to(start[head_names(spec)[0]])
    return represent(spec, start, inputs.unflatten(1, spec.input_shape)).double()


def lone(spec: NetSpec, weight: Tensor, bias: Tensor) -> Recovered:
    """The record x for which weight = bias x^T fits best, with what it leaves unexplained, in [0, 1].

    Args:
        spec: for the shape of a record.
        weight: movement of the first layer, shape (rows, d).
        bias: of its bias, shape (rows,).
    """
    power = bias.square().sum()
    if not power > 0:
        return Recovered(torch.empty(0, *spec.input_shape), np.empty(0))
    record = bias @ weight / power
    left = (weight - torch.outer(bias, record)).norm() / weight.norm().clamp_min(1e-300)
    if not (record.abs() <= BOX).all():
        return Recovered(torch.empty(0, *spec.input_shape), np.empty(0))
    shaped = record.clamp(-1, 1).float().view(1, *spec.input_shape)
    return Recovered(shaped, np.array([float(left)]))


def fished(spec: NetSpec, sent: Params) -> int | None:
    """The label that a model was crafted to fish for; None when it is not of this crafting."""
    weight, bias = (sent[name] for name in head_names(spec))
    used = (weight.abs().amax(1) > 0).nonzero()[:, 0]
    if len(used) != 1:
        return None
    label = int(used[0])
    others = torch.arange(spec.classes) != label
    return label if bool((bias[others.to(bias.device)] == 0).all()) and bool(bias[label] <= 0) else None


def least_share(records: int, classes: int, depth: float, span: float = 0.0) -> float:
    """Lower bound on the fished record's share of what flows back into the features, all records together.

    (1 - p) / ((1 - p) + (n - 1) p) with p = 1 / (1 + (C - 1) exp(depth - span)), for one record of the label
    among n.

    Args:
        records: n.
        classes: C.
        depth: nats by which the bias of the label lies below the others.
        span: largest value of the label's row times any record's features; 0 where the row is negative,
            as features are not.
    """
    p = 1 / (1 + (classes - 1) * math.exp(depth - span))
    return (1 - p) / ((1 - p) + (records - 1) * p)
