"""The perceptron: widths by depth or one by one, and FedRep's published size."""

from __future__ import annotations

import pytest
import torch

from privfed.architectures.mlp import sizes
from privfed.nets import NetSpec, feature_width, features, parameter_shapes
from tests.privfed.architectures.specs import doubled, models, parameter_count


@pytest.mark.parametrize(
    ("spec", "count"),
    [
        # FEMNIST's letters a to j in FedRep and FedBKD.
        (NetSpec("mlp", channels=1, size=28, classes=10, hidden=(512, 256, 64)), 550_346),
        (NetSpec("mlp", channels=1, size=28, classes=10, width=64), 784 * 64 + 64 + 64 * 10 + 10),
    ],
)
def test_parameter_counts(spec: NetSpec, count: int) -> None:
    assert parameter_count(spec) == count


def test_width_and_depth_are_short_for_hidden_sizes() -> None:
    short = NetSpec("mlp", channels=1, size=3, classes=2, width=5, depth=3)
    long = NetSpec("mlp", channels=1, size=3, classes=2, hidden=(5, 5, 5))
    assert sizes(short) == sizes(long) == (5, 5, 5)
    assert parameter_shapes(short) == parameter_shapes(long)
    assert feature_width(NetSpec("mlp", 1, 3, 2, width=9, hidden=(4, 6))) == 6, "hidden sizes take over"


def test_one_pixel_by_hand() -> None:
    """ReLU(2 x - 1) and ReLU(-x) of x = 3 and x = -1."""
    spec = NetSpec("mlp", channels=1, size=1, classes=2, width=2)
    net = {**models(spec, 1)[0], "1.weight": torch.tensor([[2.0], [-1.0]]), "1.bias": torch.tensor([-1.0, 0])}
    inputs = torch.tensor([3.0, -1.0], dtype=torch.float64).view(1, 2, 1, 1, 1)
    assert features(spec, doubled([net]), inputs).tolist() == [[[5.0, 0.0], [0.0, 1.0]]]
