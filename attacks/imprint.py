"""Imprint: a first layer of one measurement at many thresholds, so that neighbouring rows differ by a bin.

Fowl et al., "Robbing the Fed" (arXiv 2110.13057), section 3; here in the first layer that the net has
already, not in a block put before it, so that nothing about the architecture changes.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import torch
from torch import Tensor

from attacks._imprint import (
    BIAS,
    QUIET,
    WEIGHT,
    Recovered,
    check_fits,
    check_label,
    fits,
    hidden_shapes,
    knowledge,
    known_inputs,
    layer,
    moved,
    quotients,
    reconstructed,
    silences,
    silencing,
)
from attacks.interface import Known, Reconstruction
from privfed.nets import NetSpec, Params
from privfed.randomness import Stream
from privfed.release import View

if TYPE_CHECKING:
    from privfed.deviation import Turn

FAR = 10.0  # standard deviations below the mean: the first row is active for every record


@dataclass(frozen=True, slots=True)
class Imprint:
    """Rebuild records from differences of neighbouring rows of a first layer that was made for it.

    All rows are `gain` times one random direction of length 1; their biases are minus the quantiles of that
    measurement on public records. Row i is active above its quantile, so the movements of rows i and i + 1
    differ by what the records between the two quantiles wrote. A bin with one record gives it exactly;
    one with several gives their mean. Exact for any number of full-batch steps while hit rows fall silent
    (`attacks._imprint.silencing`); with batches, the first one is read and whatever lies above it later.
    Records of the label given up are never seen. Open to anybody who looks at the weights.

    Attributes:
        gain: length of the rows.
        pull: weights of the head; hit rows fall silent when lr / batch x pull x |record|^2 is well above the
            range of the measurement times `gain`.
        label: whose records are given up.
    """

    gain: float = 1e-3
    pull: float = 1.0
    label: int = 0

    def __post_init__(self) -> None:
        check_knobs(self.gain, self.pull)

    def craft(self, spec: NetSpec, known: Known, start: Params, stream: Stream) -> Params:
        """The model to send in place of `start`.

        Raises:
            ValueError: when the net is no mlp, has no such label, or no record is public.
        """
        check_fits(spec)
        check_label(spec, self.label)
        rows, _ = hidden_shapes(spec)
        weight, bias = thresholds(known_inputs(known), rows, stream)
        first = layer(start, self.gain * weight, self.gain * bias)
        return {**first, **silencing(spec, start, self.label, self.pull)}

    def send(self, turn: Turn) -> Params:
        """As a deviation: another crafted model each round; whatever is no whole mlp is sent as it is."""
        if not fits(turn):
            return turn.honest
        stream = turn.stream.child("craft", turn.round)
        return self.craft(turn.world.surrogate, knowledge(turn), turn.honest, stream)

    def recover(self, spec: NetSpec, before: Params, after: Params) -> Recovered:
        """What one client's training of a crafted model says of its records."""
        return bins(spec, *moved(before, after))

    def reconstruct(self, view: View, known: Known, stream: Stream) -> Reconstruction | None:
        """Records of every client that trained a model crafted so; None when none was."""
        return reconstructed(view, known, imprinted, self.recover)


def thresholds(inputs: Tensor, rows: int, stream: Stream) -> tuple[Tensor, Tensor]:
    """A measurement repeated and minus its quantiles i / rows, ascending: shapes (rows, d) and (rows,).

    Args:
        inputs: public records, shape (n, d), float64.
        rows: bins; the first starts below every record, the last has no end.
        stream: draws the direction.
    """
    direction = torch.randn(inputs.shape[1], generator=stream.child("measurement").torch()).double()
    direction = (direction / direction.norm()).to(inputs)
    measured = inputs @ direction
    cuts = torch.quantile(measured, torch.arange(rows).to(measured) / rows)
    spread = measured.std() if len(measured) > 1 else measured.new_tensor(1.0)
    cuts[0] = measured.mean() - FAR * spread.clamp_min(1e-6)
    return direction.expand(rows, -1), -cuts


def bins(spec: NetSpec, weight: Tensor, bias: Tensor) -> Recovered:
    """Records from the movements of rows in ascending order of threshold: each less its neighbour above."""
    floor = QUIET * float(bias.abs().max())
    own_weight, own_bias = weight.clone(), bias.clone()
    own_weight[:-1] -= weight[1:]
    own_bias[:-1] -= bias[1:]
    return quotients(spec, own_weight, own_bias, floor)


def imprinted(spec: NetSpec, sent: Params) -> bool:
    """Whether a model is of this crafting: one row throughout, thresholds that rise, a head that silences."""
    weight, bias = sent[WEIGHT], sent[BIAS]
    same = bool((weight == weight[0]).all()) and bool(weight[0].abs().max() > 0)
    return same and bool((bias.diff() <= 0).all()) and silences(spec, sent)


def expected_lone(records: int, bins: int) -> float:
    """Expected number of records alone in their bin, when each falls into any bin alike and on its own.

    n (1 - 1/k)^(n - 1), for n records and k bins of equal mass.
    """
    return records * (1 - 1 / bins) ** (records - 1)


def expected_lone_pessimistic(records: int, bins: int) -> float:
    """The same when every vector of occupancies is equally likely, less n / k: a lower figure.

    k (k - 1) n / ((n + k - 1)(n + k - 2)) - n / k, from counting occupancies by stars and bars: the model
    of the published "breaching" framework. Records that fall on their own do not follow it.
    """
    n, k = records, bins
    return k * (k - 1) * n / ((n + k - 1) * (n + k - 2)) - n / k


def check_knobs(gain: float, pull: float) -> None:
    """Refuses a gain or pull that is not above 0.

    Raises:
        ValueError: naming it.
    """
    for name, value in (("gain", gain), ("pull", pull)):
        if not value > 0:
            raise ValueError(f"expected {name} > 0, got {name}={value}")
