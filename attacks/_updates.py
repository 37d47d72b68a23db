"""How the weights of clients moved in local training, side by side, as an attacker reads them."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.nn import functional as F

from attacks._head_movements import labelled
from attacks._label_gradients import explained_shares
from attacks._labels import label_counts, lone_labels, spelled_out, whole_counts
from attacks._releases import lacks_head, net_of, owner, received, start_of
from attacks.interface import Floats, Known, Reconstruction
from privfed.nets import NetSpec, Params, forward, head_names
from privfed.records import Records
from privfed.release import Release, View
from privfed.training import predict

Model = Callable[[Params, Tensor], Tensor]
"""Logits (L, n, classes) of L models, from parameters (L, ...) and inputs (L, n, ...)."""


@dataclass(frozen=True, slots=True)
class Movement:
    """What one client's training did to the weights it was sent.

    Attributes:
        client, round: whose, and when.
        start, trained: parameters that the client sent, by name, before and after. Where the broadcast
            lacked its head, the client's own stands in, which therefore did not move.
        headed: whether start and end of the head are both known.
    """

    client: int
    round: int
    start: Params
    trained: Params
    headed: bool

    def moved(self, name: str) -> Tensor:
        """Start less trained, of one parameter."""
        return self.start[name] - self.trained[name]


@dataclass(frozen=True, slots=True)
class Lanes:
    """L movements of one net side by side; each lane is inverted on its own.

    Attributes:
        model: the net as a function.
        start, trained: parameters by name, each of shape (L, ...).
        labels: int64, shape (L, n): labels given to the records to be rebuilt; -1 = no record there.
        classes: number of labels.
    """

    model: Model
    start: Params
    trained: Params
    labels: Tensor
    classes: int

    def take(self, index: Tensor) -> Lanes:
        """The lanes at `index`, in that order, as often as named."""
        start, trained = ({k: v[index] for k, v in p.items()} for p in (self.start, self.trained))
        return Lanes(self.model, start, trained, self.labels[index], self.classes)

    def targets(self) -> Tensor:
        """Labels one-hot, of the dtype of the weights, shape (L, n, classes); zeros without a record."""
        dtype = next(iter(self.start.values())).dtype
        return F.one_hot(self.labels + 1, self.classes + 1)[..., 1:].to(dtype)

    def __len__(self) -> int:
        return len(self.labels)


def movements(view: View, rounds: int, whole: bool = True) -> tuple[NetSpec, list[Movement]] | None:
    """The first `rounds` updates of each client with the broadcast they started from, in order.

    A client that did not move is passed over, and so is, where `whole`, an update without its head: it
    is no model. None when nothing is left.
    """
    updates = received(view, "weights", "update")
    if not updates:
        return None
    spec = net_of(view, "surrogate")
    sent = received(view, "weights", "surrogate")
    known = [(u, start_of(u, sent)) for u in updates if not (lacks_head(u, spec) and whole)]
    found = [m for u, start in known if start is not None and _moves(m := _movement(spec, u, start))]
    of_client = {k: [m for m in found if m.client == k][:rounds] for k in sorted({m.client for m in found})}
    first = [m for own in of_client.values() for m in own]
    return (spec, first) if first else None


def lanes(spec: NetSpec, found: Sequence[Movement], labels: Tensor) -> Lanes:
    """The movements side by side, with the labels that were recovered, shape (L, n)."""
    start, trained = (
        {name: torch.stack([getattr(m, side)[name] for m in found]) for name in found[0].start}
        for side in ("start", "trained")
    )

    def model(params: Params, inputs: Tensor) -> Tensor:
        return forward(spec, params, inputs)

    return Lanes(model, start, trained, labels.to(next(iter(start.values())).device), spec.classes)


def recovered_labels(
    spec: NetSpec, found: Sequence[Movement], known: Known, records: int, rate: float
) -> Tensor:
    """Labels of the records to rebuild, shape (L, records).

    One record gets the label whose bias gradient is negative; several get counts, with the mean softmax
    guessed from the population under the model before and after training, averaged. Where the head was
    not seen to move, the labels are those that explain best how the rest did (`explained_shares`), or,
    without labelled records to tell, all labels in turn.
    """
    bias = head_names(spec)[1]
    delta = np.stack([m.moved(bias).double().cpu().numpy() for m in found])
    if records == 1:
        labels = lone_labels(delta)[:, None]
    else:
        confidence = np.stack([_confidence(spec, m, known) for m in found])
        labels = spelled_out(label_counts(delta, confidence, rate, records))
    for row, movement in enumerate(found):
        if not movement.headed:
            labels[row] = _explained(spec, movement, known, records)
    return torch.from_numpy(labels)


def tells_labels(spec: NetSpec, found: Sequence[Movement], known: Known) -> bool:
    """Whether `recovered_labels` has anything to go by for every movement."""
    return all(m.headed for m in found) or len(labelled(known, spec.classes)) > 0


def rebuilt(
    found: Sequence[Movement], inputs: Tensor, labels: Tensor, objective: Floats, work: int, stopped: bool
) -> Reconstruction:
    """What came out of L movements, n records each, as one reconstruction.

    Args:
        found: the movements, in the order of the lanes.
        inputs: shape (L, n, ...).
        labels: shape (L, n); records with label -1 were none and are left out.
        objective: shape (L,), shared by the records of a lane.
        work: spent in all.
        stopped: whether the attack ended by its own rule.
    """
    real = (labels >= 0).flatten().cpu()
    count = labels.shape[1]
    clients = torch.tensor([m.client for m in found]).repeat_interleave(count)
    records = Records(inputs.detach().cpu().flatten(0, 1)[real], labels.cpu().flatten()[real])
    return Reconstruction(records, clients[real], objective.repeat(count)[real.numpy()], work, stopped)


def rebuilt_each(
    found: Sequence[Movement],
    shape: tuple[int, ...],
    parts: Sequence[tuple[Tensor, Tensor, Tensor]],
    work: int,
    stopped: bool,
) -> Reconstruction:
    """What came out of L movements, each with as many records as it gave, as one reconstruction.

    Args:
        found: the movements.
        shape: of one record.
        parts: of each movement: records (m, *shape), labels (m,) and objectives (m,).
        work: spent in all.
        stopped: whether the attack ended by its own rule.
    """
    dtype = next(iter(found[0].start.values())).dtype
    inputs = torch.cat([x.detach().cpu().to(dtype).reshape(-1, *shape) for x, _, _ in parts])
    labels = torch.cat([y.cpu() for _, y, _ in parts])
    objective = torch.cat([o.detach().double().cpu() for _, _, o in parts])
    clients = torch.cat([torch.full((len(y),), m.client) for m, (_, y, _) in zip(found, parts, strict=True)])
    return Reconstruction(Records(inputs, labels), clients, objective.numpy(), work, stopped)


def _confidence(spec: NetSpec, movement: Movement, known: Known) -> Floats:
    inputs = known.population.inputs.to(movement.start[head_names(spec)[1]])
    if not len(inputs):
        return np.full(spec.classes, 1.0 / spec.classes)
    sides = [
        predict(spec, p, inputs).softmax(-1).double().mean(0) for p in (movement.start, movement.trained)
    ]
    mean: Floats = torch.stack(sides).mean(0).cpu().numpy()
    return mean


def _explained(spec: NetSpec, movement: Movement, known: Known, records: int) -> NDArray[np.int64]:
    """Labels of one movement without its head, shape (records,)."""
    shares = explained_shares(spec, movement.start, movement.trained, labelled(known, spec.classes))
    if not shares.any():
        return np.arange(records) % spec.classes
    if records == 1:
        return np.array([int(shares.argmax())])
    counted: NDArray[np.int64] = spelled_out(whole_counts(shares[None], records))[0]
    return counted


def _movement(spec: NetSpec, update: Release, start: Release) -> Movement:
    headed = not (lacks_head(update, spec) or lacks_head(start, spec))
    trained = dict(update.tensors)
    before = {**trained, **start.tensors}
    return Movement(owner(update), update.round, {name: before[name] for name in trained}, trained, headed)


def _moves(movement: Movement) -> bool:
    return any(not torch.equal(movement.start[name], t) for name, t in movement.trained.items())
