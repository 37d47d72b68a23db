"""Class mean: the baseline that reads nothing a federation released.

A synthetic set that gives away only what its classes look like is no more telling than this; see
Carlini, Feldman and Nasr, "No free lunch in 'Privacy for free'" (2022), on missing baselines.
"""

from __future__ import annotations

from dataclasses import dataclass, field

import numpy as np
import torch

from attacks._references import over_queries
from attacks.interface import Candidates, Floats, References, Signals
from privfed.randomness import Stream
from privfed.records import Records, concatenate
from privfed.release import View


@dataclass(frozen=True, slots=True)
class ClassMeanDistance:
    """Minus the L2 distance of each record to the mean of its class in public records.

    Higher = more typical of its class. The public records are the public shard and the population
    together; a label that neither has gives NaN. The view is not read.
    """

    def extract(self, view: View, candidates: Candidates, stream: Stream) -> Signals | None:
        """Typicality of candidates and population; None without any public record."""
        known = concatenate([p for p in (candidates.public, candidates.population) if len(p)] or [_none()])
        if not len(known):
            return None
        return Signals(
            -_distance(candidates.records, known)[:, np.newaxis],
            -_distance(candidates.population, known)[:, np.newaxis, np.newaxis],
            np.zeros(len(candidates.records), dtype=np.int64),
        )


@dataclass(frozen=True, slots=True)
class ClassMean:
    """Score each record by how typical it is of its class: the baseline without access, at chance.

    Above chance, members and non-members differ in distribution and every other figure of the same
    game is void.

    Attributes:
        observation: the typicality that is read.
    """

    observation: ClassMeanDistance = field(default_factory=ClassMeanDistance)

    def score(self, target: Signals, references: References) -> Floats:
        """Typicality, shape (n,)."""
        return over_queries(target.candidates)


def _distance(records: Records, known: Records) -> Floats:
    """Distance of each record to the mean of the `known` records of its label, shape (n,)."""
    distance = np.full(len(records), np.nan)
    for label in records.labels.unique():
        members = known.inputs[known.labels == label].double()
        if len(members):
            mine = records.labels == label
            difference = records.inputs[mine].double() - members.mean(0)
            distance[mine.cpu().numpy()] = difference.flatten(1).norm(dim=1).cpu().numpy()
    return distance


def _none() -> Records:
    return Records(torch.empty(0, 1, 1, 1), torch.empty(0, dtype=torch.int64))
