"""The L2 bound that a mechanism on updates rests on, and a look at whether it held."""

from __future__ import annotations

import math

import torch

from privfed.claims import Assumption
from privfed.nets import Params
from privfed.randomness import Stream

ROUNDING = 1e-4


def change(start: Params, params: Params) -> Params:
    """What a client changed; a tensor that was not broadcast counts from zero."""
    return {k: p - start[k] if k in start else p for k, p in params.items()}


def norm(change: Params) -> float:
    """L2 norm of all tensors together; infinity where a number is not finite."""
    total = sum(float(t.double().square().sum()) for t in change.values())
    return math.sqrt(total) if math.isfinite(total) else math.inf


def clipped(change: Params, clip: float) -> Params:
    """The change scaled down to an L2 norm of at most `clip`; one that is not finite becomes zero."""
    length = norm(change)
    if math.isinf(length):
        return {k: torch.zeros_like(t) for k, t in change.items()}
    factor = min(1.0, clip / length) if length else 1.0
    return {k: t * factor for k, t in change.items()}


def moved(start: Params, change: Params) -> Params:
    """The parameters after a change."""
    return {k: start[k] + t if k in start else t for k, t in change.items()}


def gaussian(like: Params, deviation: float, stream: Stream) -> Params:
    """Independent Gaussian noise in the shape of the parameters, drawn on the CPU.

    Drawn there so that every device adds the same numbers.
    """
    generator = stream.torch()
    return {k: (torch.randn(t.shape, generator=generator) * deviation).to(t) for k, t in like.items()}


def within(change: Params, clip: float) -> Assumption:
    """Whether what is about to get noise really is within the bound."""
    length = norm(change)
    return Assumption(
        "every update clipped",
        length <= clip * (1 + ROUNDING),
        f"largest L2 norm {length:.4g}, stated bound {clip:g}",
    )


def expect(holds: bool, rule: str, **got: object) -> None:
    """Refuses a knob in one line."""
    if not holds:
        raise ValueError(f"expected {rule}, got {', '.join(f'{k}={v}' for k, v in got.items())}")
