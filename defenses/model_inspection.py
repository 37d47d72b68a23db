"""Model inspection: a client looks at the model it is sent, and trains on nothing if that is made to read it.

Cheap client-side tests of weight structure and of loss and gradient anomalies against crafted models, after
the families described in arXiv 2506.20651 and arXiv 2511.10502. What is normal is read off honest
initialisations of the same net on the client's own records; no attack has a say in the thresholds.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, replace

import torch
from torch import Tensor
from torch.nn import functional as F

from defenses._clipping import expect
from privfed.nets import NetSpec, Params, forward, initial, parameter_shapes
from privfed.randomness import Stream
from privfed.records import Records
from privfed.training import Task

MOST = 64  # records that are looked at
STATISTICS = ("alike", "loss", "dominance", "lone", "novelty")


@dataclass(frozen=True, slots=True)
class Inspection:
    """What a client found in a model it was sent.

    Attributes:
        statistics: by name, as `measure` defines them; NaN = could not be taken.
        thresholds: by name; a statistic above its own is flagged.
    """

    statistics: Mapping[str, float]
    thresholds: Mapping[str, float]

    @property
    def flags(self) -> tuple[str, ...]:
        """Names of the statistics above their thresholds; empty = nothing speaks against training."""
        return tuple(k for k, v in self.statistics.items() if v > self.thresholds[k])


@dataclass(frozen=True, slots=True)
class ModelInspection:
    """Trains only on models that nothing speaks against; a flagged one is sent back as it came.

    The update then says that the client refused, and nothing else about its records. What passes is
    trained as it is: this is no guarantee, and a server that knows the statistics can craft a model that
    keeps below them (SEER, arXiv 2306.03013, is made for that). The novelty of a model is not looked at
    here, for a task does not carry the broadcast before; a client that keeps it calls `inspect`.

    With records in it, the decision to refuse is one more thing that they decide, outside the noise of a
    training with a claim for records; beside one, look at the weights alone.

    Attributes:
        initialisations: honest models that say what is normal.
        weights_only: leave out what reads the records: loss, dominance and lone units.
    """

    initialisations: int = 16
    weights_only: bool = False

    def __post_init__(self) -> None:
        expect(self.initialisations >= 2, "initialisations >= 2", initialisations=self.initialisations)

    @property
    def decides_on_records(self) -> bool:
        """Whether a refusal tells something about the records."""
        return not self.weights_only

    def adapt(self, task: Task) -> Task:
        """The same task, or one without records where the start is flagged; text and images alike."""
        stream = task.stream.child("inspection")
        none = Records(task.records.inputs[:0], task.records.labels[:0])
        shown = none if self.weights_only else task.records
        found = inspect(task.spec, task.start, None, shown, stream, self.initialisations)
        if not found.flags:
            return task
        teacher = None if task.teacher is None else task.teacher[:0]
        return replace(task, records=none, teacher=teacher)


def inspect(
    spec: NetSpec,
    received: Params,
    previous: Params | None,
    records: Records,
    stream: Stream,
    initialisations: int = 16,
) -> Inspection:
    """Statistics of a received model beside what honest initialisations of the net give.

    Where a client may refuse, call it before training: in a Flower client at the head of `fit`, returning
    the parameters received and 0 examples if there are flags. Keep the parameters of each round as the
    next one's `previous`.

    Args:
        spec: the net that was agreed on.
        received: the model to train; of its parameters, those that are there are looked at.
        previous: the broadcast before, or None in the first round.
        records: the client's own; the first 64 are looked at.
        stream: draws the initialisations.
        initialisations: how many, at least 2.

    Thresholds: a share (alike, dominance, lone) is flagged above half way from the largest that an
    initialisation gives to 1; the loss above twice the largest; novelty above half the least that an
    initialisation has against `previous`.
    """
    fresh = [initial(spec, stream.child("initial", i).torch()) for i in range(initialisations)]
    like = next(iter(received.values()))
    honest = [measure(spec, {k: p[k].to(like) for k in received if k in p}, previous, records) for p in fresh]
    return Inspection(
        measure(spec, received, previous, records), {k: _threshold(k, honest) for k in STATISTICS}
    )


def measure(spec: NetSpec, params: Params, previous: Params | None, records: Records) -> Mapping[str, float]:
    """Statistics of one model; larger = more suspicious, NaN where one cannot be taken.

    Returns:
        alike: largest cosine between two rows of one weight matrix, in [0, 1]; rows of zeros are alike,
            opposite ones, as of a trained head for two classes, are not.
        loss: mean cross-entropy on the records, in nats.
        dominance: largest share of one record in the summed norms of the gradients of the first layer,
            in excess of 1 / n and scaled to [0, 1].
        lone: share of the first layer's units that exactly one record moves.
        novelty: 1 less the smallest cosine, over weight matrices, with the same matrix in `previous`.
    """
    whole = params.keys() == parameter_shapes(spec).keys()
    found = dict.fromkeys(STATISTICS, math.nan)
    found["alike"] = max((_alike(t) for t in params.values() if t.ndim == 2), default=math.nan)
    if previous is not None:
        found["novelty"] = _novelty(params, previous)
    if whole and len(records):
        used = Records(records.inputs[:MOST], records.labels[:MOST])
        loss, gradients = per_record(spec, params, used)
        found["loss"] = float(loss.mean())
        found["dominance"] = _dominance(gradients)
        if next(iter(params.values())).ndim == 2:
            found["lone"] = float(((gradients.abs().amax(2) > 0).sum(0) == 1).double().mean())
    return found


def per_record(spec: NetSpec, params: Params, records: Records) -> tuple[Tensor, Tensor]:
    """Loss of each record, shape (n,), and its gradient in the first weight, shape (n, rows, columns)."""
    n, first = len(records), next(iter(params))
    # One copy of the first weight a record, so that one backward pass keeps their gradients apart.
    copies = {k: v.detach().expand(n, *v.shape) for k, v in params.items()}
    own = copies[first].clone().requires_grad_()
    logits = forward(spec, {**copies, first: own}, records.inputs.unsqueeze(1)).squeeze(1)
    loss = F.cross_entropy(logits, records.labels, reduction="none")
    (gradient,) = torch.autograd.grad(loss.sum(), own)
    return loss.detach(), gradient.flatten(2)


def _alike(matrix: Tensor) -> float:
    if len(matrix) < 2:
        return math.nan
    unit = F.normalize(matrix.double(), dim=1)
    dead = unit.abs().amax(1) == 0
    cosine = unit @ unit.T
    cosine[dead[:, None] & dead[None]] = 1.0
    return float(cosine.fill_diagonal_(0).max())


def _novelty(params: Params, previous: Params) -> float:
    cosines = [
        float(F.cosine_similarity(t.double().flatten(), previous[k].double().flatten(), dim=0))
        for k, t in params.items()
        if t.ndim > 1 and k in previous
    ]
    return 1 - min(cosines) if cosines else math.nan


def _dominance(gradients: Tensor) -> float:
    n, norms = len(gradients), gradients.flatten(1).double().norm(dim=1)
    if n < 2 or not norms.sum() > 0:
        return math.nan
    return float((norms.max() / norms.sum() - 1 / n) / (1 - 1 / n))


def _threshold(name: str, honest: list[Mapping[str, float]]) -> float:
    values = [h[name] for h in honest]
    if name == "novelty":
        return min(values) / 2
    return 2 * max(values) if name == "loss" else (1 + max(values)) / 2
