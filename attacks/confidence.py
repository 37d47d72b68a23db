"""Observation: how confident the released models are of each record's true label.

Models whose weights were handed out are run; one that only answers is asked.

The signal is the logit-scaled confidence of Carlini et al. (2022, section IV.C); see `_signals`.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch

from attacks._models import Artefact, answering, check_artefact, laid_out, queried, released
from attacks._releases import stack, with_head
from attacks._signals import logit_confidence
from attacks.interface import Candidates, Floats, Signals
from privfed.nets import NetSpec, Params, forward
from privfed.randomness import Stream
from privfed.records import Records
from privfed.release import Release, View

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
        found = released(view, self.artefact)
        if found is None:
            return self._asked(view, candidates, stream)
        spec, releases = found
        whole = with_head(releases, spec)

        def read(own: tuple[Release, ...], members: Records, population: Records) -> tuple[Floats, Floats]:
            params = stack(own, spec)
            return confidences(spec, params, members), confidences(spec, params, population)

        return laid_out(self.artefact, whole, candidates, read) if whole else None

    def _asked(self, view: View, candidates: Candidates, stream: Stream) -> Signals | None:
        """The same of a model that answers and is not handed out; None where there is none."""
        spec = answering(view, self.artefact)
        if spec is None:
            return None

        def read(_: tuple[Release, ...], members: Records, population: Records) -> tuple[Floats, Floats]:
            return (
                _of_answers(spec, view, self.artefact, members, stream.child("candidates")),
                _of_answers(spec, view, self.artefact, population, stream.child("population")),
            )

        return laid_out(self.artefact, (), candidates, read)


def confidences(spec: NetSpec, params: Params, records: Records) -> Floats:
    """Logit-scaled confidence of M stacked models on the same records.

    Args:
        spec: the architecture of all models.
        params: by name, each of shape (M, ...).
        records: n records that fit the net.

    Returns:
        Shape (M, n); NaN where a model's logits are not finite.

    Raises:
        ValueError: when inputs or labels do not fit the net.
    """
    _check_records(spec, records)
    models, device = next((len(p), p.device) for p in params.values())
    step = _step(spec, models)
    parts = [_chunk(spec, params, records, slice(i, i + step), device) for i in range(0, len(records), step)]
    phi = torch.cat(parts, 1).numpy() if parts else np.empty((models, 0))
    return np.where(np.isfinite(phi), phi, np.nan)


def _of_answers(spec: NetSpec, view: View, artefact: Artefact, records: Records, stream: Stream) -> Floats:
    """Logit-scaled confidence as answered, shape (1, n)."""
    _check_records(spec, records)
    step = _step(spec, 1)
    parts = [
        logit_confidence(queried(view, artefact, inputs, stream.child(i)).cpu(), labels.cpu())
        for i, (inputs, labels) in enumerate(
            zip(records.inputs.split(step), records.labels.split(step), strict=True)
        )
    ]
    return torch.cat(parts).numpy()[np.newaxis]


def _step(spec: NetSpec, models: int) -> int:
    """Records that are read at once."""
    return max(1, _ELEMENTS // (models * spec.size**2 * max(spec.width, spec.channels)))


@torch.no_grad()
def _chunk(spec: NetSpec, params: Params, records: Records, at: slice, device: torch.device) -> torch.Tensor:
    models = len(next(iter(params.values())))
    inputs = records.inputs[at].to(device)
    logits = forward(spec, params, inputs.expand(models, *inputs.shape))
    return logit_confidence(logits, records.labels[at].to(device)).cpu()


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
