"""Labels of a client's records where its head was not seen to move: from how everything else moved.

Clients that share a representation alone (FedRep, FedBKD) fit their head first and send it back, or it comes
back with the rest. Through that head records of each label pull the representation their own way, so
the movement is a mixture of the mean gradients of the labels, as the head's own is in
`attacks._head_movements`.
"""

from __future__ import annotations

import numpy as np
import torch
from torch.nn import functional as F

from attacks.interface import Floats
from attacks.label_inference import shares
from privfed.nets import NetSpec, Params, forward
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
    moved = torch.cat([(t - trained[k]).flatten() for k, t in start.items()]).double().cpu().numpy()
    there = moved != 0
    ends = start, {k: trained[k] for k in start}
    each = np.full((int(there.sum()), spec.classes), np.nan)
    for label in records.labels.unique().tolist():
        own = records.take(records.labels == label)
        each[:, label] = np.mean([_gradient(spec, p, own)[there] for p in ends], axis=0)
    return np.nan_to_num(shares(moved[there], each))


def _gradient(spec: NetSpec, params: Params, records: Records) -> Floats:
    """Of the mean cross-entropy in all parameters, flat."""
    own = {k: v.detach().clone().requires_grad_() for k, v in params.items()}
    inputs = records.inputs.to(next(iter(own.values())))
    logits = forward(spec, {k: v.unsqueeze(0) for k, v in own.items()}, inputs.unsqueeze(0)).squeeze(0)
    loss = F.cross_entropy(logits, records.labels.to(logits.device))
    found = torch.autograd.grad(loss, list(own.values()))
    flat: Floats = torch.cat([g.flatten() for g in found]).double().cpu().numpy()
    return flat
