"""FedRep's CNN for CIFAR (Collins et al., arXiv 2102.07078): two 5x5 convolutions, two linear layers.

With hidden sizes (64, 64, 120, 64) and 10 classes on 32x32 colour images: 307,842 parameters.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from torch import Tensor, nn
from torch.nn import functional as F

from privfed.architectures.linear import affine

if TYPE_CHECKING:
    from privfed.nets import NetSpec, Params

KERNEL = 5
CONVOLUTIONS = ("0", "3")
LINEAR = ("7", "9")


def side(spec: NetSpec) -> int:
    """Height and width of the maps after both blocks."""
    return ((spec.size - KERNEL + 1) // 2 - KERNEL + 1) // 2


def module(spec: NetSpec) -> nn.Module:
    """[conv 5x5, ReLU, max pool 2] x 2, [linear, ReLU] x 2 and a linear head."""
    first, second, third, fourth = spec.hidden
    return nn.Sequential(
        nn.Conv2d(spec.channels, first, KERNEL), nn.ReLU(), nn.MaxPool2d(2),
        nn.Conv2d(first, second, KERNEL), nn.ReLU(), nn.MaxPool2d(2),
        nn.Flatten(),
        nn.Linear(second * side(spec) ** 2, third), nn.ReLU(),
        nn.Linear(third, fourth), nn.ReLU(),
        nn.Linear(fourth, spec.classes),
    )  # fmt: skip


def width(spec: NetSpec) -> int:
    """Features that the head reads."""
    return spec.hidden[-1]


def features(spec: NetSpec, params: Params, inputs: Tensor) -> Tensor:
    """Last hidden layer of M models, shape (M, n, width); one group of a convolution a model."""
    models, n = inputs.shape[:2]
    x = inputs.transpose(0, 1).reshape(n, models * spec.channels, spec.size, spec.size)
    for layer in CONVOLUTIONS:
        weight, bias = params[f"{layer}.weight"].flatten(0, 1), params[f"{layer}.bias"].flatten()
        x = F.max_pool2d(F.relu(F.conv2d(x, weight, bias, groups=models)), 2)
    x = x.unflatten(1, (models, -1)).flatten(2).transpose(0, 1)
    for layer in LINEAR:
        x = F.relu(affine(x, params[f"{layer}.weight"], params[f"{layer}.bias"]))
    return x
