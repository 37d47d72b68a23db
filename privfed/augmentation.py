"""Differentiable siamese augmentation: one random transformation shared by all images of a batch.

After Zhao and Bilen, "Dataset Condensation with Differentiable Siamese Augmentation"
(arXiv 2102.08259, section 3). Many batches ("lanes") run at once; each draws from its own generator,
so that what happens in one lane does not depend on which lanes run beside it.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn import functional as F

FAMILIES = ("color", "crop", "cutout", "flip", "scale", "rotate")
"""What a draw chooses from; "color" is brightness, saturation and contrast together."""

_MOVING = ("crop", "flip", "scale", "rotate")


@dataclass(frozen=True, slots=True)
class Dsa:
    """Strategy: which families, how strong. One family is drawn per call, all equally likely.

    Attributes:
        families: out of `FAMILIES`; none leaves images as they are.
        flip: probability of a horizontal flip.
        scale: largest factor; height and width are scaled apart, each uniform in [1/scale, scale].
        rotate: largest angle either way, in degrees.
        crop: largest shift either way, as a share of the side; in whole pixels.
        cutout: side of the square that is blanked, as a share of the side.
        brightness: width of the range of the added value, in units of the images.
        saturation: largest factor on the difference to the mean over channels (no effect on grey).
        contrast: smallest factor on the difference to the image's mean; the largest is one more.
        fill: value of pixels that a family uncovers; images span [-1, 1], so 0 is mid-grey.
    """

    families: tuple[str, ...] = FAMILIES
    flip: float = 0.5
    scale: float = 1.2
    rotate: float = 15.0
    crop: float = 0.125
    cutout: float = 0.5
    brightness: float = 1.0
    saturation: float = 2.0
    contrast: float = 0.5
    fill: float = 0.0

    def __post_init__(self) -> None:
        if len(set(self.families)) != len(self.families) or not set(self.families) <= set(FAMILIES):
            raise ValueError(
                f"expected distinct families out of {', '.join(FAMILIES)}, got families={self.families}"
            )
        for name in ("flip", "crop", "cutout"):
            if not 0 <= getattr(self, name) <= 1:
                raise ValueError(f"expected {name} in [0, 1], got {name}={getattr(self, name)}")
        for name in ("rotate", "brightness", "saturation", "contrast"):
            if not getattr(self, name) >= 0:
                raise ValueError(f"expected {name} >= 0, got {name}={getattr(self, name)}")
        if not self.scale >= 1:
            raise ValueError(f"expected scale >= 1, got scale={self.scale}")


@dataclass(frozen=True, slots=True)
class Parameters:
    """One draw for each of M lanes.

    Attributes:
        dsa: the strategy they were drawn for.
        family: which of `dsa.families` acts on each lane, int64, shape (M,).
        uniform: three numbers in [0, 1) a lane that the family turns into its strength, shape (M, 3).
    """

    dsa: Dsa
    family: Tensor
    uniform: Tensor

    def where(self, family: str) -> Tensor:
        """The lanes that `family` acts on, bool, shape (M,)."""
        names = self.dsa.families
        return self.family == (names.index(family) if family in names else -1)


def draw(dsa: Dsa, generators: Sequence[torch.Generator]) -> Parameters:
    """Draws one transformation a lane.

    Args:
        dsa: the strategy.
        generators: one a lane, on one device; each is advanced by four numbers whatever it draws.
    """
    u = torch.stack([torch.rand(4, generator=g, device=g.device) for g in generators])
    return Parameters(dsa, _integer(u[:, 0], max(1, len(dsa.families))), u[:, 1:])


def apply(images: Tensor, parameters: Parameters) -> Tensor:
    """Transforms every image of a lane in the same way.

    Linear in the images up to a constant, and twice differentiable in them. Values may leave [-1, 1]
    (brightness), as in the source.

    Args:
        images: shape (M, n, channels, height, width), values in [-1, 1].
        parameters: drawn for M lanes.
    """
    lanes = len(parameters.family)
    if images.ndim != 5 or len(images) != lanes:
        raise ValueError(
            f"expected images ({lanes}, n, channels, height, width), got images={tuple(images.shape)}"
        )
    here = Parameters(
        parameters.dsa,
        parameters.family.to(images.device),
        parameters.uniform.to(images.device, images.dtype),
    )
    families = set(here.dsa.families)
    if families & set(_MOVING):
        images = _move(images, here)
    if "color" in families:
        images = _color(images, here)
    return _cut_out(images, here) if "cutout" in families else images


def _move(images: Tensor, p: Parameters) -> Tensor:
    """Crop, flip, scale and rotate as one affine resampling with bilinear interpolation."""
    m, n, c, h, w = images.shape
    grid = F.affine_grid(_affine(p, h, w), [m, 1, h, w], align_corners=False)
    # All images of a lane share one grid, so they pass as channels of one image.
    flat = images.reshape(m, n * c, h, w) - p.dsa.fill
    moved = F.grid_sample(flat, grid, align_corners=False).reshape(images.shape) + p.dsa.fill
    still = ~torch.stack([p.where(f) for f in _MOVING]).any(0)
    return torch.where(_lane(still), images, moved)


def _affine(p: Parameters, h: int, w: int) -> Tensor:
    """Output to input coordinates in affine_grid's units (the image spans [-1, 1]), shape (M, 2, 3)."""
    crop, flip, scale, rotate = (p.where(f).to(p.uniform.dtype) for f in _MOVING)
    u = p.uniform
    side = 1 - 2 * flip * (u[:, 0] < p.dsa.flip)
    factors = 1 + scale[:, None] * (1 / p.dsa.scale + u[:, :2] * (p.dsa.scale - 1 / p.dsa.scale) - 1)
    angle = rotate * (2 * u[:, 0] - 1) * (p.dsa.rotate * torch.pi / 180)
    shifts = [crop * 2 * _shift(u[:, k], p.dsa.crop, size) / size for k, size in ((0, w), (1, h))]
    # A rotation in pixels: off the diagonal the unequal units of a non-square image cancel.
    across, along = -angle.sin() * (h / w), angle.sin() * (w / h)
    rows = (
        torch.stack([angle.cos() * factors[:, 0] * side, across, shifts[0]], 1),
        torch.stack([along, angle.cos() * factors[:, 1], shifts[1]], 1),
    )
    return torch.stack(rows, 1)


