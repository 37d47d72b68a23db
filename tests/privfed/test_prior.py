"""The generative prior: what it is made of, that it is frozen and bounded, and that training helps."""

from __future__ import annotations

from dataclasses import replace
from functools import lru_cache
from typing import Any

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor

from privfed.prior import CLIP_DEVIATIONS, Prior, PriorRecipe, fit, new_autoencoder, train_prior
from privfed.randomness import Stream
from privfed.records import Records

CLASSES = 10
RECIPE = PriorRecipe(widths=(8, 8), steps=80, batch=32)
STREAM = Stream(0, ("prior",))


@lru_cache(maxsize=1)
def public() -> Records:
    from sklearn.datasets import load_digits

    data = load_digits()
    images = torch.tensor(data.images[:300], dtype=torch.float32).unsqueeze(1) / 8 - 1
    return Records(images, torch.tensor(data.target[:300]))


@lru_cache(maxsize=8)
def prior(steps: int = 80, conditional: bool = True) -> Prior:
    return train_prior(public(), CLASSES, replace(RECIPE, steps=steps, conditional=conditional), STREAM)


def weights(of: Prior) -> dict[str, Tensor]:
    return dict(of.autoencoder.state_dict())


@pytest.mark.parametrize(
    ("channels", "widths", "latent_channels", "count"),
    [(1, (16, 32, 32), 4, 233_173), (3, (16, 32, 64), 8, 655_547), (3, (32, 64, 64), 8, 928_203)],
)
def test_parameter_counts(channels: int, widths: tuple[int, ...], latent_channels: int, count: int) -> None:
    recipe = PriorRecipe(widths=widths, latent_channels=latent_channels, steps=0)
    noise = torch.rand(4, channels, 32, 32, generator=Stream(0).torch()) * 2 - 1
    made = train_prior(Records(noise, torch.zeros(4, dtype=torch.int64)), 1, recipe, STREAM)
    assert made.parameters == count
    assert made.shape == (latent_channels, 8, 8)


def test_the_same_stream_gives_the_same_bits_whatever_the_global_generator() -> None:
    recipe = replace(RECIPE, steps=3)
    torch.manual_seed(1)
    first = train_prior(public(), CLASSES, recipe, STREAM)
    torch.manual_seed(2)
    second = train_prior(public(), CLASSES, recipe, STREAM)
    other = train_prior(public(), CLASSES, recipe, STREAM.child("other"))
    assert all(torch.equal(v, weights(second)[k]) for k, v in weights(first).items())
    assert torch.equal(first.mean, second.mean)
    assert torch.equal(first.factor, second.factor)
    assert any(not torch.equal(v, weights(other)[k]) for k, v in weights(first).items())


def test_the_global_generator_is_left_alone() -> None:
    before = torch.get_rng_state()
    made = train_prior(public(), CLASSES, replace(RECIPE, steps=2), STREAM)
    made.decode(made.sample(torch.arange(CLASSES), STREAM.torch()))
    assert torch.equal(torch.get_rng_state(), before)


def test_it_is_frozen() -> None:
    assert not prior().autoencoder.training
    assert all(not p.requires_grad for p in prior().autoencoder.parameters())
    latents = prior().sample(torch.arange(3), STREAM.torch()).requires_grad_()
    prior().decode(latents).sum().backward()
    assert latents.grad is not None
    assert (latents.grad != 0).any()


def test_decoding_and_encoding_have_the_shapes_of_images_and_latents() -> None:
    latents = prior().sample(torch.tensor([3, 1, 4, 1, 5]), STREAM.torch())
    assert latents.shape == (5, *prior().shape) == (5, 4, 4, 4)
    images = prior().decode(latents)
    assert images.shape == (5, 1, 8, 8)
    assert prior().encode(images).shape == latents.shape


@given(st.floats(0, 1e4), st.integers(0, 5))
def test_images_stay_in_their_range(scale: float, seed: int) -> None:
    noise = torch.randn(2, *prior().shape, generator=Stream(seed).torch())
    with torch.no_grad():
        images = prior().decode(scale * noise)
    assert images.abs().max() <= 1


@given(st.floats(0, 1e4), st.integers(0, 5))
def test_latents_are_held_within_four_deviations_of_the_public_ones(scale: float, seed: int) -> None:
    latents = scale * torch.randn(3, *prior().shape, generator=Stream(seed).torch())
    clipped = prior().clip(latents)
    assert torch.equal(prior().clip(clipped), clipped)
    beyond = (clipped - _centre(prior())).abs() - prior().limit.view(prior().shape)
    assert beyond.max() < 1e-5, "float32 rounding of centre plus limit, both of order one"
    inside = (latents - _centre(prior())).abs() < prior().limit.view(prior().shape) - 1e-5
    assert torch.equal(clipped[inside], latents[inside])


