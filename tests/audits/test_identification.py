"""identification@1: perfect, at chance, tied, matched one to one, and over federations."""

from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from audits.identification import (
    Lineup,
    exact,
    identification,
    nearest_is_member,
    one_to_one,
    singled_out,
)
from audits.intervals import clopper_pearson

MEMBERS = np.array([True, True, False, False, False])


def simulated(seed: int, noise: float | None, members: int = 10, decoys: int = 40) -> Lineup:
    """Candidates in 20 dimensions; reconstructions are noisy members, or strangers (None)."""
    rng = np.random.default_rng(seed)
    candidates = rng.normal(size=(members + decoys, 20))
    made = rng.normal(size=(members, 20)) if noise is None else candidates[:members]
    made = made + (noise or 0.0) * rng.normal(size=made.shape)
    distances = np.linalg.norm(made[:, None] - candidates[None], axis=2)
    return Lineup(distances, np.arange(members + decoys) < members)


def test_perfect_reconstructions_are_all_identified() -> None:
    lineup = simulated(0, 0.01)
    assert nearest_is_member(lineup).tolist() == [1.0] * 10
    assert one_to_one(lineup).tolist() == [1.0] * 10
    assert singled_out(lineup)[:10].tolist() == [1.0] * 10
    assert np.isnan(singled_out(lineup)[10:]).all()
    found = identification([[lineup], [simulated(1, 0.01)]], 0.95)
    assert (found.clustered.value, found.exact.value) == (1.0, 1.0)
    assert found.exact.lower == clopper_pearson(20, 20, 0.95)[0]


def test_strangers_are_at_chance() -> None:
    """4,000 reconstructions: 99.9 % band about 10 of 50 candidates, and about 1 in 41 for a member."""
    lineups = [simulated(s, None) for s in range(400)]
    found = np.concatenate([nearest_is_member(x) for x in lineups])
    matched = np.concatenate([one_to_one(x) for x in lineups])
    assert lineups[0].chance == 0.2
    # Reconstructions of a federation meet the same candidates: the spread is that of their means.
    for hits in (found, matched):
        means = hits.reshape(400, 10).mean(1)
        assert abs(means.mean() - 0.2) < 3.3 * means.std(ddof=1) / 20 < 0.04
    alone = np.array([np.nanmean(singled_out(x)) for x in lineups])
    assert lineups[0].chance_of_member == pytest.approx(1 / 41)
    assert abs(alone.mean() - 1 / 41) < 3.3 * alone.std(ddof=1) / 20 < 0.02


def test_the_estimate_stands_beside_its_chance() -> None:
    federations = [[simulated(100 + 2 * f, None), simulated(101 + 2 * f, None)] for f in range(12)]
    found = identification(federations, 0.95)
    assert found.chance == pytest.approx(0.2)
    assert (found.reconstructions, found.decoys) == (240, 40)
    assert found.clustered.n_federations == 12
    assert found.clustered.lower is not None
    assert found.clustered.upper is not None
    assert found.clustered.lower < 0.2 < found.clustered.upper
    assert found.clustered.metric == found.exact.metric == "identification_at_1"
    assert identification(federations, 0.95, matched=True).exact.metric == "identification_at_1_matched"


def test_copies_of_one_member_count_once_when_matched() -> None:
    distances = np.array([[0.0, 5.0, 3.0, 3.0, 3.0]] * 3)
    lineup = Lineup(distances, MEMBERS)
    assert nearest_is_member(lineup).tolist() == [1.0, 1.0, 1.0]
    assert sorted(one_to_one(lineup).tolist()) == [0.0, 0.0, 1.0]


def test_more_reconstructions_than_candidates_leave_some_over() -> None:
    lineup = Lineup(np.array([[0.1], [0.2], [0.3]]), np.array([True]))
    np.testing.assert_array_equal(one_to_one(lineup), [1.0, np.nan, np.nan])


def test_ties_are_shared_out() -> None:
    lineup = Lineup(np.array([[1.0, 2.0, 1.0, 1.0, 9.0]]), MEMBERS)
    np.testing.assert_allclose(nearest_is_member(lineup), [1 / 3])
    np.testing.assert_allclose(singled_out(lineup)[:2], [1 / 3, 0.0])
    black = Lineup(np.ones((4, 5)), MEMBERS)
    np.testing.assert_allclose(nearest_is_member(black), lineup.chance)


def test_unknown_distances_are_far_and_wholly_unknown_ones_nothing() -> None:
    lineup = Lineup(np.array([[np.nan, 2.0, 3.0, np.nan, 4.0], [np.nan] * 5]), MEMBERS)
    np.testing.assert_array_equal(nearest_is_member(lineup), [1.0, np.nan])
    np.testing.assert_array_equal(one_to_one(lineup), [1.0, np.nan])
    np.testing.assert_array_equal(singled_out(lineup), [0.0, 1.0, np.nan, np.nan, np.nan])
    assert np.isnan(singled_out(Lineup(np.full((1, 5), np.nan), MEMBERS))).all()


def test_nothing_reconstructed_says_so() -> None:
    empty = Lineup(np.empty((0, 5)), MEMBERS)
    found = identification([[empty], [empty]], 0.95)
    assert found.clustered.value is None
    assert found.exact.value is None
    assert found.exact.reason == "nothing was reconstructed"
    assert math.isnan(found.chance)
    assert np.isnan(singled_out(empty)).all()


def test_without_candidates_nothing_is_nearest() -> None:
    nobody = Lineup(np.empty((2, 0)), np.empty(0, dtype=np.bool_))
    assert np.isnan(nearest_is_member(nobody)).all()
    assert np.isnan(one_to_one(nobody)).all()
    assert math.isnan(nobody.chance)


def test_clients_with_fewer_reconstructions_do_not_shift_the_others() -> None:
    one, two = simulated(0, 0.01), simulated(1, None)
    short = Lineup(one.distances[:3], one.members)
    found = identification([[short, two], [one, two]], 0.95)
    assert found.reconstructions == 3 + 10 + 10 + 10
    hits = nearest_is_member(short).sum() + nearest_is_member(one).sum() + 2 * nearest_is_member(two).sum()
    assert found.exact.value == pytest.approx(hits / 33)


def test_one_federation_speaks_of_that_artefact() -> None:
    found = identification([[simulated(0, 0.01)]], 0.95)
    assert found.clustered.scope == found.exact.scope == "artefact"


def test_shared_out_ties_round_away_from_the_estimate() -> None:
    estimate = exact(np.array([0.5, 1.0, 0.0, 0.0]), 0.95, "m", 1)
    assert estimate.value == pytest.approx(0.375)
    assert estimate.lower == clopper_pearson(1, 4, 0.95)[0]
    assert estimate.upper == clopper_pearson(2, 4, 0.95)[1]


@given(st.integers(0, 10_000))
def test_what_is_identified_knows_only_the_order_of_distances(seed: int) -> None:
    lineup = simulated(seed, 1.0, 4, 8)
    stretched = Lineup(np.exp(lineup.distances) + 3, lineup.members)
    np.testing.assert_array_equal(nearest_is_member(lineup), nearest_is_member(stretched))
    np.testing.assert_array_equal(singled_out(lineup), singled_out(stretched))


def test_a_lineup_of_other_shapes_is_refused() -> None:
    message = r"expected distances of shape \(m, n\) and members of shape \(n,\), got distances=\(2, 3\) and"
    with pytest.raises(ValueError, match=message):
        Lineup(np.zeros((2, 3)), np.zeros(4, dtype=np.bool_))
