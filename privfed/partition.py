"""Cuts records into clients: Dirichlet label skew, label shards, at random, or by user.

All functions are pure in (labels, users, stream) and return one index array a client, ascending; the
arrays are disjoint and cover all records.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from privfed.randomness import Stream

MAX_DRAWS = 1000
"""Draws of a Dirichlet partition before its minimum is declared out of reach."""

Index = NDArray[np.int64]


@dataclass(frozen=True, slots=True)
class Dirichlet:
    """Label skew: each class is shared out by a draw from Dirichlet(alpha, ..., alpha).

    Attributes:
        alpha: concentration; small values give clients few classes, large ones equal shares.
        minimum: records every client has at least.
    """

    alpha: float
    minimum: int = 1

    def __post_init__(self) -> None:
        if not (math.isfinite(self.alpha) and self.alpha > 0):
            raise ValueError(f"expected a finite alpha > 0, got alpha={self.alpha}")
        if self.minimum < 0:
            raise ValueError(f"expected minimum >= 0, got minimum={self.minimum}")


@dataclass(frozen=True, slots=True)
class Shards:
    """Records sorted by label, cut into equal shards, `per_client` of them dealt to each client."""

    per_client: int

    def __post_init__(self) -> None:
        if self.per_client < 1:
            raise ValueError(f"expected per_client >= 1, got per_client={self.per_client}")


@dataclass(frozen=True, slots=True)
class Iid:
    """Records dealt at random, equally many to each client (up to one)."""


@dataclass(frozen=True, slots=True)
class Users:
    """Clients are the users of the data set, each with what is theirs.

    Attributes:
        minimum: records every client has at least.
    """

    minimum: int = 1

    def __post_init__(self) -> None:
        if self.minimum < 1:
            raise ValueError(f"expected minimum >= 1, got minimum={self.minimum}")


Partition = Dirichlet | Shards | Iid | Users


def partition(
    labels: Tensor, clients: int, how: Partition, stream: Stream, users: Tensor | None = None
) -> tuple[Tensor, ...]:
    """The index of each client's records, cut as `how` says.

    Args:
        labels: int64, shape (n,).
        clients: number of parts.
        how: the kind of partition with its knobs.
        stream: randomness of the cut.
        users: user of each record, int64, shape (n,); only the partition `Users` reads it.

    Returns:
        One int64 tensor of indices a client.

    Raises:
        ValueError: if the request is impossible, or asks for users where there are none.
    """
    match how:
        case Dirichlet(alpha, minimum):
            return dirichlet(labels, clients, alpha, stream, minimum)
        case Shards(per_client):
            return shards(labels, clients, per_client, stream)
        case Iid():
            return iid(labels, clients, stream)
        case Users(minimum):
            return by_user(known(users, labels), clients, minimum)


def dirichlet(
    labels: Tensor, clients: int, alpha: float, stream: Stream, minimum: int = 1
) -> tuple[Tensor, ...]:
    """Label skew as in Hsu et al. (arXiv 1909.06335), balanced as in Lin et al. (arXiv 2006.07242).

    Class by class the shares of the clients are drawn from Dirichlet(alpha); a client that already
    holds n / clients records or more gets none, and the rest is renormalised. The whole is drawn
    again until every client has `minimum` records.

    Raises:
        ValueError: if the request is impossible, or not met in `MAX_DRAWS` draws.
    """
    Dirichlet(alpha, minimum)
    _check(labels, clients, max(1, minimum))
    rng = stream.numpy()
    sizes = np.bincount(labels.numpy())
    for _ in range(MAX_DRAWS):
        counts = _draw_counts(sizes, clients, alpha, rng)
        if counts.sum(0).min() >= minimum:
            return _deal(labels.numpy(), counts, rng)
    raise ValueError(
        f"expected every client to get minimum records within {MAX_DRAWS} Dirichlet draws, "
        f"got minimum={minimum}, alpha={alpha}, clients={clients} for {len(labels)} records "
        "(raise alpha, or lower minimum or clients)"
    )


def shards(labels: Tensor, clients: int, shards_per_client: int, stream: Stream) -> tuple[Tensor, ...]:
    """Label shards as in McMahan et al. (arXiv 1602.05629, section 3): few classes a client.

    Records of one label lie in random order, so that shards are not tied to the order of the file.

    Raises:
        ValueError: if there are fewer records than shards.
    """
    Shards(shards_per_client)
    _check(labels, clients, shards_per_client)
    rng = stream.numpy()
    order = rng.permutation(len(labels))
    by_label = order[np.argsort(labels.numpy()[order], kind="stable")]
    pieces = np.array_split(by_label, clients * shards_per_client)
    hands = rng.permutation(len(pieces)).reshape(clients, shards_per_client)
    return tuple(_index(np.concatenate([pieces[i] for i in hand])) for hand in hands)


def iid(labels: Tensor, clients: int, stream: Stream) -> tuple[Tensor, ...]:
    """Records at random, sizes equal up to one.

    >>> [len(part) for part in iid(torch.zeros(5, dtype=torch.int64), 2, Stream(0))]
    [3, 2]
    """
    _check(labels, clients, 1)
    return tuple(_index(part) for part in np.array_split(stream.numpy().permutation(len(labels)), clients))


def by_user(users: Tensor, clients: int, minimum: int = 1) -> tuple[Tensor, ...]:
    """One client a user, in the order of the users' numbers; nothing is random.

    Args:
        users: user of each record, int64, shape (n,), of exactly `clients` different users.
        clients: number of parts.
        minimum: records every user must have.

    Raises:
        ValueError: if the users are more or fewer than the clients, or one has too few records.

    >>> by_user(torch.tensor([7, 3, 7]), 2)
    (tensor([1]), tensor([0, 2]))
    """
    Users(minimum)
    found, counts = users.unique(return_counts=True)
    if len(found) != clients:
        raise ValueError(
            f"expected records of as many users as clients, {clients}, got users={len(found)} "
            "(raise candidates, or lower clients)"
        )
    if counts.min() < minimum:
        fewest = int(counts.argmin())
        raise ValueError(
            f"expected at least {minimum} record(s) for each client, got {int(counts[fewest])} of user "
            f"{int(found[fewest])} (raise candidates, or lower minimum or clients)"
        )
    return tuple(torch.nonzero(users == user).flatten() for user in found)


def known(users: Tensor | None, labels: Tensor) -> Tensor:
    """`users`, once they are known to be there and one a record.

    Raises:
        ValueError: if they are not.
    """
    if users is None:
        raise ValueError(
            "expected a data set with users (such as leaf:PATH or sentiment) for the partition Users, "
            "got users=None (name another partition, or another data set)"
        )
    if users.shape != labels.shape:
        raise ValueError(
            f"expected one user a record, shape {tuple(labels.shape)}, got users={tuple(users.shape)}"
        )
    return users


def _check(labels: Tensor, clients: int, each: int) -> None:
    if clients < 1:
        raise ValueError(f"expected clients >= 1, got clients={clients}")
    if clients * each > len(labels):
        raise ValueError(
            f"expected at least {each} record(s) for each client, got clients={clients} "
            f"for {len(labels)} records"
        )


def _draw_counts(sizes: Index, clients: int, alpha: float, rng: np.random.Generator) -> Index:
    """How many records of each class each client gets, shape (classes, clients)."""
    counts = np.zeros((len(sizes), clients), dtype=np.int64)
    fair = sizes.sum() / clients
    for label, size in enumerate(sizes):
        open_ = counts.sum(0) < fair
        ends = np.rint(np.cumsum(_shares(open_, alpha, rng)) * size).astype(np.int64)
        counts[label] = np.diff(ends, prepend=0)
    return counts


def _shares(open_: NDArray[np.bool_], alpha: float, rng: np.random.Generator) -> NDArray[np.float64]:
    shares: NDArray[np.float64] = rng.dirichlet(np.full(len(open_), alpha)) * open_
    if not shares.sum() > 0:
        # All mass underflowed on full clients: the limit of alpha -> 0 is one open client at random.
        shares = np.zeros(len(open_))
        shares[rng.choice(np.flatnonzero(open_))] = 1.0
    return np.asarray(shares / shares.sum())


def _deal(labels: Index, counts: Index, rng: np.random.Generator) -> tuple[Tensor, ...]:
    hands: list[list[Index]] = [[] for _ in range(counts.shape[1])]
    for label, row in enumerate(counts):
        members = rng.permutation(np.flatnonzero(labels == label))
        for hand, part in zip(hands, np.split(members, np.cumsum(row)[:-1]), strict=True):
            hand.append(part)
    return tuple(_index(np.concatenate(hand)) for hand in hands)


def _index(values: Index) -> Tensor:
    return torch.from_numpy(np.sort(values).astype(np.int64))
