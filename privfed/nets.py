"""Reference nets: one architecture value, a module for one model and a function for many.

Nets normalise with GroupNorm or not at all, so that per-sample gradients exist and no running
statistics leave a client. Every net is a representation followed by a linear head; which is which
matters to pipelines that share one and keep the other.
"""

from __future__ import annotations

from dataclasses import asdict, dataclass
from functools import lru_cache
from typing import Any, Literal, Protocol, get_args

import torch
from torch import Tensor, nn

from privfed.architectures import cnn, convnet, linear, lstm, mlp

Family = Literal["convnet", "mlp", "cnn", "lstm", "linear"]
Params = dict[str, Tensor]
HIDDEN = {"cnn": 4, "lstm": 2}


class Architecture(Protocol):
    """What a file of `privfed.architectures` offers."""

    def module(self, spec: NetSpec) -> nn.Module:
        """One model, a Sequential whose last layer is the head."""
        ...

    def width(self, spec: NetSpec) -> int:
        """Features that the head reads."""
        ...

    def features(self, spec: NetSpec, params: Params, inputs: Tensor) -> Tensor:
        """Features of M models, shape (M, n, width)."""
        ...


_ARCHITECTURES: dict[str, Architecture] = {
    "convnet": convnet,
    "mlp": mlp,
    "cnn": cnn,
    "lstm": lstm,
    "linear": linear,
}


@dataclass(frozen=True, slots=True)
class NetSpec:
    """A public description of a net, enough to rebuild it from its weights.

    Attributes:
        family: "convnet" = [conv3x3, GroupNorm, ReLU, average pool 2] x depth and a linear head;
            "mlp" = [linear, ReLU] x depth and a linear head; "cnn" = [conv5x5, ReLU, max pool 2] x 2,
            [linear, ReLU] x 2 and a linear head; "lstm" = LSTM, mean over steps, [linear, ReLU] and
            a linear head, for text; "linear" = a head alone, on features.
        channels, size: of the square input images; for text the embedding's dimension and the
            tokens of a sentence; 1 and 1 for features.
        classes: number of outputs.
        width: feature maps (convnet), hidden units (mlp) or features (linear).
        depth: number of blocks.
        groups: GroupNorm groups (convnet).
        hidden: sizes of the layers in order: two convolutions and two linear layers (cnn), LSTM
            units and linear layer (lstm), or hidden layers (mlp, in place of width and depth).
    """

    family: Family
    channels: int
    size: int
    classes: int
    width: int = 1
    depth: int = 1
    groups: int = 4
    hidden: tuple[int, ...] = ()

    def __post_init__(self) -> None:
        families = get_args(Family)
        if self.family not in families:
            raise ValueError(
                f"expected family to be one of {', '.join(families)}, got family={self.family!r}"
            )
        for name in ("channels", "size", "classes", "width", "depth", "groups"):
            if getattr(self, name) < 1:
                raise ValueError(f"expected {name} >= 1, got {name}={getattr(self, name)}")
        _check_hidden(self)
        if self.family == "convnet" and self.size >> self.depth < 1:
            raise ValueError(f"expected depth <= log2(size={self.size}), got depth={self.depth}")
        if self.family == "convnet" and self.width % self.groups:
            raise ValueError(f"expected width divisible by groups={self.groups}, got width={self.width}")
        if self.family == "cnn" and cnn.side(self) < 1:
            raise ValueError(f"expected images of at least 16 pixels a side for a cnn, got size={self.size}")

    @property
    def input_shape(self) -> tuple[int, ...]:
        """Of one record: (channels, size, size), or (tokens, dimension) for text."""
        if self.family == "linear":
            return (self.width,)
        return (self.size, self.channels) if self.family == "lstm" else (self.channels, self.size, self.size)

    def to_json(self) -> dict[str, Any]:
        """The fields as plain values."""
        return asdict(self)


def _check_hidden(spec: NetSpec) -> None:
    wanted = HIDDEN.get(spec.family)
    if wanted and len(spec.hidden) != wanted:
        raise ValueError(
            f"expected {wanted} hidden sizes for family {spec.family!r}, got hidden={spec.hidden}"
        )
    if spec.hidden and spec.family in ("convnet", "linear"):
        raise ValueError(f"expected no hidden sizes for family {spec.family!r}, got hidden={spec.hidden}")
    if any(units < 1 for units in spec.hidden):
        raise ValueError(f"expected hidden sizes >= 1, got hidden={spec.hidden}")


def build(spec: NetSpec, generator: torch.Generator) -> nn.Module:
    """A module with fresh weights drawn from `generator` (PyTorch's default distributions)."""
    with torch.random.fork_rng(devices=[]):
        # Layers draw weights from the global generator when they are made; the fork undoes that.
        module = _ARCHITECTURES[spec.family].module(spec)
    with torch.no_grad():
        for layer in module.modules():
            if isinstance(layer, (nn.Conv2d, nn.Linear)):
                _uniform(layer, layer.weight[0].numel(), generator)
            elif isinstance(layer, lstm.Recurrent):
                _uniform(layer, layer.weight_hh.shape[1], generator)
    return module


def _uniform(layer: nn.Module, fan: int, generator: torch.Generator) -> None:
    for parameter in layer.parameters():
        parameter.uniform_(-(fan**-0.5), fan**-0.5, generator=generator)


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


def forward(spec: NetSpec, params: Params, inputs: Tensor) -> Tensor:
    """Logits of M models of one architecture at once.

    Args:
        spec: the architecture.
        params: by name, each of shape (M, ...).
        inputs: shape (M, n, *spec.input_shape): each model has its own batch.

    Returns:
        Logits, shape (M, n, classes). Convolutions run grouped, one group a model; M = 1 is the
        plain network.
    """
    weight, bias = (params[name] for name in head_names(spec))
    return linear.affine(features(spec, params, inputs), weight, bias)


def features(spec: NetSpec, params: Params, inputs: Tensor) -> Tensor:
    """What the head reads: the last activations, after ReLU, shape (M, n, feature_width(spec)).

    Args:
        spec: the architecture.
        params: at least those of the representation, each of shape (M, ...).
        inputs: shape (M, n, *spec.input_shape).
    """
    return _ARCHITECTURES[spec.family].features(spec, params, inputs)


def feature_width(spec: NetSpec) -> int:
    """Features that the head reads."""
    return _ARCHITECTURES[spec.family].width(spec)


@lru_cache(maxsize=64)
def parameter_shapes(spec: NetSpec) -> dict[str, tuple[int, ...]]:
    """Shape of every parameter by name, in order."""
    # Shapes alone: a description from outside may ask for a net that no memory holds.
    with torch.device("meta"):
        module = _ARCHITECTURES[spec.family].module(spec)
    return {k: tuple(v.shape) for k, v in module.named_parameters()}


def head_names(spec: NetSpec) -> tuple[str, str]:
    """Names of the head's weight and bias."""
    *_, weight, bias = parameter_shapes(spec)
    return weight, bias


def head_spec(spec: NetSpec) -> NetSpec:
    """The head as a net of its own, on features."""
    return NetSpec("linear", 1, 1, spec.classes, feature_width(spec))


def head_of(spec: NetSpec, params: Params) -> Params:
    """The head's part of `params`."""
    return {name: params[name] for name in head_names(spec)}


def representation_of(spec: NetSpec, params: Params) -> Params:
    """All of `params` but the head."""
    return {name: t for name, t in params.items() if name not in head_names(spec)}
