"""How alike reconstructions and records are: PSNR, SSIM and distances, every pair at once.

Likeness alone is no evidence of privacy nor of its loss: an image may be close to a record because every
image of its class is (Ganev and De Cristofaro, "The inadequacy of similarity-based privacy metrics",
arXiv 2312.05114; arXiv 2505.01524). It is reported beside identification (`audits.identification`) and
beside the baselines of `audits.reconstruction_baselines`, never alone.

Images have values in [-1, 1], as all of privfed's (`privfed.records`).
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.nn import functional as F

from privfed.nets import NetSpec, Params, initial
from privfed.randomness import Stream
from privfed.records import Records
from privfed.training import Recipe, Task, predict, represent, train

Floats = NDArray[np.float64]
Features = Callable[[Tensor], Tensor]
"""Features of inputs: shape (n, ...) to (n, d)."""

PEAK = 2.0
"""Range of a pixel: from -1 to 1."""

_WINDOW, _DEVIATION = 11, 1.5
_LUMINANCE, _CONTRAST = 0.01**2, 0.03**2
_PAIRS = 1 << 22  # of pairs and pixels held at once: 32 MB of float64


def psnr(reconstructions: Tensor, candidates: Tensor) -> Floats:
    """Peak signal-to-noise ratio of every pair in decibels, shape (m, n); higher = closer.

    10 log10(4 / MSE): the peak is 2, the range of a pixel. Infinite for identical images.

    Args:
        reconstructions: shape (m, channels, height, width), values in [-1, 1].
        candidates: shape (n, channels, height, width).

    Raises:
        ValueError: when they are not images of one shape.
    """
    _check_images(reconstructions, candidates)
    pixels = reconstructions[0].numel() if len(reconstructions) else 1
    error = l2(reconstructions, candidates) ** 2 / pixels
    with np.errstate(divide="ignore"):
        decibels: Floats = 10 * np.log10(PEAK**2 / error)
    return decibels


def ssim(reconstructions: Tensor, candidates: Tensor) -> Floats:
    """Structural similarity of every pair, shape (m, n), in [-1, 1]; 1 = identical.

    Wang et al. (2004), equation 13, with its constants: Gaussian window of 11 pixels and deviation 1.5,
    K1 = 0.01, K2 = 0.03, mean over all places where the window fits and over channels. Luminance takes
    intensities to be no less than 0, so values are read as (x + 1) / 2, of range 1. In images of less
    than 11 pixels a side the window is the largest odd one that fits.

    Args:
        reconstructions: shape (m, channels, height, width), values in [-1, 1].
        candidates: shape (n, channels, height, width).

    Raises:
        ValueError: when they are not images of one shape.
    """
    _check_images(reconstructions, candidates)
    if not len(reconstructions) or not len(candidates):
        return np.empty((len(reconstructions), len(candidates)))
    side = min(_WINDOW, *reconstructions.shape[2:])
    window = _gaussian(side - 1 + side % 2)
    x, y = (_patches(images, window) for images in (reconstructions, candidates))
    total = torch.zeros(len(reconstructions), len(candidates), dtype=torch.float64)
    step = max(1, _PAIRS // total.numel())
    for start in range(0, len(x), step):
        total += _similarity(x[start : start + step], y[start : start + step], window).sum(0)
    return (total / len(x)).numpy()


def l2(reconstructions: Tensor, candidates: Tensor) -> Floats:
    """Euclidean distance of every pair, shape (m, n), over all pixels or all tokens' embeddings.

    Exact near 0: the square is not expanded, in which near-copies drown.

    Raises:
        ValueError: when the shapes differ.
    """
    _check_shapes(reconstructions, candidates)
    x, y = reconstructions.flatten(1).double(), candidates.flatten(1).double()
    return torch.cdist(x, y, compute_mode="donot_use_mm_for_euclid_dist").numpy()


def perceptual_distance(reconstructions: Tensor, candidates: Tensor, features: Features) -> Floats:
    """Euclidean distance of every pair between unit-normalised features, shape (m, n), in [0, 2].

    After Zhang et al., "LPIPS" (arXiv 1801.03924, section 3.2), of one layer and unweighted.

    Args:
        reconstructions: shape (m, ...).
        candidates: shape (n, ...).
        features: of a network that saw neither the federation nor its members
            (`Evaluator.features`): reconstructions are tuned to the networks they came from, which
            therefore see likeness where there is none.

    NaN for an image whose features are all 0: it points nowhere.
    """
    x, y = (_unit(features(images)) for images in (reconstructions, candidates))
    return l2(x, y)


def feature_cosine(reconstructions: Tensor, candidates: Tensor, features: Features) -> Floats:
    """Cosine between the features of every pair, shape (m, n); higher = closer. See `perceptual_distance`."""
    x, y = (_unit(features(images)) for images in (reconstructions, candidates))
    return (x @ y.T).numpy()


def memorisation_ratio(distances: Floats) -> Floats:
    """Distance to the nearest candidate over that to the second nearest, shape (m,), in [0, 1].

    Low = close to one record and to no other; below 1/2 is what the literature on generators calls a copy.
    NaN where fewer than two candidates have a distance; 1 where both are at distance 0.

    Args:
        distances: shape (m, n), for example to the candidates of the reconstruction's own class, NaN
            for all others.
    """
    nearest = np.sort(np.where(np.isnan(distances), np.inf, distances), axis=1)
    if nearest.shape[1] < 2:
        return np.full(len(nearest), np.nan)
    first, second = nearest[:, 0], nearest[:, 1]
    ratio = np.where(second == 0, 1.0, first / np.where(second == 0, 1.0, second))
    return np.where(np.isfinite(second), ratio, np.nan)


@dataclass(frozen=True, slots=True, eq=False)
class Evaluator:
    """A network that judges reconstructions and saw nothing of the federation.

    Its word is not proof: reconstructions of a class are often recognised by a second network although
    nobody would call them alike (Ho et al. 2025), so a nearest-record check stands beside it.
    """

    spec: NetSpec
    params: Params

    def features(self, inputs: Tensor) -> Tensor:
        """What its head reads, float64, shape (n, width)."""
        return represent(self.spec, self.params, inputs).double()

    def recognised(self, reconstructions: Records, best: int = 1) -> Floats:
        """1 where the label is among the `best` highest logits, else 0, shape (m,): mean = Acc@best."""
        logits = predict(self.spec, self.params, reconstructions.inputs)
        top = logits.topk(min(best, logits.shape[1]), dim=1).indices
        return (top == reconstructions.labels.unsqueeze(1)).any(1).double().numpy()


def evaluator(spec: NetSpec, records: Records, recipe: Recipe, stream: Stream) -> Evaluator:
    """Trains an evaluator.

    Args:
        spec: architecture, better not the one under attack.
        records: the public shard or another split without members or candidates, labelled.
        recipe: of the training.
        stream: randomness of weights and batches.
    """
    start = initial(spec, stream.child("initial").torch())
    (params,) = train([Task(spec, start, records, recipe, stream.child("train"))])
    return Evaluator(spec, params)


def _unit(features: Tensor) -> Tensor:
    flat = features.flatten(1).double()
    unit: Tensor = flat / flat.norm(dim=1, keepdim=True)
    return unit


def _gaussian(side: int) -> Tensor:
    """Window over a patch, shape (side^2,), of sum 1."""
    place = torch.arange(side, dtype=torch.float64) - side // 2
    line = torch.exp(-(place**2) / (2 * _DEVIATION**2))
    return F.normalize(torch.outer(line, line).flatten(), p=1, dim=0)


def _patches(images: Tensor, window: Tensor) -> Tensor:
    """Every patch of every channel, in [0, 1], shape (places, images, pixels of a patch)."""
    side = int(len(window) ** 0.5)
    patches = ((images.double() + 1) / 2).unfold(2, side, 1).unfold(3, side, 1)
    return patches.permute(1, 2, 3, 0, 4, 5).reshape(-1, len(images), len(window))


def _similarity(x: Tensor, y: Tensor, window: Tensor) -> Tensor:
    """SSIM at every place of every pair, shape (places, m, n)."""
    mean_x, mean_y = (p @ window for p in (x, y))
    x, y = x - mean_x.unsqueeze(2), y - mean_y.unsqueeze(2)
    spread_x, spread_y = ((p.square() @ window) for p in (x, y))
    mean_x, spread_x = mean_x.unsqueeze(2), spread_x.unsqueeze(2)
    mean_y, spread_y = mean_y.unsqueeze(1), spread_y.unsqueeze(1)
    shared = (x * window) @ y.transpose(1, 2)
    luminance = (2 * mean_x * mean_y + _LUMINANCE) / (mean_x**2 + mean_y**2 + _LUMINANCE)
    return luminance * (2 * shared + _CONTRAST) / (spread_x + spread_y + _CONTRAST)


def _check_images(reconstructions: Tensor, candidates: Tensor) -> None:
    if reconstructions.ndim != 4:
        raise ValueError(
            "expected images of shape (m, channels, height, width), "
            f"got reconstructions={tuple(reconstructions.shape)}"
        )
    _check_shapes(reconstructions, candidates)


def _check_shapes(reconstructions: Tensor, candidates: Tensor) -> None:
    if reconstructions.shape[1:] != candidates.shape[1:]:
        raise ValueError(
            f"expected candidates of shape {tuple(reconstructions.shape[1:])}, "
            f"got candidates={tuple(candidates.shape[1:])}"
        )
