"""Invariants that every membership attack keeps together with the statistics it is judged by."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from attacks.interface import Bools, Floats, MembershipAttack, Signals
from attacks.rmia import Rmia
from audits.leave_one_out import shared_variances
from audits.statistics import auc_at, aucs
from tests.attacks.simulation import Game, game
from tests.attacks.test_contract import CONFIGURED, every_attack
from tests.audits.designs import most_misses

FEDERATIONS, N = 6, 40


def drawn(seed: int, shift: float) -> Game:
    return game(seed, FEDERATIONS, n=N, shift=shift, z=30, queries=2)


def scored(attack: MembershipAttack, g: Game) -> Floats:
    return g.scores(attack)


def interval(attack: MembershipAttack, g: Game, level: float) -> tuple[float, float]:
    """Bounds as an audit has them: two-way, and with what federations share as references."""

    def score(signals: object, included: Bools) -> Floats:
        assert isinstance(signals, list)
        part = Game(
            np.stack([s.candidates for s in signals]),
            np.stack([s.population for s in signals]),
            included,
            g.clients,
        )
        return part.scores(attack)

    signals = [Signals(c, p, g.clients) for c, p in zip(g.candidates, g.population, strict=True)]
    scores = score(signals, g.included)
    everybody = {"all": np.ones(N, dtype=np.bool_)}
    shared = shared_variances(score, signals, g.included, scores, everybody)
    found = auc_at(scores, g.included, shared.get("all"))(level)
    assert found.lower is not None
    assert found.upper is not None
    return found.lower, found.upper


def misses(attack: MembershipAttack, seeds: int) -> int:
    """Null games in which the two-sided 95 % interval leaves out one half."""
    count = 0
    for seed in range(seeds):
        lower, upper = interval(attack, drawn(seed, 0.0), 0.975)
        count += not lower <= 0.5 <= upper
    return count


@every_attack
def test_the_interval_holds_chance_where_nothing_leaks(attack: MembershipAttack) -> None:
    assert misses(attack, 8) <= most_misses(8)


@pytest.mark.slow
@every_attack
def test_the_interval_holds_chance_in_nineteen_of_twenty_games(attack: MembershipAttack) -> None:
    assert misses(attack, 100) <= most_misses(100)


TELLING = [a for a in CONFIGURED if not (isinstance(a, Rmia) and a.mode == "offline")]
"""Without references that held a record, RMIA cannot tell one that every model is sure of."""


@pytest.mark.parametrize("attack", TELLING, ids=repr)
def test_a_memoriser_is_told_from_everybody(attack: MembershipAttack) -> None:
    """Members stand far apart from their own references.

    RMIA at a gamma above 1 ties nearly all of them where the population is confident too: no record then
    beats another twice over.
    """
    g = drawn(3, 12.0)
    attack = replace(attack, gamma=1.0) if isinstance(attack, Rmia) else attack
    assert aucs(scored(attack, g), g.included).mean() > 0.97


@pytest.mark.parametrize("attack", CONFIGURED, ids=repr)
@settings(max_examples=5, deadline=None)
@given(seed=st.integers(0, 10**6), shift=st.floats(0.0, 2.0))
def test_the_curve_knows_ranks_alone_and_swapped_labels_turn_it_round(
    attack: MembershipAttack, seed: int, shift: float
) -> None:
    g = drawn(seed, shift)
    scores = scored(attack, g)
    found = aucs(scores, g.included)
    np.testing.assert_allclose(aucs(4.0 * scores, g.included), found)
    # Ranks of ranks are ranks: any strictly rising function of the scores.
    ranks = np.stack([np.unique(row, return_inverse=True)[1] for row in scores]).astype(np.float64)
    np.testing.assert_allclose(aucs(np.exp(ranks / N), g.included), found)
    np.testing.assert_allclose(aucs(scores, ~g.included), 1 - found)
