"""The convolutional net with normalisation: any size of it is its module, and sizes are as published."""

from __future__ import annotations

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch.nn import functional as F

from privfed.architectures.convnet import LARGEST_POOL_MATRIX, pool
from privfed.nets import NetSpec, forward
from tests.privfed.architectures.specs import (
    assert_exact,
    batches,
    by_module,
    doubled,
    models,
    parameter_count,
)


@given(
    size=st.integers(4, 11),
    depth=st.integers(1, 2),
    channels=st.integers(1, 3),
    width=st.sampled_from([4, 8]),
    groups=st.sampled_from([1, 2, 4]),
)
def test_any_convnet_is_its_module(size: int, depth: int, channels: int, width: int, groups: int) -> None:
    spec = NetSpec("convnet", channels, size, classes=3, width=width, depth=depth, groups=groups)
    nets, images = models(spec, 2), batches(spec, 2, 2)
    logits = forward(spec, doubled(nets), images)
    for m, params in enumerate(nets):
        assert_exact(logits[m], by_module(spec, params, images[m]))


@pytest.mark.parametrize("side", [2, 3, 15, 16, 17, 20])
def test_maps_of_any_size_are_pooled_alike(side: int) -> None:
    """One matrix product up to 16 x 16, PyTorch's own pooling above."""
    (maps,) = batches(NetSpec("convnet", 3, side, 2, width=4), 1, 4)
    assert_exact(pool(maps), F.avg_pool2d(maps, 2))
    assert LARGEST_POOL_MATRIX == 16**2


@pytest.mark.parametrize(
    ("channels", "size", "width", "count"),
    [
        # Published counts hold for 32 x 32 inputs, to which Fashion-MNIST is padded there; at its own
        # 28 x 28 the last map is 3 x 3 and the head smaller.
        (1, 32, 16, 7_466),
        (1, 28, 16, 6_346),
        (3, 32, 16, 7_754),
        (1, 32, 64, 85_130),
        (3, 32, 64, 86_282),
        (3, 32, 128, 320_010),
    ],
)
def test_published_parameter_counts(channels: int, size: int, width: int, count: int) -> None:
    assert parameter_count(NetSpec("convnet", channels, size, classes=10, width=width, depth=3)) == count


def test_normalisation_starts_as_the_identity() -> None:
    spec = NetSpec("convnet", channels=1, size=8, classes=2, width=8, depth=2)
    (net,) = models(spec, 1)
    for block in (1, 5):
        assert torch.equal(net[f"{block}.weight"], torch.ones(8))
        assert torch.equal(net[f"{block}.bias"], torch.zeros(8))
