"""TPR at a fixed FPR and the ROC curve: resolution, ties, and coverage by simulation."""

from __future__ import annotations

import itertools
import re

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy.stats import binom, norm

from audits.intervals import clopper_pearson
from audits.roc import rank_to_fail, rank_to_pass, roc, tpr_at_fpr
from audits.statistics import one_score_per_unit
from privfed.randomness import Stream
from tests.audits.designs import Design, most_misses


@given(st.integers(1, 5000), st.floats(0.0005, 0.5), st.sampled_from([0.025, 0.005]))
def test_ranks_are_the_tightest_that_keep_the_promise(n: int, fpr: float, miss: float) -> None:
    """FPR of the k-th of n follows Beta(k, n + 1 - k): P(>= f) = P(Bin(n, f) < k)."""
    passing, failing = rank_to_pass(n, fpr, miss), rank_to_fail(n, fpr, miss)
    enough = [k for k in range(1, n + 1) if binom.cdf(k - 1, n, fpr) >= 1 - miss] if n < 200 else None
    if enough is not None:
        assert passing == (min(enough) if enough else None)
        few = [k for k in range(1, n + 1) if binom.cdf(k - 1, n, fpr) <= miss]
        assert failing == (max(few) if few else None)
    if passing is not None and failing is not None:
        assert failing < passing


def test_fail_at_one_in_a_thousand_needs_3688_non_members() -> None:
    assert rank_to_fail(3687, 0.001, 0.025) is None
    assert rank_to_fail(3688, 0.001, 0.025) == 1


def test_nothing_is_reported_below_the_resolution() -> None:
    estimate = tpr_at_fpr(np.ones(171), np.zeros(171), 0.001, 0.95)
    assert (estimate.value, estimate.lower, estimate.upper) == (None, None, None)
    assert estimate.reason == "needs at least 1000 non-members, got 171"
    assert tpr_at_fpr(np.ones(5), np.zeros(1000), 0.001, 0.95).value == 1.0
    assert tpr_at_fpr(np.ones(0), np.zeros(1000), 0.01, 0.95).reason == "needs at least 1 member, got 0"


def test_a_bound_whose_threshold_does_not_exist_is_trivial() -> None:
    estimate = tpr_at_fpr(np.ones(100), np.zeros(100), 0.02, 0.95)
    assert rank_to_fail(100, 0.02, 0.025) is None
    assert (estimate.value, estimate.lower) == (1.0, 0.0)
    few = tpr_at_fpr(np.zeros(100), np.arange(3.0), 0.5, 0.95)
    assert rank_to_pass(3, 0.5, 0.025) is None
    assert few.upper == 1.0


def test_ties_widen_the_interval_both_ways() -> None:
    """All scores equal: the threshold may flag everybody or nobody."""
    estimate = tpr_at_fpr(np.zeros(500), np.zeros(500), 0.05, 0.95)
    assert (estimate.value, estimate.lower, estimate.upper) == (0.0, 0.0, 1.0)


def test_only_the_order_of_scores_counts() -> None:
    rng = np.random.default_rng(0)
    inside, outside = rng.normal(1, 1, 400), rng.normal(size=500)
    assert tpr_at_fpr(inside, outside, 0.05, 0.95) == tpr_at_fpr(np.exp(inside), np.exp(outside), 0.05, 0.95)


def coverage(design: Design, federations: int, n: int, runs: int, digits: int = 9) -> tuple[int, int]:
    rng = np.random.default_rng(federations * n)
    low = high = 0
    for run in range(runs):
        scores, included = design.draw(rng, federations, n)
        inside, outside = one_score_per_unit(included, scores.round(digits), Stream(run))
        estimate = tpr_at_fpr(inside, outside, 0.05, 0.95)
        assert estimate.lower is not None
        assert estimate.upper is not None
        low += estimate.lower > design.tpr(0.05)
        high += estimate.upper < design.tpr(0.05)
    return low, high


