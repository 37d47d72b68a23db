"""Who holds what in the reconstruction benchmark: public records, clients' members, and decoys like them.

Decoys carry the labels of the members they stand beside, in the same shares: knowing the label does not
help to identify anybody.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache

import torch
from torch import Tensor

from audits.reconstruction_cases import Case
from privfed.datasets import load
from privfed.randomness import Stream
from privfed.records import Records, concatenate

DECOYS = 100
"""Beside the members of a client, at least; and at least nine for each of them."""
PER_MEMBER = 9
PADDED = {"fashion-mnist": 28}
"""Sources whose images are padded, and the side without the padding."""


@dataclass(frozen=True, slots=True)
class Shares:
    """Records of each class that are public, and that may be decoys; all others are clients'."""

    public: int
    decoys: int
    most: int


SHARES = {"digits": Shares(40, 100, 200)}
LARGE = Shares(100, 300, 500)
"""Of every other source."""


@dataclass(frozen=True, slots=True)
class Pool:
    """Part of a data set, the same in every run: records by class, and what names its content."""

    by_class: tuple[Records, ...]
    shares: Shares
    sha256: str


@dataclass(frozen=True, slots=True)
class Dealt:
    """One federation's data.

    Attributes:
        public: known to everybody; the same under every seed.
        clients: the members of each.
        decoys: beside each client's members.
    """

    public: Records
    clients: tuple[Records, ...]
    decoys: tuple[Records, ...]


@lru_cache(maxsize=4)
def pool(source: str) -> Pool:
    """Up to `most` records of each class of a data set, drawn once for all.

    Raises:
        ValueError: if the records are no images.
    """
    data = load(source)
    if data.modality != "images":
        raise ValueError(f"expected a data set of images, got source={source!r}")
    shares = SHARES.get(source, LARGE)
    generator = Stream(0, ("reconstruction", "pool", data.sha256)).torch()
    labels = data.records.labels
    picked = [
        (at := (labels == c).nonzero().flatten())[torch.randperm(len(at), generator=generator)][: shares.most]
        for c in range(len(data.classes))
    ]
    records = [_cropped(source, data.records.take(index)) for index in picked]
    return Pool(tuple(records), shares, data.sha256)


def public_of(found: Pool) -> Records:
    """The public shard: the first records of each class, the same under every seed."""
    return concatenate([r.take(torch.arange(found.shares.public)) for r in found.by_class])


def deal(found: Pool, case: Case, clients: int, stream: Stream) -> Dealt:
    """Deals members and decoys.

    Args:
        found: where they come from.
        case: how many records a client has, of which labels.
        clients: how many.
        stream: of this federation.

    Raises:
        ValueError: if there are too few records for the clients.
    """
    cut = found.shares.public
    generator = stream.child("deal").torch()
    rest = [r.take(cut + torch.randperm(len(r) - cut, generator=generator)) for r in found.by_class]
    spare = [r.take(torch.arange(min(found.shares.decoys, len(r)))) for r in rest]
    held = [r.take(torch.arange(found.shares.decoys, len(r))) for r in rest]
    own = _members(held, case, clients, generator)
    return Dealt(public_of(found), own, tuple(_decoys(spare, c.labels, generator) for c in own))


def _members(
    held: list[Records], case: Case, clients: int, generator: torch.Generator
) -> tuple[Records, ...]:
    n = case.records
    if case.sharing == "one class":
        taken = [0] * len(held)
        own = []
        for k in range(clients):
            c = k % len(held)
            _enough(len(held[c]), taken[c] + n)
            own.append(held[c].take(torch.arange(taken[c], taken[c] + n)))
            taken[c] += n
        return tuple(own)
    everything = concatenate(held)
    _enough(len(everything), clients * n)
    order = torch.randperm(len(everything), generator=generator)
    return tuple(everything.take(order[k * n : (k + 1) * n]) for k in range(clients))


def _decoys(spare: list[Records], labels: Tensor, generator: torch.Generator) -> Records:
    each = max(PER_MEMBER, -(-DECOYS // len(labels)))
    parts = []
    for c in labels.unique().tolist():
        wanted = each * int((labels == c).sum())
        parts.append(spare[c].take(torch.randperm(len(spare[c]), generator=generator)[:wanted]))
    return concatenate(parts)


def _cropped(source: str, records: Records) -> Records:
    side = PADDED.get(source)
    if side is None:
        return records
    margin = (records.inputs.shape[-1] - side) // 2
    inner = slice(margin, margin + side)
    return Records(records.inputs[:, :, inner, inner].clone(), records.labels)


def _enough(there: int, wanted: int) -> None:
    if there < wanted:
        raise ValueError(f"expected at least {wanted} records for the clients, got records={there}")
