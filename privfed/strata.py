"""Orders and counts that give every part its share: of classes, and of users."""

from __future__ import annotations

from bisect import bisect_right

import numpy as np
from numpy.typing import NDArray

Index = NDArray[np.int64]


def stratified(labels: Index, classes: tuple[int, ...], rng: np.random.Generator) -> Index:
    """An order whose every stretch has its share of each class: each class is spread evenly over (0, 1).

    Args:
        labels: shape (n,).
        classes: which classes take part.
        rng: randomness of the order.

    Returns:
        Positions in `labels` of the records of `classes`.
    """
    index, place = [], []
    for label in classes:
        members = rng.permutation(np.flatnonzero(labels == label))
        index.append(members)
        place.append((np.arange(len(members)) + rng.random(len(members))) / len(members))
    return np.concatenate(index)[np.argsort(np.concatenate(place), kind="stable")].astype(np.int64)


def filled(capacity: Index, total: int) -> Index:
    """`total` records shared out as evenly as `capacity` allows, as water fills unequal wells.

    Args:
        capacity: most that each may get, shape (k,).
        total: at most the sum of `capacity`.

    Returns:
        Counts, shape (k,); those that are not full differ by one at most, the first having more.

    >>> filled(np.array([2, 9, 9]), 13).tolist()
    [2, 6, 5]
    """
    levels = range(int(capacity.max()) + 1)
    level = bisect_right(levels, total, key=lambda height: int(np.minimum(capacity, height).sum())) - 1
    counts = np.minimum(capacity, level)
    counts[np.flatnonzero(capacity > level)[: total - int(counts.sum())]] += 1
    return counts


def apportioned(weights: Index, total: int) -> Index:
    """`total` records shared out in proportion to `weights`, by largest remainders (Hamilton).

    Each count is its exact share rounded down or up, so none exceeds its weight where `total` is at most
    the sum of `weights`. Of equal remainders the first are rounded up.

    >>> apportioned(np.array([3, 3, 4]), 5).tolist()
    [2, 1, 2]
    """
    whole = int(weights.sum())
    if not total:
        return np.zeros_like(weights)
    counts = weights * total // whole
    order = np.argsort(-(weights * total % whole), kind="stable")
    counts[order[: total - int(counts.sum())]] += 1
    return counts
