"""Accuracy of source inference and what class counts alone would give, by hand and in closed form."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from audits.source import SourceFinding, source_accuracy


def test_a_case_by_hand() -> None:
    """Class 0: clients 0, 0, 1 hold members; class 1: client 1 alone; one guess is missing, one wrong."""
    owners, labels = np.array([0, 0, 1, 1, 0]), np.array([0, 0, 0, 1, 1])
    included = np.array([[True, True, True, True, False]])
    found = source_accuracy(np.array([[0, -1, 0, 1, 1]]), owners, labels, included, clients=2)
    assert found.accuracy.value == pytest.approx(2 / 3)
    assert found.accuracy.n_in == 3
    assert found.baseline_uniform == 0.5
    # Without itself: record 0 sees one each (1/2), record 2 two of client 0 (0), record 3 nobody (1/2).
    assert found.baseline_majority == pytest.approx((0.5 + 0 + 0.5) / 3)
    # With itself: two to one for client 0 (1, 0), and client 1 alone (1).
    assert found.baseline_histogram == pytest.approx(2 / 3)
    assert found.known == 0.75
    assert found.baseline == found.baseline_histogram
    assert [(c.label, c.accuracy.value) for c in found.by_class] == [(0, 0.5), (1, 1.0)]
    assert [c.majority for c in found.by_class] == [0.25, 0.5]
    assert [c.histogram for c in found.by_class] == [0.5, 1.0]


def played(seed: int, clients: int, guesses: Any, level: float = 0.95, classes: int = 5) -> SourceFinding:
    rng = np.random.default_rng(seed)
    owners, labels = np.arange(300) % clients, rng.integers(0, classes, 300)
    included = rng.random((20, 300)) < 0.5
    return source_accuracy(guesses(rng, owners, included), owners, labels, included, clients, level)


@pytest.mark.parametrize("clients", [2, 3, 10])
def test_identical_clients_leave_one_in_k(clients: int) -> None:
    found = played(1, clients, lambda rng, _, b: rng.integers(0, clients, b.shape), level=0.999)
    lower, upper = found.accuracy.lower, found.accuracy.upper
    assert lower is not None
    assert upper is not None
    assert lower <= 1 / clients <= upper
    assert upper - lower < 0.12
    assert not found.beyond_labels
    assert found.baseline_uniform < found.baseline_histogram


def test_even_clients_put_the_leave_one_out_majority_below_chance() -> None:
    """The owner's count lacks the record, so that the other client always leads: no baseline on its own."""
    owners = np.array([0, 0, 1, 1])
    included = np.ones((3, 4), dtype=np.bool_)
    found = source_accuracy(np.zeros((3, 4), np.int64), owners, np.zeros(4, np.int64), included, 2)
    assert found.baseline_majority == 0.0
    assert found.baseline_histogram == found.baseline_uniform == found.baseline == 0.5


def test_the_interval_covers_one_in_k_as_often_as_it_says() -> None:
    """Two bounds at 0.95: at most 7 of 30 misses (binomial at 0.1, 99th percentile)."""
    found = [played(s, 4, lambda rng, _, b: rng.integers(0, 4, b.shape)).accuracy for s in range(30)]
    missed = sum(not (e.lower or 0.0) <= 0.25 <= (e.upper or 1.0) for e in found)
    assert missed <= 7


def test_disjoint_clients_of_one_class_are_a_label_lookup_and_reported_so() -> None:
    owners = np.arange(200) % 4  # enough that no class has a lone member, who sees no other
    included = np.random.default_rng(0).random((6, 200)) < 0.5
    guesses = np.broadcast_to(owners, included.shape)
    found = source_accuracy(guesses, owners, owners, included, clients=4)
    assert found.accuracy.value == 1.0
    assert found.baseline_majority == found.baseline_histogram == found.baseline == 1.0
    assert not found.beyond_labels
    assert [(c.accuracy.value, c.majority) for c in found.by_class] == [(1.0, 1.0)] * 4


def test_owners_named_within_classes_that_all_hold_are_beyond_labels() -> None:
    found = played(2, 3, lambda rng, owners, b: np.where(rng.random(b.shape) < 0.8, owners, 0))
    assert found.beyond_labels
    assert all(c.accuracy.lower is not None and c.accuracy.lower > c.histogram for c in found.by_class)


@given(seed=st.integers(0, 50), clients=st.integers(1, 5))
def test_the_count_guess_is_the_best_that_labels_give(seed: int, clients: int) -> None:
    """With the record counted it is the best of all guesses that are a function of the label alone."""
    rng = np.random.default_rng(seed)
    owners, labels = rng.integers(0, clients, 30), rng.integers(0, 3, 30)
    included = np.ones((1, 30), dtype=np.bool_)
    rule = rng.integers(0, clients, 3)
    found = source_accuracy(rule[labels][None], owners, labels, included, clients)
    assert (found.accuracy.value or 0.0) <= found.baseline_histogram + 1e-12
    assert found.baseline_majority <= found.baseline_histogram + 1e-12
    assert found.baseline_histogram >= 1 / clients - 1e-12


def test_without_members_or_guesses_nothing_is_estimated() -> None:
    owners = labels = np.zeros(3, dtype=np.int64)
    nobody = np.zeros((2, 3), dtype=np.bool_)
    none = source_accuracy(np.zeros((2, 3), dtype=np.int64), owners, labels, nobody, 2)
    assert none.accuracy.value is None
    assert np.isnan(none.known)
    assert none.baseline == 0.5
    silent = source_accuracy(np.full((2, 3), -1), owners, labels, ~nobody, 2)
    assert silent.accuracy.value is None
    assert silent.known == 0.0
    assert not silent.beyond_labels


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"guesses": np.zeros((1, 3), dtype=np.int64)}, "expected guesses and included of one shape"),
        ({"owners": np.zeros(3, dtype=np.int64)}, r"expected owners and labels of shape \(2,\), got owners="),
        ({"included": np.ones((1, 2))}, "expected included of type bool, got included.dtype=float64"),
        ({"owners": np.array([0, 2])}, "expected owners from 0 to 1, got 0 to 2"),
        ({"guesses": np.array([[0, -2]])}, "expected guesses from -1 to 1, got -2 to 0"),
        ({"labels": np.array([0, -1])}, "expected labels >= 0, got labels=-1"),
    ],
)
def test_what_does_not_fit_is_refused(change: dict[str, Any], message: str) -> None:
    plain: dict[str, Any] = {
        "guesses": np.array([[0, 1]]),
        "owners": np.array([0, 1]),
        "labels": np.array([0, 0]),
        "included": np.ones((1, 2), dtype=np.bool_),
        "clients": 2,
    }
    with pytest.raises(ValueError, match=message):
        source_accuracy(**(plain | change))
