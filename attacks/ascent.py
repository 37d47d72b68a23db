"""Gradient ascent: the server makes the model worse on records of interest; clients who hold them undo it.

Source: Nasr, Shokri and Houmansadr, "Comprehensive privacy analysis of deep learning" (arXiv 1812.00910),
section III-C (active inference attacks), with the server as the attacker. What is read is the loss before and
after one client's training, the outcome there named as what tells members from non-members.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Literal, get_args

import numpy as np
import torch

from attacks import _signals
from attacks._calibration import calibrated
from attacks._references import over_queries
from attacks._sent_alone import laid_out, legs, rounds_of
from attacks.interface import Candidates, Floats, Observation, References, Signals
from privfed.nets import NetSpec, Params, forward, head_names
from privfed.randomness import Stream
from privfed.records import Records
from privfed.release import View
from privfed.training import weighted_loss

if TYPE_CHECKING:
    from privfed.deviation import Turn

Measure = Literal["loss", "confidence"]


@dataclass(frozen=True, slots=True)
class Ascent:
    """Sends each client the broadcast moved up the gradient of the loss on its candidates.

    To client k, in place of w, goes w + gamma grad L, L = mean cross-entropy (nats) over candidates that k
    may hold. Where the broadcast lacks its head, the gradient is taken under the head that the client
    uploaded last, and before its first upload w is sent as it is.

    Attributes:
        gamma: length of the step; 0 = the honest broadcast.
        share: of each client's candidates that the gradient is of, drawn by the server and kept over the
            rounds; the others say what the attack does to records it is not aimed at.
        rounds: those in which it is done; every round where empty.
    """

    gamma: float = 0.1
    share: float = 1.0
    rounds: tuple[int, ...] = ()

    def __post_init__(self) -> None:
        if not 0 <= self.gamma < float("inf"):
            raise ValueError(f"expected a finite gamma >= 0, got gamma={self.gamma}")
        if not 0 < self.share <= 1:
            raise ValueError(f"expected share in (0, 1], got share={self.share}")
        if any(r < 0 for r in self.rounds):
            raise ValueError(f"expected rounds >= 0, got rounds={self.rounds}")

    def send(self, turn: Turn) -> Params:
        """The broadcast after one step uphill; itself where no candidate or no head is known."""
        spec = turn.world.surrogate
        aim = aimed(turn.targets.of(turn.client), self.share, turn.stream.child("aim", turn.client))
        model = _with_head(spec, turn.honest, turn.last_upload() or {})
        idle = self.rounds and turn.round not in self.rounds
        if idle or model is None or not len(aim):
            return turn.honest
        uphill = mean_gradient(spec, model, aim)
        return {name: t + self.gamma * uphill[name] for name, t in turn.honest.items()}


@dataclass(frozen=True, slots=True)
class Recovery:
    """How much of each record's loss one client's training takes away, one query a round.

    Higher = more. Loss under the model the client was sent less that under the model it returned; population
    records against every client. NaN for a client that was not sent one of its own. Where it came without
    its head, the head that the client returned stands in.

    Attributes:
        measure: "loss" = cross-entropy (nats), as in the source; "confidence" = the rise of its
            logit-scaled form, closer to Gaussian.
        passive: also where all clients were sent one model: what the same reading finds without any
            deviation, and so what the deviation must beat.
    """

    measure: Measure = "confidence"
    passive: bool = False

    def __post_init__(self) -> None:
        if self.measure not in get_args(Measure):
            raise ValueError(
                f"expected measure to be one of {', '.join(get_args(Measure))}, got measure={self.measure!r}"
            )

    def extract(self, view: View, candidates: Candidates, stream: Stream) -> Signals | None:
        """Recoveries of candidates and population; None where nobody was sent a model of its own."""
        found = legs(view, self.passive)
        if found is None:
            return None
        spec, own = found
        return laid_out(spec, own, rounds_of(view), candidates, self._recovered)

    def _recovered(self, sent: Floats, returned: Floats) -> Floats:
        if self.measure == "confidence":
            return returned - sent
        return _signals.loss(sent) - _signals.loss(returned)


@dataclass(frozen=True, slots=True)
class SnapBack:
    """Score each record by how far its loss falls back after gradient ascent, without references.

    Attributes:
        observation: the fall that is read.
    """

    observation: Observation = field(default_factory=lambda: Recovery("loss"))

    def score(self, target: Signals, references: References) -> Floats:
        """Mean fall over the known rounds, shape (n,)."""
        return over_queries(target.candidates)


@dataclass(frozen=True, slots=True)
class CalibratedSnapBack:
    """Score each record by how much further its loss falls back than in federations without it.

    Attributes:
        observation: the fall that is read.
    """

    observation: Observation = field(default_factory=Recovery)

    def score(self, target: Signals, references: References) -> Floats:
        """Fall less its mean over references without the record, shape (n,)."""
        return calibrated(target, references)


def aimed(records: Records, share: float, stream: Stream) -> Records:
    """The share of the records that is aimed at, at least one of any; drawn by the stream alone."""
    if share == 1 or not len(records):
        return records
    chosen = stream.numpy().permutation(len(records))[: max(1, round(share * len(records)))]
    return records.take(torch.from_numpy(np.sort(chosen)))


def mean_gradient(spec: NetSpec, model: Params, records: Records) -> Params:
    """Gradient of the mean cross-entropy over the records, in all parameters of a whole model."""
    copy = {k: t.detach().clone().requires_grad_() for k, t in model.items()}
    logits = forward(spec, {k: t.unsqueeze(0) for k, t in copy.items()}, records.inputs.unsqueeze(0))
    labels = records.labels.unsqueeze(0)
    loss = weighted_loss(logits, labels, torch.ones(labels.shape, device=labels.device)).sum()
    return dict(zip(copy, torch.autograd.grad(loss, list(copy.values())), strict=True))


def _with_head(spec: NetSpec, sent: Params, uploaded: Params) -> Params | None:
    head = head_names(spec)
    if set(head) <= sent.keys():
        return sent
    return {**sent, **{k: uploaded[k] for k in head}} if set(head) <= uploaded.keys() else None
