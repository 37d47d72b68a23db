"""Observation: nearest synthetic record in the features of a net that nobody's private data made.

Sources: Chen et al., "GAN-Leaks" (2020), section 4.2, with a distance of deep features; Zhang et al.
(arXiv 1801.03924). Scored as the distance of pixels is, raw or calibrated: `nearest`.
"""

from __future__ import annotations

from dataclasses import dataclass

from attacks._distances import nearest
from attacks._features import Space, check_space, feature_map, in_space
from attacks._sets import against_sets
from attacks.interface import Candidates, Floats, Signals
from privfed.randomness import Stream
from privfed.records import Records
from privfed.release import View


@dataclass(frozen=True, slots=True)
class FeatureNearest:
    """Minus the distance of each record to the nearest synthetic one, in a space of features.

    Higher = closer. Sets that belong to a client are read by its own candidates alone.

    Attributes:
        artefact: name of the synthetic releases.
        space: "net" = a classifier that the attacker trained on the public shard; "prior" = latents of
            the public prior; "pca" = principal components of the public shard; "pixels".
        same_label: compare only with synthetic records of the record's own label; NaN for labels that
            have none.
    """

    artefact: str = "synthetic"
    space: Space = "net"
    same_label: bool = False

    def __post_init__(self) -> None:
        check_space(self.space)

    def extract(self, view: View, candidates: Candidates, stream: Stream) -> Signals | None:
        """Closeness of candidates and population; None without synthetic records or the space."""
        into = feature_map(self.space, candidates)
        if into is None:
            return None

        def read(pool: Records, members: Records, population: Records) -> tuple[Floats, Floats]:
            made = in_space(pool, into)
            return (
                -nearest(in_space(members, into), made, self.same_label),
                -nearest(in_space(population, into), made, self.same_label),
            )

        return against_sets(view, self.artefact, candidates, read)
