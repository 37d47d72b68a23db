"""The span of a movement: vectors of it lie outside by as much as noise explains, others by far more."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor

from attacks._span import rounding, span_of, surprise


def randoms(*shape: int, seed: int = 0) -> Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


def looked_up(moved: Tensor, vectors: Tensor, noise: float) -> Tensor:
    span = span_of(moved, noise)
    inside, outside = vectors @ span.inside.T / span.sizes, vectors @ span.outside.T
    return surprise(span, inside.square().sum(1), outside.square().sum(1))


@pytest.mark.parametrize("noise", [1e-9, 1e-6, 1e-4])
def test_vectors_of_the_span_lie_outside_by_what_noise_explains(noise: float) -> None:
    """Five inputs in 30 dimensions: chi square of 25 degrees of freedom over 25 has mean 1."""
    inputs = randoms(5, 30)
    moved = randoms(60, 5, seed=1) @ inputs + noise * randoms(60, 30, seed=2)
    found = looked_up(moved, torch.cat([inputs, randoms(40, 30, seed=3)]), noise)
    assert 0.3 < float(found[:5].mean()) < 3.0
    assert float(found[5:].min()) > 1e4


def test_the_rank_is_that_of_the_inputs_and_noise_has_none() -> None:
    inputs = randoms(5, 30)
    span = span_of(randoms(60, 5, seed=1) @ inputs, 1e-9)
    assert span.inside.shape == (5, 30)
    assert span.outside.shape == (25, 30)
    assert span.tells
    assert not span_of(1e-3 * randoms(60, 30, seed=2), 1e-3).tells


def test_a_full_space_tells_nothing() -> None:
    assert not span_of(randoms(60, 30), 1e-9).tells
    assert not span_of(randoms(10, 30), 1e-9).tells  # as many directions as rows: each may be a mixture


def test_rounding_is_that_of_storing_weights() -> None:
    weights = 2 * torch.rand(100_000, generator=torch.Generator().manual_seed(0), dtype=torch.float64) - 1
    error = (weights.float().double() - weights).square().mean().sqrt()
    assert rounding(weights.float()) == pytest.approx(float(error), rel=0.15)
    assert rounding(torch.zeros(3)) > 0
