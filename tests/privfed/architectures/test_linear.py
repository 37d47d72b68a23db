"""A head alone: its features are its inputs, and M layers at once are each layer by itself."""

from __future__ import annotations

import pytest
import torch
from torch.nn import functional as F

from privfed.architectures.linear import affine
from privfed.nets import NetSpec, features, forward
from privfed.randomness import Stream
from tests.privfed.architectures.specs import assert_exact, batches, doubled, models

SPEC = NetSpec("linear", channels=1, size=1, classes=4, width=6)


@pytest.mark.parametrize("count", [1, 2, 5])
@pytest.mark.parametrize("n", [0, 1, 3])
def test_layers_at_once_are_each_layer_by_itself(count: int, n: int) -> None:
    generator = Stream(0).torch()
    x, weight, bias = (
        torch.randn(*shape, generator=generator, dtype=torch.float64)
        for shape in ((count, n, 5), (count, 7, 5), (count, 7))
    )
    found = affine(x, weight, bias)
    assert found.shape == (count, n, 7)
    for m in range(count):
        assert_exact(found[m], F.linear(x[m], weight[m], bias[m]))


def test_features_are_the_inputs() -> None:
    nets, inputs = models(SPEC, 2), batches(SPEC, 2, 3)
    assert torch.equal(features(SPEC, doubled(nets), inputs), inputs)


def test_zero_weights_give_the_bias() -> None:
    net = {"0.weight": torch.zeros(4, 6), "0.bias": torch.arange(4.0)}
    logits = forward(SPEC, doubled([net, net]), batches(SPEC, 2, 3))
    assert torch.equal(logits, torch.arange(4.0, dtype=torch.float64).expand(2, 3, 4))
