"""A head of the attacker's own for a representation that was sent without one: a linear probe."""

from __future__ import annotations

import numpy as np
import torch
from numpy.typing import NDArray
from sklearn.linear_model import LogisticRegression
from threadpoolctl import threadpool_limits
from torch import Tensor

from attacks.interface import Floats

_STEPS = 1000  # of the solver, at most; it converges long before


def fitted_head(
    features: Floats, labels: NDArray[np.int64], classes: int, strength: float
) -> tuple[Tensor, Tensor]:
    """Weight and bias of logistic regression on standardised features, to be applied to them as they are.

    Args:
        features: shape (n, width).
        labels: shape (n,), at least two different ones.
        classes: number of labels.
        strength: inverse weight of the squared norm of the weights.

    Returns:
        float32, shapes (classes, width) and (classes,). A label that does not occur has a bias of minus
        infinity: it is no rival, and its own records have no confidence. Biases are NaN when any
        feature is not finite.
    """
    weight, bias = np.zeros((classes, features.shape[1])), np.full(classes, np.nan)
    if np.isfinite(features).all():
        centre, scale = features.mean(0), features.std(0)
        scale[scale == 0] = 1.0
        model = LogisticRegression(C=strength, max_iter=_STEPS)
        with threadpool_limits(1):
            model.fit((features - centre) / scale, labels)
        rows, offsets = model.coef_ / scale, model.intercept_
        if len(model.classes_) == 2:  # one row: the second label's against the first's
            rows, offsets = np.vstack([np.zeros_like(rows), rows]), np.append(0.0, offsets)
        bias[:] = -np.inf
        weight[model.classes_], bias[model.classes_] = rows, offsets - rows @ centre
    return torch.from_numpy(weight).float(), torch.from_numpy(bias).float()
