"""Labels from the movement of a head's bias: closed forms, rounding, and the only negative gradient."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as arrays

from attacks._labels import label_counts, lone_labels, spelled_out, whole_counts
from attacks.interface import Floats


@given(arrays.arrays(np.int64, (3, 5), elements=st.integers(0, 9)), st.floats(1e-3, 10))
def test_counts_are_exact_at_uniform_softmax(counts: Floats, rate: float) -> None:
    counts[:, 0] += 60 - counts.sum(1)
    gradient = 1 / 5 - counts / 60
    np.testing.assert_array_equal(label_counts(rate * gradient, np.full(5, 1 / 5), rate, 60), counts)


def test_counts_are_exact_wherever_the_mean_softmax_is_known() -> None:
    rng = np.random.default_rng(0)
    confidence, counts = rng.dirichlet(np.ones(4), 2), np.array([[3, 0, 4, 1], [8, 0, 0, 0]])
    np.testing.assert_array_equal(label_counts(confidence - counts / 8, confidence, 1.0, 8), counts)


@given(
    arrays.arrays(np.float64, (2, 6), elements=st.floats(0, 1e3)),
    st.integers(1, 40),
)
def test_whole_counts_add_up_and_stay_within_one_of_their_quota(shares: Floats, total: int) -> None:
    counts = whole_counts(shares, total)
    np.testing.assert_array_equal(counts.sum(1), total)
    assert (counts >= 0).all()
    sums = shares.sum(1, keepdims=True)
    if (sums > 1e-6).all():
        assert (np.abs(counts - total * shares / sums) < 1 + 1e-6).all()


def test_the_largest_remainders_get_what_is_left() -> None:
    np.testing.assert_array_equal(whole_counts(np.array([[0.26, 0.35, 0.39]]), 5), [[1, 2, 2]])
    np.testing.assert_array_equal(whole_counts(np.zeros((1, 3)), 4), [[2, 1, 1]])
    np.testing.assert_array_equal(label_counts(np.array([[5.0, -1.0]]), np.full(2, 0.5), 1.0, 3), [[0, 3]])


def test_a_lone_record_has_the_only_negative_gradient_whatever_the_model_says() -> None:
    softmax = np.random.default_rng(1).dirichlet(np.ones(7) / 3, 50)
    labels = np.arange(50) % 7
    gradient = softmax - np.eye(7)[labels]
    assert ((gradient < 0).sum(1) == 1).all()
    np.testing.assert_array_equal(lone_labels(gradient), labels)


def test_counts_are_spelled_out() -> None:
    np.testing.assert_array_equal(spelled_out(np.array([[2, 0, 1], [0, 3, 0]])), [[0, 0, 2], [1, 1, 1]])


def test_rates_and_totals_that_make_no_sense_are_refused() -> None:
    with pytest.raises(ValueError, match="expected rate > 0, got rate=0"):
        label_counts(np.zeros((1, 2)), np.full(2, 0.5), 0.0, 4)
    with pytest.raises(ValueError, match="expected total >= 1, got total=0"):
        whole_counts(np.zeros((1, 2)), 0)
