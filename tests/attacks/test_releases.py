"""What a release claims to hold is checked before it is read: it may come from outside."""

from __future__ import annotations

import re

import pytest
import torch

from attacks._releases import labelled_inputs, weights
from privfed.nets import NetSpec, Params, initial
from privfed.release import PUBLIC, SERVER, Release

SPEC = NetSpec("mlp", 1, 4, 3, width=6)


def of_weights(params: Params) -> Release:
    return Release(2, SERVER, PUBLIC, "weights", "large", params)


def synthetic(labels: torch.Tensor) -> Release:
    tensors = {"inputs": torch.zeros(len(labels), 1, 4, 4), "labels": labels}
    return Release(0, SERVER, PUBLIC, "synthetic", "synthetic", tensors)


@pytest.mark.parametrize("strange", [torch.nan, torch.inf, -torch.inf])
def test_weights_must_be_finite(strange: float) -> None:
    """A model that diverged gives no confidence: the attack must say so, not score on NaN."""
    params = initial(SPEC, torch.Generator().manual_seed(0))
    assert weights(of_weights(params), SPEC).keys() == params.keys()
    name = list(params)[1]
    params[name][0] = strange
    told = f"expected finite tensor '{name}' in release 'large' of round 2 from server, got {name} with NaN"
    with pytest.raises(ValueError, match=re.escape(told)):
        weights(of_weights(params), SPEC)


@pytest.mark.parametrize("kind", [torch.int64, torch.int32, torch.uint8])
def test_labels_are_whole_numbers(kind: torch.dtype) -> None:
    found = labelled_inputs(synthetic(torch.tensor([2, 0, 1], dtype=kind)))
    assert found.labels.tolist() == [2, 0, 1]
    assert found.labels.dtype == torch.int64


@pytest.mark.parametrize(
    "labels", [torch.tensor([1.7, 0.0]), torch.tensor([torch.nan, 0.0]), torch.tensor([True, False])]
)
def test_labels_of_another_kind_are_refused(labels: torch.Tensor) -> None:
    """Cut off to whole numbers they would be labels that nobody sent; of NaN it is undefined which."""
    told = (
        "expected labels of shape (2,), integers, in release 'synthetic' of round 0 from server, "
        f"got labels=(2,) {labels.dtype}"
    )
    with pytest.raises(ValueError, match=re.escape(told)):
        labelled_inputs(synthetic(labels))


def test_a_net_that_no_memory_holds_is_refused_by_its_shapes() -> None:
    """The manifest that names the net is as foreign as the weights: no 100 GB are made to compare."""
    vast = NetSpec("mlp", 1, 4, 3, width=160_000, depth=2)
    with pytest.raises(ValueError, match=r"expected tensor '.*' of shape .*160000.*, floating, in release"):
        weights(of_weights(initial(SPEC, torch.Generator())), vast)
