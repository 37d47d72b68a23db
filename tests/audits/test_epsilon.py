"""Between epsilon and attacks: known answers."""

from __future__ import annotations

import re

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from audits.epsilon import epsilon_lower_bound, max_auc
from privfed.claims import max_tpr

# As printed in the table, so that each entry is compared in the digits it has.
TRADE_OFF = {
    0.5: "0.0002 0.0017 0.0165 0.165",
    1: "0.0003 0.0027 0.027 0.27",
    2: "0.0007 0.0074 0.074 0.74",
    3: "0.002 0.020 0.20 0.955",
    5: "0.015 0.148 0.993 0.994",
    8: "0.298 1 1 1",
    10: "1 1 1 1",
}


@pytest.mark.parametrize(("epsilon", "row"), TRADE_OFF.items())
def test_max_tpr_at_delta_one_in_a_hundred_thousand(epsilon: float, row: str) -> None:
    for fpr, text in zip((0.0001, 0.001, 0.01, 0.1), row.split(), strict=True):
        assert f"{max_tpr(epsilon, 1e-5, fpr):.{len(text.partition('.')[2])}f}" == text


@given(st.floats(0, 12), st.floats(0, 0.2))
def test_max_auc_is_the_area_under_max_tpr(epsilon: float, delta: float) -> None:
    grid = np.concatenate([[0], np.geomspace(1e-9, 1, 20001)])
    area = np.trapezoid([max_tpr(epsilon, delta, f) for f in grid], grid)
    assert max_auc(epsilon, delta) == pytest.approx(area, abs=1e-4)


@pytest.mark.parametrize(
    ("counts", "delta", "alpha", "expected"),
    [
        ((500, 0, 500), 0.0, 0.01, 4.541915810224092),
        ((100, 10, 1000), 1e-5, 0.05, 1.50026),
        ((50, 1, 1000), 1e-5, 0.05, 1.90427),
        ((84, 1, 1000), 0.0, 0.05, 2.4975),
        ((600, 400, 1000), 0.0, 0.05, 0.27728),
        ((400, 600, 1000), 0.0, 0.05, 0.0),
        *(((n, 0, n), 0.0, 0.05, e) for n, e in ((50, 2.570), (100, 3.281), (200, 3.984), (500, 4.906))),
        *(((n, 0, n), 0.0, 0.05, e) for n, e in ((1000, 5.601), (5000, 7.212), (10**4, 7.905))),
    ],
)
def test_epsilon_lower_bound(
    counts: tuple[int, int, int], delta: float, alpha: float, expected: float
) -> None:
    found = epsilon_lower_bound(counts[0], counts[1], counts[2], counts[2], delta, alpha)
    assert found == pytest.approx(expected, abs=6e-4 if expected in (2.57, 3.281) else 5e-4)


def test_the_mirrored_form_counts_too() -> None:
    """Catching few members but clearing no non-member wrongly refutes as much from the other side."""
    assert epsilon_lower_bound(1000, 900, 1000, 1000, 0, 0.05) == pytest.approx(
        epsilon_lower_bound(100, 0, 1000, 1000, 0, 0.05)
    )


@pytest.mark.parametrize(
    ("epsilon", "delta", "fpr", "message"),
    [
        (-1, 0, 0.1, "expected epsilon >= 0 and delta in [0, 1), got epsilon=-1, delta=0"),
        (1, 1, 0.1, "got epsilon=1, delta=1"),
        (1, 0, 1.1, "expected fpr in [0, 1], got fpr=1.1"),
    ],
)
def test_wrong_input_is_named(epsilon: float, delta: float, fpr: float, message: str) -> None:
    with pytest.raises(ValueError, match=re.escape(message)):
        max_tpr(epsilon, delta, fpr)
