"""Source inference: of a record that some client holds, which client holds it.

Source: Hu et al., "Source inference attacks in federated learning" (arXiv 2109.05659, section IV;
2310.00222): under a uniform prior, and a posterior that falls with the loss as exp(-loss), the Bayes
guess is the client whose model has the smallest loss. The other measure, how well a record's gradient is
aligned with what a client's training moved, is that of gradient-based membership inference.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal, get_args

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.func import grad, vmap
from torch.nn import functional as F

from attacks import _signals
from attacks._models import released
from attacks._releases import owner, stack, with_head
from attacks._updates import Movement, movements
from attacks.confidence import confidences
from attacks.interface import Candidates, Floats, Signals
from privfed.nets import NetSpec, Params, forward
from privfed.randomness import Stream
from privfed.records import Records
from privfed.release import View

Measure = Literal["loss", "cosine"]
Of = Literal["update", "personal"]
_ELEMENTS = 1 << 22  # values of gradients held at once: 16 MB of float32


@dataclass(frozen=True, slots=True)
class ClientConfidence:
    """What the latest model of every client says of each record: query k is client k.

    Higher = client k more likely holds it. Every record is looked up in the models of all clients, not
    of its own alone; NaN for clients of which there is no such model. Columns are the clients that own
    candidates, up to the last. `guess` turns these signals into owners; as membership signals they
    serve references too, one query a client.

    Attributes:
        artefact: "update" = each client's trained weights; "personal" = the model that the server made
            for it.
        measure: "loss" = logit-scaled confidence in the label, as of `ModelConfidence`; "cosine" = of
            the gradient of the record's loss, at the weights that the client was sent, with what its
            training took off them, from -1 to 1 (artefact "update" only). A head that was not sent
            counts as not moved.
    """

    artefact: Of = "update"
    measure: Measure = "loss"

    def __post_init__(self) -> None:
        for name, choices in (("artefact", Of), ("measure", Measure)):
            if getattr(self, name) not in get_args(choices):
                known = ", ".join(get_args(choices))
                raise ValueError(f"expected {name} to be one of {known}, got {name}={getattr(self, name)!r}")
        if self.measure == "cosine" and self.artefact != "update":
            raise ValueError(f"expected artefact 'update' for cosines, got artefact={self.artefact!r}")

    def extract(self, view: View, candidates: Candidates, stream: Stream) -> Signals | None:
        """Of candidates and population; None without models of clients, their heads or rival classes."""
        found = released(view, self.artefact)
        if found is None:
            return None
        spec, releases = found
        clients = int(candidates.clients.max()) + 1 if len(candidates.clients) else 0
        known = (candidates.records, candidates.population)
        if self.measure == "cosine":
            moved = movements(view, rounds=len(releases))
            latest = {m.client: m for m in (moved[1] if moved else [])}
            parts = [_aligned(spec, latest, r, clients) for r in known] if latest else []
        else:
            models = {owner(r): r for r in sorted(with_head(releases, spec), key=lambda r: r.round)}
            mine = [k for k in sorted(models) if k < clients]
            params = stack(tuple(models[k] for k in mine), spec) if mine else {}
            parts = [_confident(spec, params, mine, r, clients) for r in known] if models else []
        if not parts:
            return None
        nobody = np.zeros(len(candidates.records), dtype=np.int64)
        return Signals(parts[0], parts[1][..., np.newaxis], nobody)


def guess(signals: Signals, prior: Floats | None = None) -> NDArray[np.int64]:
    """The client that most likely holds each record.

    Args:
        signals: of `ClientConfidence`, candidates of shape (n, clients).
        prior: chance that each record is each client's before its models are read, shape (n, clients); None
            = all alike. It is weighed against probabilities of the label, so it goes with the measure
            "loss" alone.

    Returns:
        Shape (n,): the first of equals; -1 where no client is known that the prior allows.

    Raises:
        ValueError: when the prior has another shape or a negative chance.
    """
    values = signals.candidates
    if prior is not None:
        if prior.shape != values.shape or not (prior >= 0).all():
            raise ValueError(
                f"expected a prior of shape {values.shape}, at least 0, got prior={prior.shape}, "
                f"least {prior.min(initial=np.inf):g}"
            )
        with np.errstate(divide="ignore"):
            values = np.log(prior) - _signals.loss(values)
    values = np.where(np.isnan(values), -np.inf, values)
    if not values.shape[1]:
        return np.full(len(values), -1)
    return np.where((values > -np.inf).any(1), values.argmax(1), -1)


def class_prior(counts: NDArray[np.int64], labels: NDArray[np.int64]) -> Floats:
    """Chance that a record is each client's, given its label and how many of that label each client holds.

    Args:
        counts: shape (classes, clients), at least 0; a class that nobody holds counts as everybody's.
        labels: shape (n,).

    Returns:
        Shape (n, clients), rows that add up to 1.
    """
    shares = counts[labels].astype(np.float64)
    shares[shares.sum(1) == 0] = 1.0
    prior: Floats = shares / shares.sum(1, keepdims=True)
    return prior


def _confident(spec: NetSpec, params: Params, mine: list[int], records: Records, clients: int) -> Floats:
    values = np.full((len(records), clients), np.nan)
    if mine:
        values[:, mine] = confidences(spec, params, records).T
    return values


def _aligned(spec: NetSpec, latest: dict[int, Movement], records: Records, clients: int) -> Floats:
    """Cosines, shape (n, clients). Clients that began at the same weights share the gradients."""
    values = np.full((len(records), clients), np.nan)
    waiting = [m for k, m in sorted(latest.items()) if k < clients]
    while waiting:
        first = waiting[0].start
        same = [m for m in waiting if all(torch.equal(m.start[name], t) for name, t in first.items())]
        moved = torch.stack([torch.cat([m.moved(name).flatten() for name in first]) for m in same])
        values[:, [m.client for m in same]] = _cosines(spec, first, records, moved).double().cpu().numpy()
        waiting = [m for m in waiting if not any(m is s for s in same)]
    return values


def _cosines(spec: NetSpec, start: Params, records: Records, moved: Tensor) -> Tensor:
    """Of every record's gradient at `start` with every movement (K, P), shape (n, K)."""

    def loss(params: Params, x: Tensor, y: Tensor) -> Tensor:
        lane = {name: t.unsqueeze(0) for name, t in params.items()}
        return F.cross_entropy(forward(spec, lane, x[None, None])[0], y[None])

    directions = F.normalize(moved, dim=1)
    step = max(1, _ELEMENTS // moved.shape[1])
    parts = [moved.new_empty(0, len(moved))]
    for x, y in zip(records.inputs.split(step), records.labels.split(step), strict=True):
        slopes = vmap(grad(loss), (None, 0, 0))(start, x.to(moved.device), y.to(moved.device))
        flat = torch.cat([slopes[name].flatten(1) for name in start], 1)
        parts.append(F.normalize(flat, dim=1) @ directions.T)
    return torch.cat(parts)
