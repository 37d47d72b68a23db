"""Warm inversion: a client's released synthetic images are changed until they explain its update better.

Source: the matching objective of trajectory matching, Cazenavette et al. (arXiv 2203.11932, section 3.2),
in the pixels themselves and from the images that the server published or kept for that client. What the
generative prior kept out of them, the update may put back.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Literal

import numpy as np
import torch
from torch import Tensor
from torch.nn.utils.rnn import pad_sequence

from attacks._descent import Budget, Variables, as_floats, minimise
from attacks._inversion import Batch, boxed, check_choice, check_positive, mismatch, replayed, total_variation
from attacks._releases import labelled_inputs, owner, received
from attacks._updates import Lanes, Movement, lanes, movements, rebuilt
from attacks.interface import Floats, Known, Reconstruction
from attacks.label_inference import LabelInference
from privfed.randomness import Stream
from privfed.records import Records
from privfed.release import View

HALVINGS = range(-4, 5)  # powers of two about the learning rate that the line search tries
LEAST = 0.02  # share of the largest weight of a client below which a slot is no record of it
Slots = Literal["shares", "equal"]


@dataclass(frozen=True, slots=True)
class WarmInversion:
    """Rebuild records by re-optimising a client's synthetic images against its update.

    All images of the client are changed together, with the size of the inner step, until `local_steps`
    full-batch steps on them lead from the broadcast weights to the client's. Labels stay those released.
    The objective is the squared distance left over that of no movement; 1 = nothing explained.

    A server that distils as many images of every label whatever a client holds (FedDGM) leaves slots
    that no record stands behind; counted like the others they pull the model where the client never
    did. So images count by the share of their label in the client's update, and those of labels
    that it does not speak of are left out.

    Attributes:
        artefact: name of the per-client synthetic releases; those of an update's own round are taken.
        slots: "shares" = as said; "equal" = every image counts alike, as where their numbers are
            already the client's. It is that, too, for a client of whose labels nothing can be inferred.
        rounds: first updates of each client that are inverted.
        local_steps: inner steps.
        local_lr: where the search for the size of the inner step begins; it tries 1/16 to 16 times that.
        tv: weight of the total variation.
        lr: of Adam on the inputs; that on the logarithm of the step size is the same.
        masked: entries that did not move count as withheld, not as unmoved.
        budget: steps and when to stop; there is nothing to restart.
    """

    artefact: str = "client_images"
    slots: Slots = "shares"
    rounds: int = 1
    local_steps: int = 5
    local_lr: float = 0.1
    tv: float = 0.0
    lr: float = 0.03
    masked: bool = False
    budget: Budget = field(default_factory=lambda: Budget(iterations=200, patience=75))

    def __post_init__(self) -> None:
        check_choice("slots", self.slots, Slots)
        check_positive(self, "rounds", "local_steps", "local_lr", "lr")
        if not self.tv >= 0:
            raise ValueError(f"expected tv >= 0, got tv={self.tv}")

    def reconstruct(self, view: View, known: Known, stream: Stream) -> Reconstruction | None:
        """At most as many records as were released of each client; None without images or whole updates."""
        found = movements(view, self.rounds)
        if found is None:
            return None
        spec, moves = found
        held = _held(view, self.artefact)
        moves = [m for m in moves if (m.client, m.round) in held]
        if not moves:
            return None
        inputs, labels = _padded([held[m.client, m.round] for m in moves])
        shares = None
        if self.slots == "shares":
            shares = LabelInference().infer(view, known, stream.child("labels"))
        weights = weighed(labels, None if shares is None else _of(moves, shares.values))
        labels = torch.where(weights > 0, labels, -1)
        one = lanes(spec, moves, labels)
        like = next(iter(one.start.values()))
        inputs, weights = inputs.to(like), weights.to(like)

        def loss(at: Lanes, now: Variables) -> Tensor:
            apart = self._apart(at, now[0], now[1].exp(), weights)
            return apart + self.tv * total_variation(now[0]) if self.tv else apart

        variables = (inputs, self._line_search(one, inputs, weights).log())
        descent = minimise(one, variables, loss, self.budget, self.lr, "adam", lambda now: boxed(now[0]))
        return rebuilt(
            moves, descent.variables[0], labels, as_floats(descent.objective), descent.work, descent.stopped
        )

    def _apart(self, at: Lanes, inputs: Tensor, eta: Tensor, weights: Tensor) -> Tensor:
        batch: Batch = (inputs, at.targets() * weights.unsqueeze(-1))
        return mismatch(at, replayed(at, [batch] * self.local_steps, eta), "squared", masked=self.masked)

    def _line_search(self, one: Lanes, inputs: Tensor, weights: Tensor) -> Tensor:
        """The step size of each lane, shape (L,), that explains most before anything is changed."""
        tried = [self.local_lr * 2.0**k for k in HALVINGS]
        etas = [inputs.new_full((len(one),), eta) for eta in tried]
        apart = [self._apart(one, inputs, eta, weights).detach() for eta in etas]
        return inputs.new_tensor(tried)[torch.stack(apart).nan_to_num(torch.inf).argmin(0)]


def weighed(labels: Tensor, shares: Tensor | None) -> Tensor:
    """Weight of each slot, float64, shape (L, n): 0 where there is no record, else 1 in the mean of a lane.

    Args:
        labels: shape (L, n); -1 = no record there.
        shares: of the labels in each lane, shape (L, classes), NaN = unknown. A lane in which they give none
            of its slots a weight, and all lanes without them, count every slot alike.
    """
    real = (labels >= 0).double()
    if shares is None:
        return real
    same = (labels.unsqueeze(2) == labels.unsqueeze(1)).double()
    slots = (same * real.unsqueeze(1)).sum(2).clamp_min(1)
    share = shares.double().nan_to_num(0.0).gather(1, labels.clamp_min(0)) * real / slots
    share = torch.where(share < LEAST * share.amax(1, keepdim=True), 0.0, share)
    total = share.sum(1, keepdim=True)
    mean = total / (share > 0).sum(1, keepdim=True).clamp_min(1)
    return torch.where(total > 0, share / torch.where(total > 0, mean, 1.0), real)


def _of(moves: Sequence[Movement], shares: Floats) -> Tensor:
    """The shares of each movement's client; NaN for clients beyond the last of whom any are known."""
    found = np.full((len(moves), shares.shape[1]), np.nan)
    for row, m in enumerate(moves):
        if m.client < len(shares):
            found[row] = shares[m.client]
    return torch.from_numpy(found)


def _held(view: View, artefact: str) -> dict[tuple[int, int], Records]:
    """Images by client and round; those of a client without any are left out."""
    releases = [r for r in received(view, "synthetic", artefact) if r.about is not None]
    sets = {(owner(r), r.round): labelled_inputs(r) for r in releases}
    return {at: records for at, records in sets.items() if len(records)}


def _padded(sets: Sequence[Records]) -> tuple[Tensor, Tensor]:
    """Inputs (L, longest, ...), zeros where a client has fewer, and labels, -1 there."""
    inputs = pad_sequence([s.inputs for s in sets], batch_first=True)
    return inputs, pad_sequence([s.labels for s in sets], batch_first=True, padding_value=-1)
