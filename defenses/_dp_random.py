"""Random numbers from the operating system's cryptographically secure source.

A seeded generator can be wound back by whoever learns its state. These numbers cannot, and so do not
repeat. A single floating-point draw of a Gaussian leaves gaps that tell which sums are possible
(Mironov 2012); the sum of four draws over two is as Gaussian and hides them (Holohan and Braghin,
arXiv 2107.10138, section 5.1, with n = 2, as in Opacus's secure mode).
"""

from __future__ import annotations

import math
import os

import numpy as np
import torch
from scipy.special import ndtri
from torch import Tensor

DRAWS = 4


def uniform(*shape: int) -> Tensor:
    """Independent uniform numbers in (0, 1), float64, multiples of 2^-53; never 0 and never 1."""
    words = np.frombuffer(os.urandom(8 * math.prod(shape)), dtype=np.uint64)
    # 52 bits and a half: one bit more would round the largest of them to 1, whose quantile is infinite.
    return torch.from_numpy(((words >> np.uint64(12)) + 0.5) * 2.0**-52).view(shape)


def normal(*shape: int) -> Tensor:
    """Independent standard Gaussian numbers, float64, each made of four draws."""
    draws = torch.from_numpy(ndtri(uniform(DRAWS, *shape).numpy()))
    return draws.sum(0) / math.sqrt(DRAWS)
