"""Whether a claim can be true of one run in which many records were in or out by coins and many were named.

Steinke, Nasr and Jagielski, "Privacy auditing with one (1) training run" (arXiv 2305.08846), Theorem 5.2:
under (epsilon, delta) the number of right guesses about fair coins exceeds a binomial one of success
e^epsilon / (1 + e^epsilon) by no more than a term in delta, however the guesses hang together and whichever
records they are about. A small value refutes the claim; a large one shows nothing.
"""

from __future__ import annotations

import math

import numpy as np
from scipy.stats import binom


def p_value(guesses: int, right: int, records: int, epsilon: float, delta: float) -> float:
    """Largest probability, under the claim, of as many right guesses.

    Several independent runs count as one with all their records.

    Args:
        guesses: records said to be in or out, each at most once; fixed beforehand, or no fewer than could be.
        right: of these.
        records: whose membership was drawn by a fair coin each, guessed or not.
        epsilon: of the claim, in nats.
        delta: of the claim.

    >>> round(p_value(1000, 600, 1000, 0.2, 1e-5), 9)
    0.001023241
    """
    if not 0 <= right <= guesses <= records:
        got = f"right={right}, guesses={guesses}, records={records}"
        raise ValueError(f"expected 0 <= right <= guesses <= records, got {got}")
    if not epsilon >= 0 or not 0 <= delta < 1:
        raise ValueError(f"expected epsilon >= 0 and delta in [0, 1), got epsilon={epsilon}, delta={delta}")
    success = 1 / (1 + math.exp(-epsilon))
    below = float(binom.cdf(right - 1, guesses, success))
    tail = float(binom.sf(right - 1, guesses, success))
    if not right:
        return 1.0
    steps = np.arange(1, right + 1)
    spread = (below - binom.cdf(right - 1 - steps, guesses, success)) / steps
    return min(1.0, tail + 2 * records * delta * float(spread.max()))
