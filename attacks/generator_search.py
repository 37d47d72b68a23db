"""Observation of a released generator in white box: the closest to each record that it can make.

Source: Chen et al., "GAN-Leaks" (2020), section 4.5 (white-box attack): the noise is optimised by its
gradient, here of the L2 distance alone. Scored as synthetic images are, raw or calibrated: `nearest`.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from attacks._generators import Generator, check_records, generators
from attacks.interface import Candidates, Floats, Signals
from privfed.generator import NOISE
from privfed.randomness import Stream
from privfed.records import Records
from privfed.release import View

_ROWS = 2048  # records searched for side by side
_PATIENCE = 10  # steps between two looks at whether a record's distance still falls
_BETAS = (0.9, 0.999)  # of Adam
_TINY = 1e-8


@dataclass(frozen=True, slots=True)
class GeneratorSearch:
    """Minus the L2 distance of each record to the nearest that a generator makes of its label.

    Higher = closer. The noise starts where the bank's own record is nearest and is moved by Adam, with
    a step that shrinks to nothing, within [0, 1], from where the bank was drawn. Batch normalisation
    is fixed to the statistics of the bank, so that records do not influence one another.

    Attributes:
        artefact: name of the generators.
        steps: of the search, at most; 0 leaves the nearest record of the bank.
        restarts: starting points: the nearest so many records of the bank.
        lr: first step size.
        tolerance: a search ends when the distance falls by less than this share in 10 steps.
        newest: generators searched, the last ones; a record that any gives away is given away.
    """

    artefact: str = "generator"
    steps: int = 60
    restarts: int = 1
    lr: float = 0.05
    tolerance: float = 1e-2
    newest: int = 3

    def __post_init__(self) -> None:
        for name, least in (("steps", 0), ("restarts", 1), ("tolerance", 0), ("newest", 1)):
            if not getattr(self, name) >= least:
                raise ValueError(f"expected {name} >= {least}, got {name}={getattr(self, name)}")
        if not self.lr > 0:
            raise ValueError(f"expected lr > 0, got lr={self.lr}")

    def extract(self, view: View, candidates: Candidates, stream: Stream) -> Signals | None:
        """Closeness of candidates and population; None without generators."""
        found = generators(view, self.artefact, self.newest)
        if not found:
            return None
        candidate, population = (
            np.max([-self._closest(g, records) for g in found], axis=0)
            for records in (candidates.records, candidates.population)
        )
        return Signals(
            candidate[:, np.newaxis],
            population[:, np.newaxis, np.newaxis],
            np.zeros(len(candidates.records), dtype=np.int64),
        )

    @torch.no_grad()
    def _closest(self, generator: Generator, records: Records) -> Floats:
        check_records(generator, records)
        inputs = records.inputs.flatten(1).to(generator.noise)
        labels = records.labels.to(generator.noise.device)
        parts = zip(inputs.split(_ROWS), labels.split(_ROWS), strict=True)
        distance = torch.cat([self._part(generator, *part) for part in parts]).double().cpu().numpy()
        return np.where(np.isfinite(distance), distance, np.nan)

    def _part(self, generator: Generator, inputs: Tensor, labels: Tensor) -> Tensor:
        starts = _starts(generator, inputs, labels, self.restarts)
        ends = [self._descend(generator, inputs, labels, start) for start in starts.unbind(1)]
        return torch.stack(ends).amin(0)

    def _descend(self, generator: Generator, inputs: Tensor, labels: Tensor, noise: Tensor) -> Tensor:
        """Smallest distance on the way from `noise`, shape (n,)."""
        best = torch.full_like(inputs[:, 0], torch.inf)
        seen = best.clone()
        rows = torch.arange(len(inputs), device=inputs.device)
        first, second = torch.zeros_like(noise), torch.zeros_like(noise)
        for step in range(self.steps + 1):
            distance, slope = _slope(generator, noise, labels[rows], inputs[rows])
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


def _slope(generator: Generator, noise: Tensor, labels: Tensor, inputs: Tensor) -> tuple[Tensor, Tensor]:
    """Distance to what the generator makes, shape (n,), and the gradient of half its square, (n, 64)."""
    hidden = torch.addmm(generator.offsets[labels], noise, generator.slope.T).relu()
    made = generator.output(hidden)
    gap = made - inputs
    inner = gap * (generator.bound - made.square() / generator.bound) if generator.bound else gap
    return gap.norm(dim=1), ((inner @ generator.weight) * (hidden > 0)) @ generator.slope


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
