"""Logits that clients exchange for distillation: each client's on the server's generated records.

Federated distillation as in FedMD (Li and Wang, arXiv 1910.03581, Algorithm 1), on records that a
generator made in place of public ones. FedBKD's scripts pass a temperature for logits, which its
released code never reads; this is the variant in which it would act.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch

from privfed.nets import Params
from privfed.pipelines._bidirectional import Covering, Lesson
from privfed.pipelines.interface import ClientJob, World
from privfed.records import Records
from privfed.release import CLIENTS, SERVER, Release, client_name
from privfed.training import predict

SHARED_BANK = "shared_bank"
"""Name of the release that brings all clients the records that they are asked about."""
LOGITS = "logits"
DISCLOSED = "logits of each client on the server's records"


def shared_bank(round: int, records: Records) -> Release:
    """The server's records on their way to all clients."""
    tensors = {"inputs": records.inputs, "labels": records.labels}
    return Release(round, SERVER, CLIENTS, "synthetic", SHARED_BANK, tensors)


def own_logits(world: World, job: ClientJob, model: Params) -> tuple[Release, ...]:
    """What the client says of the records that it was sent; nothing before the first ones are made.

    Read from the model as it was trained, before any defence on the way out: no noise on uploads covers it.
    """
    sent = [r for r in job.received if r.name == SHARED_BANK]
    if not sent:
        return ()
    logits = {"logits": predict(world.surrogate, model, sent[-1].tensors["inputs"])}
    return (Release(job.round, client_name(job.client), SERVER, "logits", LOGITS, logits, job.client),)


def agreed(bank: Sequence[Release], inbox: Sequence[Release], covering: Covering) -> Lesson | None:
    """Mean logits on the records that the server sent last; None before there were any.

    With `covering` "held" the mean is over clients that hold the record's class, and records of classes
    that nobody of them holds are left out.
    """
    given = [r for r in inbox if r.name == LOGITS]
    if not bank or not given:
        return None
    inputs, labels = (bank[-1].tensors[name] for name in ("inputs", "labels"))
    held = {r.about: r.tensors["labels"] for r in inbox if r.kind == "label_set"}
    logits = torch.stack([r.tensors["logits"] for r in given])
    if covering == "all":
        return Lesson(inputs, logits.mean(0))
    counts = torch.stack([torch.isin(labels, held[r.about]) for r in given]).to(logits)
    some = counts.sum(0) > 0
    mean = (logits * counts.unsqueeze(-1)).sum(0)[some] / counts.sum(0)[some].unsqueeze(-1)
    return Lesson(inputs[some], mean)
