"""A linear head alone, on features that were worked out beforehand."""

from __future__ import annotations

from typing import TYPE_CHECKING

from torch import Tensor, nn

if TYPE_CHECKING:
    from privfed.nets import NetSpec, Params


def module(spec: NetSpec) -> nn.Module:
    """One linear layer on `width` features."""
    return nn.Sequential(nn.Linear(spec.width, spec.classes))


def width(spec: NetSpec) -> int:
    """Features that the head reads."""
    return spec.width


def features(spec: NetSpec, params: Params, inputs: Tensor) -> Tensor:
    """The inputs themselves."""
    return inputs