def _shift(u: Tensor, share: float, size: int) -> Tensor:
    """Whole pixels, uniform in -pad..pad."""
    pad = int(size * share + 0.5)
    return (_integer(u, 2 * pad + 1) - pad).to(u.dtype)


def _color(images: Tensor, p: Parameters) -> Tensor:
    on, u = p.where("color").to(images.dtype), p.uniform
    x = images + _lane(on * (u[:, 0] - 0.5) * p.dsa.brightness)
    x = _spread(x, 1 + on * (u[:, 1] * p.dsa.saturation - 1), (2,))
    return _spread(x, 1 + on * (u[:, 2] + p.dsa.contrast - 1), (2, 3, 4))


def _spread(x: Tensor, factor: Tensor, dims: tuple[int, ...]) -> Tensor:
    """Scales the difference to the mean over `dims`; in this form a factor of 1 is exact."""
    return x * _lane(factor) + x.mean(dims, keepdim=True) * _lane(1 - factor)


def _cut_out(images: Tensor, p: Parameters) -> Tensor:
    rows, columns = (
        _covered(p.uniform[:, k], p.dsa.cutout, size) for k, size in enumerate(images.shape[-2:])
    )
    hole = rows[:, :, None] & columns[:, None, :] & p.where("cutout")[:, None, None]
    return images.masked_fill(hole[:, None, None], p.dsa.fill)


def _covered(u: Tensor, share: float, size: int) -> Tensor:
    """Which of `size` pixels lie in a stretch around a random centre, bool, shape (M, size)."""
    length = int(size * share + 0.5)
    start = _integer(u, size + 1 - length % 2) - length // 2
    place = torch.arange(size, device=u.device) - start[:, None]
    return (place >= 0) & (place < length)


def _integer(u: Tensor, count: int) -> Tensor:
    """Uniform in 0..count-1 from u in [0, 1); the bound guards against rounding up."""
    return (u * count).long().clamp_(max=count - 1)


def _lane(values: Tensor) -> Tensor:
    return values[:, None, None, None, None]
