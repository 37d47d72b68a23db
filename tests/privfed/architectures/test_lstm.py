"""The recurrent net: the unrolled cell is torch.nn.LSTM's, weight by weight and gate by gate."""

from __future__ import annotations

import math

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor, nn
from torch.func import functional_call

from privfed.architectures.lstm import Recurrent, unroll
from privfed.nets import NetSpec, Params
from privfed.randomness import Stream
from tests.privfed.architectures.specs import assert_exact, parameter_count


def cells(count: int, inputs: int, units: int) -> Params:
    """Weights of M cells, a few times larger than fresh ones, so that gates open and close."""
    generator = Stream(0, ("cells",)).torch()
    return {
        name: torch.randn(count, *p.shape, generator=generator, dtype=torch.float64)
        for name, p in Recurrent(inputs, units).named_parameters()
    }


def sentences(count: int, n: int, tokens: int, inputs: int) -> Tensor:
    generator = Stream(1, ("sentences",)).torch()
    return torch.randn(count, n, tokens, inputs, generator=generator, dtype=torch.float64)


def by_torch(params: Params, x: Tensor, model: int) -> Tensor:
    """Mean over the steps of torch.nn.LSTM's hidden states, shape (n, units), with a graph to the weights."""
    layer = nn.LSTM(x.shape[-1], params["weight_hh"].shape[-1], batch_first=True).double()
    weights = {f"{name}_l0": p[model] for name, p in params.items()}
    states: Tensor = functional_call(layer, weights, x[model])[0]
    return states.mean(dim=1)


@given(
    count=st.integers(1, 3),
    n=st.integers(1, 3),
    tokens=st.integers(1, 6),
    inputs=st.integers(1, 4),
    units=st.integers(1, 5),
)
def test_every_cell_is_torchs_lstm(count: int, n: int, tokens: int, inputs: int, units: int) -> None:
    params, x = cells(count, inputs, units), sentences(count, n, tokens, inputs)
    found = unroll(params, x)
    assert found.shape == (count, n, units)
    for m in range(count):
        assert_exact(found[m], by_torch(params, x, m))


@pytest.mark.parametrize("count", [1, 3])
def test_gradients_are_torchs_too(count: int) -> None:
    params, x = cells(count, 3, 4), sentences(count, 2, 5, 3)
    leaves = [p.requires_grad_() for p in params.values()]
    found = torch.autograd.grad(unroll(params, x).square().sum(), leaves)
    squares = torch.stack([by_torch(params, x, m).square().sum() for m in range(count)])
    twin = torch.autograd.grad(squares.sum(), leaves)
    for a, b in zip(found, twin, strict=True):
        assert_exact(a, b)


def test_the_module_is_one_cell() -> None:
    params, x = cells(1, 3, 4), sentences(1, 2, 5, 3)
    module = Recurrent(3, 4).double()
    module.load_state_dict({name: p[0] for name, p in params.items()})
    assert_exact(module(x[0]).detach(), unroll(params, x)[0])


def test_one_unit_by_hand() -> None:
    """Zero weights: gates at one half, candidate tanh(1); the cell is halved and lifted at each step."""
    params = {
        "weight_ih": torch.zeros(1, 4, 2),
        "weight_hh": torch.zeros(1, 4, 1),
        "bias_ih": torch.tensor([[0.0, 0.0, 0.75, 0.0]]),
        "bias_hh": torch.tensor([[0.0, 0.0, 0.25, 0.0]]),
    }
    first = math.tanh(1) / 2
    second = first / 2 + first
    expected = (math.tanh(first) / 2 + math.tanh(second) / 2) / 2
    assert float(unroll(params, torch.zeros(1, 1, 2, 2))) == pytest.approx(expected, rel=1e-6)


def test_published_parameter_count() -> None:
    """Sent140 in FedRep and FedBKD: 4 * 128 * (25 + 128 + 2) + 128 * 10 + 10 + 10 * 2 + 2.

    The count depends on neither the number of steps nor that of tokens.
    """
    for tokens in (25, 300):
        spec = NetSpec("lstm", channels=25, size=tokens, classes=2, hidden=(128, 10))
        assert parameter_count(spec) == 80_672
