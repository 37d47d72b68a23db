"""AUC and accuracy: closed forms, naive twins, invariants, and coverage by simulation."""

from __future__ import annotations

import re

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from numpy.typing import NDArray
from scipy.stats import t
from sklearn.metrics import roc_auc_score

from audits.intervals import Spread, clopper_pearson
from audits.statistics import (
    auc,
    auc_at,
    aucs,
    federated_auc,
    federated_mean,
    one_score_per_unit,
    placements,
)
from privfed.randomness import Stream
from reports.record import Estimate
from tests.audits.designs import Design, most_misses

Floats = NDArray[np.float64]
Bools = NDArray[np.bool_]


def naive_auc(scores: Floats, included: Bools) -> float:
    pairs = [(a > b) + 0.5 * (a == b) for a in scores[included] for b in scores[~included]]
    return float(np.mean(pairs))


def naive_delong(scores: Floats, included: Bools) -> float:
    wins = np.subtract.outer(scores[included], scores[~included])
    wins = (wins > 0) + 0.5 * (wins == 0)
    return float(wins.mean(1).var(ddof=1) / len(wins) + wins.mean(0).var(ddof=1) / wins.shape[1])


def games(federations: int = 4, n: int = 12) -> st.SearchStrategy[tuple[Floats, Bools]]:
    """Coarse scores, so that ties are common; every federation has both sides."""
    members = arrays(np.bool_, (federations, n)).map(_with_both_sides)
    scores = arrays(np.float64, (federations, n), elements=st.integers(-4, 4).map(float))
    return st.tuples(scores, members)


def _with_both_sides(included: Bools) -> Bools:
    included[:, :2], included[:, 2:4] = True, False
    return included


def bounds(estimate: Estimate) -> tuple[float, float, float]:
    assert estimate.value is not None
    assert estimate.lower is not None
    assert estimate.upper is not None
    return estimate.lower, estimate.value, estimate.upper


@given(games(federations=1))
def test_auc_equals_the_naive_count_over_pairs(game: tuple[Floats, Bools]) -> None:
    scores, included = game[0][0], game[1][0]
    assert auc(scores, included) == pytest.approx(naive_auc(scores, included))
    assert np.nanmean(placements(scores, included)[~included]) == pytest.approx(auc(scores, included))


def test_auc_leaves_unscored_records_out_and_is_nan_without_a_side() -> None:
    scores = np.array([3.0, np.nan, 1.0, 2.0])
    included = np.array([True, True, False, False])
    assert auc(scores, included) == 1.0
    assert np.isnan(auc(scores, np.ones(4, dtype=bool)))
    assert np.isnan(auc(scores, np.array([False, True, False, False])))


def partly_scored(federations: int = 4, n: int = 12) -> st.SearchStrategy[tuple[Floats, Bools]]:
    """Ties, records without a score, and federations that lack a side."""
    coarse = st.sampled_from([-np.inf, -1.0, -0.0, 0.0, 0.5, 2.0, np.inf, np.nan])
    scores = arrays(np.float64, (federations, n), elements=coarse | st.floats(-1, 1))
    return st.tuples(scores, arrays(np.bool_, (federations, n)))


@given(partly_scored())
def test_auc_is_that_of_scikit_learn_over_what_is_scored(game: tuple[Floats, Bools]) -> None:
    """Which takes no infinite score: ranks stand in for the scores."""
    found = aucs(*game)
    for scores, included, value in zip(*game, found, strict=True):
        scored = ~np.isnan(scores)
        order = np.searchsorted(np.unique(scores[scored]), scores[scored])
        if len(set(included[scored])) < 2:
            assert np.isnan(value)
            assert np.isnan(auc(scores, included))
        else:
            assert value == pytest.approx(roc_auc_score(included[scored], order))
            assert auc(scores, included) == value


def test_infinite_scores_are_scores() -> None:
    assert auc(np.array([np.inf, -np.inf, 0.0, 1.0]), np.array([True, True, False, False])) == 0.5


@given(games())
def test_only_the_order_of_scores_counts(game: tuple[Floats, Bools]) -> None:
    scores, included = game
    assert bounds(federated_auc(np.exp(scores) * 3, included, 0.9)) == bounds(
        federated_auc(scores, included, 0.9)
    )


