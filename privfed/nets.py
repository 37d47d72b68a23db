"""Reference nets: one architecture value, a module for one model and a function for many.

All nets normalise with GroupNorm, so that per-sample gradients exist and no running statistics
leave a client. Architectures after Zhao and Bilen (arXiv 2006.05929, ConvNet of dataset
distillation), with GroupNorm in place of InstanceNorm.
"""

from __future__ import annotations

from dataclasses import asdict, dataclass
from functools import lru_cache
from typing import Any, Literal

import torch
from torch import Tensor, nn
from torch.nn import functional as F

Family = Literal["convnet", "mlp"]
Params = dict[str, Tensor]
LARGEST_POOL_MATRIX = 256


@dataclass(frozen=True, slots=True)
class NetSpec:
    """A public description of a net, enough to rebuild it from its weights.

    Attributes:
        family: "convnet" = [conv3x3, GroupNorm, ReLU, average pool 2] x depth and a linear head;
            "mlp" = [linear, ReLU] x depth and a linear head.
        channels, size: of the square input images.
        classes: number of outputs.
        width: feature maps (convnet) or hidden units (mlp).
        depth: number of blocks.
        groups: GroupNorm groups (convnet).
    """

    family: Family
    channels: int
    size: int
    classes: int
    width: int
    depth: int
    groups: int = 4

    def __post_init__(self) -> None:
        if self.family not in ("convnet", "mlp"):
            raise ValueError(f"expected family 'convnet' or 'mlp', got family={self.family!r}")
        for name in ("channels", "size", "classes", "width", "depth", "groups"):
            if getattr(self, name) < 1:
                raise ValueError(f"expected {name} >= 1, got {name}={getattr(self, name)}")
        if self.family == "convnet" and self.size >> self.depth < 1:
            raise ValueError(f"expected depth <= log2(size={self.size}), got depth={self.depth}")
        if self.family == "convnet" and self.width % self.groups:
            raise ValueError(f"expected width divisible by groups={self.groups}, got width={self.width}")

    def to_json(self) -> dict[str, Any]:
        """The fields as plain values."""
        return asdict(self)


def build(spec: NetSpec, generator: torch.Generator) -> nn.Module:
    """A module with fresh weights drawn from `generator` (PyTorch's default distributions)."""
    with torch.random.fork_rng(devices=[]):
        # Layers draw weights from the global generator when they are made; the fork undoes that.
        module = _convnet(spec) if spec.family == "convnet" else _mlp(spec)
    with torch.no_grad():
        for layer in module.modules():
            if isinstance(layer, (nn.Conv2d, nn.Linear)):
                bound = layer.weight[0].numel() ** -0.5
                layer.weight.uniform_(-bound, bound, generator=generator)
                if layer.bias is not None:
                    layer.bias.uniform_(-bound, bound, generator=generator)
    return module


def initial(spec: NetSpec, generator: torch.Generator) -> Params:
    """Fresh parameters by name, detached."""
    return {k: v.detach().clone() for k, v in build(spec, generator).named_parameters()}


def module_of(spec: NetSpec, params: Params) -> nn.Module:
    """A module that carries a copy of `params`; names and shapes must match the architecture."""
    module = build(spec, torch.Generator().manual_seed(0))
    expected = {k: tuple(v.shape) for k, v in module.named_parameters()}
    got = {k: tuple(v.shape) for k, v in params.items()}
    if expected != got:
        name = sorted(set(expected.items()) ^ set(got.items()))[0][0]
        raise ValueError(f"expected {name} of shape {expected.get(name)}, got {name}={got.get(name)}")
    module.load_state_dict(params)
    return module


def forward(spec: NetSpec, params: Params, images: Tensor) -> Tensor:
    """Logits of M models of one architecture at once.

    Args:
        spec: the architecture.
        params: by name, each of shape (M, ...).
        images: shape (M, n, channels, size, size): each model has its own batch.

    Returns:
        Logits, shape (M, n, classes). Convolutions run grouped, one group a model; M = 1 is the
        plain network.
    """
    return (
        _forward_mlp(spec, params, images) if spec.family == "mlp" else _forward_convnet(spec, params, images)
    )


def _convnet(spec: NetSpec) -> nn.Module:
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
    side = spec.size >> spec.depth
    return nn.Sequential(*layers, nn.Flatten(), nn.Linear(spec.width * side * side, spec.classes))


def _mlp(spec: NetSpec) -> nn.Module:
    layers: list[nn.Module] = [nn.Flatten()]
    features = spec.channels * spec.size * spec.size
    for _ in range(spec.depth):
        layers += [nn.Linear(features, spec.width), nn.ReLU()]
        features = spec.width
    return nn.Sequential(*layers, nn.Linear(features, spec.classes))


def _forward_convnet(spec: NetSpec, params: Params, images: Tensor) -> Tensor:
    models, n = images.shape[:2]
    x = images.transpose(0, 1).reshape(n, models * spec.channels, spec.size, spec.size)
    for block in range(spec.depth):
        conv, norm = 4 * block, 4 * block + 1
        x = F.conv2d(
            x,
            params[f"{conv}.weight"].flatten(0, 1),
            params[f"{conv}.bias"].flatten(),
            padding=1,
            groups=models,
        )
        x = F.group_norm(
            x, models * spec.groups, params[f"{norm}.weight"].flatten(), params[f"{norm}.bias"].flatten()
        )
        x = _pool(F.relu(x))
    side = spec.size >> spec.depth
    features = x.reshape(n, models, spec.width * side * side).transpose(0, 1)
    head = 4 * spec.depth + 1
    return torch.baddbmm(
        params[f"{head}.bias"].unsqueeze(1), features, params[f"{head}.weight"].transpose(1, 2)
    )


def _forward_mlp(spec: NetSpec, params: Params, images: Tensor) -> Tensor:
    x = images.flatten(2)
    for layer in range(spec.depth + 1):
        index = 2 * layer + 1
        x = torch.baddbmm(params[f"{index}.bias"].unsqueeze(1), x, params[f"{index}.weight"].transpose(1, 2))
        x = F.relu(x) if layer < spec.depth else x
    return x


def _pool(x: Tensor) -> Tensor:
    """2 x 2 average pooling; small maps through one matrix product, several times faster on CPU."""
    height, width = int(x.shape[-2]), int(x.shape[-1])
    if height * width > LARGEST_POOL_MATRIX:
        return F.avg_pool2d(x, 2)
    matrix = _pool_matrix(height, width, x.device, x.dtype)
    return (x.flatten(-2) @ matrix).view(*x.shape[:-2], height // 2, width // 2)


@lru_cache(maxsize=64)
def _pool_matrix(height: int, width: int, device: torch.device, dtype: torch.dtype) -> Tensor:
    """Shape (height * width, (height // 2) * (width // 2)); a last odd row or column is left out."""
    eye = torch.eye(height * width, device=device, dtype=dtype).view(-1, 1, height, width)
    return F.avg_pool2d(eye, 2).flatten(1)
