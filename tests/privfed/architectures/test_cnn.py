"""FedRep's CNN: published sizes, and the smallest image it takes."""

from __future__ import annotations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from privfed.architectures.cnn import side
from privfed.nets import NetSpec, features, forward
from tests.privfed.architectures.specs import (
    assert_exact,
    batches,
    by_module,
    doubled,
    models,
    parameter_count,
)


@pytest.mark.parametrize(
    ("hidden", "classes", "count"),
    [
        # CIFAR-10 and CIFAR-100 in FedRep and FedBKD; by hand for the first: 3 * 25 * 64 + 64
        # + 64 * 25 * 64 + 64 + 1600 * 120 + 120 + 120 * 64 + 64 + 64 * 10 + 10.
        ((64, 64, 120, 64), 10, 307_842),
        ((64, 128, 256, 128), 100, 1_075_044),
    ],
)
def test_published_parameter_counts(hidden: tuple[int, ...], classes: int, count: int) -> None:
    assert parameter_count(NetSpec("cnn", channels=3, size=32, classes=classes, hidden=hidden)) == count


@settings(max_examples=30)
@given(size=st.integers(16, 24), channels=st.integers(1, 3), models_=st.integers(1, 3))
def test_any_image_size_is_its_module(size: int, channels: int, models_: int) -> None:
    spec = NetSpec("cnn", channels, size, classes=3, hidden=(2, 3, 5, 4))
    nets, images = models(spec, models_), batches(spec, models_, 2)
    logits, activations = (f(spec, doubled(nets), images) for f in (forward, features))
    assert activations.shape == (models_, 2, 4)
    for m, params in enumerate(nets):
        assert_exact(logits[m], by_module(spec, params, images[m]))


@pytest.mark.parametrize(("size", "left"), [(16, 1), (19, 1), (20, 2), (28, 4), (32, 5)])
def test_maps_that_are_left(size: int, left: int) -> None:
    """Each block takes 4 pixels off and halves, rounding down."""
    assert side(NetSpec("cnn", 3, size, 10, hidden=(2, 2, 2, 2))) == left


@pytest.mark.parametrize("size", [1, 15])
def test_smaller_images_are_refused(size: int) -> None:
    message = f"expected images of at least 16 pixels a side for a cnn, got size={size}"
    with pytest.raises(ValueError, match=f"^{message}$"):
        NetSpec("cnn", 3, size, 10, hidden=(2, 2, 2, 2))
