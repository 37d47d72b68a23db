"""Property inference: what share of a client's records has a property, from how its model moved.

Meta-classifier on updates: Melis et al. (arXiv 1805.04049, section 4), made permutation-invariant as in
Ganju et al. (CCS 2018) by asking what the model does instead of where its weights lie. Loss test: Suri and
Evans, "Formalizing and understanding property inference" (arXiv 2109.06024, section 4.1), often as good.

An attack extracts numbers of each client; how they follow the share is learnt from federations whose
shares the attacker chose (`share_estimates`), since it knows no share in the federation it attacks.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Protocol, runtime_checkable

import numpy as np
import torch
from sklearn.linear_model import RidgeCV
from threadpoolctl import threadpool_limits
from torch import Tensor
from torch.nn import functional as F

from attacks._head_movements import HeadMovement, change, head_movements, labelled
from attacks._references import known_mean
from attacks._releases import labelled_inputs, owner, received
from attacks.interface import Bools, Floats, Inference, Known
from privfed.nets import NetSpec, Params
from privfed.randomness import Stream
from privfed.records import Records
from privfed.release import View
from privfed.training import predict

_Read = Callable[[NetSpec, HeadMovement, list[Tensor], list[Records]], Floats]
_STRENGTHS = np.logspace(-2, 4, 13)


class Property(Protocol):
    """Something a record has or has not; a frozen value."""

    def holds(self, records: Records, public: Records) -> Tensor:
        """Bool, shape (n,); `public` is what anybody may compare with."""
        ...


@runtime_checkable
class OfProperty(Protocol):
    """An attack that asks after one property of records."""

    @property
    def property(self) -> Property:
        """Asked after; the shares of the records that have it are the truth."""
        ...


@dataclass(frozen=True, slots=True)
class LabelGroup:
    """The record's label is one of a group.

    Attributes:
        labels: of the private task.
    """

    labels: tuple[int, ...] = (0, 1)

    def holds(self, records: Records, public: Records) -> Tensor:
        """By the label alone."""
        return torch.isin(records.labels, torch.tensor(self.labels))


@dataclass(frozen=True, slots=True)
class Bright:
    """The record's mean pixel (or mean of its embedding) is above the median of the public records."""

    def holds(self, records: Records, public: Records) -> Tensor:
        """By the inputs alone; without public records, above 0."""
        middle = public.inputs.flatten(1).mean(1).median() if len(public) else torch.tensor(0.0)
        return records.inputs.flatten(1).mean(1) > middle


@dataclass(frozen=True, slots=True)
class PropertyInference:
    """Describe how each client's model moved, in numbers that do not depend on the order of its units.

    Values: shape (clients, 6 classes), mean over rounds: change of each bias of the head, norm of the change
    of each class's weights, and how the mean probability of each class changed on known records with the
    property, on those without, and the same after half the way. NaN for clients whose head was not seen to
    move. Neither direction nor scale means anything before `share_estimates`.

    Attributes:
        property: asked after; it splits the known records.
    """

    property: Property = field(default_factory=LabelGroup)

    def infer(self, view: View, known: Known, stream: Stream) -> Inference | None:
        """Numbers of each client; None without movements, or known records on both sides of the property."""

        def read(spec: NetSpec, movement: HeadMovement, before: list[Tensor], sides: list[Records]) -> Floats:
            moved = change(spec, movement, bias_only=False).reshape(spec.classes, -1)
            half = {k: torch.lerp(t, movement.end[k], 0.5) for k, t in movement.start.items()}
            shifts = [
                _mean_probability(predict(spec, p, s.inputs)) - _mean_probability(logits)
                for p in (movement.end, half)
                for s, logits in zip(sides, before, strict=True)
            ]
            return np.concatenate([moved[:, -1], np.linalg.norm(moved[:, :-1], axis=1), *shifts])

        return _each_client(view, known, self.property, read, per_class=6)


@dataclass(frozen=True, slots=True)
class PropertyLossTest:
    """Measure how much more the loss fell on records with the property than on those without.

    Values: shape (clients, 1), in nats, mean over rounds; higher = learnt from more records with it.

    Attributes:
        property: asked after; it splits the known records.
    """

    property: Property = field(default_factory=LabelGroup)

    def infer(self, view: View, known: Known, stream: Stream) -> Inference | None:
        """One number a client; None without movements, or known records on both sides of the property."""

        def read(spec: NetSpec, movement: HeadMovement, before: list[Tensor], sides: list[Records]) -> Floats:
            fell = [
                _loss(logits, s) - _loss(predict(spec, movement.end, s.inputs), s)
                for s, logits in zip(sides, before, strict=True)
            ]
            return np.array([fell[0] - fell[1]])

        return _each_client(view, known, self.property, read, per_class=0)


