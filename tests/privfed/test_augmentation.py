import math
from dataclasses import replace
from typing import Any

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor

from privfed.augmentation import FAMILIES, Dsa, Parameters, apply, draw
from privfed.nets import NetSpec, forward, initial
from privfed.randomness import Stream


def generators(lanes: int, name: str = "dsa") -> list[torch.Generator]:
    return [Stream(0).child(name, k).torch() for k in range(lanes)]


def images(*shape: int, dtype: torch.dtype = torch.float32) -> Tensor:
    return torch.rand(*shape, generator=Stream(0).child("x").torch(), dtype=dtype) * 2 - 1


def fixed(family: str, *uniform: float, **strength: Any) -> Parameters:
    """The transformation of one lane that these numbers stand for."""
    u = torch.tensor([[*uniform, 0.0, 0.0, 0.0][:3]], dtype=torch.float64)
    return Parameters(Dsa((family,), **strength), torch.zeros(1, dtype=torch.int64), u)


def test_off_is_the_identity() -> None:
    x = images(2, 3, 1, 8, 8)
    assert apply(x, draw(Dsa(families=()), generators(2))) is x


@given(st.sampled_from(FAMILIES), st.integers(0, 20))
def test_all_images_of_a_lane_share_one_draw(family: str, seed: int) -> None:
    x = images(1, 1, 3, 8, 8).expand(1, 4, 3, 8, 8)
    y = apply(x, draw(Dsa((family,)), [Stream(seed).torch()]))
    assert torch.equal(y, y[:, :1].expand_as(y))


@given(st.integers(1, 4), st.integers(0, 20))
def test_a_lane_does_not_depend_on_the_lanes_beside_it(lane: int, seed: int) -> None:
    x = images(5, 3, 3, 8, 8)
    together = apply(x, draw(Dsa(), [Stream(seed).child(k).torch() for k in range(5)]))
    alone = apply(x[lane : lane + 1], draw(Dsa(), [Stream(seed).child(lane).torch()]))
    assert torch.equal(together[lane], alone[0])


def test_every_draw_advances_its_generator_alike() -> None:
    first, second = generators(1), generators(1)
    draw(Dsa(("flip",)), first)
    draw(Dsa(), second)
    assert torch.equal(first[0].get_state(), second[0].get_state())


def test_families_are_equally_likely() -> None:
    counts = draw(Dsa(), generators(6000)).family.bincount()
    assert len(counts) == len(FAMILIES)
    assert (counts / 1000 - 1).abs().max() < 0.12


def test_flip_mirrors_columns_or_nothing() -> None:
    x = images(1, 2, 3, 8, 8, dtype=torch.float64)
    torch.testing.assert_close(apply(x, fixed("flip", 0.49)), x.flip(-1))
    torch.testing.assert_close(apply(x, fixed("flip", 0.51)), x)


@pytest.mark.parametrize("share", [0.125, 0.25])
def test_crop_shifts_by_whole_pixels_and_fills(share: float) -> None:
    x = images(1, 2, 1, 8, 8, dtype=torch.float64)
    pad = int(8 * share)
    y = apply(x, fixed("crop", 0.999, 0.0, crop=share, fill=-1.0))
    torch.testing.assert_close(y[..., pad:, :-pad], x[..., :-pad, pad:])
    torch.testing.assert_close(y[..., :pad, :], torch.full_like(y[..., :pad, :], -1))
    torch.testing.assert_close(y[..., -pad:], torch.full_like(y[..., -pad:], -1))


def test_rotation_by_a_quarter_turn() -> None:
    x = images(1, 2, 1, 8, 8, dtype=torch.float64)
    y = apply(x, fixed("rotate", 1.0, rotate=90.0))
    torch.testing.assert_close(y, x.rot90(1, (-2, -1)))


def test_rotation_turns_pixels_of_an_oblong_image_rigidly() -> None:
    x = torch.zeros(1, 1, 1, 5, 9, dtype=torch.float64)
    x[..., 2, 6] = 1  # two right of the centre
    y = apply(x, fixed("rotate", 1.0, rotate=90.0))
    assert y[0, 0, 0].argmax() == 0 * 9 + 4, "two above the centre"


def test_scale_stretches_height_and_width_apart() -> None:
    ramp = torch.linspace(-1, 1, 9, dtype=torch.float64).expand(1, 1, 1, 9, 9)
    narrow = apply(ramp, fixed("scale", 0.0, 0.0, scale=2.0))
    torch.testing.assert_close(narrow, ramp * 0.5)
    only_rows = apply(ramp, fixed("scale", 1 / 3, 0.0, scale=2.0))
    torch.testing.assert_close(only_rows, ramp)


