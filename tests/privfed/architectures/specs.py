"""Small nets of every family, with random weights and inputs, and the plain module of each as a twin."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor

from privfed.nets import NetSpec, Params, initial, module_of, parameter_shapes
from privfed.randomness import Stream
from privfed.training import stack

SPECS = [
    NetSpec("convnet", channels=1, size=8, classes=10, width=8, depth=2),
    NetSpec("convnet", channels=3, size=9, classes=4, width=8, depth=3),
    NetSpec("convnet", channels=2, size=7, classes=3, width=4, depth=1, groups=2),
    NetSpec("convnet", channels=1, size=17, classes=5, width=4, depth=2),
    NetSpec("mlp", channels=1, size=8, classes=10, width=16, depth=1),
    NetSpec("mlp", channels=3, size=5, classes=4, width=7, depth=3),
    NetSpec("mlp", channels=2, size=4, classes=3, hidden=(9, 5, 7)),
    NetSpec("cnn", channels=1, size=16, classes=3, hidden=(3, 4, 6, 5)),
    NetSpec("cnn", channels=3, size=21, classes=4, hidden=(2, 5, 4, 7)),
    NetSpec("lstm", channels=3, size=4, classes=2, hidden=(5, 6)),
    NetSpec("lstm", channels=1, size=1, classes=3, hidden=(4, 3)),
    NetSpec("linear", channels=1, size=1, classes=4, width=6),
]
every_spec = pytest.mark.parametrize("spec", SPECS, ids=lambda s: f"{s.family}-{s.channels}x{s.size}")


def models(spec: NetSpec, count: int) -> list[Params]:
    return [initial(spec, Stream(m).torch()) for m in range(count)]


def batches(spec: NetSpec, count: int, n: int, seed: int = 0) -> Tensor:
    """Float64, in [-1, 1), shape (count, n, *spec.input_shape)."""
    generator = Stream(seed, ("inputs",)).torch()
    return torch.rand(count, n, *spec.input_shape, generator=generator, dtype=torch.float64) * 2 - 1


def doubled(params: list[Params]) -> Params:
    return {name: value.double() for name, value in stack(params).items()}


def by_module(spec: NetSpec, params: Params, inputs: Tensor) -> Tensor:
    """Logits of one model by PyTorch's own layers, in float64."""
    module = module_of(spec, params).double()
    with torch.no_grad():
        logits: Tensor = module(inputs)
    return logits


def parameter_count(spec: NetSpec) -> int:
    return sum(torch.Size(shape).numel() for shape in parameter_shapes(spec).values())


def assert_exact(found: Tensor, expected: Tensor) -> None:
    """Equal up to two orders of summation in float64."""
    torch.testing.assert_close(found, expected, rtol=1e-10, atol=1e-10)
