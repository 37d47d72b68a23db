"""A linear head alone, on features that were worked out beforehand."""

from __future__ import annotations

from typing import TYPE_CHECKING

import torch
from torch import Tensor, nn
from torch.nn import functional as F

if TYPE_CHECKING:
    from privfed.nets import NetSpec, Params


def module(spec: NetSpec) -> nn.Module:
    """One linear layer on `width` features."""
    return nn.Sequential(nn.Linear(spec.width, spec.classes))


def width(spec: NetSpec) -> int:
    """Features that the head reads."""
    return spec.width


def affine(x: Tensor, weight: Tensor, bias: Tensor) -> Tensor:
    """M linear layers at once: x (M, n, in), weight (M, out, in), bias (M, out) to (M, n, out).

    The weight is the left factor, so that its gradient comes out in the weight's own memory order;
    the other way round every step pays for a transposed copy of all weights.
    """
    if len(weight) == 1:
        return F.linear(x[0], weight[0], bias[0]).unsqueeze(0)
    return torch.baddbmm(bias.unsqueeze(2), weight, x.transpose(1, 2)).transpose(1, 2)


def features(spec: NetSpec, params: Params, inputs: Tensor) -> Tensor:
    """The inputs themselves."""
    return inputs
