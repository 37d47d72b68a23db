"""Attribute inference: which value of a hidden attribute makes a known record fit the model best?

Yeom et al., "Privacy risk in machine learning" (CSF 2018, arXiv 1709.01604, section 4); against an imputation
that never saw the model, without which statistics pass for leakage: Jayaraman and Evans, "Are attribute
inference attacks just imputation?" (CCS 2022, arXiv 2209.01292). What counts is accuracy on members
less accuracy on non-members, and the excess on members over the imputation (`audits.property_game`).
"""

from __future__ import annotations

from dataclasses import dataclass, field

import numpy as np
import torch
from numpy.typing import NDArray
from sklearn.linear_model import LogisticRegression
from threadpoolctl import threadpool_limits
from torch import Tensor
from torch.nn import functional as F

from attacks._head_movements import labelled
from attacks._models import Artefact, check_artefact, released
from attacks._references import known_mean
from attacks._releases import owner, weights, with_head
from attacks.interface import Attribute, Floats, Known
from privfed.nets import NetSpec, Params
from privfed.randomness import Stream
from privfed.records import Records
from privfed.release import View
from privfed.training import predict

_ITERATIONS = 1000


@dataclass(frozen=True, slots=True)
class HiddenLabel:
    """The label, of a record whose inputs are known."""

    def truth(self, records: Records, known: Records) -> Tensor:
        """The label."""
        return records.labels

    def visible(self, records: Records, classes: int) -> Tensor:
        """The inputs."""
        return records.inputs.flatten(1)

    def completed(self, records: Records, value: int, known: Records) -> Records:
        """The inputs with that label."""
        return Records(records.inputs, torch.full_like(records.labels, value))

    def values(self, classes: int) -> int:
        """One a class."""
        return classes


@dataclass(frozen=True, slots=True)
class HiddenQuadrant:
    """How bright the lower right quarter of an image is, in thirds of the known records, all else known."""

    def truth(self, records: Records, known: Records) -> Tensor:
        """0 = dark, 1 = in between, 2 = bright."""
        edges = torch.quantile(_corner(known.inputs).mean(1), torch.tensor([1 / 3, 2 / 3]))
        return torch.bucketize(_corner(records.inputs).mean(1), edges)

    def visible(self, records: Records, classes: int) -> Tensor:
        """The other three quarters, and the label."""
        shown = _filled(records.inputs, torch.zeros_like(records.inputs))
        return torch.cat([shown.flatten(1), F.one_hot(records.labels, classes).float()], 1)

    def completed(self, records: Records, value: int, known: Records) -> Records:
        """With the mean quarter of known records of that brightness and the record's label.

        Of all labels where none of its own has it, and grey where none has.
        """
        of_value = known.take(self.truth(known, known) == value)
        fill = torch.zeros_like(records.inputs)
        if len(of_value):
            fill[:] = of_value.inputs.mean(0)
        for label in of_value.labels.unique():
            fill[records.labels == label] = of_value.inputs[of_value.labels == label].mean(0)
        return Records(_filled(records.inputs, fill), records.labels)

    def values(self, classes: int) -> int:
        """Three."""
        return 3


@dataclass(frozen=True, slots=True)
class AttributeInference:
    """Score each value of the hidden attribute by how little the model loses on the record that has it.

    Attributes:
        artefact: models asked, as in `ModelConfidence`; "update" and "personal" = those of the record's
            own client alone, averaged over rounds, NaN where there is none.
        attribute: hidden. Images only, except for the label.
    """

    artefact: Artefact = "large"
    attribute: Attribute = field(default_factory=HiddenLabel)

    def __post_init__(self) -> None:
        check_artefact(self.artefact)

    def guess(
        self, view: View, records: Records, clients: Tensor, known: Known, stream: Stream
    ) -> Floats | None:
        """Minus the mean loss with each value, shape (n, values), higher = more likely.

        Args:
            view: what the observer saw.
            records: n records; their true value is not read.
            clients: int64, shape (n,): whose member each may be.
            known: what the attacker knows beside.
            stream: not used.

        Returns:
            None without such models, or known records to complete others by.
        """
        found = released(view, self.artefact)
        models = () if found is None else with_head(found[1], found[0])
        if found is None or not models:
            return None
        spec = found[0]
        pool = labelled(known, spec.classes)
        if not len(pool):
            return None
        options = [
            self.attribute.completed(records, a, pool) for a in range(self.attribute.values(spec.classes))
        ]
        of_client = self.artefact in ("update", "personal")
        scores = np.full((len(models), len(records), len(options)), np.nan)
        for m, release in enumerate(models):
            mine = clients == owner(release) if of_client else torch.ones_like(clients, dtype=torch.bool)
            scores[m, mine.numpy()] = _log_probabilities(spec, weights(release, spec), options, mine)
        return known_mean(scores, 0)


def imputed(attribute: Attribute, records: Records, known: Known, spec: NetSpec) -> Floats:
    """The baseline: probability of each value from what is visible alone, shape (n, values).

    Logistic regression on the attacker's records, without any model of the federation; a value that none of
    them has gets 0.

    Raises:
        ValueError: when they have fewer than two values.
    """
    pool = labelled(known, spec.classes)
    lessons = attribute.truth(pool, pool).numpy()
    if len(np.unique(lessons)) < 2:
        raise ValueError(f"expected known records of at least two values, got values={np.unique(lessons)}")
    seen, asked = (attribute.visible(r, spec.classes).double().numpy() for r in (pool, records))
    with threadpool_limits(1):
        model = LogisticRegression(max_iter=_ITERATIONS).fit(seen, lessons)
        found = model.predict_proba(asked)
    chances = np.zeros((len(records), attribute.values(spec.classes)))
    chances[:, model.classes_] = found
    return chances


def true_values(attribute: Attribute, records: Records, known: Known, spec: NetSpec) -> NDArray[np.int64]:
    """The truth: value of each record, shape (n,), with the attacker's records to say where values begin."""
    values: NDArray[np.int64] = attribute.truth(records, labelled(known, spec.classes)).numpy()
    return values


def right(scores: Floats, truth: NDArray[np.int64]) -> Floats:
    """1 where the best score is that of the true value, 0 where not, NaN where nothing is known, shape (n,).

    Ties count by the share of the tied.
    """
    best = scores == np.max(scores, axis=1, keepdims=True)
    hit = best[np.arange(len(truth)), truth] / np.maximum(best.sum(axis=1), 1)
    return np.where(np.isnan(scores).any(axis=1), np.nan, hit)


def _log_probabilities(spec: NetSpec, params: Params, options: list[Records], mine: Tensor) -> Floats:
    """Of the label of each record that is `mine`, with each value of the attribute, shape (n, values)."""
    asked = answers = torch.empty(0)
    columns = []
    for option in options:
        if option.inputs is not asked:  # a hidden label changes no input
            asked = option.inputs
            answers = predict(spec, params, asked[mine]).double().log_softmax(1)
        columns.append(answers.gather(1, option.labels[mine].unsqueeze(1)))
    found: Floats = torch.cat(columns, 1).numpy()
    return found


def _corner(inputs: Tensor) -> Tensor:
    """The lower right quarter, flat, shape (n, pixels)."""
    return inputs[..., inputs.shape[-2] // 2 :, inputs.shape[-1] // 2 :].flatten(1)


def _filled(inputs: Tensor, fill: Tensor) -> Tensor:
    """The inputs with the lower right quarter of `fill`."""
    made, rows, columns = inputs.clone(), inputs.shape[-2] // 2, inputs.shape[-1] // 2
    made[..., rows:, columns:] = fill[..., rows:, columns:]
    return made
