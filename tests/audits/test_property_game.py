"""Errors and baselines of inference about clients: closed forms, nulls, and what is refused."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from numpy.typing import NDArray

from audits.property_game import (
    L1_BOUND,
    attribute_advantage,
    excess_over_imputation,
    improvement,
    kl,
    kl_bound,
    l1,
    label_shares,
    linf,
    mean_error,
    padded,
    presence_accuracy,
    presence_auc,
    prior_shares,
    r_squared,
    uniform_shares,
)
from privfed.records import Records
from reports.record import Estimate


def records(labels: list[int]) -> Records:
    return Records(torch.zeros(len(labels), 1), torch.tensor(labels, dtype=torch.int64))


def shares(seed: int, *shape: int) -> NDArray[np.float64]:
    return np.random.default_rng(seed).dirichlet(np.full(shape[-1], 0.5), shape[:-1])


def interval(estimate: Estimate) -> tuple[float, float]:
    assert estimate.lower is not None
    assert estimate.upper is not None
    return estimate.lower, estimate.upper


def test_the_truth_is_counted_and_a_client_without_records_has_none() -> None:
    found = label_shares([records([0, 0, 2, 1]), records([])], 3)
    np.testing.assert_array_equal(found, [[0.5, 0.25, 0.25], [np.nan] * 3])


def test_clients_never_seen_are_unknown() -> None:
    np.testing.assert_array_equal(padded(np.ones((1, 2)), 2, 2), [[1, 1], [np.nan, np.nan]])
    assert np.isnan(padded(None, 2, 3)).all()
    with pytest.raises(ValueError, match=r"expected at most 1 rows of width 2, got values=\(2, 2\)"):
        padded(np.ones((2, 2)), 1, 2)


def test_baselines_have_the_shape_of_the_truth() -> None:
    truth = shares(0, 3, 2, 4)
    np.testing.assert_array_equal(uniform_shares(truth), np.full((3, 2, 4), 0.25))
    prior = prior_shares(records([0, 0, 0, 3]), truth)
    np.testing.assert_array_equal(prior, np.broadcast_to([0.75, 0, 0, 0.25], (3, 2, 4)))


def test_errors_by_hand() -> None:
    truth, guess = np.array([0.5, 0.5, 0.0]), np.array([0.25, 0.25, 0.5])
    assert l1(guess, truth) == 1.0
    assert linf(guess, truth) == 0.5
    assert kl(guess, truth) == pytest.approx(math.log(0.5 * 1.003 / 0.251))
    assert kl(np.array([0.0, 1.0]), np.array([1.0, 0.0])) == pytest.approx(kl_bound(2))


@given(st.integers(0, 10_000))
def test_errors_are_zero_at_the_truth_alone_and_bounded(seed: int) -> None:
    truth, guess = shares(seed, 2, 5)
    assert l1(truth, truth) == linf(truth, truth) == 0
    assert abs(float(kl(truth, truth))) < 0.01
    assert linf(guess, truth) <= l1(guess, truth) / 2 + 1e-12
    assert 0 <= l1(guess, truth) <= L1_BOUND
    assert kl(guess, truth) <= kl_bound(5)


def test_unknown_clients_have_no_error() -> None:
    truth = np.array([[np.nan, np.nan], [1.0, 0.0]])
    guess = np.array([[0.5, 0.5], [np.nan, np.nan]])
    for error in (l1, linf, kl):
        assert np.isnan(error(guess, truth)).all()


def test_the_mean_error_is_in_its_own_units() -> None:
    errors = np.abs(np.random.default_rng(0).normal(0.8, 0.1, (10, 6)))
    found = mean_error(errors, L1_BOUND, 0.95, "label_l1")
    assert found.value == pytest.approx(errors.mean())
    lower, upper = interval(found)
    assert 0.7 < lower < errors.mean() < upper < 0.9
    assert found.metric == "label_l1"
    assert mean_error(np.full((2, 2), np.nan), 2.0, 0.95, "x").value is None


def test_an_improvement_is_signed_and_paired() -> None:
    baseline = np.random.default_rng(1).uniform(0.5, 1.5, (12, 8))
    better = improvement(baseline - 0.1, baseline, L1_BOUND, 0.95, "gain")
    assert better.value == pytest.approx(0.1)
    none = improvement(baseline, baseline, L1_BOUND, 0.95, "gain")
    assert none.value == pytest.approx(0.0)
    lower, upper = interval(none)
    assert lower < 0 < upper


def test_presence_is_found_when_planted_and_at_chance_when_not() -> None:
    truth = np.where(np.random.default_rng(0).random((10, 8, 6)) < 0.5, 1.0, 0.0)
    found = presence_auc(truth, truth, 0.95)
    assert (found.value, found.metric) == (1.0, "label_presence_auc")
    null = presence_auc(np.random.default_rng(1).random(truth.shape), truth, 0.995)
    lower, upper = interval(null)
    assert lower < 0.5 < upper


def test_presence_accuracy_counts_absences_too() -> None:
    truth = np.array([[[0.5, 0.5, 0.0]], [[1.0, 0.0, np.nan]]])
    guess = np.array([[[0.4, 0.0, 0.1]], [[0.9, 0.0, 0.5]]])
    found = presence_accuracy(guess, truth, 0.05, 0.95)
    assert found.value == pytest.approx((1 / 3 + 1) / 2)


def test_r_squared_is_one_for_the_truth_zero_for_the_baseline_and_negative_for_worse() -> None:
    truth = np.random.default_rng(0).random((8, 6))
    baseline = np.full_like(truth, 0.5)
    assert r_squared(truth, baseline, truth, 0.95).value == 1.0
    assert r_squared(baseline, baseline, truth, 0.95).value == pytest.approx(0.0)
    worse = r_squared(1 - truth, baseline, truth, 0.95)
    assert worse.value == pytest.approx(1 - 4.0)


def test_the_interval_of_r_squared_holds_the_truth() -> None:
    """Estimates with half the baseline's squared error in expectation; 300 games, a bound at 0.95."""
    rng = np.random.default_rng(3)
    missed = 0
    for _ in range(300):
        truth = rng.normal(0, 1, (10, 10))
        found = r_squared(truth + rng.normal(0, math.sqrt(0.5), (10, 10)), np.zeros((10, 10)), truth, 0.95)
        missed += interval(found)[0] > 0.5
    assert missed <= 27  # binomial(300, 0.05) exceeds that in 0.1 % of cases


