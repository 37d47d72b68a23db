"""Observation: how confident the released models are of each record's true label.

The signal is the logit-scaled confidence of Carlini et al. (2022, section IV.C); see `_signals`.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal, get_args

import numpy as np
import torch

from attacks._releases import net_of, owner, received, stack, with_head
from attacks._signals import logit_confidence
from attacks.interface import Candidates, Floats, Signals
from privfed.nets import NetSpec, Params, forward
from privfed.randomness import Stream
from privfed.records import Records, concatenate
from privfed.release import Release, View

Artefact = Literal["update", "surrogate", "large"]

_ELEMENTS = 1 << 22  # activations held at once: 16 MB of float32, about a last-level cache


@dataclass(frozen=True, slots=True)
class ModelConfidence:
    """Logit-scaled confidence of every model released under one name, one query a release or round.

    Higher = more confident. A candidate is looked up in the update of its own client only; the
    surrogate and the large model belong to nobody, so all candidates are looked up in them.

    Attributes:
        artefact: "update" = each client's trained weights, one query a round, NaN in rounds its client
            sat out; "surrogate" = the model broadcast each round, less that of round 0, which is made
            before any data were seen; "large" = the model published at the end.
    """

    artefact: Artefact = "large"

    def __post_init__(self) -> None:
        if self.artefact not in get_args(Artefact):
            raise ValueError(
                f"expected artefact to be one of {', '.join(get_args(Artefact))}, "
                f"got artefact={self.artefact!r}"
            )

    def extract(self, view: View, candidates: Candidates, stream: Stream) -> Signals | None:
        """Confidences of candidates and population; None without such models, heads or rival classes."""
        releases = received(view, "weights", self.artefact)
        if self.artefact == "surrogate":
            releases = tuple(r for r in releases if r.round > 0)
        if not releases:
            return None
        spec = net_of(view, "surrogate" if self.artefact == "update" else self.artefact)
        releases = with_head(releases, spec)
        if not releases or spec.classes < 2:
            return None
        of = _of_clients if self.artefact == "update" else _of_everybody
        return of(spec, releases, candidates)


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
    step = max(1, _ELEMENTS // (models * spec.size**2 * max(spec.width, spec.channels)))
    parts = [_chunk(spec, params, records, slice(i, i + step), device) for i in range(0, len(records), step)]
    phi = torch.cat(parts, 1).numpy() if parts else np.empty((models, 0))
    return np.where(np.isfinite(phi), phi, np.nan)


@torch.no_grad()
def _chunk(spec: NetSpec, params: Params, records: Records, at: slice, device: torch.device) -> torch.Tensor:
    models = len(next(iter(params.values())))
    inputs = records.inputs[at].to(device)
    logits = forward(spec, params, inputs.expand(models, *inputs.shape))
    return logit_confidence(logits, records.labels[at].to(device)).cpu()


def _of_everybody(spec: NetSpec, releases: tuple[Release, ...], candidates: Candidates) -> Signals:
    params = stack(releases, spec)
    return Signals(
        confidences(spec, params, candidates.records).T,
        confidences(spec, params, candidates.population).T[..., np.newaxis],
        np.zeros(len(candidates.records), dtype=np.int64),
    )


def _of_clients(spec: NetSpec, releases: tuple[Release, ...], candidates: Candidates) -> Signals:
    # Columns stand for the clients that have candidates, whichever took part: the shape must not
    # depend on the federation.
    owners = candidates.clients.cpu().numpy()
    rounds = sorted({r.round for r in releases})
    clients = int(owners.max(initial=-1)) + 1
    of_candidates = np.full((len(owners), len(rounds)), np.nan)
    of_population = np.full((len(candidates.population), len(rounds), clients), np.nan)
    for client, own in _by_owner(releases).items():
        if client >= clients:
            continue
        mine = np.flatnonzero(owners == client)
        columns = np.searchsorted(rounds, [r.round for r in own])
        records = concatenate([candidates.records.take(torch.from_numpy(mine)), candidates.population])
        phi = confidences(spec, stack(own, spec), records).T
        of_candidates[np.ix_(mine, columns)] = phi[: len(mine)]
        of_population[:, columns, client] = phi[len(mine) :]
    return Signals(of_candidates, of_population, owners.astype(np.int64))


def _by_owner(releases: tuple[Release, ...]) -> dict[int, tuple[Release, ...]]:
    owners = sorted({owner(r) for r in releases})
    return {k: tuple(r for r in releases if r.about == k) for k in owners}


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
