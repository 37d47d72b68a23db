"""Labels of a client's records where its head was not seen to move: from how everything else moved.

Clients that share a representation alone (FedRep, FedBKD) fit their head first and send it back, or it comes
back with the rest. Through that head records of each label pull the representation their own way, so
the movement is a mixture of the mean gradients of the labels, as the head's own is in
`attacks._head_movements`.
"""

from __future__ import annotations

import numpy as np
import torch

from attacks.ascent import mean_gradient
from attacks.interface import Floats
from attacks.label_inference import shares
from privfed.nets import NetSpec, Params
from privfed.records import Records


def explained_shares(spec: NetSpec, start: Params, trained: Params, records: Records) -> Floats:
    """Shares of labels that explain a movement best, by least squares, none below 0, shape (classes,).

    The gradients are those at start and end, averaged. What did not move says nothing: it was frozen, or
    not sent.

    Args:
        spec: the architecture.
        start: whole model by parameter.
        trained: the same after training; a head that was not broadcast is the same in both.
        records: labelled records of the attacker's own.

    Returns:
        They add up to 1; 0 for labels that no record carries, and throughout where nothing can be said.
    """
    moved = _flat({k: t - trained[k] for k, t in start.items()})
    there = moved != 0
    ends = start, {k: trained[k] for k in start}
    records = records.to(str(next(iter(start.values())).device))
    each = np.full((int(there.sum()), spec.classes), np.nan)
    for label in records.labels.unique().tolist():
        own = records.take(records.labels == label)
        each[:, label] = np.mean([_flat(mean_gradient(spec, p, own))[there] for p in ends], axis=0)
    return np.nan_to_num(shares(moved[there], each))


def _flat(params: Params) -> Floats:
    found: Floats = torch.cat([t.flatten() for t in params.values()]).double().cpu().numpy()
    return found
