"""What (epsilon, delta) implies for an attack, and what an attack implies for epsilon.

Pure functions of numbers. The bounds hold for any attack on one record, for the unit and the
neighbouring relation of the claim. Its bound on the TPR is in `privfed.claims`, and what a whole privacy
profile implies in `privfed.trade_off`.
"""

from __future__ import annotations

import math

from audits.intervals import clopper_pearson


def max_auc(epsilon: float, delta: float) -> float:
    """Largest AUC under (epsilon, delta)-DP: the area under `max_tpr`, 1 - (1 - delta)^2 / (1 + e^eps).

    >>> max_auc(0, 0)
    0.5
    """
    _expect_claim(epsilon, delta)
    return 1 - (1 - delta) ** 2 / (1 + math.exp(min(epsilon, 700.0)))


def epsilon_lower_bound(
    true_positives: int, false_positives: int, n_in: int, n_out: int, delta: float, alpha: float
) -> float:
    """Epsilon that an attack refutes: a lower bound with confidence 1 - alpha.

    max{ln((TPR_lo - delta) / FPR_hi), ln((TNR_lo - delta) / FNR_hi), 0} with Clopper-Pearson bounds
    at alpha/2 each (Jagielski, Ullman and Oprea, 2020; Nasr et al., 2021).
    The threshold behind the counts must have been fixed on other records. A low value never shows
    that epsilon is low, only that this attack did not refute it.

    >>> round(epsilon_lower_bound(500, 0, 500, 500, delta=0, alpha=0.01), 6)
    4.541916
    """
    _expect_claim(0.0, delta)
    tpr, fnr = _rate_and_rest(true_positives, n_in, 1 - alpha / 2)
    fpr, tnr = _rate_and_rest(false_positives, n_out, 1 - alpha / 2)
    return max(_log_ratio(tpr[0] - delta, fpr[1]), _log_ratio(tnr[0] - delta, fnr[1]), 0.0)


def _rate_and_rest(successes: int, trials: int, level: float) -> tuple[tuple[float, float], ...]:
    """Bounds on a rate and on its complement."""
    lower, upper = clopper_pearson(successes, trials, level)
    return (lower, upper), (1 - upper, 1 - lower)


def _log_ratio(numerator: float, denominator: float) -> float:
    return math.log(numerator / denominator) if numerator > 0 else -math.inf


def _expect_claim(epsilon: float, delta: float) -> None:
    if not epsilon >= 0 or not 0 <= delta < 1:
        raise ValueError(f"expected epsilon >= 0 and delta in [0, 1), got epsilon={epsilon}, delta={delta}")
