"""Label inference: how a client's records are spread over the labels, from how its head moved.

Sources: Wainakh et al., "User-level label leakage from gradients" (arXiv 2105.09369), and Ma et al.,
"Instance-wise batch label restoration" (ICLR 2023), for gradients; Gu and Bai, "LDIA: Label distribution
inference attack in federated learning" (2023), for updates of many steps. Here the many steps are read by
least squares instead of a trained model: see `attacks._head_movements`.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal, get_args

import numpy as np
import torch
from scipy.optimize import nnls

from attacks._head_movements import HeadMovement, by_label, change, head_movements, labelled
from attacks._releases import describe, net_of, owner, received
from attacks.interface import Floats, Inference, Known
from privfed.nets import NetSpec
from privfed.randomness import Stream
from privfed.records import Records
from privfed.release import View

Parts = Literal["head", "bias"]


@dataclass(frozen=True, slots=True)
class LabelInference:
    """Infer the share of each label in every client's records from the movement of its head.

    Values: shape (clients, classes), rows that add up to 1; NaN for a client whose head was not seen to
    move, and for labels of which the attacker knows no record. Rows go up to the highest client seen.
    A share is a score of presence too: higher = more likely held.

    Solves movement = sum over labels of beta_c times mean movement of label c, beta >= 0, by least squares
    over all rounds of a client, and gives beta / sum(beta): the learning rate times the number of steps,
    which is unknown, is the common factor and drops out. It assumes the same data and the same number
    of steps in every round, and plain gradient descent: momentum and weight decay bias it. Exact for
    one full-batch step when the attacker's records have the members' mean movements; for the biases
    of a head with uniform softmax that is so whatever the records are.

    Attributes:
        parts: "head" = weights and biases; "bias" = biases alone, which leave the common level of all labels
            open (at uniform softmax, and nearly elsewhere) unless `rate` is known.
        points: models on the way from start to end at which mean movements are taken; 1 = the start alone.
        rate: learning rate times local steps of a round, where the attacker knows it; else None.
    """

    parts: Parts = "head"
    points: int = 3
    rate: float | None = None

    def __post_init__(self) -> None:
        if self.parts not in get_args(Parts):
            raise ValueError(
                f"expected parts to be one of {', '.join(get_args(Parts))}, got parts={self.parts!r}"
            )
        if self.points < 1:
            raise ValueError(f"expected points >= 1, got points={self.points}")
        if self.rate is not None and not self.rate > 0:
            raise ValueError(f"expected rate > 0, got rate={self.rate}")

    def infer(self, view: View, known: Known, stream: Stream) -> Inference | None:
        """Shares of labels; None without a movement of a head to read, or labelled records to read it by."""
        found = head_movements(view)
        if found is None:
            return None
        spec, movements = found
        records = labelled(known, spec.classes)
        if not len(records):
            return None
        values = np.full((1 + max(m.client for m in movements), spec.classes), np.nan)
        for client in sorted({m.client for m in movements}):
            own = [m for m in movements if m.client == client]
            values[client] = self._shares(spec, own, records)
        return Inference(values)

    def _shares(self, spec: NetSpec, movements: list[HeadMovement], records: Records) -> Floats:
        bias = self.parts == "bias"
        moved = [change(spec, m, bias) for m in movements]
        each = [by_label(spec, m, records, self.points, bias) for m in movements]
        return shares(np.concatenate(moved), np.concatenate(each), self.rate)


def shares(moved: Floats, each: Floats, rate: float | None = None) -> Floats:
    """Least-squares weights of the columns, none below 0, as shares of their sum.

    Args:
        moved: shape (d,): a movement.
        each: shape (d, classes): of each label alone; a label whose column is NaN is left out.
        rate: what the weights add up to, where it is known; it then weighs as much as all else together.

    Returns:
        Shape (classes,): NaN where a column is, and everywhere when nothing moved or no weight is left.
    """
    result = np.full(each.shape[1], np.nan)
    known = ~np.isnan(each).any(axis=0)
    if not np.isfinite(moved).all() or not moved.any() or not known.any():
        return result
    system, target = each[:, known], moved
    if rate is not None:
        weight = np.linalg.norm(system)
        system = np.vstack([system, np.full(system.shape[1], weight)])
        target = np.append(target, weight * rate)
    found, _ = nnls(system, target)
    total = found.sum()
    if total > 0:
        result[known] = found / total
    return result


@dataclass(frozen=True, slots=True)
class DisclosedLabels:
    """State which labels each client disclosed that it holds, where the protocol has it say so.

    Values: shape (clients, classes), 1 = named in any round, 0 = not; NaN rows for clients that disclosed
    nothing. This is no inference: it is what the method gives away by design, and to be reported as such.

    Attributes:
        artefact: name of the releases of kind "label_set".
    """

    artefact: str = "labels"

    def infer(self, view: View, known: Known, stream: Stream) -> Inference | None:
        """The disclosed sets; None where none was disclosed to this observer.

        Raises:
            ValueError: when a label is not one of the task.
        """
        releases = received(view, "label_set", self.artefact)
        if not releases:
            return None
        classes = net_of(view, "surrogate").classes
        values = np.full((1 + max(owner(r) for r in releases), classes), np.nan)
        for release in releases:
            said = torch.cat([t.flatten() for t in release.tensors.values()]).cpu().numpy()
            if len(said) and not 0 <= said.min() <= said.max() < classes:
                raise ValueError(
                    f"expected labels from 0 to {classes - 1} in {describe(release)}, "
                    f"got labels from {said.min()} to {said.max()}"
                )
            row = np.nan_to_num(values[owner(release)])
            row[said] = 1.0
            values[owner(release)] = row
        return Inference(values)
