"""Per-sample gradients without Opacus, for holding ghost clipping to what flat clipping gives.

One copy of the parameters a record, by the functional form of the net: slow and large, which is why
it looks at few steps, and at few records at once.
"""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn import functional as F

from privfed.nets import NetSpec, Params, forward
from privfed.records import Records

AT_ONCE = 16


def gradients(spec: NetSpec, params: Params, free: list[str], batch: Records) -> list[Tensor]:
    """The gradient of each record by itself, over the parameters named `free`, in pieces of (n, total)."""
    starts = range(0, len(batch), AT_ONCE)
    return [
        _piece(spec, params, free, batch.take(torch.arange(s, min(s + AT_ONCE, len(batch))))) for s in starts
    ]


def _piece(spec: NetSpec, params: Params, free: list[str], batch: Records) -> Tensor:
    own = {k: p.detach().expand(len(batch), *p.shape).clone() for k, p in params.items()}
    for name in free:
        own[name].requires_grad_()
    logits = forward(spec, own, batch.inputs.unsqueeze(1)).squeeze(1)
    loss = F.cross_entropy(logits, batch.labels, reduction="sum")
    found = torch.autograd.grad(loss, [own[name] for name in free])
    return torch.cat([g.flatten(1) for g in found], dim=1)
