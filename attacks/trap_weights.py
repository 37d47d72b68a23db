"""Trap weights: rows that hardly any record activates, so that a row is often hit by one alone.

Boenisch et al., "When the curious abandon honesty" (arXiv 2112.02918), section 4.
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
from attacks.imprint import check_knobs
from attacks.interface import Known, Reconstruction
from privfed.nets import NetSpec, Params
from privfed.randomness import Stream
from privfed.release import View

if TYPE_CHECKING:
    from privfed.deviation import Turn

SAME = 1e-3  # mean squared difference per pixel below which two readings are one record


@dataclass(frozen=True, slots=True)
class TrapWeights:
    """Rebuild records from rows of a first layer whose negative half outweighs its positive half.

    Each row has a random half of its weights negative, sizes drawn from a half-normal, and the other
    half positive with the same sizes times a scale below 1, acting on pixels in [0, 1]. Rows are
    independent of each other, and each catches the first batch with a record that activates it: unlike
    an imprint, it goes on reading batch after batch. Several rows can give the same record, which is
    returned once. Records of the label given up are never seen.

    Attributes:
        records: expected in a batch; a record activates a row with a chance of 1 in so many, at which
            most rows have exactly one, a share of (1 - 1/n)^(n - 1) of them if records are independent.
        scale: of the positive half, the same for all rows, as published; None = set for each row on
            public records.
        gain, pull, label: as `attacks.imprint.Imprint`.
    """

    records: int = 32
    scale: float | None = None
    gain: float = 1e-3
    pull: float = 1.0
    label: int = 0

    def __post_init__(self) -> None:
        check_knobs(self.gain, self.pull)
        if self.records < 2:
            raise ValueError(f"expected records >= 2, got records={self.records}")
        if self.scale is not None and not 0 < self.scale < 1:
            raise ValueError(f"expected scale in (0, 1), got scale={self.scale}")

    def craft(self, spec: NetSpec, known: Known, start: Params, stream: Stream) -> Params:
        """The model to send in place of `start`.

        Raises:
            ValueError: when the net is no mlp, has no such label, or no record is public.
        """
        check_fits(spec)
        check_label(spec, self.label)
        rows, d = hidden_shapes(spec)
        negative, positive = halves(rows, d, stream)
        public = known_inputs(known).cpu()
        scale = self.scale or scales(public, negative, positive, 1 / self.records)
        weight = self.gain * (scale * positive - negative)
        # (x + 1) / 2 lies in [0, 1], which is where the halves outweigh each other.
        first = layer(start, weight / 2, weight.sum(1) / 2)
        return {**first, **silencing(spec, start, self.label, self.pull)}

    def send(self, turn: Turn) -> Params:
        """As a deviation: another crafted model each round; whatever is no whole mlp is sent as it is."""
        if not fits(turn):
            return turn.honest
        stream = turn.stream.child("craft", turn.round)
        return self.craft(turn.world.surrogate, knowledge(turn), turn.honest, stream)

    def recover(self, spec: NetSpec, before: Params, after: Params) -> Recovered:
        """What one client's training of a crafted model says of its records, each once."""
        weight, bias = moved(before, after)
        return distinct(quotients(spec, weight, bias, QUIET * float(bias.abs().max())))

    def reconstruct(self, view: View, known: Known, stream: Stream) -> Reconstruction | None:
        """Records of every client that trained a model crafted so; None when none was."""
        return reconstructed(view, known, trapped, self.recover)


def halves(rows: int, d: int, stream: Stream) -> tuple[Tensor, Tensor]:
    """Sizes of the negative and of the positive weights, at least 0, 0 elsewhere; each (rows, d), float64.

    A row's positive sizes are its negative ones in another order; with d odd, one weight is 0.
    """
    generator = stream.child("trap").torch()
    order = torch.rand(rows, d, generator=generator).argsort(1)
    sizes = torch.randn(rows, d // 2, generator=generator).double().abs()
    empty = torch.zeros(rows, d, dtype=torch.float64)
    return empty.scatter(1, order[:, : d // 2], sizes), empty.scatter(
        1, order[:, d // 2 : 2 * (d // 2)], sizes
    )


def scales(inputs: Tensor, negative: Tensor, positive: Tensor, rate: float) -> Tensor:
    """Scale of each row at which a share `rate` of the records activates it, shape (rows, 1).

    Args:
        inputs: pixels in [-1, 1], shape (n, d).
        negative: sizes, shape (rows, d).
        positive: the same.
        rate: in (0, 1).
    """
    seen = (inputs + 1) / 2
    # A record activates the row once the scale exceeds this ratio.
    ratio = (seen @ negative.T) / (seen @ positive.T).clamp_min(1e-12)
    return torch.quantile(ratio, rate, dim=0).unsqueeze(1)


def distinct(found: Recovered) -> Recovered:
    """Readings without those that repeat an earlier one; those least in doubt come first."""
    order = torch.from_numpy(found.objective).argsort(stable=True)
    flat = found.inputs[order].flatten(1)
    close = torch.cdist(flat, flat).square() < SAME * flat.shape[1]
    kept: list[int] = []
    for i in range(len(flat)):
        if not close[i, kept].any():
            kept.append(i)
    index = order[kept]
    return Recovered(found.inputs[index], found.objective[index.numpy()])


def trapped(spec: NetSpec, sent: Params) -> bool:
    """Whether a model is of this crafting: rows half negative, half positive, and a head that silences."""
    weight, bias = sent[WEIGHT], sent[BIAS]
    half = weight.shape[1] // 2
    split = bool(((weight < 0).sum(1) == half).all() and ((weight > 0).sum(1) == half).all())
    centred = bool(torch.allclose(bias, weight.sum(1), rtol=1e-4, atol=1e-6))
    return split and centred and silences(spec, sent)
