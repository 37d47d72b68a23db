"""Label fishing: crafted models that make the sum over clients show the labels of each.

Fishing for labels under secure aggregation is from arXiv 2406.15731, by the statistics of batch
normalisation. No net of this package has any; here a hidden unit of each client's own takes their part, with
the blocks of LOKI (arXiv 2303.12233).
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
import torch
from scipy.optimize import least_squares
from scipy.special import softmax
from torch import Tensor

from attacks._imprint import BIAS, check_fits, crafted_rounds, fits, knowledge
from attacks.interface import Floats, Inference, Known
from attacks.loki import block
from privfed.nets import NetSpec, Params, head_names
from privfed.randomness import Stream
from privfed.release import View

if TYPE_CHECKING:
    from privfed.deviation import Turn

SLACK = 0.02  # by which shares read off one step may leave [0, 1]


@dataclass(frozen=True, slots=True)
class LabelFishing:
    """Infer the share of each label in every client's records from the sum of all updates.

    Values: shape (clients, classes), rows that add up to 1; NaN for clients that were sent no such model.
    In the model of client k, hidden unit k of every layer is `height` whatever the record and all others
    are shut, and the head is 0. All records then have the same logits, so training fits a constant
    predictor to the shares of the labels, and it moves column k of the head, which no other client does.
    One full-batch step is exact; in later ones the unit itself begins to move with the records, which
    `height` keeps small against it.

    Attributes:
        height: of the unit; lr x height^2 should stay well below 4, or training swings.
        local_lr: learning rate of the clients.
        local_steps: steps of theirs in a round, taken as full-batch steps. With 1, a column that no shares
            leave in one step was written by many: it is then read as where training has settled.
    """

    height: float = 3.0
    local_lr: float = 0.1
    local_steps: int = 1

    def __post_init__(self) -> None:
        for name in ("height", "local_lr", "local_steps"):
            if not getattr(self, name) > 0:
                raise ValueError(f"expected {name} > 0, got {name}={getattr(self, name)}")

    def craft(
        self, spec: NetSpec, known: Known, start: Params, stream: Stream, client: int = 0, clients: int = 1
    ) -> Params:
        """The model to send one client in place of `start`; as `attacks.loki.Loki.craft`.

        Raises:
            ValueError: when the net is no mlp, or a layer has fewer units than there are clients.
        """
        check_fits(spec)
        narrowest = min(len(v) for k, v in start.items() if k not in head_names(spec))
        unit = block(narrowest, client, clients).start
        made = {k: torch.zeros_like(v) for k, v in start.items()}
        for k in made.keys() - set(head_names(spec)):
            if made[k].ndim == 1:
                made[k] -= 1.0
                made[k][unit] = self.height
        return made

    def send(self, turn: Turn) -> Params:
        """As a deviation: each client's own block; whatever is no whole mlp is sent as it is."""
        if not fits(turn):
            return turn.honest
        stream = turn.stream.child("craft", turn.round)
        spec, known = turn.world.surrogate, knowledge(turn)
        return self.craft(spec, known, turn.honest, stream, turn.client, turn.clients)

    def infer(self, view: View, known: Known, stream: Stream) -> Inference | None:
        """Shares of labels, from sums or from single updates; None without a model crafted so.

        Of several rounds, the mean is taken.
        """
        found = crafted_rounds(view, tells_labels)
        if found is None:
            return None
        spec, rounds = found
        rows: dict[int, list[Floats]] = {}
        for clients, before, mean in rounds:
            for client, sent in zip(clients, before, strict=True):
                column = _column(spec, sent, mean, len(before))
                rows.setdefault(client, []).append(self.shares(column))
        values = np.full((1 + max(rows), spec.classes), np.nan)
        for client, own in rows.items():
            values[client] = np.mean(own, axis=0)
        return Inference(values)

    def shares(self, column: Floats) -> Floats:
        """Shares of labels under which training ends at this column of the head, shape (classes,).

        Args:
            column: of the client's own unit, which starts at 0.
        """
        linear = 1 / len(column) + column / (self.local_lr * self.height * self.local_steps)
        if self.local_steps == 1 and (linear.min() < -SLACK or linear.max() > 1 + SLACK):
            settled: Floats = softmax(column * (self.height**2 + 1) / self.height)
            return settled
        guess = np.clip(linear, 0, 1)
        guess = guess / guess.sum() if guess.sum() > 0 else np.full(len(column), 1 / len(column))
        if self.local_steps == 1:
            return guess
        fit = least_squares(lambda q: self._trained(q) - column, guess, method="lm", xtol=1e-12)
        positive = np.maximum(fit.x, 0)
        total: Floats = positive / positive.sum()
        return total

    def _trained(self, shares: Floats) -> Floats:
        """Column after training on records with these shares, the height taken as constant."""
        logits = np.zeros(len(shares))
        for _ in range(self.local_steps):
            p = np.exp(logits - logits.max())
            # The bias of the head moves by the same error: in the logits, height^2 + 1 times.
            logits = logits + self.local_lr * (self.height**2 + 1) * (shares - p / p.sum())
        column: Floats = logits * self.height / (self.height**2 + 1)
        return column


def unit_of(sent: Params) -> int | None:
    """The only open unit of the first layer; None where there is not exactly one."""
    open_ = (sent[BIAS] > 0).nonzero()[:, 0]
    return int(open_[0]) if len(open_) == 1 else None


def tells_labels(spec: NetSpec, sent: Params) -> bool:
    """Whether a model is of this crafting: no weights at all, and one open unit."""
    empty = all(not bool(v.any()) for k, v in sent.items() if v.ndim == 2 or k in head_names(spec))
    return empty and unit_of(sent) is not None


def _column(spec: NetSpec, sent: Params, mean: Params, clients: int) -> Floats:
    """What the client's own column of the head came to: the other clients' stayed at 0."""
    unit: int = unit_of(sent) or 0
    column: Tensor = mean[head_names(spec)[0]][:, unit].double().cpu() * clients
    values: Floats = column.numpy()
    return values
