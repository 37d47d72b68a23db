"""Whether what was added is noise of the stated size: a look at the numbers, not at the code."""

from __future__ import annotations

import math

from privfed.claims import Assumption
from privfed.nets import Params

LOG_ALARM = math.log(2 / 1e-6)


def looks_like_noise(added: Params, deviation: float) -> Assumption:
    """Whether the squares of what was added sum to what Gaussian noise of that deviation gives.

    False alarm at most 1e-6 (Laurent and Massart 2000, Lemma 1, both tails of a chi-squared).
    Floating point rounds the noise where it is added to larger numbers; a thousandth is allowed for it.
    """
    draws = sum(t.numel() for t in added.values())
    power = sum(float((t.double() / deviation).square().sum()) for t in added.values())
    low = draws - 2 * math.sqrt(draws * LOG_ALARM)
    high = draws + 2 * math.sqrt(draws * LOG_ALARM) + 2 * LOG_ALARM
    return Assumption(
        "noise of the stated size",
        0.999 * low <= power <= 1.001 * high,
        f"sum of {draws} squares over the stated variance is {power:.6g}",
    )
