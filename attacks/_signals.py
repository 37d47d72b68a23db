"""Per-record confidence of a classifier, in the three scales attacks use.

The logit-scaled confidence phi(x) = z_y - logsumexp_{i != y} z_i (Carlini et al., "Membership
inference attacks from first principles", 2022, section IV.C) is the logit of the softmax probability
of the true label; close to Gaussian over trainings, and exact where the probability rounds to 1.
"""

from __future__ import annotations

import numpy as np
import torch
from scipy.special import expit, logit
from torch import Tensor

from attacks.interface import Floats


def logit_confidence(logits: Tensor, labels: Tensor) -> Tensor:
    """Logit-scaled confidence in the true label; higher = more confident.

    Args:
        logits: shape (..., n, classes).
        labels: int64, shape (n,), each below `classes`.

    Returns:
        float64, shape (..., n). With one class there is no rival and the value is +inf (p = 1).

    >>> logit_confidence(torch.tensor([[2.0, 1.0]]), torch.tensor([0]))
    tensor([1.], dtype=torch.float64)
    """
    wide = logits.double()
    index = labels.expand(wide.shape[:-1]).unsqueeze(-1)
    rivals = wide.scatter(-1, index, -torch.inf)
    return wide.gather(-1, index).squeeze(-1) - torch.logsumexp(rivals, -1)


def probability(phi: Floats) -> Floats:
    """Softmax probability of the true label at logit-scaled confidence `phi`: sigmoid(phi)."""
    return np.asarray(expit(phi), dtype=np.float64)


def loss(phi: Floats) -> Floats:
    """Cross-entropy in nats at logit-scaled confidence `phi`: -log sigmoid(phi), without overflow."""
    with np.errstate(invalid="ignore"):  # NaN, "unknown", passes through
        return np.asarray(np.logaddexp(0.0, -phi), dtype=np.float64)


def confidence_at_probability(p: Floats) -> Floats:
    """Logit-scaled confidence of a softmax probability in [0, 1]; infinite at the ends."""
    return np.asarray(logit(p), dtype=np.float64)


def confidence_at_loss(nats: Floats) -> Floats:
    """Logit-scaled confidence of a cross-entropy >= 0 in nats; +inf at 0.

    Evaluated as -(loss + log(1 - exp(-loss))), which loses no digits at either end.
    """
    with np.errstate(divide="ignore"):
        return np.asarray(-(nats + np.log(-np.expm1(-nats))), dtype=np.float64)