@given(games())
def test_swapping_members_and_non_members_mirrors_the_interval(game: tuple[Floats, Bools]) -> None:
    lower, value, upper = bounds(federated_auc(game[0], game[1], 0.9))
    mirrored = bounds(federated_auc(game[0], ~game[1], 0.9))
    assert mirrored == pytest.approx((1 - upper, 1 - value, 1 - lower))


@given(games(), st.randoms(use_true_random=False))
def test_order_of_records_and_federations_does_not_count(game: tuple[Floats, Bools], random: object) -> None:
    scores, included = game
    rng = np.random.default_rng(random.getrandbits(32))  # type: ignore[attr-defined]
    rows, columns = rng.permutation(len(scores)), rng.permutation(scores.shape[1])
    moved = federated_auc(scores[rows][:, columns], included[rows][:, columns], 0.9)
    assert bounds(moved) == pytest.approx(bounds(federated_auc(scores, included, 0.9)))


@given(games())
def test_interval_holds_its_value_has_width_and_grows_with_the_level(game: tuple[Floats, Bools]) -> None:
    low, value, high = bounds(federated_auc(*game, 0.9))
    wider_low, _, wider_high = bounds(federated_auc(*game, 0.99))
    assert 0 <= wider_low <= low <= value <= high <= wider_high <= 1
    assert high - low > 0


def test_one_federation_gives_delongs_variance_and_speaks_of_the_artefact() -> None:
    scores, included = Design(1.0).draw(np.random.default_rng(3), 1, 60)
    lower, value, upper = bounds(federated_auc(scores, included, 0.95))
    units = min(included.sum(), (~included).sum())
    half = t.ppf(0.95, units - 1) * naive_delong(scores[0], included[0]) ** 0.5
    assert np.log(upper / (1 - upper)) - np.log(value / (1 - value)) == pytest.approx(
        half / (value * (1 - value))
    )
    assert federated_auc(scores, included, 0.95).scope == "artefact"
    assert lower < value


def test_two_way_variance_agrees_with_a_pigeonhole_bootstrap() -> None:
    """Owen (2007): resampling federations and records independently; its variance errs upwards."""
    rng = np.random.default_rng(5)
    scores, included = Design(0.7, difficulty=0.5, federation=0.5, vulnerability=0.7).draw(rng, 12, 120)
    draws = [
        np.mean([auc(scores[f][i], included[f][i]) for f in rng.integers(0, 12, 12)])
        for i in rng.integers(0, 120, (300, 120))
    ]
    lower, value, upper = bounds(federated_auc(scores, included, 0.95))
    half = (np.log(upper / (1 - upper)) - np.log(lower / (1 - lower))) / 2 * value * (1 - value)
    assert 0.7 < half / t.ppf(0.95, 11) / np.std(draws, ddof=1) <= 1.1


def test_federations_without_both_sides_are_left_out() -> None:
    scores, included = Design(1.0).draw(np.random.default_rng(0), 5, 20)
    included[0], scores[1] = True, np.nan
    estimate = federated_auc(scores, included, 0.95)
    assert estimate.n_federations == 3
    assert bounds(estimate) == bounds(federated_auc(scores[2:], included[2:], 0.95))


def test_nothing_scored_gives_no_value_and_a_reason() -> None:
    estimate = federated_auc(np.full((3, 4), np.nan), np.eye(3, 4, dtype=bool), 0.95)
    assert (estimate.value, estimate.lower, estimate.upper) == (None, None, None)
    assert estimate.reason == "no federation scored both a member and a non-member"


def test_one_federation_with_one_member_gives_no_value_and_a_reason() -> None:
    estimate = federated_auc(np.array([[2.0, 1.0, 0.0]]), np.array([[True, False, False]]), 0.95)
    assert estimate.value is None
    assert estimate.reason == "one federation needs at least 2 members and 2 non-members, got 1 and 2"


def test_perfect_separation_keeps_an_honest_width() -> None:
    """16 federations show nothing else: at most 1 - 0.05^(1/16) of them differ, by 1/2 at most."""
    included = np.random.default_rng(0).random((16, 200)) < 0.5
    lower, value, upper = bounds(federated_auc(included.astype(float), included, 0.95))
    assert (value, upper) == (1.0, 1.0)
    assert lower == pytest.approx(1 - (1 - 0.05 ** (1 / 16)) / 2)


