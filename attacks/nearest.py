"""Nearest neighbour: synthetic images lie closer to the records they were made from.

Sources: Chen et al., "GAN-Leaks" (2020), section 4.2 (full black-box attack, L2 distance) and
section 5 (calibration); Watson et al. (2022), section 3.
"""

from __future__ import annotations

from dataclasses import dataclass, field

import numpy as np

from attacks._calibration import calibrated
from attacks._distances import nearest
from attacks._references import over_queries
from attacks._releases import labelled_inputs, received
from attacks.interface import Candidates, Floats, Observation, References, Signals
from privfed.randomness import Stream
from privfed.records import concatenate
from privfed.release import View


@dataclass(frozen=True, slots=True)
class NearestSynthetic:
    """Minus the L2 distance of each record to the nearest synthetic image, over all rounds.

    Higher = closer. The sets of several rounds count as one: a record that any of them gives away is
    given away.

    Attributes:
        artefact: name of the synthetic releases.
        same_label: compare only with synthetic images of the record's own label; NaN for labels that
            have none.
    """

    artefact: str = "synthetic"
    same_label: bool = False

    def extract(self, view: View, candidates: Candidates, stream: Stream) -> Signals | None:
        """Closeness of candidates and population; None without synthetic images."""
        sets = [labelled_inputs(r) for r in received(view, "synthetic", self.artefact)]
        if not sum(len(s) for s in sets):
            return None
        pool = concatenate([s for s in sets if len(s)])
        return Signals(
            -nearest(candidates.records, pool, self.same_label)[:, np.newaxis],
            -nearest(candidates.population, pool, self.same_label)[:, np.newaxis, np.newaxis],
            np.zeros(len(candidates.records), dtype=np.int64),
        )


@dataclass(frozen=True, slots=True)
class NearestNeighbour:
    """Score each record by its closeness to the nearest synthetic image, without references.

    Favours records of low complexity, which lie close to any image.

    Attributes:
        observation: the closeness that is read.
    """

    observation: Observation = field(default_factory=NearestSynthetic)

    def score(self, target: Signals, references: References) -> Floats:
        """Mean closeness over the known queries, shape (n,)."""
        return over_queries(target.candidates)


@dataclass(frozen=True, slots=True)
class CalibratedNearest:
    """Score each record by how much closer a synthetic image is than in federations without the record.

    Attributes:
        observation: the closeness that is read.
    """

    observation: Observation = field(default_factory=NearestSynthetic)

    def score(self, target: Signals, references: References) -> Floats:
        """Closeness less its mean over references without the record, shape (n,)."""
        return calibrated(target, references)
