"""What pipelines share whose clients send sums of bounded contributions of their records, and no model."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from privfed.claims import Assumption
from privfed.hooks import Spent, after, apply_uplink
from privfed.nets import Params
from privfed.pipelines.interface import ClientJob, ClientMessage, World
from privfed.release import SERVER, Release, client_name

SENSITIVITY = 1.0
"""Largest L2 norm of what one record adds to a sum."""
ROUNDING = 1e-4


def send_sum(world: World, job: ClientJob, name: str, each: Tensor) -> ClientMessage:
    """One client's sum over its records, after the uplink hooks.

    Args:
        world: with the hooks.
        job: the client's.
        name: of the release and of its tensor.
        each: contribution of every record, shape (records, ...).
    """
    norms = each.flatten(1).norm(dim=1)
    largest = float(norms.max()) if len(norms) else 0.0
    bound = Assumption(
        "each record contributes at most 1",
        largest <= SENSITIVITY * (1 + ROUNDING),
        f"largest L2 norm of one record's contribution {largest:.6g}",
    )
    noisy = [i for i, hook in enumerate(world.hooks.uplink) if getattr(hook, "on_bounded_sums", False)]
    first = () if not noisy else (_nothing_before(noisy[0]),)
    total: Params = {name: each.sum(0)}
    start: Params = {name: torch.zeros_like(total[name])}
    sent = apply_uplink(world.hooks, start, total, job.stream.child("uplink"))
    release = Release(job.round, client_name(job.client), SERVER, "counts", name, sent.value, job.client)
    return ClientMessage(job.client, (release,), after(Spent(total, None, (bound, *first)), sent))


def received_sum(inbox: Sequence[Release], name: str, like: Tensor) -> Tensor:
    """The sum over all that was received, up to a factor where it was averaged on the way; else zeros."""
    parts = [r.tensors[name] for r in inbox if r.name == name]
    return torch.stack(parts).sum(0) if parts else torch.zeros_like(like)


def _nothing_before(place: int) -> Assumption:
    """Dropping, rounding or rescaling entries first would let one record move them further."""
    return Assumption(
        "noise on the sum itself", place == 0, f"{place} defences acted on the sum before the noise"
    )
