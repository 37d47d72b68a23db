"""Quantisation: a client sends its update in few bits, rounded at random without bias.

QSGD (Alistarh et al. 2017, arXiv 1610.02132, section 3.1), tensor by tensor.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from defenses._clipping import change, expect, moved
from privfed.hooks import Spent
from privfed.nets import Params
from privfed.randomness import Stream

MOST_BITS = 16


@dataclass(frozen=True, slots=True)
class Quantisation:
    """Rounds the magnitude of every entry of a client's update, at random up or down.

    Each tensor is sent as its L2 norm, a sign an entry, and one of 2^bits magnitudes between zero and
    that norm. The mean over the rounding is the update itself; its squared length grows on average by at
    most the factor 1 + min(n / s^2, sqrt(n) / s), with n entries and s = 2^bits - 1 (Lemma 3.1).

    It earns no claim: the rounding is not calibrated to how far a record can move the update, and the
    norm is sent as it is. After a defence that makes a claim it is post-processing, and the claim stays.

    Attributes:
        bits: of an entry's magnitude, from 1 to 16; its sign comes on top. A tensor whose norm is not
            finite is sent as it is.
    """

    bits: int

    def __post_init__(self) -> None:
        expect(1 <= self.bits <= MOST_BITS, f"bits from 1 to {MOST_BITS}", bits=self.bits)

    def uplink(self, start: Params, params: Params, stream: Stream) -> Spent[Params]:
        """The start moved by the rounded change; no guarantee."""
        generator, steps = stream.torch(), 2**self.bits - 1
        rounded = {name: _rounded(t, steps, generator) for name, t in change(start, params).items()}
        return Spent(moved(start, rounded), None)


def _rounded(values: Tensor, steps: int, generator: torch.Generator) -> Tensor:
    """The values on multiples of their norm over `steps`, without bias."""
    # The draw comes first, so that the numbers one tensor gets do not depend on what another holds.
    coin = torch.rand(values.shape, generator=generator, dtype=torch.float64).to(values.device)
    length = float(values.double().norm())
    if not 0 < length < float("inf"):
        return values
    place = values.double().abs() / length * steps
    below = place.floor()
    magnitude = (below + (coin < place - below)).clamp(max=steps) * (length / steps)
    return (magnitude * values.sign()).to(values)
