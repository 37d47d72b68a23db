"""Observation of a released generator in black box: the nearest of many fresh samples.

Source: Chen et al., "GAN-Leaks" (2020), section 4.2 (full black-box attack, L2 distance). Scored as
synthetic images are, raw or calibrated: `nearest`.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch

from attacks._distances import nearest
from attacks._generators import Generator, check_records, generators
from attacks.interface import Candidates, Signals
from privfed.generator import NOISE
from privfed.randomness import Stream
from privfed.records import Records, concatenate
from privfed.release import View


@dataclass(frozen=True, slots=True)
class GeneratorSamples:
    """Minus the L2 distance of each record to the nearest of records sampled from the generators.

    Higher = closer. Noise is drawn as the bank's was, uniform in [0, 1); the bank itself is not used but
    for its statistics, to which batch normalisation is fixed.

    Attributes:
        artefact: name of the generators.
        samples: fresh records of each label and generator.
        same_label: compare only with samples of the record's own label.
        newest: generators sampled from, the last ones; their samples count as one set.
    """

    artefact: str = "generator"
    samples: int = 200
    same_label: bool = False
    newest: int = 3

    def __post_init__(self) -> None:
        for name in ("samples", "newest"):
            if getattr(self, name) < 1:
                raise ValueError(f"expected {name} >= 1, got {name}={getattr(self, name)}")

    def extract(self, view: View, candidates: Candidates, stream: Stream) -> Signals | None:
        """Closeness of candidates and population; None without generators."""
        found = generators(view, self.artefact, self.newest)
        if not found:
            return None
        shape = candidates.records.inputs.shape[1:]
        for each in found:
            check_records(each, candidates.records)
        pool = concatenate([self._sampled(g, shape, stream.child("sample", i)) for i, g in enumerate(found)])
        return Signals(
            -nearest(candidates.records, pool, self.same_label)[:, np.newaxis],
            -nearest(candidates.population, pool, self.same_label)[:, np.newaxis, np.newaxis],
            np.zeros(len(candidates.records), dtype=np.int64),
        )

    @torch.no_grad()
    def _sampled(self, generator: Generator, shape: torch.Size, stream: Stream) -> Records:
        labels = torch.arange(generator.classes).repeat_interleave(self.samples)
        noise = torch.rand(len(labels), NOISE, generator=stream.torch())
        made = generator.make(noise.to(generator.noise), labels.to(generator.noise.device))
        return Records(made.view(-1, *shape), labels.to(made.device))