def test_constant_scores_keep_an_honest_width() -> None:
    included = np.random.default_rng(0).random((16, 200)) < 0.5
    lower, value, upper = bounds(federated_auc(np.zeros((16, 200)), included, 0.95))
    assert value == 0.5
    assert upper - value == pytest.approx(value - lower) == pytest.approx((1 - 0.05 ** (1 / 16)) / 2)


def test_perfect_separation_in_one_federation_is_bounded_by_its_pairs() -> None:
    included = np.arange(40)[None] < 15
    lower, value, _ = bounds(federated_auc(included.astype(float), included, 0.95))
    assert value == 1.0
    assert lower == pytest.approx(0.05 ** (1 / 15))


def test_what_federations_share_is_the_least_variance_and_named_in_the_method() -> None:
    scores, included = Design(1.0).draw(np.random.default_rng(3), 8, 60)
    _, value, alone = bounds(federated_auc(scores, included, 0.95))
    known = auc_at(scores, included, 0.03**2)(0.95)
    half = t.ppf(0.95, 7) * 0.03 / (value * (1 - value))
    _, _, upper = bounds(known)
    assert np.log(upper / (1 - upper)) - np.log(value / (1 - value)) == pytest.approx(half)
    assert upper > alone
    assert known.method.endswith("jackknife over federations that are each other's references")
    assert bounds(auc_at(scores, included, 1e-9)(0.95)) == bounds(federated_auc(scores, included, 0.95))


@pytest.mark.parametrize(("value", "shared"), [(1.0, 1e-3), (1 - 1e-6, 1e-3), (1 - 1e-6, 1e-5)])
def test_a_leak_that_is_all_but_perfect_stays_one_whatever_is_shared(value: float, shared: float) -> None:
    """On the logit scale any variance from elsewhere would be divided by next to nothing."""
    spread = Spread(np.full(12, value), np.zeros((12, 50)), 200, 0.5, shared)
    lower, upper = spread.bounds(0.95)
    unseen = (1 - 0.05 ** (1 / 12)) / 2
    assert lower == pytest.approx(value - unseen - t.ppf(0.95, 11) * shared**0.5)
    assert upper == pytest.approx(1.0)
    mirrored = Spread(np.full(12, 1 - value), np.zeros((12, 50)), 200, 0.5, shared).bounds(0.95)
    assert mirrored == pytest.approx((1 - upper, 1 - lower))


DESIGNS = {
    "null": Design(0.0),
    "null with easy and hard records": Design(0.0, difficulty=1.0),
    "federations differ": Design(0.5, difficulty=1.0, federation=0.5),
    "records differ": Design(0.5, difficulty=0.5, vulnerability=1.0),
    "both": Design(1.0, difficulty=1.0, federation=0.5, vulnerability=0.7),
    "strong leak": Design(2.5, difficulty=0.5, vulnerability=0.5),
}


def misses(design: Design, federations: int, n: int, runs: int) -> tuple[int, int]:
    rng = np.random.default_rng(federations * n)
    found = [bounds(federated_auc(*design.draw(rng, federations, n), 0.95)) for _ in range(runs)]
    return sum(low > design.auc for low, _, _ in found), sum(high < design.auc for _, _, high in found)


@pytest.mark.parametrize("name", DESIGNS)
def test_each_bound_of_the_auc_misses_at_most_as_often_as_it_says(name: str) -> None:
    assert max(misses(DESIGNS[name], federations=8, n=80, runs=400)) <= most_misses(400)


@pytest.mark.slow
@pytest.mark.parametrize("name", DESIGNS)
@pytest.mark.parametrize(("federations", "n"), [(4, 40), (6, 60), (16, 100), (16, 400)])
def test_each_bound_of_the_auc_misses_at_most_as_often_as_it_says_at_other_sizes(
    name: str, federations: int, n: int
) -> None:
    assert max(misses(DESIGNS[name], federations, n, runs=1000)) <= most_misses(1000)