def test_cutout_blanks_a_square_clipped_at_the_border() -> None:
    x = torch.ones(1, 1, 2, 8, 8, dtype=torch.float64)
    centre = apply(x, fixed("cutout", 0.5, 0.5))
    assert (centre == 0).sum() == 2 * 16
    assert (centre[0, 0, 0, 2:6, 2:6] == 0).all()
    corner = apply(x, fixed("cutout", 0.0, 0.0, fill=-1.0))
    assert (corner == -1).sum() == 2 * 4
    assert (corner[0, 0, 0, :2, :2] == -1).all()


def test_color_moves_brightness_saturation_and_contrast() -> None:
    x = images(1, 2, 3, 8, 8, dtype=torch.float64)
    torch.testing.assert_close(apply(x, fixed("color", 1.0, 0.5, 0.5)), x + 0.5)
    grey = apply(x, fixed("color", 0.5, 0.0, 0.5))
    torch.testing.assert_close(grey, x.mean(2, keepdim=True).expand_as(x))
    sharp = apply(x, fixed("color", 0.5, 0.5, 1.0))
    mean = x.mean((2, 3, 4), keepdim=True)
    torch.testing.assert_close(sharp, (x - mean) * 1.5 + mean)


def test_saturation_is_void_on_one_channel() -> None:
    x = images(1, 2, 1, 8, 8, dtype=torch.float64)
    torch.testing.assert_close(apply(x, fixed("color", 0.5, 0.9, 0.5)), x)


@given(st.integers(0, 30))
def test_strengths_stay_in_their_ranges(seed: int) -> None:
    x = images(1, 2, 3, 16, 16)
    y = apply(x, draw(Dsa(), [Stream(seed).torch()]))
    assert y.shape == x.shape
    assert y.abs().max() <= 1.5 * (1 + 1.5) + 1e-6
    assert torch.isfinite(y).all()


@pytest.mark.parametrize("family", FAMILIES)
def test_first_and_second_derivatives(family: str) -> None:
    x = images(2, 1, 2, 4, 4, dtype=torch.float64).requires_grad_()
    parameters = draw(Dsa((family,)), generators(2))

    def curved(v: Tensor) -> Tensor:
        return apply(v, parameters).pow(3)

    assert torch.autograd.gradcheck(curved, x)
    assert torch.autograd.gradgradcheck(curved, x)


def test_gradient_matching_can_look_through_it() -> None:
    spec = NetSpec("convnet", channels=1, size=8, classes=3, width=4, depth=1)
    params = {
        k: v.double()[None].requires_grad_() for k, v in initial(spec, Stream(0).child("net").torch()).items()
    }
    x = images(1, 3, 1, 8, 8, dtype=torch.float64).requires_grad_()
    parameters = draw(Dsa(("rotate",)), generators(1))
    direction = {k: torch.full_like(v, 0.1) for k, v in params.items()}

    def matching(v: Tensor) -> Tensor:
        logits = forward(spec, params, apply(v, parameters))
        loss = torch.nn.functional.cross_entropy(logits.flatten(0, 1), torch.arange(3))
        grads = torch.autograd.grad(loss, list(params.values()), create_graph=True)
        return torch.stack([(g * d).sum() for g, d in zip(grads, direction.values(), strict=True)]).sum()

    (gradient,) = torch.autograd.grad(matching(x), x)
    step = images(*x.shape, dtype=torch.float64) * 1e-5
    difference = matching(x + step).item() - matching(x - step).item()
    assert math.isclose(difference, 2 * (gradient * step).sum().item(), rel_tol=1e-4)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"families": ("blur",)}, r"distinct families out of color, .* got families=\('blur',\)"),
        ({"families": ("flip", "flip")}, "distinct families"),
        ({"flip": 1.5}, r"expected flip in \[0, 1\], got flip=1.5"),
        ({"crop": -0.1}, r"expected crop in \[0, 1\], got crop=-0.1"),
        ({"cutout": 2}, r"expected cutout in \[0, 1\], got cutout=2"),
        ({"scale": 0.5}, "expected scale >= 1, got scale=0.5"),
        ({"rotate": float("nan")}, "expected rotate >= 0, got rotate=nan"),
        ({"brightness": -1}, "expected brightness >= 0, got brightness=-1"),
    ],
)
def test_a_strategy_that_cannot_be_meant(change: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        replace(Dsa(), **change)


def test_images_of_another_number_of_lanes() -> None:
    with pytest.raises(ValueError, match=r"expected images \(2, n, .*got images=\(3, 1, 1, 8, 8\)"):
        apply(images(3, 1, 1, 8, 8), draw(Dsa(), generators(2)))
