"""Label-only: members lie further from where the model changes its mind, which labels alone tell.

Source: Choquette-Choo et al., "Label-only membership inference attacks" (arXiv 2007.14321), section 3:
distance to the decision boundary by a search, and by robustness to noise.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Literal, get_args

import numpy as np
import torch
from torch import Tensor

from attacks._boundary import Label, boundary_distances
from attacks._models import Artefact, answering, check_artefact, laid_out, released
from attacks._references import over_queries
from attacks._releases import weights, with_head
from attacks.interface import Candidates, Floats, Observation, References, Signals
from privfed.answers import labels_of
from privfed.nets import NetSpec, Params
from privfed.randomness import Stream
from privfed.records import Records
from privfed.release import Release, View
from privfed.training import predict

Method = Literal["boundary", "noise"]
RADII = (0.25, 0.5, 1.0, 2.0)
"""Standard deviations of the noise, in those of all values of the population."""
_ELEMENTS = 1 << 20  # activations or inputs held at once: 4 MB of float32 run fastest on small nets


@dataclass(frozen=True, slots=True)
class BoundaryDistance:
    """How far each record is from a change of label, by a bounded number of questions a record.

    Higher = further. 0 for a record that a model does not give its own label. Nothing but labels is read,
    of models whose weights were handed out and of one that only answers. Points asked about are not
    kept within the range of images.

    Attributes:
        artefact: as in `ModelConfidence`; a representation without its head gives no label.
        method: "boundary" = L2 distance to a point with another label, by `_boundary`, beginning at public
            and population records that the model calls something else (which are asked about once
            each, for all records); NaN where all are called the same. "noise" = share of Gaussian copies
            that keep the label, from 0 to 1, over four radii in equal parts; all records share the noise.
        queries: questions a record and model, at most.
    """

    artefact: Artefact = "large"
    method: Method = "boundary"
    queries: int = 64

    def __post_init__(self) -> None:
        check_artefact(self.artefact)
        if self.method not in get_args(Method):
            known = ", ".join(get_args(Method))
            raise ValueError(f"expected method to be one of {known}, got method={self.method!r}")
        least = 2 if self.method == "boundary" else 1 + len(RADII)
        if self.queries < least:
            raise ValueError(f"expected queries >= {least}, got queries={self.queries}")

    def extract(self, view: View, candidates: Candidates, stream: Stream) -> Signals | None:
        """Distances of candidates and population; None without such models, heads or rival classes."""
        found = released(view, self.artefact)
        if found is None:
            return self._asked(view, candidates, stream)
        spec, releases = found
        whole = with_head(releases, spec)

        def read(own: tuple[Release, ...], members: Records, population: Records) -> tuple[Floats, Floats]:
            models = [_run(spec, weights(r, spec)) for r in own]
            known = (members, population)
            parts = [[self._distances(m, r, candidates, stream) for m in models] for r in known]
            return np.stack(parts[0]), np.stack(parts[1])

        return laid_out(self.artefact, whole, candidates, read) if whole else None

    def _asked(self, view: View, candidates: Candidates, stream: Stream) -> Signals | None:
        if answering(view, self.artefact) is None:
            return None

        def read(_: tuple[Release, ...], members: Records, population: Records) -> tuple[Floats, Floats]:
            label = _answers(view, self.artefact, stream.child("answers"))
            known = (members, population)
            first, second = (self._distances(label, r, candidates, stream)[np.newaxis] for r in known)
            return first, second

        return laid_out(self.artefact, (), candidates, read)

    def _distances(self, label: Label, records: Records, known: Candidates, stream: Stream) -> Floats:
        if self.method == "noise":
            values = known.population.inputs if len(known.population) else known.public.inputs
            scale = float(values.std()) if values.numel() > 1 else 1.0
            return kept_share(label, records, scale, self.queries, stream.child("noise"))
        starts = torch.cat([known.public.inputs, known.population.inputs])
        return boundary_distances(label, records, starts, self.queries, stream.child("probes"))


@dataclass(frozen=True, slots=True)
class LabelOnly:
    """Score each record by its distance to the decision boundary of the released models, by labels alone.

    No references. A record that is misclassified scores 0, so that the gap attack (Yeom et al., 2018) is
    in it: what it finds beyond that one is in the distances.

    Attributes:
        observation: the distance that is read.
    """

    observation: Observation = field(default_factory=BoundaryDistance)

    def score(self, target: Signals, references: References) -> Floats:
        """Mean distance over the known queries, shape (n,)."""
        return over_queries(target.candidates)


def kept_share(label: Label, records: Records, scale: float, queries: int, stream: Stream) -> Floats:
    """Share of Gaussian copies of each record that the model still gives its label.

    Args:
        label: the model, which is asked `queries` times a record at most.
        records: n records.
        scale: what the radii are multiples of, in the units of the inputs.
        queries: questions a record: one for itself, the others shared out among the radii evenly.
        stream: of the noise, which all records share.

    Returns:
        Shape (n,), from 0 to 1: the mean over the radii; 0 for a record that is itself misclassified. For a
        linear model of two labels its expectation is the mean of Phi(distance / deviation).
    """
    copies = (queries - 1) // len(RADII)
    given = label(records.inputs)
    labels = records.labels.to(given.device)
    right = (given == labels).nonzero().flatten()
    found = np.zeros(len(records))
    if len(right):
        inputs = records.inputs.to(given.device)
        shape = (len(RADII) * copies, *inputs.shape[1:])
        deviations = scale * torch.tensor(RADII).repeat_interleave(copies)
        noise = torch.randn(shape, generator=stream.torch()).flatten(1) * deviations.unsqueeze(1)
        noise = noise.to(inputs).view(shape)
        for part in right.split(max(1, _ELEMENTS // noise.numel())):
            points = inputs[part].unsqueeze(1) + noise
            same = label(points.flatten(0, 1)).view(points.shape[:2]) == labels[part].unsqueeze(1)
            found[part.cpu().numpy()] = same.double().mean(1).cpu().numpy()
    return found


def _run(spec: NetSpec, params: Params) -> Label:
    device = next(iter(params.values())).device
    step = max(1, _ELEMENTS // (spec.size**2 * max(spec.width, spec.channels)))

    def label(inputs: Tensor) -> Tensor:
        return predict(spec, params, inputs.to(device), step).argmax(1)

    return label


def _answers(view: View, artefact: Artefact, stream: Stream) -> Label:
    """A model that answers, with a stream of its own for every question; each is asked once."""
    asked = 0

    def label(inputs: Tensor) -> Tensor:
        nonlocal asked
        asked += 1
        answers = view.ask(artefact, inputs, stream.child(asked))
        if not bool(torch.isfinite(answers).all()):
            raise ValueError(f"expected finite answers of model {artefact!r}, got some with NaN or infinity")
        return labels_of(answers)

    return label
