"""LOGAN: a discriminator recognises what its generator learnt from.

Source: Hayes et al., "LOGAN: membership inference attacks against generative models" (PoPETs 2019), the
white-box attack (the discriminator's own score) and the black-box one (a discriminator of the attacker's
own). FedBKD has no trained discriminator; its frozen local models judge what the generator makes, which
is the place of a discriminator (FedBKD: arXiv 2506.20245).
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Literal, get_args

import numpy as np
import torch
from numpy.typing import NDArray
from sklearn.linear_model import LogisticRegression
from sklearn.neural_network import MLPClassifier
from sklearn.preprocessing import StandardScaler
from threadpoolctl import threadpool_limits
from torch import Tensor

from attacks._features import Space, check_space, feature_map, in_space
from attacks._models import released
from attacks._references import over_queries
from attacks._releases import stack, with_head
from attacks._sets import against_sets
from attacks._signals import logit_confidence
from attacks.confidence import confidences
from attacks.interface import Bools, Candidates, Floats, Observation, References, Signals
from privfed.randomness import Stream
from privfed.records import Records
from privfed.release import Release, View

Learner = Literal["mlp", "logistic"]
Reference = Literal["public", "population"]


@dataclass(frozen=True, slots=True)
class LocalDiscriminators:
    """Largest confidence that any local model of a round has in a record, one query a round.

    Higher = some model knows the record. Whose record it is is not used: that is what a generator trained
    against all of them would be told. Models without a head give no confidence.

    Attributes:
        labelled: logit-scaled confidence in the record's own label; else in whichever label is likeliest,
            as a discriminator has no label to ask for.
    """

    labelled: bool = True

    def extract(self, view: View, candidates: Candidates, stream: Stream) -> Signals | None:
        """Confidences of candidates and population; None without whole local models."""
        found = released(view, "update")
        if found is None:
            return None
        spec, updates = found
        rounds = _by_round(with_head(updates, spec))
        if not rounds:
            return None
        measure = logit_confidence if self.labelled else _likeliest

        def read(records: Records) -> Floats:
            every = [confidences(spec, stack(own, spec), records, measure) for own in rounds]
            return np.stack([np.fmax.reduce(values, axis=0) for values in every], axis=1)

        return Signals(
            read(candidates.records),
            read(candidates.population)[..., np.newaxis],
            np.zeros(len(candidates.records), dtype=np.int64),
        )


@dataclass(frozen=True, slots=True)
class OwnDiscriminator:
    """Log-odds that a record is synthetic and not of a reference set, by a classifier of the attacker's own.

    Higher = more like the synthetic set. There are two classifiers, each shown half of the reference set;
    population records are read by the one that was not shown them, candidates by both, averaged.

    Attributes:
        artefact: name of the synthetic releases; sets of a client are read by its own candidates.
        reference: "population" or "public"; whatever else tells the sets apart (classes, say) is learnt too.
        space: features that are classified; see `FeatureNearest`.
        learner: "mlp" = one hidden layer of 64 units by L-BFGS; "logistic" = logistic regression.
    """

    artefact: str = "synthetic"
    reference: Reference = "population"
    space: Space = "pixels"
    learner: Learner = "mlp"

    def __post_init__(self) -> None:
        check_space(self.space)
        for name, choices in (("reference", Reference), ("learner", Learner)):
            if getattr(self, name) not in get_args(choices):
                known = ", ".join(get_args(choices))
                raise ValueError(f"expected {name} to be one of {known}, got {name}={getattr(self, name)!r}")

    def extract(self, view: View, candidates: Candidates, stream: Stream) -> Signals | None:
        """Log-odds of candidates and population; None without synthetic records, references or the space."""
        into = feature_map(self.space, candidates)
        known = candidates.population if self.reference == "population" else candidates.public
        if into is None or len(known) < 4:
            return None
        others = in_space(known, into).inputs.double().cpu().numpy()
        first = np.arange(len(others)) % 2 == 0

        def read(pool: Records, members: Records, population: Records) -> tuple[Floats, Floats]:
            made = in_space(pool, into).inputs.double().cpu().numpy()
            seed = stream.child("discriminator").integer() % 2**32
            judges = [self._judge(made, others[half], seed) for half in (first, ~first)]
            own, free = (in_space(r, into).inputs.double().cpu().numpy() for r in (members, population))
            return np.mean([j(own) for j in judges], 0), self._crossed(judges, free, first)

        return against_sets(view, self.artefact, candidates, read)

    def _crossed(self, judges: list[Callable[[Floats], Floats]], free: Floats, first: Bools) -> Floats:
        """Of the population: by both judges, but by the other one where it is the reference set."""
        by = np.stack([judge(free) for judge in judges])
        crossed: Floats = np.where(first, by[1], by[0]) if self.reference == "population" else by.mean(0)
        return crossed

    def _judge(self, made: Floats, others: Floats, seed: int) -> Callable[[Floats], Floats]:
        points = np.concatenate([made, others])
        synthetic: NDArray[np.int64] = (np.arange(len(points)) < len(made)).astype(np.int64)
        scaler = StandardScaler().fit(points)
        with threadpool_limits(1):
            logit = _LEARNERS[self.learner](scaler.transform(points), synthetic, seed)

        def log_odds(records: Floats) -> Floats:
            return logit(scaler.transform(records)) if len(records) else np.empty(0)

        return log_odds


@dataclass(frozen=True, slots=True)
class Logan:
    """Score each record by how surely a discriminator takes it for one it was shown, without references.

    Attributes:
        observation: the discriminator: the local models, or one of the attacker's own.
    """

    observation: Observation = field(default_factory=LocalDiscriminators)

    def score(self, target: Signals, references: References) -> Floats:
        """Mean over the known rounds, shape (n,)."""
        return over_queries(target.candidates)


def _by_round(releases: tuple[Release, ...]) -> list[tuple[Release, ...]]:
    rounds = sorted({r.round for r in releases})
    return [tuple(r for r in releases if r.round == t) for t in rounds]


def _likeliest(logits: Tensor, labels: Tensor) -> Tensor:
    """Logit-scaled confidence in the likeliest label, shape (M, n)."""
    top = logits.double().topk(min(2, logits.shape[-1]), dim=-1).indices[..., :1]
    rivals = logits.double().scatter(-1, top, -torch.inf)
    return logits.double().gather(-1, top).squeeze(-1) - torch.logsumexp(rivals, -1)


def _by_units(points: Floats, synthetic: NDArray[np.int64], seed: int) -> Callable[[Floats], Floats]:
    model = MLPClassifier((64,), solver="lbfgs", alpha=1e-2, max_iter=100, random_state=seed)
    model.fit(points, synthetic)
    (first, second), (offset, bias) = model.coefs_, model.intercepts_
    # Before the sigmoid: its own log probabilities are infinite for whoever it is sure of.
    return lambda x: np.asarray((np.maximum(x @ first + offset, 0) @ second + bias)[:, 0], dtype=np.float64)


def _by_line(points: Floats, synthetic: NDArray[np.int64], seed: int) -> Callable[[Floats], Floats]:
    model = LogisticRegression(max_iter=1000).fit(points, synthetic)
    return lambda x: np.asarray(model.decision_function(x), dtype=np.float64)


_LEARNERS = {"mlp": _by_units, "logistic": _by_line}
