"""One run against a claim: golden values, a mechanism at its bound, and what is refused."""

from __future__ import annotations

import math

import numpy as np
import pytest
from scipy.optimize import brentq

from audits.one_run import p_value

GOLDEN = {
    (100, 100, 100): (3.49297, 3.49022, 3.46538),
    (1000, 1000, 1000): (5.80907, 5.78228, 5.52935),
    (1000, 1000, 900): (2.02123, 2.02065, 2.01519),
    (1000, 1000, 750): (0.97667, 0.97637, 0.97361),
    (1000, 1000, 600): (0.29747, 0.29723, 0.29501),
    (1000, 100, 95): (2.17243, 2.16518, 2.09397),
    (5000, 100, 100): (3.49297, 3.35242, 1.81618),
}


@pytest.mark.parametrize(("case", "expected"), GOLDEN.items())
def test_the_golden_table_of_refuted_epsilons(
    case: tuple[int, int, int], expected: tuple[float, float, float]
) -> None:
    records, guesses, right = case
    for delta, epsilon in zip((0.0, 1e-5, 1e-4), expected, strict=True):
        found = brentq(lambda e, d=delta: p_value(guesses, right, records, e, d) - 0.05, 0.0, 12.0)
        assert found == pytest.approx(epsilon, abs=2e-5)


def test_the_golden_p_values() -> None:
    assert p_value(1000, 600, 1000, 0.2, 0.0) == pytest.approx(7.652334e-4, rel=1e-6)
    assert p_value(1000, 600, 1000, 0.2, 1e-5) == pytest.approx(1.0232412e-3, rel=1e-6)
    assert p_value(1000, 520, 1000, 0.0, 0.0) > 0.05


def test_randomised_response_at_its_epsilon_is_refuted_no_more_often_than_it_may() -> None:
    """Bits told truly with e^eps / (1 + e^eps) are eps-DP, and nothing that is could be told better."""
    epsilon, runs = 1.0, 2000
    right = np.random.default_rng(0).binomial(50, 1 / (1 + math.exp(-epsilon)), runs)
    refuted = np.mean([p_value(50, int(v), 50, epsilon, 0.0) < 0.05 for v in right])
    assert 0.01 < refuted <= 0.05 + 3 * math.sqrt(0.05 * 0.95 / runs)


def test_nothing_right_refutes_nothing() -> None:
    assert p_value(10, 0, 10, 0.0, 0.0) == 1.0
    assert p_value(0, 0, 0, 1.0, 1e-5) == 1.0


def test_what_is_out_of_range_is_refused() -> None:
    with pytest.raises(ValueError, match="expected 0 <= right <= guesses <= records, got right=3, guesses=2"):
        p_value(2, 3, 5, 1.0, 0.0)
    with pytest.raises(ValueError, match=r"expected epsilon >= 0 and delta in \[0, 1\), got epsilon=-1"):
        p_value(2, 1, 5, -1.0, 0.0)
