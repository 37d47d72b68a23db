"""Multi-layer perceptron; with hidden sizes 512, 256 and 64 it is FedRep's net for FEMNIST.

FedRep: Collins et al. (arXiv 2102.07078). Its released code feeds softmax outputs to the
cross-entropy; this net gives logits.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from torch import Tensor, nn
from torch.nn import functional as F

from privfed.architectures.linear import affine

if TYPE_CHECKING:
    from privfed.nets import NetSpec, Params


def sizes(spec: NetSpec) -> tuple[int, ...]:
    """Hidden units of each layer."""
    return spec.hidden or (spec.width,) * spec.depth


def module(spec: NetSpec) -> nn.Module:
    """[linear, ReLU] for each hidden size and a linear head."""
    layers: list[nn.Module] = [nn.Flatten()]
    wide = spec.channels * spec.size * spec.size
    for units in sizes(spec):
        layers += [nn.Linear(wide, units), nn.ReLU()]
        wide = units
    return nn.Sequential(*layers, nn.Linear(wide, spec.classes))


def width(spec: NetSpec) -> int:
    """Features that the head reads."""
    return sizes(spec)[-1]


def features(spec: NetSpec, params: Params, inputs: Tensor) -> Tensor:
    """Last hidden layer of M models, shape (M, n, width); batched matrix products."""
    x = inputs.flatten(2)
    for layer in range(len(sizes(spec))):
        x = F.relu(affine(x, params[f"{2 * layer + 1}.weight"], params[f"{2 * layer + 1}.bias"]))
    return x
