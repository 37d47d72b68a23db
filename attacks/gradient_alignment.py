"""Gradient alignment: does a client's update point where the gradient of this record points?

Sources: Li et al., "Effective passive membership inference attacks in federated learning against
overparameterized models" (ICLR 2023), for cosine and difference; Nasr, Shokri and Houmansadr,
"Comprehensive privacy analysis of deep learning" (2019), section III, for the norm of gradients.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Literal, get_args

import numpy as np

from attacks._gradients import (
    Aligned,
    Columns,
    Part,
    Site,
    align,
    check_part,
    check_place,
    cosines,
    laid_out,
    record_counts,
    sites,
)
from attacks._references import over_queries
from attacks.interface import Candidates, Floats, Observation, References, Signals
from privfed.randomness import Stream
from privfed.records import Records
from privfed.release import View

Measure = Literal["cosine", "difference", "norm"]


@dataclass(frozen=True, slots=True)
class UpdateAlignment:
    """How far each record's gradient points the way its client's update went, one query a round.

    Higher = more likely among the records that made the update. With D = start less trained and g the
    gradient of the record's loss: "cosine" = cos(D, g); "difference" = |cD|^2 - |cD - g|^2 = 2 <cD, g> -
    |g|^2, by how much taking the record out would shorten the update; "norm" = -|g|, which reads the
    model and not the update.

    Learning rate and steps are unknown, so D has no scale. For the difference it is brought to that of
    the sum of the client's gradients: c = n <D, m> / |D|^2 projects n m on D, with m the mean gradient of
    the client's candidates and n its number of records, as stated or half of its candidates. An update
    that points away from m has c = 0 and says nothing.

    With one step from the broadcast, <D, g> = lr / n sum_i <g_i, g> exactly. Over many steps the
    gradients on the way count, for which `at` = 0.5 stands better than the start. NaN in rounds in which
    the client sat out or did not move.

    Attributes:
        measure: "cosine", "difference" or "norm".
        part: parameters that are read; see `_gradients.sites` for broadcasts without a head.
        at: where on the line from what was sent (0) to what came back (1) gradients are taken. At 0
            all clients share them.
    """

    measure: Measure = "cosine"
    part: Part = "all"
    at: float = 0.0

    def __post_init__(self) -> None:
        if self.measure not in get_args(Measure):
            raise ValueError(
                f"expected measure to be one of {', '.join(get_args(Measure))}, got measure={self.measure!r}"
            )
        check_part(self.part)
        check_place(self.at)

    def extract(self, view: View, candidates: Candidates, stream: Stream) -> Signals | None:
        """Alignments of candidates and population; None without updates whose start and head are known."""
        found = sites(view, self.part, self.at)
        if found is None:
            return None
        spec, places = found

        def read(site: Site, records: Records, columns: Columns) -> Floats:
            aligned = align(spec, site, records)
            counts = record_counts(view, candidates, site.clients)
            values = measured(aligned, self.measure, columns, counts)
            values[:, aligned.lengths == 0] = np.nan
            return values

        return laid_out(places, candidates, read)


@dataclass(frozen=True, slots=True)
class GradientAlignment:
    """Score each record by how well its gradient aligns with its client's updates, without references.

    Attributes:
        observation: the alignment that is read.
    """

    observation: Observation = field(default_factory=UpdateAlignment)

    def score(self, target: Signals, references: References) -> Floats:
        """Mean alignment over the known rounds, shape (n,)."""
        return over_queries(target.candidates)


def measured(aligned: Aligned, measure: Measure, columns: Columns, counts: Floats) -> Floats:
    """The measure of every record against every client of a site, shape (n, clients).

    Args:
        aligned: products of n records, the members of the clients first.
        measure: as in `UpdateAlignment`.
        columns: shape (members,): whose each member is.
        counts: shape (clients,): records that each client trains on.
    """
    if measure == "cosine":
        return cosines(aligned)
    if measure == "norm":
        return -np.sqrt(aligned.squares)
    own = [aligned.dots[: len(columns), k][columns == k] for k in range(len(counts))]
    towards = np.array([d.mean() if len(d) else 0.0 for d in own])
    scale = counts * np.maximum(towards, 0.0) / np.maximum(aligned.lengths**2, np.finfo(np.float64).tiny)
    difference: Floats = 2 * scale * aligned.dots - aligned.squares
    return difference
