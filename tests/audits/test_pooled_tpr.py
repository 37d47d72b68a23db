"""Pooled TPR: the right value, bounds that hold under dependence both ways, and refusal below resolution."""

from __future__ import annotations

import numpy as np
import pytest
from scipy.stats import binom

from audits.pooled_tpr import pooled_tpr
from tests.audits.designs import Design, most_misses


def misses(design: Design, fpr: float, runs: int, federations: int, n: int) -> tuple[int, int]:
    low = high = 0
    for seed in range(runs):
        scores, included = design.draw(np.random.default_rng(seed), federations, n)
        found = pooled_tpr(scores, included, fpr, 0.95)
        low += (found.lower or 0.0) > design.tpr(fpr)
        high += (found.upper or 0.0) < design.tpr(fpr)
    return low, high


def test_the_value_by_hand() -> None:
    included = np.array([[True] * 4 + [False] * 10] * 2)
    scores = np.where(included, 5.0, 0.0) + np.tile(np.arange(14) / 100, (2, 1))
    scores[0, 0] = -1.0
    found = pooled_tpr(scores, included, 0.1, 0.95)
    assert found.value == 7 / 8
    assert (found.n_in, found.n_out, found.n_federations) == (4, 10, 2)


def test_it_agrees_with_the_truth_as_federations_and_records_grow() -> None:
    design = Design(shift=1.0, vulnerability=0.5)
    scores, included = design.draw(np.random.default_rng(0), 64, 3000)
    found = pooled_tpr(scores, included, 0.01, 0.95)
    assert found.value == pytest.approx(design.tpr(0.01), abs=0.02)


def test_it_is_wider_than_if_all_scores_were_independent() -> None:
    design = Design(shift=1.0, difficulty=2.0)
    scores, included = design.draw(np.random.default_rng(0), 32, 400)
    found = pooled_tpr(scores, included, 0.01, 0.95)
    assert found.value is not None
    m = int(included.sum())
    independent = binom.ppf(0.95, m, found.value) / m - found.value
    assert (found.upper or 0) - found.value > 2 * independent


def test_bounds_hold_where_scores_depend_on_record_and_federation() -> None:
    runs = 120
    for design in (Design(1.0), Design(1.0, difficulty=1.0), Design(1.0, federation=0.4, vulnerability=0.5)):
        low, high = misses(design, 0.05, runs, 16, 200)
        assert max(low, high) <= most_misses(runs, 0.1), (design, low, high)


@pytest.mark.slow
@pytest.mark.parametrize("fpr", [0.01, 0.001])
@pytest.mark.parametrize(
    "design", [Design(1.0), Design(1.0, difficulty=1.0), Design(1.0, federation=0.4, vulnerability=0.5)]
)
def test_bounds_hold_at_low_rates_with_sixty_four_federations(design: Design, fpr: float) -> None:
    runs = 300
    low, high = misses(design, fpr, runs, 64, 500)
    assert max(low, high) <= most_misses(runs, 0.1)


def test_null_scores_have_the_false_positive_rate_as_tpr() -> None:
    runs = 60
    low, high = misses(Design(0.0), 0.05, runs, 16, 200)
    assert max(low, high) <= most_misses(runs, 0.1)


def test_a_rate_below_the_resolution_has_no_value() -> None:
    scores, included = Design(1.0).draw(np.random.default_rng(0), 4, 100)
    found = pooled_tpr(scores, included, 0.001, 0.95)
    assert (found.value, found.lower, found.upper) == (None, None, None)
    assert found.reason == f"needs at least 1000 non-member scores, got {int((~included).sum())}"


def test_one_federation_or_no_member_has_no_value() -> None:
    scores, included = Design(1.0).draw(np.random.default_rng(0), 1, 100)
    assert pooled_tpr(scores, included, 0.1, 0.95).reason == "needs at least 2 federations, got 1"
    nobody = np.zeros((2, 100), dtype=np.bool_)
    assert pooled_tpr(np.zeros((2, 100)), nobody, 0.1, 0.95).reason == "needs at least 1 member, got 0"


def test_what_was_not_scored_does_not_count() -> None:
    scores, included = Design(1.0).draw(np.random.default_rng(0), 8, 100)
    hidden = np.concatenate([scores, np.full_like(scores, np.nan)], axis=1)
    twice = np.concatenate([included, included], axis=1)
    assert pooled_tpr(hidden, twice, 0.1, 0.95) == pooled_tpr(scores, included, 0.1, 0.95)


def test_shapes_and_levels_are_refused_by_name() -> None:
    scores, included = np.zeros((2, 3)), np.zeros((2, 2), dtype=np.bool_)
    with pytest.raises(
        ValueError, match=r"scores and included of one shape \(F, n\), got \(2, 3\) and \(2, 2\)"
    ):
        pooled_tpr(scores, included, 0.1, 0.95)
    with pytest.raises(ValueError, match=r"expected fpr in \(0, 1\).*got fpr=0"):
        pooled_tpr(scores, np.zeros((2, 3), dtype=np.bool_), 0, 0.95)
