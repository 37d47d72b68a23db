"""Euclidean distances between records, or features of them, in chunks."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
import torch

from attacks.interface import Floats
from privfed.records import Records

_PAIRS = 1 << 21  # distances held at once: 16 MB of float64


def nearest(records: Records, others: Records, same_label: bool = False) -> Floats:
    """L2 distance from each record to the nearest of `others`: over all pixels, or all tokens' embeddings.

    Args:
        records: n records.
        others: m records of the same shape.
        same_label: compare only with those of the record's own label.

    Returns:
        Shape (n,); NaN where there is none to compare with.

    Raises:
        ValueError: when the shapes differ.
    """
    if len(others) == 0:
        return np.full(len(records), np.nan)
    parts = [part.amin(1) for part in distances(records, others, same_label)]
    distance = torch.cat(parts).numpy() if parts else np.empty(0)
    return np.where(np.isinf(distance), np.nan, distance)


def k_nearest(records: Records, others: Records, k: int, same_label: bool = False) -> Floats:
    """L2 distances from each record to its k nearest of `others`, ascending.

    Args and errors as `nearest`.

    Returns:
        Shape (n, k); NaN where there are fewer to compare with.
    """
    found = np.full((len(records), k), np.nan)
    width = min(k, len(others))
    if width:
        parts = [p.topk(width, largest=False).values for p in distances(records, others, same_label)]
        found[:, :width] = torch.cat(parts).numpy() if parts else 0.0
    return np.where(np.isinf(found), np.nan, found)


def distances(records: Records, others: Records, same_label: bool = False) -> Iterator[torch.Tensor]:
    """L2 distances of some records after others to all of `others`, float64, shape (some, m), on the CPU.

    Infinite between records of different labels where only those of one label are compared.

    Raises:
        ValueError: when the shapes differ.
    """
    if records.inputs.shape[1:] != others.inputs.shape[1:]:
        raise ValueError(
            f"expected inputs of shape {tuple(records.inputs.shape[1:])}, "
            f"got inputs={tuple(others.inputs.shape[1:])}"
        )
    step = max(1, _PAIRS // max(len(others), 1))
    for i in range(0, len(records), step):
        yield _part(records, others, same_label, slice(i, i + step))


def _part(records: Records, others: Records, same_label: bool, at: slice) -> torch.Tensor:
    # float64: cdist expands the square, which in float32 drowns the near-copies that matter most.
    device = others.inputs.device
    inputs = records.inputs[at].to(device).flatten(1).double()
    distance = torch.cdist(inputs, others.inputs.flatten(1).double())
    if same_label:
        other = records.labels[at].to(device).unsqueeze(1) != others.labels
        distance = distance.masked_fill(other, torch.inf)
    return distance.cpu()