DESIGNS = {
    "null": Design(0.0),
    "null with easy and hard records": Design(0.0, difficulty=1.0),
    "federations differ": Design(1.0, difficulty=0.5, federation=0.5),
    "records differ": Design(0.5, difficulty=0.5, vulnerability=1.0),
}


@pytest.mark.parametrize("name", DESIGNS)
def test_each_bound_of_the_tpr_misses_at_most_as_often_as_it_says(name: str) -> None:
    assert max(coverage(DESIGNS[name], federations=8, n=400, runs=500)) <= most_misses(500)


def test_ties_in_the_scores_keep_the_coverage() -> None:
    assert max(coverage(DESIGNS["null"], federations=8, n=400, runs=500, digits=1)) <= most_misses(500)


def test_bounds_hold_for_the_federations_at_hand_however_much_they_differ() -> None:
    """The scope that is claimed: four federations, one of which leaks nearly everything."""
    gains, rng = np.array([[0.0], [0.5], [1.0], [4.0]]), np.random.default_rng(8)
    true = float(norm.sf(norm.isf(0.05) - gains).mean())
    low = high = 0
    for run in range(500):
        included = rng.random((4, 800)) < 0.5
        inside, outside = one_score_per_unit(
            included, rng.normal(size=(4, 800)) + included * gains, Stream(run)
        )
        estimate = tpr_at_fpr(inside, outside, 0.05, 0.95)
        assert estimate.lower is not None
        assert estimate.upper is not None
        low, high = low + (estimate.lower > true), high + (estimate.upper < true)
    assert max(low, high) <= most_misses(500)


@pytest.mark.slow
@pytest.mark.parametrize("name", DESIGNS)
@pytest.mark.parametrize(("federations", "n"), [(4, 200), (8, 800), (16, 400), (16, 2000)])
def test_each_bound_of_the_tpr_misses_at_most_as_often_as_it_says_at_other_sizes(
    name: str, federations: int, n: int
) -> None:
    assert max(coverage(DESIGNS[name], federations, n, runs=2000)) <= most_misses(2000)


def test_roc_starts_at_the_resolution_ends_at_one_and_rises() -> None:
    rng = np.random.default_rng(1)
    points = roc(rng.normal(1, 1, 300), rng.normal(size=250), 0.95)
    assert points[0].fpr == 1 / 250
    assert (points[-1].fpr, points[-1].tpr) == (1.0, 1.0)
    assert len(points) <= 60
    assert all(a.fpr < b.fpr and a.tpr <= b.tpr for a, b in itertools.pairwise(points))
    assert all(p.lower <= p.tpr <= p.upper for p in points)


def test_roc_counts_members_strictly_above_and_has_the_exact_band() -> None:
    points = roc(np.array([4.0, 3.0, 1.0, 0.0]), np.array([3.0, 2.0]), 0.95)
    assert [(p.fpr, p.tpr) for p in points] == [(0.5, 0.5), (1.0, 1.0)]
    assert (points[0].lower, points[0].upper) == clopper_pearson(2, 4, 0.95)


def test_roc_of_an_empty_side_is_empty() -> None:
    assert roc(np.ones(3), np.ones(0), 0.95) == ()


@pytest.mark.parametrize(
    ("inside", "fpr", "level", "message"),
    [
        (
            np.array([np.nan]),
            0.1,
            0.9,
            "scores_in with one axis and no NaN, got scores_in.shape=(1,)",
        ),
        (np.ones((2, 2)), 0.1, 0.9, "got scores_in.shape=(2, 2)"),
        (np.ones(2), 1.5, 0.9, "expected fpr in (0, 1) and level in (0.5, 1), got fpr=1.5, level=0.9"),
        (np.ones(2), 0.1, 0.3, "got fpr=0.1, level=0.3"),
    ],
)
def test_wrong_input_is_named(inside: np.ndarray, fpr: float, level: float, message: str) -> None:
    with pytest.raises(ValueError, match=re.escape(message)):
        tpr_at_fpr(inside, np.ones(20), fpr, level)