def test_a_binomial_interval_over_pooled_scores_would_be_far_too_narrow() -> None:
    """The trap this module exists for, shown on test accuracy where records are shared by all."""
    rng = np.random.default_rng(2)
    trapped = covered = 0
    for _ in range(200):
        chance = np.clip(0.7 + 0.15 * rng.normal(size=(10, 1)) + 0.1 * rng.normal(size=100), 0, 1)
        correct = (rng.random((10, 100)) < chance).astype(float)
        low, _, _ = bounds(federated_mean(correct, 0.95))
        covered += low <= 0.7
        trapped += clopper_pearson(int(correct.sum()), correct.size, 0.95)[0] <= 0.7
    assert covered >= 200 - most_misses(200)
    assert trapped < 160


def test_accuracy_of_one_federation_is_exact_over_records() -> None:
    estimate = federated_mean(np.array([[1.0] * 90 + [0.0] * 10 + [np.nan] * 5]), 0.95)
    lower, value, upper = bounds(estimate)
    assert value == 0.9
    assert (lower, upper) == clopper_pearson(90, 100, 0.95)
    assert (estimate.n_in, estimate.scope) == (100, "artefact")


def test_accuracy_without_a_mistake_is_bounded_by_the_federations() -> None:
    lower, value, upper = bounds(federated_mean(np.ones((8, 500)), 0.95))
    assert (value, upper) == (1.0, 1.0)
    assert lower == pytest.approx(0.05 ** (1 / 8))


def test_accuracy_of_nothing_has_a_reason() -> None:
    assert federated_mean(np.full((2, 3), np.nan), 0.95).reason == "no record was evaluated"


def test_one_score_per_unit_uses_each_scored_unit_once() -> None:
    included = np.random.default_rng(1).random((6, 300)) < 0.5
    scores = np.arange(1800.0).reshape(6, 300)
    scores[:, 7], scores[2, 8] = np.nan, np.nan
    inside, outside = one_score_per_unit(included, scores, Stream(0))
    records = np.concatenate([inside, outside]) % 300
    assert sorted(records) == [r for r in range(300) if r != 7]
    assert all(included.ravel()[inside.astype(int)])
    assert not any(included.ravel()[outside.astype(int)])


def test_the_draw_of_federations_knows_neither_scores_nor_membership() -> None:
    rng = np.random.default_rng(1)
    places = np.arange(600.0).reshape(6, 100)
    included = rng.random((6, 100)) < 0.5
    drawn = np.sort(np.concatenate(one_score_per_unit(included, places, Stream(4))))
    again = np.sort(np.concatenate(one_score_per_unit(~included, -places, Stream(4))))
    np.testing.assert_array_equal(drawn, np.sort(-again))
    assert set(np.bincount((drawn // 100).astype(int), minlength=6) > 5) == {True}


def test_a_model_that_was_never_measured_has_no_accuracy_and_a_reason() -> None:
    found = federated_mean(np.full((3, 4), np.nan), 0.9)
    assert (found.value, found.lower, found.upper) == (None, None, None)
    assert found.reason == "no record was evaluated"


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: federated_auc(np.zeros((2, 3)), np.zeros((2, 2), bool), 0.9), "one shape with 2 axes"),
        (lambda: auc(np.zeros((2, 3)), np.zeros((2, 3), bool)), "one shape with 1 axes"),
        (lambda: aucs(np.zeros(3), np.zeros(3, bool)), "one shape with 2 axes"),
        (lambda: auc(np.zeros(3), np.zeros(3)), "type bool, got included.dtype=float64"),  # type: ignore[arg-type]
        (lambda: federated_auc(np.zeros((2, 3)), np.zeros((2, 3), bool), 1.0), "(0.5, 1), got level=1.0"),
        (lambda: federated_mean(np.full((1, 2), 1.3), 0.9), "lie in [0, 1] or be NaN, got correct=1.3"),
        (lambda: federated_mean(np.zeros(3), 0.9), "axes (federations, records), got shape=(3,)"),
        (lambda: clopper_pearson(3, 2, 0.9), "got successes=3, trials=2"),
    ],
)  # fmt: skip
def test_wrong_input_is_named(call: object, message: str) -> None:
    with pytest.raises(ValueError, match=re.escape(message)):
        call()  # type: ignore[operator]
