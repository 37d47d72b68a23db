"""Observation: how confident a representation sent without its head is, given a head of one's own.

Personalised pipelines broadcast everything but the last layer (FedRep, Collins et al. 2021, Algorithm
1; FedBKD, arXiv 2506.20245). The last layer is linear, so whoever has labelled records of the task
fits it in a second, as a linear probe (Alain and Bengio, arXiv 1610.01644, section 3); what the
completed model then says is read as in `confidence`.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from attacks._heads import fitted_head
from attacks._models import Artefact, check_artefact, laid_out, released
from attacks._references import known_mean
from attacks._releases import lacks_head, weights
from attacks.confidence import ModelConfidence, confidences
from attacks.interface import Bools, Candidates, Floats, Signals
from privfed.nets import NetSpec, Params, head_names
from privfed.randomness import Stream
from privfed.records import Records
from privfed.release import Release, View
from privfed.training import represent, stack


@dataclass(frozen=True, slots=True)
class RepresentationConfidence:
    """Logit-scaled confidence of released models; those without a head get one fitted by the attacker.

    Higher = more confident. Whole models are read exactly as `ModelConfidence` reads them, so one
    observation serves pipelines that share a head and pipelines that do not.

    The head is multinomial logistic regression on standardised features of the public shard where its
    labels are those of the task; else of the population, in two halves of equal shares of each
    class: each half is read through the head of the other, so that population and candidates are both
    records the head was not fitted on, and candidates through both, averaged. NaN for a label
    that the fitted records lack.

    Attributes:
        artefact: as in `ModelConfidence`.
        strength: inverse weight of the squared norm of the head (C of scikit-learn).
    """

    artefact: Artefact = "surrogate"
    strength: float = 1.0

    def __post_init__(self) -> None:
        check_artefact(self.artefact)
        if not self.strength > 0:
            raise ValueError(f"expected strength > 0, got strength={self.strength}")

    def extract(self, view: View, candidates: Candidates, stream: Stream) -> Signals | None:
        """Confidences of candidates and population; None without such models or records to fit a head on."""
        found = released(view, self.artefact)
        if found is None:
            return ModelConfidence(self.artefact).extract(view, candidates, stream)
        spec, releases = found
        if not any(lacks_head(r, spec) for r in releases):
            return ModelConfidence(self.artefact).extract(view, candidates, stream)
        lessons = _lessons(candidates, spec.classes)

        def read(own: tuple[Release, ...], members: Records, population: Records) -> tuple[Floats, Floats]:
            models = [_completed(spec, own, lesson.records, self.strength) for lesson in lessons]
            of_members = np.stack([confidences(spec, m, members) for m in models])
            of_population = np.full((len(own), len(population)), np.nan)
            for model, lesson in zip(models, lessons, strict=True):
                judged = population.take(torch.from_numpy(lesson.judges))
                of_population[:, lesson.judges] = confidences(spec, model, judged)
            return known_mean(of_members, 0), of_population

        return laid_out(self.artefact, releases, candidates, read) if lessons else None


@dataclass(frozen=True, slots=True)
class _Lesson:
    """Records to fit a head on, and which of the population, bool of shape (z,), are read through it."""

    records: Records
    judges: Bools


def _lessons(candidates: Candidates, classes: int) -> list[_Lesson]:
    """Empty where the attacker knows records of fewer than two labels."""
    public, population = candidates.public, candidates.population
    labelled = (public.labels >= 0) & (public.labels < classes)
    shard = _Lesson(public.take(labelled), np.ones(len(population), dtype=np.bool_))
    half = _every_other(population.labels)
    halves = [_Lesson(population.take(torch.from_numpy(h)), ~h) for h in (half, ~half)]
    choices = ([shard], halves)
    return next((c for c in choices if all(len(i.records.labels.unique()) > 1 for i in c)), [])


def _every_other(labels: Tensor) -> Bools:
    """Every other record of each label, bool of shape (z,)."""
    order = np.argsort(labels.cpu().numpy(), kind="stable")
    chosen = np.zeros(len(order), dtype=np.bool_)
    chosen[order[::2]] = True
    return chosen


def _completed(spec: NetSpec, releases: tuple[Release, ...], records: Records, strength: float) -> Params:
    """The released models stacked, each that lacks its head with one fitted on `records`."""

    def whole(release: Release) -> Params:
        if not lacks_head(release, spec):
            return weights(release, spec)
        shared = dict(release.tensors)
        features = represent(spec, shared, records.inputs).double().cpu().numpy()
        head = fitted_head(features, records.labels.cpu().numpy(), spec.classes, strength)
        return shared | dict(zip(head_names(spec), head, strict=True))

    return stack([whole(r) for r in releases])