def test_r_squared_says_why_it_says_nothing() -> None:
    one = np.zeros((1, 5))
    assert r_squared(one, one, one, 0.95).reason == "needs at least 2 federations and 2 clients, got 1 and 5"
    two = np.zeros((3, 5))
    assert r_squared(two, two, two, 0.95).reason == "the baseline makes no error"


def test_an_attribute_learnt_of_members_alone_is_an_advantage() -> None:
    rng = np.random.default_rng(0)
    included = rng.random((10, 200)) < 0.5
    correct = np.where(included, rng.random(included.shape) < 0.9, rng.random(included.shape) < 0.6) * 1.0
    found = attribute_advantage(correct, included, 0.95)
    inside, outside = (
        np.mean([c[i].mean() for c, i in zip(correct, x, strict=True)]) for x in (included, ~included)
    )
    assert found.value == pytest.approx(inside - outside)
    lower, upper = interval(found)
    assert lower < 0.3 < upper
    assert lower > 0.2


def test_statistics_are_no_advantage() -> None:
    """Right about the same records whether they were in or not."""
    rng = np.random.default_rng(1)
    included = rng.random((10, 200)) < 0.5
    known = np.broadcast_to(rng.random(200) < 0.7, included.shape).astype(np.float64)
    lower, upper = interval(attribute_advantage(known, included, 0.995))
    assert lower < 0 < upper
    assert excess_over_imputation(known, known, included, 0.95).value == pytest.approx(0.0)


def test_the_excess_counts_members_only() -> None:
    included = np.array([[True, True, False], [True, False, False]])
    correct, imputed = np.ones((2, 3)), np.array([[0.0, 1.0, 0.0], [0.0, 0.0, 0.0]])
    assert excess_over_imputation(correct, imputed, included, 0.95).value == pytest.approx(0.75)
