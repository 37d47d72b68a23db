import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from privfed.randomness import Stream
from privfed.strata import apportioned, filled, stratified

COUNTS = st.lists(st.integers(0, 30), min_size=1, max_size=9).filter(any)


@given(COUNTS, st.integers(0, 300))
def test_filled_equals_dealing_one_record_at_a_time(capacity: list[int], wanted: int) -> None:
    total = wanted % (sum(capacity) + 1)
    dealt = [0] * len(capacity)
    for _ in range(total):
        open_ = [k for k, most in enumerate(capacity) if dealt[k] < most]
        dealt[min(open_, key=lambda k: (dealt[k], k))] += 1
    assert filled(np.asarray(capacity), total).tolist() == dealt


@given(COUNTS, st.integers(0, 300))
def test_apportioned_rounds_exact_shares(weights: list[int], wanted: int) -> None:
    total = wanted % (sum(weights) + 1)
    counts = apportioned(np.asarray(weights), total)
    assert counts.sum() == total
    exact = np.asarray(weights) * total / sum(weights)
    assert (np.abs(counts - exact) < 1).all()
    assert (counts <= weights).all()


def test_nothing_is_apportioned_to_nobody() -> None:
    assert apportioned(np.zeros(3, dtype=np.int64), 0).tolist() == [0, 0, 0]


@given(st.lists(st.integers(0, 2), min_size=3, max_size=60), st.integers(0, 5))
def test_stratified_holds_each_record_once_and_spreads_classes(labels: list[int], seed: int) -> None:
    values = np.asarray(labels)
    order = stratified(values, (0, 2), Stream(seed).numpy())
    assert sorted(order.tolist()) == np.flatnonzero(values != 1).tolist()
    half = values[order[: len(order) // 2]]
    for label in (0, 2):
        assert abs((half == label).sum() - (values == label).sum() / 2) <= 2
