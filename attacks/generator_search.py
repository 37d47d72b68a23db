"""Observation of a released generator in white box: the closest to each record that it can make.

Source: Chen et al., "GAN-Leaks" (2020), section 4.5 (white-box attack): the noise is optimised by its
gradient, here of the L2 distance and, if asked, of a distance of deep features beside it. Scored as
synthetic images are, raw or calibrated: `nearest`.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal, get_args

import numpy as np
import torch
from scipy.optimize import minimize
from threadpoolctl import threadpool_limits
from torch import Tensor

from attacks._features import FeatureMap, net_features
from attacks._generators import Generator, check_records, generators
from attacks.interface import Candidates, Floats, Signals
from privfed.generator import NOISE
from privfed.randomness import Stream
from privfed.records import Records
from privfed.release import View

Optimiser = Literal["adam", "lbfgs"]

_ROWS = 2048  # records searched for side by side
_PATIENCE = 10  # steps between two looks at whether a record's distance still falls
_BETAS = (0.9, 0.999)  # of Adam
_TINY = 1e-8
_SHARE = 0.1  # of `tolerance`, between two steps of L-BFGS in place of ten of Adam


@dataclass(frozen=True, slots=True)
class GeneratorSearch:
    """Minus the L2 distance of each record to the nearest that a generator makes of its label.

    Higher = closer. The noise starts where the bank's own record is nearest and is moved by Adam, with
    a step that shrinks to nothing, within [0, 1], from where the bank was drawn. Batch normalisation
    is fixed to the statistics of the bank, so that records do not influence one another.

    With `feature` > 0 the distance is sqrt(|G(z) - x|^2 + feature |f(G(z)) - f(x)|^2), f the features of
    `feature_nearest`; nothing is read where the public shard gives no such features.

    Attributes:
        artefact: name of the generators.
        steps: of the search, at most; 0 leaves the nearest record of the bank.
        restarts: starting points: the nearest so many records of the bank.
        lr: first step size.
        tolerance: a search ends when the distance falls by less than this share in 10 steps.
        newest: generators searched, the last ones; a record that any gives away is given away.
        feature: weight of the distance of features.
        optimiser: "adam", all records side by side; or "lbfgs", as in the source, one record after
            another within the same bounds, which takes about ten times as long.
    """

    artefact: str = "generator"
    steps: int = 60
    restarts: int = 1
    lr: float = 0.05
    tolerance: float = 1e-2
    newest: int = 3
    feature: float = 0.0
    optimiser: Optimiser = "adam"

    def __post_init__(self) -> None:
        for name, least in (("steps", 0), ("restarts", 1), ("tolerance", 0), ("newest", 1), ("feature", 0)):
            if not getattr(self, name) >= least:
                raise ValueError(f"expected {name} >= {least}, got {name}={getattr(self, name)}")
        if not self.lr > 0:
            raise ValueError(f"expected lr > 0, got lr={self.lr}")
        if self.optimiser not in get_args(Optimiser):
            known = ", ".join(get_args(Optimiser))
            raise ValueError(f"expected optimiser to be one of {known}, got optimiser={self.optimiser!r}")

    def extract(self, view: View, candidates: Candidates, stream: Stream) -> Signals | None:
        """Closeness of candidates and population; None without generators."""
        found = generators(view, self.artefact, self.newest)
        into = net_features(candidates.public) if self.feature else None
        if not found or (self.feature and into is None):
            return None
        candidate, population = (
            np.max([-self._closest(g, records, into) for g in found], axis=0)
            for records in (candidates.records, candidates.population)
        )
        return Signals(
            candidate[:, np.newaxis],
            population[:, np.newaxis, np.newaxis],
            np.zeros(len(candidates.records), dtype=np.int64),
        )

    @torch.no_grad()
    def _closest(self, generator: Generator, records: Records, into: FeatureMap | None) -> Floats:
        check_records(generator, records)
        shape = tuple(records.inputs.shape[1:])
        inputs = records.inputs.flatten(1).to(generator.noise)
        labels = records.labels.to(generator.noise.device)
        parts = [
            self._part(
                _Objective(generator, y, x, None if into is None else _Deep(into, self.feature, shape))
            )
            for x, y in zip(inputs.split(_ROWS), labels.split(_ROWS), strict=True)
        ]
        distance = torch.cat(parts).double().cpu().numpy()
        return np.where(np.isfinite(distance), distance, np.nan)

    def _part(self, objective: _Objective) -> Tensor:
        starts = _starts(objective.generator, objective.inputs, objective.labels, self.restarts)
        descend = self._descend if self.optimiser == "adam" else self._descend_singly
        return torch.stack([descend(objective, start) for start in starts.unbind(1)]).amin(0)

    def _descend(self, objective: _Objective, noise: Tensor) -> Tensor:
        """Smallest distance on the way from `noise`, shape (n,)."""
        inputs = objective.inputs
        best = torch.full_like(inputs[:, 0], torch.inf)
        seen = best.clone()
        rows = torch.arange(len(inputs), device=inputs.device)
        first, second = torch.zeros_like(noise), torch.zeros_like(noise)
        for step in range(self.steps + 1):
            distance, slope = _slope(objective, rows, noise)
            best[rows] = torch.minimum(best[rows], distance)
            if step % _PATIENCE == 0:
                falling = best[rows] < (1 - self.tolerance) * seen[rows]
                seen[rows] = best[rows]
                rows, noise, slope, first, second = (t[falling] for t in (rows, noise, slope, first, second))
            if not len(rows):
                break
            first = _BETAS[0] * first + (1 - _BETAS[0]) * slope
            second = _BETAS[1] * second + (1 - _BETAS[1]) * slope.square()
            mean, spread = (m / (1 - b ** (step + 1)) for m, b in zip((first, second), _BETAS, strict=True))
            rate = self.lr * (1 - step / max(self.steps, 1))
            noise = (noise - rate * mean / (spread.sqrt() + _TINY)).clamp(0, 1)
        return best

    def _descend_singly(self, objective: _Objective, noise: Tensor) -> Tensor:
        """The same by L-BFGS within the bounds, whose curvature must not mix records."""
        best, _ = _slope(objective, torch.arange(len(noise), device=noise.device), noise)
        for i in range(len(noise) if self.steps else 0):
            row = torch.tensor([i], device=noise.device)

            def value(z: Floats, row: Tensor = row) -> tuple[float, Floats]:
                distance, slope = _slope(objective, row, torch.from_numpy(z).to(noise)[None])
                return float(distance.double().square()) / 2, slope[0].double().cpu().numpy()

            with threadpool_limits(1):
                start = noise[i].double().cpu().numpy()
                options = {"maxiter": self.steps, "ftol": self.tolerance * _SHARE}
                end = minimize(
                    value, start, jac=True, method="L-BFGS-B", bounds=[(0, 1)] * NOISE, options=options
                )
            best[i] = torch.fmin(best[i], best.new_tensor((2 * end.fun) ** 0.5))
        return best


@dataclass(frozen=True, slots=True)
class _Deep:
    """Features of what is made, with the weight of their distance and the shape of a record."""

    into: FeatureMap
    weight: float
    shape: tuple[int, ...]

    def gap(self, made: Tensor, inputs: Tensor) -> tuple[Tensor, Tensor]:
        """Weighted squared distance of the features, (n,), and half its gradient in what is made, (n, d)."""
        wanted = self.into(inputs.view(-1, *self.shape))
        with torch.enable_grad():
            leaf = made.detach().requires_grad_()
            squared = self.weight * (self.into(leaf.view(-1, *self.shape)) - wanted).square().sum(1)
            (slope,) = torch.autograd.grad(squared.sum() / 2, leaf)
        return squared.detach(), slope


@dataclass(frozen=True, slots=True)
class _Objective:
    """The distance of n records, flat, to what a generator makes of noise and their labels."""

    generator: Generator
    labels: Tensor
    inputs: Tensor
    deep: _Deep | None


def _slope(objective: _Objective, rows: Tensor, noise: Tensor) -> tuple[Tensor, Tensor]:
    """Distances of some records, shape (rows,), and the gradient of half their squares, (rows, 64)."""
    generator, inputs = objective.generator, objective.inputs[rows]
    hidden = torch.addmm(generator.offsets[objective.labels[rows]], noise, generator.slope.T).relu()
    made = generator.output(hidden)
    gap = made - inputs
    distance = gap.norm(dim=1)
    if objective.deep is not None and len(rows):
        squared, deeper = objective.deep.gap(made, inputs)
        distance, gap = (distance.square() + squared).sqrt(), gap + deeper
    inner = gap * (generator.bound - made.square() / generator.bound) if generator.bound else gap
    return distance, ((inner @ generator.weight) * (hidden > 0)) @ generator.slope


def _starts(generator: Generator, inputs: Tensor, labels: Tensor, restarts: int) -> Tensor:
    """Noise of the nearest bank records of each record's label, shape (n, restarts, 64).

    A label that the bank lacks starts from the noise of other labels.
    """
    starts = inputs.new_empty(len(inputs), restarts, NOISE)
    for label in labels.unique():
        mine, own = labels == label, generator.labels == label
        noise = generator.noise[own] if bool(own.any()) else generator.noise
        distance = torch.cdist(inputs[mine], generator.make(noise, label.expand(len(noise))))
        order = distance.argsort(1)[:, torch.arange(restarts) % len(noise)]
        starts[mine] = noise[order]
    return starts
