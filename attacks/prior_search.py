"""Search of the public prior's latents: how well can it make a record that it never saw?

Source: Chen et al., "GAN-Leaks" (2020), section 4.5 (white-box attack): min over z of the L2 distance, a
distance of deep features and a term that keeps z probable. The prior is public and frozen, made from the
public shard alone, so this says nothing of any client: above chance, members and non-members differ, or the
prior has seen clients' records. The same search of generators that clients trained: `generator_search`.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from functools import lru_cache
from typing import Literal, get_args

import numpy as np
import torch
from torch import Tensor

from attacks._features import digest, net_features
from attacks._references import over_queries
from attacks.interface import Candidates, Floats, Observation, References, Signals
from privfed.prior import Prior
from privfed.randomness import Stream
from privfed.records import Records
from privfed.release import View

Optimiser = Literal["adam", "lbfgs"]
Objective = Callable[[Tensor], Tensor]
"""Latents (n, channels, height, width) to what is minimised of each, shape (n,)."""


@dataclass(frozen=True, slots=True)
class PriorSearch:
    """Minus the least that the search leaves of: squared error, feature distance and improbability.

    Higher = the prior makes the record more closely. The objective of a record x is mean (G(z) - x)^2 over
    pixels, plus `feature` times the mean squared difference of the features of `feature_nearest`, plus
    `improbable` times the mean square of z in standard deviations of the prior. It starts where the encoder
    puts the record. The view is not read, and the search is made once a process and data.

    Attributes:
        steps: of the search; 0 leaves the encoder's answer.
        optimiser: "adam", with a step that shrinks to nothing and every record on its own; or "lbfgs", as in
            the source, on the sum over records.
        lr: first step size of Adam.
        feature, improbable: weights of the two terms beside the error.
    """

    steps: int = 15
    optimiser: Optimiser = "adam"
    lr: float = 0.05
    feature: float = 0.0
    improbable: float = 1e-3

    def __post_init__(self) -> None:
        if self.optimiser not in get_args(Optimiser):
            known = ", ".join(get_args(Optimiser))
            raise ValueError(f"expected optimiser to be one of {known}, got optimiser={self.optimiser!r}")
        for name in ("steps", "feature", "improbable"):
            if not getattr(self, name) >= 0:
                raise ValueError(f"expected {name} >= 0, got {name}={getattr(self, name)}")
        if not self.lr > 0:
            raise ValueError(f"expected lr > 0, got lr={self.lr}")

    def extract(self, view: View, candidates: Candidates, stream: Stream) -> Signals | None:
        """Closeness of candidates and population; None without prior or images."""
        prior = candidates.prior
        if prior is None or candidates.records.inputs.ndim != 4:
            return None
        members, population = (
            _searched(self, _Known(prior, r, candidates.public, _name(prior, r, candidates.public)))
            for r in (candidates.records, candidates.population)
        )
        return Signals(
            members.copy()[:, np.newaxis],
            population.copy()[:, np.newaxis, np.newaxis],
            np.zeros(len(members), dtype=np.int64),
        )


@dataclass(frozen=True, slots=True)
class PriorControl:
    """Score each record by how well the public prior makes it: the control that must stay at chance.

    Attributes:
        observation: the closeness that is read.
    """

    observation: Observation = field(default_factory=PriorSearch)

    def score(self, target: Signals, references: References) -> Floats:
        """Closeness, shape (n,)."""
        return over_queries(target.candidates)


@dataclass(frozen=True, slots=True, eq=False)
class _Known:
    """What the search is made from, equal by content."""

    prior: Prior
    records: Records
    public: Records
    name: str

    def __eq__(self, other: object) -> bool:
        return isinstance(other, _Known) and self.name == other.name

    def __hash__(self) -> int:
        return hash(self.name)


@lru_cache(maxsize=4)
def _searched(knobs: PriorSearch, known: _Known) -> Floats:
    prior, records = known.prior, known.records
    start = prior.encode(records.inputs)
    objective = _objective(knobs, prior, records, known.public)
    descend = _adam if knobs.optimiser == "adam" else _lbfgs
    best = descend(objective, start, knobs) if len(records) else start.new_empty(0)
    found = -best.double().cpu().numpy()
    return np.asarray(np.where(np.isfinite(found), found, np.nan), dtype=np.float64)


def _objective(knobs: PriorSearch, prior: Prior, records: Records, public: Records) -> Objective:
    into = net_features(public) if knobs.feature else None
    with torch.no_grad():
        wanted = into(records.inputs) if into else None
    group = records.labels.clamp_max(len(prior.mean) - 1) if len(prior.mean) > 1 else 0 * records.labels
    inverse = torch.linalg.inv(prior.factor)

    def objective(latents: Tensor) -> Tensor:
        made = prior.decode(latents)
        total = (made - records.inputs).flatten(1).square().mean(1)
        if into is not None and wanted is not None:
            total = total + knobs.feature * (into(made) - wanted).square().mean(1)
        if knobs.improbable:
            centred = latents.flatten(1) - prior.mean[group]
            deviations = torch.einsum("nij,nj->ni", inverse[group], centred)
            total = total + knobs.improbable * deviations.square().mean(1)
        return total

    return objective


def _adam(objective: Objective, start: Tensor, knobs: PriorSearch) -> Tensor:
    """Least value on the way, shape (n,)."""
    latents = start.clone().requires_grad_()
    optimiser = torch.optim.Adam([latents], lr=knobs.lr)
    best = start.new_full((len(start),), torch.inf)
    for step in range(knobs.steps + 1):
        value = objective(latents)
        best = torch.fmin(best, value.detach())
        if step == knobs.steps:
            break
        optimiser.param_groups[0]["lr"] = knobs.lr * (1 - step / knobs.steps)
        (latents.grad,) = torch.autograd.grad(value.sum(), latents)
        optimiser.step()
    return best


def _lbfgs(objective: Objective, start: Tensor, knobs: PriorSearch) -> Tensor:
    """Least value at start and end, shape (n,)."""
    latents = start.clone().requires_grad_()
    optimiser = torch.optim.LBFGS([latents], max_iter=max(knobs.steps, 1), line_search_fn="strong_wolfe")

    def closure() -> float:
        total = objective(latents).sum()
        (latents.grad,) = torch.autograd.grad(total, latents)
        return float(total.detach())

    with torch.no_grad():
        before = objective(latents)
    if knobs.steps:
        optimiser.step(closure)
    with torch.no_grad():
        return torch.fmin(before, objective(latents))


def _name(prior: Prior, records: Records, public: Records) -> str:
    weights = list(prior.autoencoder.parameters())
    return digest(*weights, prior.mean, records.inputs, records.labels, public.inputs, public.labels)