def _centre(of: Prior) -> Tensor:
    return of.mean.mean(0).view(of.shape)


def test_the_limit_is_four_deviations_of_the_public_latents() -> None:
    latents = prior().autoencoder.encode(public().inputs).latent_dist.mean.flatten(1)
    torch.testing.assert_close(prior().limit, CLIP_DEVIATIONS * latents.std(0))


def test_each_class_starts_from_its_own_gaussian() -> None:
    latents = prior().autoencoder.encode(public().inputs).latent_dist.mean.flatten(1)
    assert prior().mean.shape == (CLASSES, 64)
    for c in (0, 7):
        own = latents[public().labels == c]
        torch.testing.assert_close(prior().mean[c], own.mean(0))
        covariance = prior().factor[c] @ prior().factor[c].T
        expected = 0.9 * own.T.cov() + 0.1 * own.T.cov().diagonal().diag()
        # Float32 sums over thirty records, and 1e-6 added to the diagonal for a proper factor.
        torch.testing.assert_close(covariance, expected, rtol=1e-3, atol=1e-5)


def test_samples_of_a_class_have_its_mean() -> None:
    n = 2_000
    drawn = prior().sample(torch.full((n,), 3), STREAM.torch()).flatten(1)
    deviation = (prior().factor[3] @ prior().factor[3].T).diagonal().sqrt()
    error = (drawn.mean(0) - prior().mean[3]).abs() / (deviation / n**0.5)
    assert error.max() < 4.5, "64 normal means: all but one draw in 2,000 stay below; clipping is rarer"


def test_unconditional_latents_do_not_know_the_label() -> None:
    made = prior(conditional=False)
    assert made.mean.shape == (1, 64)
    zeros, nines = (made.sample(torch.full((4,), c), STREAM.torch()) for c in (0, 9))
    assert torch.equal(zeros, nines)
    conditional = [prior().sample(torch.full((4,), c), STREAM.torch()) for c in (0, 9)]
    assert not torch.equal(conditional[0], conditional[1])


def test_labels_of_the_public_shard_are_used_only_when_conditional() -> None:
    shuffled = Records(public().inputs, public().labels.flip(0))
    recipe = replace(RECIPE, steps=2, conditional=False)
    first, second = (train_prior(p, CLASSES, recipe, STREAM) for p in (public(), shuffled))
    assert torch.equal(first.mean, second.mean)
    assert all(torch.equal(v, weights(second)[k]) for k, v in weights(first).items())


@pytest.mark.parametrize("records", [0, 1])
def test_a_class_without_enough_public_records_starts_from_all_of_them(records: int) -> None:
    others = (public().labels != 7).nonzero().flatten()
    some = (public().labels == 7).nonzero().flatten()[:records]
    shard = public().take(torch.cat([others, some]))
    autoencoder = prior().autoencoder
    of_class, of_all = fit(autoencoder, shard, CLASSES, True), fit(autoencoder, shard, CLASSES, False)
    assert torch.equal(of_class.mean[7], of_all.mean[0])
    assert torch.equal(of_class.factor[7], of_all.factor[0])
    assert not torch.equal(of_class.mean[6], of_all.mean[0])


def test_training_improves_the_reconstruction() -> None:
    def error(of: Prior) -> float:
        with torch.no_grad():
            return float((of.decode(of.encode(public().inputs)) - public().inputs).square().mean())

    assert error(prior()) < 0.5 * error(prior(steps=0))


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"widths": (8, 12)}, r"multiples of 8, got widths=\(8, 12\)"),
        ({"widths": ()}, r"multiples of 8, got widths=\(\)"),
        ({"widths": (0, 8)}, r"multiples of 8, got widths=\(0, 8\)"),
        ({"latent_channels": 0}, "expected latent_channels >= 1, got latent_channels=0"),
        ({"batch": 0}, "expected batch >= 1, got batch=0"),
        ({"steps": -1}, "expected steps >= 0, got steps=-1"),
        ({"lr": 0.0}, "expected lr > 0, got lr=0.0"),
        ({"kl_weight": -1.0}, "expected kl_weight >= 0, got kl_weight=-1.0"),
    ],
)
def test_a_recipe_that_cannot_be_followed(change: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        replace(RECIPE, **change)


def test_images_that_the_levels_cannot_halve() -> None:
    with pytest.raises(ValueError, match="expected an image size divisible by 4 for 3 widths, got size=30"):
        new_autoencoder(1, 30, PriorRecipe(widths=(8, 8, 8)), STREAM)


@pytest.mark.parametrize("records", [0, 1])
def test_a_public_shard_that_is_too_small(records: int) -> None:
    with pytest.raises(ValueError, match=f"expected at least 2 public records for the prior, got {records}"):
        train_prior(public().take(torch.arange(records)), CLASSES, RECIPE, STREAM)
