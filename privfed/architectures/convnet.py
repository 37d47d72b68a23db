"""ConvNet of data set distillation (Zhao and Bilen, arXiv 2006.05929), with GroupNorm for InstanceNorm."""

from __future__ import annotations

from functools import lru_cache
from typing import TYPE_CHECKING

import torch
from torch import Tensor, nn
from torch.nn import functional as F

if TYPE_CHECKING:
    from privfed.nets import NetSpec, Params

LARGEST_POOL_MATRIX = 256


def module(spec: NetSpec) -> nn.Module:
    """[conv 3x3, GroupNorm, ReLU, average pool 2] x depth and a linear head."""
    layers: list[nn.Module] = []
    channels = spec.channels
    for _ in range(spec.depth):
        layers += [
            nn.Conv2d(channels, spec.width, 3, padding=1),
            nn.GroupNorm(spec.groups, spec.width),
            nn.ReLU(),
            nn.AvgPool2d(2),
        ]
        channels = spec.width
    return nn.Sequential(*layers, nn.Flatten(), nn.Linear(width(spec), spec.classes))


def width(spec: NetSpec) -> int:
    """Features that the head reads."""
    return spec.width * (spec.size >> spec.depth) ** 2


def features(spec: NetSpec, params: Params, inputs: Tensor) -> Tensor:
    """Pooled maps of M models, shape (M, n, width); one group of a grouped convolution a model."""
    models, n = inputs.shape[:2]
    x = inputs.transpose(0, 1).reshape(n, models * spec.channels, spec.size, spec.size)
    for block in range(spec.depth):
        conv, norm = 4 * block, 4 * block + 1
        weight, bias = params[f"{conv}.weight"].flatten(0, 1), params[f"{conv}.bias"].flatten()
        x = F.conv2d(x, weight, bias, padding=1, groups=models)
        scale, shift = params[f"{norm}.weight"].flatten(), params[f"{norm}.bias"].flatten()
        x = pool(F.relu(F.group_norm(x, models * spec.groups, scale, shift)))
    return x.reshape(n, models, width(spec)).transpose(0, 1)


def pool(x: Tensor) -> Tensor:
    """2 x 2 average pooling; small maps through one matrix product, several times faster on CPU."""
    height, wide = int(x.shape[-2]), int(x.shape[-1])
    if height * wide > LARGEST_POOL_MATRIX:
        return F.avg_pool2d(x, 2)
    matrix = _pool_matrix(height, wide, x.device, x.dtype)
    return (x.flatten(-2) @ matrix).view(*x.shape[:-2], height // 2, wide // 2)


@lru_cache(maxsize=64)
def _pool_matrix(height: int, wide: int, device: torch.device, dtype: torch.dtype) -> Tensor:
    """Shape (height * wide, (height // 2) * (wide // 2)); a last odd row or column is left out."""
    eye = torch.eye(height * wide, device=device, dtype=dtype).view(-1, 1, height, wide)
    return F.avg_pool2d(eye, 2).flatten(1)
