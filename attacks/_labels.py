"""Labels of a client's records, read from how its head's bias moved.

The gradient of the mean cross-entropy in the bias of class c is the mean of p_c - 1[y = c] over the B
records, so B (mean p_c - g_c) records carry label c. Exact for one full-batch step when the mean
softmax is known; uniform softmax, as of a head at zero, is the case where it is. Sources: Zhao et al.,
"iDLG" (arXiv 2001.02610), section 3 (one record); Wainakh et al., "User-level label leakage from
gradients" (arXiv 2105.09369), section 3 (counts).
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from attacks.interface import Floats

Counts = NDArray[np.int64]


def label_counts(delta_bias: Floats, confidence: Floats, rate: float, total: int) -> Counts:
    """How many of `total` records carry each label: total (mean p_c - g_c), as whole numbers.

    Args:
        delta_bias: shape (clients, C): bias of the head at the start less after training.
        confidence: shape (clients, C) or (C,): mean softmax of the client's records, or a guess at it.
        rate: learning rate times local steps, by which `delta_bias` becomes a mean gradient.
        total: B, records to share out.

    Returns:
        Shape (clients, C), rows that add up to `total`; shares below 0 count as 0.

    Raises:
        ValueError: when `rate` or `total` is not positive.
    """
    if not rate > 0:
        raise ValueError(f"expected rate > 0, got rate={rate}")
    return whole_counts(np.maximum(confidence - delta_bias / rate, 0.0), total)


def whole_counts(shares: Floats, total: int) -> Counts:
    """Whole numbers in proportion to `shares` that add up to `total`, by largest remainder.

    Args:
        shares: shape (clients, C), at least 0; a row of zeros is shared out evenly. Ties go to the
            lower label.
        total: at least 1.

    Returns:
        Shape (clients, C).

    Raises:
        ValueError: when `total` is below 1.
    """
    if total < 1:
        raise ValueError(f"expected total >= 1, got total={total}")
    sums = shares.sum(1, keepdims=True)
    even = np.full_like(shares, 1.0 / shares.shape[1])
    # Rounded, so that an exact count computed in floating point is not cut to the number below it.
    quotas = np.round(total * np.divide(shares, sums, out=even, where=sums > 0), 9)
    counts = np.floor(quotas).astype(np.int64)
    order = np.argsort(counts - quotas, axis=1, kind="stable")
    ranks = np.argsort(order, axis=1, kind="stable")
    rounded: Counts = counts + (ranks < total - counts.sum(1, keepdims=True))
    return rounded


def lone_labels(delta_bias: Floats) -> Counts:
    """The label of a client's only record: the one whose bias gradient is negative, shape (clients,).

    Exact for one record and cross-entropy, after one step or several: every other gradient is positive.
    """
    labels: Counts = delta_bias.argmin(1)
    return labels


def spelled_out(counts: Counts) -> Counts:
    """Labels in ascending order, each as often as counted: (clients, C) -> (clients, total)."""
    return np.stack([np.repeat(np.arange(len(row)), row) for row in counts])
