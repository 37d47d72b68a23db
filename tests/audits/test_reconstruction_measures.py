"""Likeness of images: closed forms, naive twins, and what is refused."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from numpy.typing import NDArray
from scipy.ndimage import gaussian_filter
from torch import Tensor

from audits import reconstruction_measures
from audits.reconstruction_measures import (
    Evaluator,
    evaluator,
    feature_cosine,
    l2,
    memorisation_ratio,
    perceptual_distance,
    psnr,
    ssim,
)
from privfed.nets import NetSpec, initial
from privfed.randomness import Stream
from privfed.records import Records
from privfed.training import Recipe


def noise(n: int, seed: int = 0, size: int = 8, channels: int = 1) -> Tensor:
    generator = torch.Generator().manual_seed(seed)
    return torch.rand(n, channels, size, size, generator=generator) * 2 - 1


def flat(value: float, size: int = 8) -> Tensor:
    return torch.full((1, 1, size, size), value, dtype=torch.float64)


def test_psnr_of_a_constant_error_is_known() -> None:
    """MSE 0.01 against a peak of 2: 10 log10(4 / 0.01) = 26.0206 dB."""
    x = flat(0.2)
    np.testing.assert_allclose(psnr(x, torch.cat([x + 0.1, x - 0.1])), [[26.0206, 26.0206]], atol=1e-4)


def test_psnr_of_black_on_white_is_zero_and_of_a_copy_infinite() -> None:
    both = torch.cat([flat(-1.0), flat(1.0)])
    np.testing.assert_allclose(psnr(both, both), [[math.inf, 0], [0, math.inf]], atol=1e-12)


def test_psnr_matches_explicit_differences() -> None:
    a, b = noise(4, 0, 6, 3), noise(5, 1, 6, 3)
    for i, row in enumerate(psnr(a, b)):
        for j, got in enumerate(row):
            error = float((a[i] - b[j]).double().square().mean())
            assert got == pytest.approx(10 * math.log10(4 / error), rel=1e-5)


@pytest.mark.parametrize("size", [1, 8, 11, 14])
def test_ssim_of_an_image_with_itself_is_one_and_it_is_symmetric(size: int) -> None:
    a, b = noise(3, 0, size), noise(4, 1, size)
    np.testing.assert_allclose(np.diagonal(ssim(a, a)), 1.0, atol=1e-12)
    np.testing.assert_allclose(ssim(a, b), ssim(b, a).T, atol=1e-12)
    assert (ssim(a, b) < 1).all()


@given(st.floats(-1, 1), st.floats(-1, 1))
def test_ssim_of_constant_images_is_its_luminance(a: float, b: float) -> None:
    x, y = (a + 1) / 2, (b + 1) / 2
    expected = (2 * x * y + 1e-4) / (x**2 + y**2 + 1e-4)
    assert ssim(flat(a), flat(b))[0, 0] == pytest.approx(expected, abs=1e-9)


def test_ssim_of_a_shift_keeps_contrast_and_structure() -> None:
    """A shift moves local means alone: the value is the mean luminance over the places."""
    x = noise(1, 3, 12).double() * 0.3
    half, moved = (x + 1) / 2, (x + 1) / 2 + 0.1
    mean = naive_filter(half[0, 0].numpy(), 5)
    shifted = naive_filter(moved[0, 0].numpy(), 5)
    luminance = (2 * mean * shifted + 1e-4) / (mean**2 + shifted**2 + 1e-4)
    assert ssim(x, x + 0.2)[0, 0] == pytest.approx(luminance.mean(), abs=1e-9)


def test_ssim_of_the_negative_is_negative() -> None:
    x = noise(1, 4, 16)
    assert ssim(x, -x)[0, 0] < -0.5


def test_ssim_matches_gaussian_filtering_image_by_image(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(reconstruction_measures, "_PAIRS", 50)
    a, b = noise(2, 0, 16, 3), noise(3, 1, 16, 3)
    got = ssim(a, b)
    for i in range(2):
        for j in range(3):
            channels = [naive_ssim(a[i, c].numpy(), b[j, c].numpy()) for c in range(3)]
            assert got[i, j] == pytest.approx(np.mean(channels), abs=1e-9)


def naive_filter(image: NDArray[np.float64], cut: int) -> NDArray[np.float64]:
    """The same window by SciPy (radius 5 = 3.5 deviations, rounded), less the border it does not fit."""
    filtered: NDArray[np.float64] = gaussian_filter(image.astype(np.float64), 1.5, truncate=3.5)
    return filtered[cut:-cut, cut:-cut]


def naive_ssim(x: NDArray[np.float64], y: NDArray[np.float64]) -> float:
    x, y = (x.astype(np.float64) + 1) / 2, (y.astype(np.float64) + 1) / 2
    mx, my, xx, yy, xy = (naive_filter(z, 5) for z in (x, y, x * x, y * y, x * y))
    structure = (2 * (xy - mx * my) + 9e-4) / (xx - mx**2 + yy - my**2 + 9e-4)
    return float(((2 * mx * my + 1e-4) / (mx**2 + my**2 + 1e-4) * structure).mean())


def test_l2_tells_copies_from_near_copies() -> None:
    x = torch.full((1, 3, 32, 32), 0.9, dtype=torch.float64)
    assert l2(x, x)[0, 0] == 0
    assert l2(x, x + 1e-9)[0, 0] == pytest.approx(1e-9 * math.sqrt(3 * 32 * 32), rel=1e-3)


def test_perceptual_distance_ignores_length_and_cosine_is_its_other_face() -> None:
    def features(images: Tensor) -> Tensor:
        return images.flatten(1)[:, :2]

    x = torch.tensor([[1.0, 0.0], [0.0, 3.0], [-2.0, 0.0]]).view(3, 1, 1, 2)
    distance = perceptual_distance(x, 5 * x, features)
    root = math.sqrt(2)
    np.testing.assert_allclose(distance, [[0, root, 2], [root, 0, root], [2, root, 0]], atol=1e-12)
    np.testing.assert_allclose(feature_cosine(x, x, features), 1 - distance**2 / 2, atol=1e-12)


def test_an_image_without_features_is_at_no_distance() -> None:
    x = torch.zeros(1, 1, 1, 2)
    assert np.isnan(perceptual_distance(x, x + 1, lambda images: images.flatten(1))).all()


def test_memorisation_ratio_is_low_for_a_copy_of_one_record_alone() -> None:
    distances = np.array([[0.1, 1.0, 2.0], [1.0, 1.0, 3.0], [0.0, 0.0, 1.0], [np.nan, np.nan, 2.0]])
    np.testing.assert_allclose(memorisation_ratio(distances), [0.1, 1.0, 1.0, np.nan])
    assert np.isnan(memorisation_ratio(np.ones((2, 1)))).all()


def test_an_evaluator_learns_and_judges_labels() -> None:
    generator = torch.Generator().manual_seed(0)
    labels = torch.arange(60) % 3
    inputs = torch.randn(60, 1, 4, 4, generator=generator) * 0.1 + labels.view(-1, 1, 1, 1) - 1.0
    records = Records(inputs, labels)
    spec = NetSpec("mlp", 1, 4, 3, width=8)
    judge = evaluator(spec, records, Recipe(epochs=30, batch=20, lr=0.2), Stream(0))
    assert judge.recognised(records).mean() > 0.9
    wrong = Records(inputs, (labels + 1) % 3)
    assert judge.recognised(wrong).mean() < 0.1
    assert judge.recognised(wrong, best=3).mean() == 1
    assert judge.features(inputs).shape == (60, 8)


def test_an_evaluator_is_what_its_spec_and_weights_say() -> None:
    spec = NetSpec("mlp", 1, 4, 3, width=8)
    params = initial(spec, Stream(0).torch())
    x = noise(5, 0, 4)
    np.testing.assert_array_equal(Evaluator(spec, params).features(x), Evaluator(spec, params).features(x))


def test_nothing_reconstructed_gives_no_rows() -> None:
    for measure in (psnr, ssim, l2):
        assert measure(noise(0), noise(3)).shape == (0, 3)


def test_shapes_that_differ_are_refused() -> None:
    with pytest.raises(ValueError, match=r"expected candidates of shape \(1, 8, 8\), got candidates=\(3, 8"):
        psnr(noise(2), noise(2, 0, 8, 3))
    message = r"expected images of shape \(m, channels, height, width\), got reconstructions=\(2, 5\)"
    with pytest.raises(ValueError, match=message):
        ssim(torch.zeros(2, 5), torch.zeros(2, 5))
