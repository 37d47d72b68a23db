"""Which records of which users fall into which part, where clients are the users of the file."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from privfed.randomness import Stream
from privfed.strata import Index, apportioned, filled, stratified


@dataclass(frozen=True, slots=True)
class UserDraw:
    """Parts of the records of a few users, and everybody else's.

    Attributes:
        parts: indices into the data set of each part asked for, in random order, int64.
        users: numbers of the users drawn from, ascending: user of each client.
        others: indices of all records of other users.
    """

    parts: tuple[Tensor, ...]
    users: tuple[int, ...]
    others: Tensor


def draw_from_users(
    labels: Tensor, users: Tensor, classes: tuple[int, ...], clients: int, stream: Stream, **sizes: int
) -> UserDraw:
    """Draws parts from the `clients` users with the most records of `classes`; of equals, the first.

    The records needed are taken from the users as evenly as what they have allows, and every part has
    its share of each user's up to rounding: what is held out comes from whom the candidates come
    from, in the same mix. Within a user, every part has its share of each class.

    Args:
        labels: of the whole data set, int64, shape (n,).
        users: of the whole data set, int64, shape (n,).
        classes: labels that may be drawn.
        clients: number of users to draw from.
        stream: randomness of the draw.
        sizes: records of each part by its name.

    Raises:
        ValueError: if there are too few users, or too few records of theirs.
    """
    owners, allowed = users.numpy(), np.isin(labels.numpy(), classes)
    held = np.bincount(owners[allowed], minlength=int(owners.max()) + 1)
    if clients > np.count_nonzero(held):
        raise ValueError(
            f"expected clients <= {np.count_nonzero(held)}, the users with records of the private classes, "
            f"got clients={clients}"
        )
    chosen = np.sort(np.argsort(-held, kind="stable")[:clients])
    total, most = sum(sizes.values()), int(held[chosen].sum())
    if total > most:
        raise ValueError(
            f"expected {' + '.join(sizes)} <= {most}, the records of the {clients} users with the most "
            f"(lower one of them, or raise clients), got {', '.join(f'{k}={v}' for k, v in sizes.items())}"
        )
    counts = _counts(filled(held[chosen], total), list(sizes.values()))
    rng = stream.numpy()
    hands = [
        np.split(_order(labels.numpy(), np.flatnonzero(allowed & (owners == user)), rng), np.cumsum(row))
        for user, row in zip(chosen, counts, strict=True)
    ]
    parts = tuple(
        torch.from_numpy(rng.permutation(np.concatenate([hand[k] for hand in hands])))
        for k in range(len(sizes))
    )
    others = np.flatnonzero(~np.isin(owners, chosen))
    return UserDraw(parts, tuple(chosen.tolist()), torch.from_numpy(others))


def _counts(taken: Index, sizes: list[int]) -> Index:
    """Records of each user in each part, shape (users, parts): row sums `taken`, column sums `sizes`."""
    columns, left = [], taken
    for size in sizes:
        columns.append(apportioned(left, size))
        left = left - columns[-1]
    return np.stack(columns, axis=1)


def _order(labels: Index, mine: Index, rng: np.random.Generator) -> Index:
    """One user's records in a random order, every stretch with its share of each class."""
    return mine[stratified(labels[mine], tuple(np.unique(labels[mine]).tolist()), rng)]
