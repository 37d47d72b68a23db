"""Updates of a small model, and what hypothesis can think of in their place."""

from __future__ import annotations

import math

import torch
from hypothesis import strategies as st
from torch import Tensor

from privfed.nets import Params
from privfed.randomness import Stream

SHAPES = {"a.weight": (4, 3), "a.bias": (4,), "b.weight": (2, 4)}
ENTRIES = sum(math.prod(shape) for shape in SHAPES.values())


def params(seed: int, scale: float = 1.0) -> Params:
    generator = Stream(seed, ("params",)).torch()
    return {name: scale * torch.randn(shape, generator=generator) for name, shape in SHAPES.items()}


def plus(start: Params, change: Params) -> Params:
    return {name: t + change[name] for name, t in start.items()}


def minus(params: Params, start: Params) -> Params:
    return {name: t - start[name] for name, t in params.items()}


def flat(params: Params) -> Tensor:
    return torch.cat([t.flatten() for t in params.values()])


def unflat(values: list[float] | Tensor) -> Params:
    parts = torch.as_tensor(values, dtype=torch.float32).split([math.prod(s) for s in SHAPES.values()])
    return {name: p.reshape(s) for p, (name, s) in zip(parts, SHAPES.items(), strict=True)}


def zeros() -> Params:
    return unflat(torch.zeros(ENTRIES))


def any_update(broken: bool = False) -> st.SearchStrategy[Params]:
    """Changes of any size; `broken` ones may hold infinities and what is no number."""
    number = st.floats(width=32, allow_nan=broken, allow_infinity=broken)
    tame = st.floats(-10, 10, width=32)
    return st.lists(number | tame, min_size=ENTRIES, max_size=ENTRIES).map(unflat)


def length(params: Params) -> float:
    return float(flat(params).double().norm())
