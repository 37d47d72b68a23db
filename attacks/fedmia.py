"""FedMIA: does the record stand out in its own client's update beside all other clients' updates?

Source: Zhu et al., "FedMIA: an effective membership inference attack exploiting all for one principle in
federated learning" (CVPR 2025, arXiv 2402.06289), section 4, with Student's t for the normal: mean and
spread are estimated from a handful of clients.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Literal, get_args

import numpy as np
from scipy.stats import t as student

from attacks import _signals
from attacks._gradients import Part, align, check_part, cosines, sites
from attacks._references import over_queries
from attacks._releases import net_of, owner, received, stack, with_head
from attacks.confidence import confidences
from attacks.interface import Candidates, Floats, Observation, References, Signals
from privfed.randomness import Stream
from privfed.records import Records, concatenate
from privfed.release import View

Measure = Literal["loss", "confidence", "cosine"]


@dataclass(frozen=True, slots=True)
class OtherClients:
    """Chance that a record outside would measure less in its client's update, judged by other clients'.

    In [0, 1], higher = stands out more; one query a round. The measure of the same record in the other
    clients' updates of the round says what it would be outside, as they never hold it. With K clients in
    the round the probability is Student's t of K - 2 degrees of freedom: uniform for a record outside
    if measures are Gaussian and clients alike. NaN where the client sat out, or fewer than two
    others took part.

    Attributes:
        measure: "loss" = minus cross-entropy (FedMIA-I); "confidence" = its logit-scaled form, closer to
            Gaussian; "cosine" = of the record's gradient at the broadcast model with the update
            (FedMIA-II).
        part: parameters that the cosine reads; see `_gradients.sites` for broadcasts without a head.
        discard: others above their mean by more than this many standard deviations are left out, as they
            may hold the like (non-IID clients). No value among m lies more than (m - 1) / sqrt(m) above,
            so 3 never acts on fewer than 11 others.
    """

    measure: Measure = "confidence"
    part: Part = "all"
    discard: float = 3.0

    def __post_init__(self) -> None:
        if self.measure not in get_args(Measure):
            raise ValueError(
                f"expected measure to be one of {', '.join(get_args(Measure))}, got measure={self.measure!r}"
            )
        check_part(self.part)
        _check_discard(self.discard)

    def extract(self, view: View, candidates: Candidates, stream: Stream) -> Signals | None:
        """Probabilities of candidates and population; None without updates that can be measured."""
        records = concatenate([candidates.records, candidates.population])
        read = self._cosines if self.measure == "cosine" else self._confidences
        measured: dict[int, dict[int, Floats]] = {}
        for round, client, values in read(view, records):
            measured.setdefault(round, {})[client] = values
        if not measured:
            return None
        return _laid_out(candidates, [measured[r] for r in sorted(measured)], self.discard)

    def _confidences(self, view: View, records: Records) -> Iterator[tuple[int, int, Floats]]:
        updates = received(view, "weights", "update")
        spec = net_of(view, "surrogate") if updates else None
        if spec is None or spec.classes < 2:
            return
        whole = with_head(updates, spec)
        for round in sorted({r.round for r in whole}):
            own = tuple(r for r in whole if r.round == round)
            phi = confidences(spec, stack(own, spec), records)
            values = -_signals.loss(phi) if self.measure == "loss" else phi
            yield from ((round, owner(r), v) for r, v in zip(own, values, strict=True))

    def _cosines(self, view: View, records: Records) -> Iterator[tuple[int, int, Floats]]:
        found = sites(view, self.part)
        if found is None:
            return
        spec, places = found
        for site in places:
            values = cosines(align(spec, site, records))
            yield from ((site.round, k, v) for k, v in zip(site.clients, values.T, strict=True))


@dataclass(frozen=True, slots=True)
class FedMia:
    """Score each record by how far it stands out in its client's updates beside the other clients'.

    Needs no reference federations: the other clients are the references.

    Attributes:
        observation: the probability that is read.
    """

    observation: Observation = field(default_factory=OtherClients)

    def score(self, target: Signals, references: References) -> Floats:
        """Mean probability over the known rounds, shape (n,)."""
        return over_queries(target.candidates)


def t_score(own: Floats, others: Floats, discard: float = 3.0) -> Floats:
    """Student's t probability of values below `own` in the population that `others` were drawn from.

    P(T <= (own - mean) / (sd sqrt(1 + 1 / m))) with m - 1 degrees of freedom: m others and the one
    itself make K = m + 1 clients and K - 2 degrees. Uniform if all are Gaussian and alike. The normal
    in its place is not: with K = 10 it calls 1 in 100 what happens 3 times in 100.

    Args:
        own: shape (...).
        others: shape (..., m); NaN for clients that say nothing.
        discard: as in `OtherClients`.

    Returns:
        Shape of `own`, in [0, 1]; NaN where `own` is or fewer than two others are known. Where the
        others do not vary, 0, 1/2 or 1.
    """
    _check_discard(discard)
    known = ~np.isnan(others)
    mean, spread, _ = _moments(others, known)
    # Without a spread the mean may lie a rounding below every value: none of them is far off.
    known &= (others <= (mean + discard * spread)[..., np.newaxis]) | (spread == 0)[..., np.newaxis]
    mean, spread, count = _moments(others, known)
    gap, width = own - mean, spread * np.sqrt(1 + 1 / np.maximum(count, 1))
    with np.errstate(divide="ignore", invalid="ignore"):
        t = np.where((gap == 0) & (width == 0), 0.0, gap / width)
    p: Floats = student.cdf(t, np.maximum(count - 1, 1))
    return np.where((count < 2) | np.isnan(own), np.nan, p)


def _moments(values: Floats, known: np.ndarray) -> tuple[Floats, Floats, Floats]:
    """Mean, standard deviation and number of the known values along the last axis."""
    count = known.sum(-1).astype(np.float64)
    mean = np.where(known, values, 0.0).sum(-1) / np.maximum(count, 1)
    squares = np.where(known, values - mean[..., np.newaxis], 0.0) ** 2
    spread = np.sqrt(squares.sum(-1) / np.maximum(count - 1, 1))
    # Equal values differ by rounding once a mean is taken off: that is no spread.
    return mean, np.where(spread > 1e-12 * np.abs(mean), spread, 0.0), count


def _laid_out(candidates: Candidates, rounds: list[dict[int, Floats]], discard: float) -> Signals:
    owners = candidates.clients.cpu().numpy().astype(np.int64)
    n, clients = len(owners), int(owners.max(initial=-1)) + 1
    of_candidates = np.full((n, len(rounds)), np.nan)
    of_population = np.full((len(candidates.population), len(rounds), clients), np.nan)
    for query, of in enumerate(rounds):
        for client in of.keys() & set(range(clients)):
            others = [v for k, v in sorted(of.items()) if k != client]
            beside = np.stack(others, -1) if others else np.empty((len(of[client]), 0))
            p = t_score(of[client], beside, discard)
            mine = np.flatnonzero(owners == client)
            of_candidates[mine, query] = p[mine]
            of_population[:, query, client] = p[n:]
    return Signals(of_candidates, of_population, owners)


def _check_discard(discard: float) -> None:
    if not discard > 0:
        raise ValueError(f"expected discard > 0, got discard={discard}")