@dataclass(frozen=True, slots=True)
class SyntheticProperty:
    """Measure what share of each client's synthetic records has the property.

    Values: shape (clients, 1), in [0, 1]; NaN for clients without such records. Labels of synthetic
    sets are often chosen by the server: of a group of labels they then say nothing.

    Attributes:
        artefact: name of the per-client synthetic releases.
        property: asked after.
    """

    artefact: str = "client_images"
    property: Property = field(default_factory=Bright)

    def infer(self, view: View, known: Known, stream: Stream) -> Inference | None:
        """One number a client; None without such records."""
        releases = received(view, "synthetic", self.artefact)
        if not releases:
            return None
        shares = np.full((1 + max(owner(r) for r in releases), len(releases)), np.nan)
        for column, release in enumerate(releases):
            made = labelled_inputs(release)
            if len(made):
                shares[owner(release), column] = float(
                    self.property.holds(made, known.public).double().mean()
                )
        return Inference(known_mean(shares, 1)[:, np.newaxis])


def share_estimates(features: Floats, shares: Floats) -> Floats:
    """Shares by ridge regression on other federations, for every federation and client in turn.

    A client is estimated from other clients in other federations alone: in a game the same client holds
    almost the same records in every federation, and a regression that had seen them would recall the
    client and not infer its share. The strength is chosen by leave-one-out among the references.

    Args:
        features: shape (F, clients, k): values of an attack, NaN where it said nothing.
        shares: shape (F, clients): the truth, of which only references are read.

    Returns:
        Shape (F, clients), in [0, 1]; NaN where the features are, or fewer than two references are known.

    Raises:
        ValueError: when the shapes do not fit.
    """
    _check(features, shares)
    said = ~np.isnan(features).any(axis=2)
    estimates = np.full(shares.shape, np.nan)
    with threadpool_limits(1):
        for f, k in zip(*np.nonzero(said), strict=True):
            used = _others(shares, f, k) & said
            if used.sum() >= 2:
                estimates[f, k] = _regressed(features[used], shares[used], features[f, k])
    return estimates


def mean_shares(shares: Floats) -> Floats:
    """The baseline: mean share of the same references, shape (F, clients); NaN without any."""
    guesses = np.full(shares.shape, np.nan)
    for f, k in np.ndindex(shares.shape):
        used = _others(shares, f, k)
        if used.any():
            guesses[f, k] = shares[used].mean()
    return guesses


def true_shares(clients: Sequence[Records], asked: Property, public: Records) -> Floats:
    """The truth: share of each client's records with the property, shape (clients,); NaN without records."""
    return np.array([float(asked.holds(c, public).double().mean()) if len(c) else np.nan for c in clients])


def _each_client(view: View, known: Known, asked: Property, read: _Read, per_class: int) -> Inference | None:
    """What `read` says of each movement, averaged over rounds; so many numbers a class, or 1 in all.

    It is given the logits on both sides at the start, which clients that began alike share.
    """
    found = head_movements(view)
    if found is None:
        return None
    spec, movements = found
    records = labelled(known, spec.classes)
    has = asked.holds(records, known.public)
    sides = [records.take(has), records.take(~has)]
    if not all(len(s) for s in sides):
        return None
    rows = np.full((1 + max(m.client for m in movements), per_class * spec.classes or 1), np.nan)
    moved = [m for m in movements if change(spec, m, bias_only=False).any()]
    said = [read(spec, m, b, sides) for m, b in zip(moved, _at_start(spec, moved, sides), strict=True)]
    for client in sorted({m.client for m in moved}):
        rows[client] = np.mean([s for m, s in zip(moved, said, strict=True) if m.client == client], axis=0)
    return Inference(rows)


def _at_start(spec: NetSpec, movements: list[HeadMovement], sides: list[Records]) -> list[list[Tensor]]:
    found: list[list[Tensor]] = []
    for m in movements:
        same = (f for f, earlier in zip(found, movements, strict=False) if _equal(earlier.start, m.start))
        known = next(same, None)
        found.append([predict(spec, m.start, s.inputs) for s in sides] if known is None else known)
    return found


def _equal(one: Params, other: Params) -> bool:
    return all(torch.equal(tensor, other[name]) for name, tensor in one.items())


def _mean_probability(logits: Tensor) -> Floats:
    mean: Floats = logits.double().softmax(1).mean(0).numpy()
    return mean


def _loss(logits: Tensor, records: Records) -> float:
    return float(F.cross_entropy(logits.double(), records.labels))


def _regressed(features: Floats, shares: Floats, asked: Floats) -> float:
    centre, scale = features.mean(axis=0), features.std(axis=0)
    scale = np.where(scale > 0, scale, 1.0)
    model = RidgeCV(alphas=_STRENGTHS).fit((features - centre) / scale, shares)
    return float(np.clip(model.predict(((asked - centre) / scale)[np.newaxis])[0], 0.0, 1.0))


def _others(shares: Floats, federation: int, client: int) -> Bools:
    """References: cells of other clients in other federations whose share is known."""
    used = ~np.isnan(shares)
    used[federation], used[:, client] = False, False
    return used


def _check(features: Floats, shares: Floats) -> None:
    if features.ndim != 3 or shares.shape != features.shape[:2]:
        raise ValueError(
            "expected features of shape (F, clients, k) and shares of shape (F, clients), "
            f"got features={features.shape} and shares={shares.shape}"
        )
