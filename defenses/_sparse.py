"""Sending some entries of an update and leaving the others where the round began."""

from __future__ import annotations

import math

import torch
from torch import Tensor

from privfed.nets import Params


def flat(params: Params) -> Tensor:
    """All entries of all tensors in their order, shape (n,)."""
    return torch.cat([t.flatten() for t in params.values()])


def count(share: float, entries: int) -> int:
    """How many entries a share is: rounded up, so never none of some."""
    # A share of 0.07 of 100 is 7.000000000000001 in floating point, and means seven.
    return min(entries, math.ceil(share * entries * (1 - 1e-12)))


def only(kept: Tensor, start: Params, params: Params) -> Params:
    """The parameters where `kept` (shape (n,), in their order) and the start elsewhere, to the bit.

    A tensor that was not broadcast starts from zero.
    """
    parts = kept.split([t.numel() for t in params.values()])
    return {
        name: torch.where(part.view(t.shape), t, start.get(name, torch.zeros_like(t)))
        for (name, t), part in zip(params.items(), parts, strict=True)
    }
