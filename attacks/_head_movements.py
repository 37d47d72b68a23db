"""How the head of each client moved in local training, and what each label alone would have done to it.

A client's training moves the head by minus the learning rate times the sum of its gradients, and the
gradient of a record in the head is (p - onehot) times its features. So the movement is a sum of the mean
movements of the labels, weighted by how many records carry each: linear in what an attacker wants to
know. The mean movements come from records of the attacker's own, on the path from start to end.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
from torch.nn import functional as F

from attacks._releases import lacks_head, net_of, owner, received, start_of, weights
from attacks.interface import Floats, Known
from privfed.nets import NetSpec, Params, head_names
from privfed.records import Records, concatenate
from privfed.release import View
from privfed.training import represent


@dataclass(frozen=True, slots=True)
class HeadMovement:
    """One client's head before and after the training of one round.

    Attributes:
        client, round: whose, and when.
        start, end: whole models by parameter.
    """

    client: int
    round: int
    start: Params
    end: Params


def head_movements(view: View) -> tuple[NetSpec, list[HeadMovement]] | None:
    """Of every client and round in which start and end of its head are both known, in order.

    The start is what was broadcast. Where that lacks its head, clients keep their own, so the one a
    client uploaded before is where it went on from, and its first upload says nothing; the
    representation is then taken as it was broadcast, as heads are trained on it before it moves.
    Uploads without a head are passed over. None when nothing is left.
    """
    updates = received(view, "weights", "update")
    if not updates:
        return None
    spec = net_of(view, "surrogate")
    sent = received(view, "weights", "surrogate")
    own: dict[int, Params] = {}
    found = []
    for update in sorted((u for u in updates if u.about is not None), key=lambda u: (owner(u), u.round)):
        if lacks_head(update, spec):
            continue
        end, client = weights(update, spec), owner(update)
        before = own.get(client)
        own[client] = {name: end[name] for name in head_names(spec)}
        start = start_of(update, sent)
        if start is None:
            continue
        if not lacks_head(start, spec):
            found.append(HeadMovement(client, update.round, weights(start, spec), end))
        elif before is not None:
            shared = dict(start.tensors)
            found.append(HeadMovement(client, update.round, {**shared, **before}, {**shared, **own[client]}))
    return (spec, found) if found else None


def change(spec: NetSpec, movement: HeadMovement, bias_only: bool) -> Floats:
    """End less start of the head, flat: for each class its weights, then its bias; or the biases alone."""
    weight, bias = (movement.end[name].double() - movement.start[name].double() for name in head_names(spec))
    joined = bias if bias_only else torch.cat([weight, bias.unsqueeze(1)], 1).flatten()
    flat: Floats = joined.cpu().numpy()
    return flat


def by_label(spec: NetSpec, movement: HeadMovement, records: Records, points: int, bias_only: bool) -> Floats:
    """What a mean record of each label does to the head in a step of rate 1, shape (len(change), classes).

    Averaged over `points` places, evenly spread on the line from start to end (1 = the start alone: exact
    for one step). NaN columns for labels that no record carries.
    """
    places = [0.0] if points == 1 else np.linspace(0, 1, points).tolist()
    parts = [_at(spec, _between(movement, t), records, bias_only) for t in places]
    return torch.stack(parts).mean(0).cpu().numpy()


def labelled(known: Known, classes: int) -> Records:
    """The population, and the public records that carry a label of the task."""
    pool = concatenate([known.population, known.public]) if len(known.public) else known.population
    return pool.take((pool.labels >= 0) & (pool.labels < classes))


def _at(spec: NetSpec, params: Params, records: Records, bias_only: bool) -> torch.Tensor:
    weight, bias = (params[name].double() for name in head_names(spec))
    features = represent(spec, params, records.inputs.to(weight.device)).double()
    labels = F.one_hot(records.labels, spec.classes).to(features)
    pull = labels - (features @ weight.T + bias).softmax(1)
    ones = features.new_ones(len(features), 1)
    seen = ones if bias_only else torch.cat([features, ones], 1)
    total = torch.einsum("nk,nc,nw->cwk", labels, pull, seen)
    return (total / labels.sum(0)).flatten(0, 1)


def _between(movement: HeadMovement, share: float) -> Params:
    return {name: torch.lerp(t, movement.end[name], share) for name, t in movement.start.items()}
