"""Quantile regression: is the record fitted better than a non-member that looks like it would be?

Source: Bertran et al., "Scalable membership inference attacks via quantile regression" (NeurIPS 2023,
arXiv 2307.03694), sections 3 and 4. The source fits a deep net to images; here it is linear in principal
components and label, which a population of some hundred records can carry.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Literal, get_args

import numpy as np
import torch
from sklearn.decomposition import PCA
from sklearn.linear_model import QuantileRegressor, RidgeCV
from sklearn.model_selection import KFold
from threadpoolctl import threadpool_limits
from torch import Tensor

from attacks._models import Artefact, check_artefact
from attacks._references import FLOOR, over_queries
from attacks.confidence import measured
from attacks.interface import Candidates, Floats, Observation, References, Signals
from privfed.randomness import Stream
from privfed.records import Records
from privfed.release import View

Head = Literal["gaussian", "pinball"]

_FOLDS = 5
_PENALTIES = np.logspace(-2, 5, 15)


@dataclass(frozen=True, slots=True)
class QuantileResidual:
    """How far each record's margin lies above what its looks predict, one query a release or round.

    The margin is the logit of the label less the best other logit. What non-members like it would have
    is learnt on the population, for each model of each client, from the principal components of the
    inputs and the label; a population record is predicted by four fifths of the population that do not
    hold it. Needs no reference model. Assumes that candidates who are not members are distributed like
    the population; where they are not, the false-positive rate is not the level asked for.

    Higher = more like a member.

    Attributes:
        artefact: as in `attacks.confidence.ModelConfidence`.
        head: "gaussian" = residual in standard deviations, ridge regressions of the margin and of its
            log squared residual: "above z_{1-alpha}" is the verdict at every level alpha at once;
            "pinball" = margin less its (1 - alpha)-quantile, linear quantile regression: "above 0" is the
            verdict at the one level.
        alpha: that level, a false-positive rate in (0, 1); read by the pinball head alone.
        components: of the inputs, at most.
    """

    artefact: Artefact = "large"
    head: Head = "gaussian"
    alpha: float = 0.05
    components: int = 8

    def __post_init__(self) -> None:
        check_artefact(self.artefact)
        if self.head not in get_args(Head):
            raise ValueError(
                f"expected head to be one of {', '.join(get_args(Head))}, got head={self.head!r}"
            )
        if not 0 < self.alpha < 1:
            raise ValueError(f"expected alpha in (0, 1), got alpha={self.alpha}")
        if self.components < 1:
            raise ValueError(f"expected components >= 1, got components={self.components}")

    def extract(self, view: View, candidates: Candidates, stream: Stream) -> Signals | None:
        """Residuals; None without such models, or with fewer than 10 records to learn from."""
        if len(candidates.population) < 2 * _FOLDS:
            return None
        margins = measured(self.artefact, _margin, view, candidates, stream)
        if margins is None:
            return None
        own, known = _features(candidates, self.components, stream.child("components"))
        of_candidates = np.full_like(margins.candidates, np.nan)
        of_population = np.full_like(margins.population, np.nan)
        for client in range(margins.population.shape[2]):
            lessons = margins.population[..., client]
            queries = np.flatnonzero(np.isfinite(lessons).all(0))
            mine = np.flatnonzero(margins.clients == client)
            if len(queries) and len(mine):
                cells = np.ix_(mine, queries)
                of_candidates[cells] = self.residuals(
                    known, lessons[:, queries], own[mine], margins.candidates[cells]
                )
                of_population[:, queries, client] = self._held_out(known, lessons[:, queries])
        return Signals(of_candidates, of_population, margins.clients)

    def residuals(self, features: Floats, scores: Floats, new: Floats, values: Floats) -> Floats:
        """Learns scores from features and gives the signal of new records.

        Args:
            features: shape (z, d), z >= 10.
            scores: of non-members, shape (z, queries).
            new: features of shape (n, d).
            values: scores of shape (n, queries).

        Returns:
            Shape (n, queries).
        """
        with threadpool_limits(1):
            if self.head == "pinball":
                return values - _quantiles(features, scores, new, 1 - self.alpha)
            mean, deviation = _gaussian(features, scores, new)
        return (values - mean) / deviation

    def _held_out(self, features: Floats, scores: Floats) -> Floats:
        residuals = np.empty_like(scores)
        for fit, judge in KFold(_FOLDS).split(features):
            residuals[judge] = self.residuals(features[fit], scores[fit], features[judge], scores[judge])
        return residuals


@dataclass(frozen=True, slots=True)
class QuantileRegression:
    """Score each record by how far it exceeds the non-members that it looks like, without references.

    Attributes:
        observation: the excess that is read.
    """

    observation: Observation = field(default_factory=QuantileResidual)

    def score(self, target: Signals, references: References) -> Floats:
        """Mean excess over the known queries, shape (n,)."""
        return over_queries(target.candidates)


def _gaussian(features: Floats, scores: Floats, new: Floats) -> tuple[Floats, Floats]:
    """Mean and standard deviation at `new`, each of shape (n, queries)."""
    held_out = np.empty_like(scores)
    for fit, judge in KFold(_FOLDS).split(features):
        held_out[judge] = scores[judge] - _ridge(features[fit], scores[fit], features[judge])
    squares = np.maximum(held_out**2, FLOOR)
    both = _ridge(features, np.log(squares), np.concatenate([features, new]))
    typical = np.exp(both)
    # Set so that the held-out squares are right on average: a mean of logarithms is biased downwards.
    factor = (squares / typical[: len(features)]).mean(0)
    return _ridge(features, scores, new), np.sqrt(typical[len(features) :] * factor)


def _ridge(features: Floats, scores: Floats, new: Floats) -> Floats:
    """Ridge regression of every query, its penalty chosen by leaving one out; shape (n, queries)."""
    model = RidgeCV(_PENALTIES, alpha_per_target=True).fit(features, scores)
    return np.asarray(model.predict(new), dtype=np.float64).reshape(len(new), -1)


def _quantiles(features: Floats, scores: Floats, new: Floats, level: float) -> Floats:
    models = [QuantileRegressor(quantile=level, alpha=0.0).fit(features, s) for s in scores.T]
    return np.stack([np.asarray(m.predict(new), dtype=np.float64) for m in models], axis=1)


def _features(candidates: Candidates, components: int, stream: Stream) -> tuple[Floats, Floats]:
    """Standardised features of candidates and of the population, from the population's inputs alone."""
    own, known = (r.inputs.flatten(1).double().cpu().numpy() for r in _both(candidates))
    count = min(components, *known.shape)
    pca = PCA(count, whiten=True, svd_solver="randomized", random_state=stream.integer() % 2**32)
    with threadpool_limits(1):
        pca.fit(known)
        reduced = [pca.transform(x) for x in (own, known)]
    labels = [r.labels.cpu().numpy() for r in _both(candidates)]
    present = np.unique(labels[1])
    hot = [(y[:, np.newaxis] == present[1:]).astype(np.float64) for y in labels]
    first, second = (np.concatenate(pair, axis=1) for pair in zip(reduced, hot, strict=True))
    return first, second


def _both(candidates: Candidates) -> tuple[Records, Records]:
    return candidates.records, candidates.population


def _margin(logits: Tensor, labels: Tensor) -> Tensor:
    wide = logits.double()
    index = labels.expand(wide.shape[:-1]).unsqueeze(-1)
    rivals = wide.scatter(-1, index, -torch.inf).amax(-1)
    return wide.gather(-1, index).squeeze(-1) - rivals
