"""Observation: how confident the released models are of each record's true label.

Models whose weights were handed out are run; one that only answers is asked.

The signal is the logit-scaled confidence of Carlini et al. (2022, section IV.C); see `_signals`.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from attacks._models import Artefact, answering, check_artefact, laid_out, queried, released
from attacks._releases import stack, with_head
from attacks._signals import logit_confidence
from attacks.interface import Candidates, Floats, Signals
from privfed.nets import NetSpec, Params, forward
from privfed.randomness import Stream
from privfed.records import Records
from privfed.release import Release, View

Measure = Callable[[Tensor, Tensor], Tensor]
"""Logits (M, n, classes) and labels (n,) to one number a model and record (M, n), or k (M, n, k)."""

_ELEMENTS = 1 << 22  # activations held at once: 16 MB of float32, about a last-level cache


@dataclass(frozen=True, slots=True)
class ModelConfidence:
    """Logit-scaled confidence of every model released under one name, one query a release or round.

    Higher = more confident. A candidate is looked up in the models of its own client only; the
    surrogate and the large model belong to nobody, so all candidates are looked up in them.

    Attributes:
        artefact: "update" = each client's trained weights, one query a round, NaN in rounds its client
            sat out; "personal" = likewise the model that the server made for each client;
            "surrogate" = the model broadcast each round, less that of round 0, which is made
            before any data were seen; "large" = the model published at the end.
    """

    artefact: Artefact = "large"

    def __post_init__(self) -> None:
        check_artefact(self.artefact)

    def extract(self, view: View, candidates: Candidates, stream: Stream) -> Signals | None:
        """Confidences of candidates and population; None without such models, heads or rival classes.

        Weights that lack their head and nothing else are no models; any others must be whole.
        """
        return measured(self.artefact, logit_confidence, view, candidates, stream)


def measured(
    artefact: Artefact,
    measure: Measure,
    view: View,
    candidates: Candidates,
    stream: Stream,
    width: int = 1,
) -> Signals | None:
    """What `measure` makes of the logits of every model of that name, laid out as `ModelConfidence` says.

    Args:
        artefact: as in `ModelConfidence`.
        measure: computed in float64 on the logits, or on the answers of a model that only answers.
        view: what was seen.
        candidates: whom the models are run on.
        stream: of the noise on answers.
        width: numbers a model and record; those of one model stand side by side.

    Returns:
        None without such models, heads or rival classes.
    """
    found = released(view, artefact)
    if found is None:
        return _asked(artefact, measure, view, candidates, stream, width)
    spec, releases = found
    whole = with_head(releases, spec)

    def read(own: tuple[Release, ...], members: Records, population: Records) -> tuple[Floats, Floats]:
        params = stack(own, spec)
        return confidences(spec, params, members, measure), confidences(spec, params, population, measure)

    return laid_out(artefact, whole, candidates, read, width) if whole else None


def _asked(
    artefact: Artefact,
    measure: Measure,
    view: View,
    candidates: Candidates,
    stream: Stream,
    width: int,
) -> Signals | None:
    """The same of a model that answers and is not handed out; None where there is none."""
    spec = answering(view, artefact)
    if spec is None:
        return None

    def answers(records: Records, name: str) -> Floats:
        return _of_answers(spec, view, artefact, records, stream.child(name), measure)

    def read(_: tuple[Release, ...], members: Records, population: Records) -> tuple[Floats, Floats]:
        return answers(members, "candidates"), answers(population, "population")

    return laid_out(artefact, (), candidates, read, width)


def confidences(
    spec: NetSpec, params: Params, records: Records, measure: Measure = logit_confidence
) -> Floats:
    """Logit-scaled confidence, or another measure, of M stacked models on the same records.

    Args:
        spec: the architecture of all models.
        params: by name, each of shape (M, ...).
        records: n records that fit the net.
        measure: of logits and labels.

    Returns:
        Shape (M, n), or (M, n, k) for a measure of k numbers; NaN where a model's logits are not finite.

    Raises:
        ValueError: when inputs or labels do not fit the net.
    """
    _check_records(spec, records)
    models, device = next((len(p), p.device) for p in params.values())
    step = _step(spec, models)
    # Without records one empty chunk, so that the shape is that of the measure.
    starts = range(0, max(len(records), 1), step)
    parts = [_chunk(spec, params, records, slice(i, i + step), measure, device) for i in starts]
    phi = torch.cat(parts, 1).numpy()
    return np.where(np.isfinite(phi), phi, np.nan)


def _of_answers(
    spec: NetSpec, view: View, artefact: Artefact, records: Records, stream: Stream, measure: Measure
) -> Floats:
    """The measure of what is answered, shape (1, n) or (1, n, k)."""
    _check_records(spec, records)
    step = _step(spec, 1)
    parts = [
        measure(queried(view, artefact, inputs, stream.child(i)).cpu().unsqueeze(0), labels.cpu())
        for i, (inputs, labels) in enumerate(
            zip(records.inputs.split(step), records.labels.split(step), strict=True)
        )
    ]
    return torch.cat(parts, 1).numpy()


def _step(spec: NetSpec, models: int) -> int:
    """Records that are read at once."""
    return max(1, _ELEMENTS // (models * spec.size**2 * max(spec.width, spec.channels)))


@torch.no_grad()
def _chunk(
    spec: NetSpec, params: Params, records: Records, at: slice, measure: Measure, device: torch.device
) -> Tensor:
    models = len(next(iter(params.values())))
    inputs = records.inputs[at].to(device)
    logits = forward(spec, params, inputs.expand(models, *inputs.shape))
    return measure(logits, records.labels[at].to(device)).cpu()


def _check_records(spec: NetSpec, records: Records) -> None:
    if tuple(records.inputs.shape[1:]) != spec.input_shape:
        raise ValueError(
            f"expected inputs of shape {spec.input_shape}, got inputs={tuple(records.inputs.shape[1:])}"
        )
    if len(records) and not 0 <= int(records.labels.min()) <= int(records.labels.max()) < spec.classes:
        raise ValueError(
            f"expected labels from 0 to {spec.classes - 1}, "
            f"got labels from {int(records.labels.min())} to {int(records.labels.max())}"
        )
