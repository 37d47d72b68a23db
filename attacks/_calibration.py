"""Difficulty calibration: what a signal says beyond what it says without the record.

Source: Watson et al., "On the importance of difficulty calibration in membership inference attacks"
(2022), section 3.
"""

from __future__ import annotations

from attacks._references import check, over_queries, side_means
from attacks.interface import Floats, References, Signals


def calibrated(target: Signals, references: References) -> Floats:
    """The target's signal less the mean signal of references without the record, over known queries.

    Returns:
        Shape (n,), in the units of the signal; NaN where the target's signal is NaN.
    """
    check(target, references)
    _, outside = side_means(references.candidates, references.included)
    return over_queries(target.candidates - outside)
