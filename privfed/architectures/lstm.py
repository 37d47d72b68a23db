"""One LSTM layer over embedded text, mean over steps, one linear layer: FedRep's shape for Sent140.

After Collins et al. (arXiv 2102.07078); there tokens of 300 numbers are re-cut into steps of 25
numbers, here a step is a token.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from privfed.architectures.linear import affine

if TYPE_CHECKING:
    from privfed.nets import NetSpec, Params


class Recurrent(nn.Module):
    """LSTM cell unrolled over the steps, with torch.nn.LSTM's parameters and gate order.

    The loop is written out because every model of a stack, and every record under DP-SGD, needs
    the same arithmetic: torch.nn.LSTM has neither form.
    """

    def __init__(self, inputs: int, units: int) -> None:
        super().__init__()
        self.weight_ih = nn.Parameter(torch.empty(4 * units, inputs))
        self.weight_hh = nn.Parameter(torch.empty(4 * units, units))
        self.bias_ih = nn.Parameter(torch.empty(4 * units))
        self.bias_hh = nn.Parameter(torch.empty(4 * units))

    def forward(self, x: Tensor) -> Tensor:
        """Mean over the steps of the hidden state; x of shape (n, tokens, inputs)."""
        own = {name: p.unsqueeze(0) for name, p in self.named_parameters()}
        return unroll(own, x.unsqueeze(0)).squeeze(0)


def module(spec: NetSpec) -> nn.Module:
    """LSTM, [linear, ReLU] and a linear head."""
    units, wide = spec.hidden
    return nn.Sequential(
        Recurrent(spec.channels, units), nn.Linear(units, wide), nn.ReLU(), nn.Linear(wide, spec.classes)
    )


def width(spec: NetSpec) -> int:
    """Features that the head reads."""
    return spec.hidden[-1]


def features(spec: NetSpec, params: Params, inputs: Tensor) -> Tensor:
    """Last hidden layer of M models, shape (M, n, width)."""
    own = {name.removeprefix("0."): p for name, p in params.items() if name.startswith("0.")}
    x = unroll(own, inputs)
    return F.relu(affine(x, params["1.weight"], params["1.bias"]))


def unroll(params: Params, x: Tensor) -> Tensor:
    """Mean hidden state of M models; x of shape (M, n, tokens, inputs), result (M, n, units)."""
    units = params["weight_hh"].shape[-1]
    bias = params["bias_ih"] + params["bias_hh"]
    from_input = affine(x.flatten(1, 2), params["weight_ih"], bias)
    steps = from_input.unflatten(1, x.shape[1:3]).unbind(2)
    recurrent = params["weight_hh"].transpose(1, 2)
    hidden = x.new_zeros(*x.shape[:2], units)
    cell, total = hidden, hidden
    for step in steps:
        gates = torch.baddbmm(step, hidden, recurrent)
        enter, forget, candidate, out = gates.split(units, -1)
        cell = torch.sigmoid(forget) * cell + torch.sigmoid(enter) * torch.tanh(candidate)
        hidden = torch.sigmoid(out) * torch.tanh(cell)
        total = total + hidden
    return total / len(steps)
