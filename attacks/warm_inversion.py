"""Warm inversion: a client's released synthetic images are changed until they explain its update better.

Source: the matching objective of trajectory matching, Cazenavette et al. (arXiv 2203.11932, section 3.2),
in the pixels themselves and from the images that the server published or kept for that client. What the
generative prior kept out of them, the update may put back.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

import torch
from torch import Tensor
from torch.nn.utils.rnn import pad_sequence

from attacks._descent import Budget, Variables, as_floats, minimise
from attacks._inversion import Batch, boxed, check_positive, mismatch, replayed, total_variation
from attacks._releases import labelled_inputs, owner, received
from attacks._updates import Lanes, lanes, movements, rebuilt
from attacks.interface import Known, Reconstruction
from privfed.randomness import Stream
from privfed.records import Records
from privfed.release import View

HALVINGS = range(-4, 5)  # powers of two about the learning rate that the line search tries


@dataclass(frozen=True, slots=True)
class WarmInversion:
    """Rebuild records by re-optimising a client's synthetic images against its update.

    All images of the client are changed together, with the size of the inner step, until `local_steps`
    full-batch steps on them lead from the broadcast weights to the client's. Labels stay those released.
    The objective is the squared distance left over that of no movement; 1 = nothing explained.

    Attributes:
        artefact: name of the per-client synthetic releases; those of an update's own round are taken.
        rounds: first updates of each client that are inverted.
        local_steps: inner steps.
        local_lr: where the search for the size of the inner step begins; it tries 1/16 to 16 times that.
        tv: weight of the total variation.
        lr: of Adam on the inputs; that on the logarithm of the step size is the same.
        masked: entries that did not move count as withheld, not as unmoved.
        budget: steps and when to stop; there is nothing to restart.
    """

    artefact: str = "client_images"
    rounds: int = 1
    local_steps: int = 5
    local_lr: float = 0.1
    tv: float = 0.0
    lr: float = 0.03
    masked: bool = False
    budget: Budget = field(default_factory=lambda: Budget(iterations=200, patience=75))

    def __post_init__(self) -> None:
        check_positive(self, "rounds", "local_steps", "local_lr", "lr")
        if not self.tv >= 0:
            raise ValueError(f"expected tv >= 0, got tv={self.tv}")

    def reconstruct(self, view: View, known: Known, stream: Stream) -> Reconstruction | None:
        """As many records as were released of each client; None without both images and whole updates."""
        found = movements(view, self.rounds)
        if found is None:
            return None
        spec, moves = found
        held = _held(view, self.artefact)
        moves = [m for m in moves if (m.client, m.round) in held]
        if not moves:
            return None
        inputs, labels = _padded([held[m.client, m.round] for m in moves])
        one = lanes(spec, moves, labels)
        inputs = inputs.to(next(iter(one.start.values())))

        def loss(at: Lanes, now: Variables) -> Tensor:
            apart = self._apart(at, now[0], now[1].exp())
            return apart + self.tv * total_variation(now[0]) if self.tv else apart

        variables = (inputs, self._line_search(one, inputs).log())
        descent = minimise(one, variables, loss, self.budget, self.lr, "adam", lambda now: boxed(now[0]))
        return rebuilt(
            moves, descent.variables[0], labels, as_floats(descent.objective), descent.work, descent.stopped
        )

    def _apart(self, at: Lanes, inputs: Tensor, eta: Tensor) -> Tensor:
        batch: Batch = (inputs, at.targets())
        return mismatch(at, replayed(at, [batch] * self.local_steps, eta), "squared", masked=self.masked)

    def _line_search(self, one: Lanes, inputs: Tensor) -> Tensor:
        """The step size of each lane, shape (L,), that explains most before anything is changed."""
        tried = [self.local_lr * 2.0**k for k in HALVINGS]
        apart = [self._apart(one, inputs, inputs.new_full((len(one),), eta)).detach() for eta in tried]
        return inputs.new_tensor(tried)[torch.stack(apart).nan_to_num(torch.inf).argmin(0)]


def _held(view: View, artefact: str) -> dict[tuple[int, int], Records]:
    """Images by client and round; those of a client without any are left out."""
    releases = [r for r in received(view, "synthetic", artefact) if r.about is not None]
    sets = {(owner(r), r.round): labelled_inputs(r) for r in releases}
    return {at: records for at, records in sets.items() if len(records)}


def _padded(sets: Sequence[Records]) -> tuple[Tensor, Tensor]:
    """Inputs (L, longest, ...), zeros where a client has fewer, and labels, -1 there."""
    inputs = pad_sequence([s.inputs for s in sets], batch_first=True)
    return inputs, pad_sequence([s.labels for s in sets], batch_first=True, padding_value=-1)
