"""Attack-R: resolution of its ranks, and exactness of both its p-values."""

from __future__ import annotations

import numpy as np
import pytest
from scipy.stats import binom
from scipy.stats import t as student

from attacks.interface import Floats, References, Signals
from attacks.reference import AttackR, p_values
from tests.attacks.simulation import auc, exact_half, game, mean_interval

RANK, SMOOTH = AttackR(smooth=False), AttackR()


def independent(k: int, n: int = 20_000, seed: int = 0) -> tuple[Signals, References]:
    """Records that no reference held, each with its own level and spread."""
    rng = np.random.default_rng(seed)
    values = rng.normal(0, 3, n) + rng.lognormal(size=n) * rng.normal(size=(k + 1, n))
    return (
        Signals(values[0][:, None], np.zeros((1, 1, 1)), np.zeros(n, np.int64)),
        References(values[1:][..., None], np.zeros((k, 1, 1, 1)), np.zeros((k, n), bool)),
    )


def levels(attack: AttackR, k: int) -> Floats:
    """p-values, whichever scale the score has."""
    scores = attack.score(*independent(k))
    return 1 / (1 + np.exp(scores)) if attack.smooth else 1 - scores


@pytest.mark.parametrize("attack", [RANK, SMOOTH], ids=repr)
@pytest.mark.parametrize("k", [4, 9, 19])
@pytest.mark.parametrize("alpha", [0.2, 0.5])
def test_false_positives_are_alpha(attack: AttackR, k: int, alpha: float) -> None:
    """20,000 Gaussian records; 99.9 % interval of the binomial. alpha (k + 1) is a whole number or half."""
    exact = alpha if attack.smooth else np.floor(alpha * (k + 1) + 1e-9) / (k + 1)
    low, high = binom.interval(0.999, 20_000, exact)
    assert low <= (levels(attack, k) <= alpha + 1e-12).sum() <= high


@pytest.mark.parametrize("k", [1, 4, 9])
def test_ranks_resolve_no_finer_than_one_in_k_plus_one(k: int) -> None:
    p = levels(RANK, k)
    np.testing.assert_allclose(np.unique(p), np.arange(1, k + 2) / (k + 1))
    assert (p < 1 / (k + 1) - 1e-12).sum() == 0


def test_only_references_without_the_record_count() -> None:
    references = np.array([[1.0], [5.0], [2.0], [9.0]])
    outside = np.array([[True], [True], [False], [False]])
    assert p_values(np.array([3.0]), references, outside)[0] == pytest.approx(2 / 3)
    assert p_values(np.array([3.0]), references, np.zeros_like(outside))[0] == 1


def test_smooth_is_students_prediction() -> None:
    g = game(0, 12, n=30, design=exact_half)
    target, references = g.target(0), g.references(np.arange(1, 12))
    scores = SMOOTH.score(target, references)
    for i in range(30):
        out = references.candidates[~references.included[:, i], i, 0]
        width = out.std(ddof=1) * np.sqrt(1 + 1 / len(out))
        x = (target.candidates[i, 0] - out.mean()) / width
        expected = student.logcdf(x, len(out) - 1) - student.logsf(x, len(out) - 1)
        assert scores[i] == pytest.approx(expected)


def test_records_short_of_references_still_have_a_score() -> None:
    g = game(4, 9, n=50)
    included = g.included[1:].copy()
    included[:, 0], included[1:, 1] = True, True
    included[0, 1] = False
    references = References(g.candidates[1:], g.population[1:], included)
    for attack in (RANK, SMOOTH):
        assert np.isfinite(attack.score(g.target(0), references)).all()


def test_clear_cases_stay_finite() -> None:
    target, references = independent(9, n=3)
    far = Signals(np.array([[1e9], [-1e9], [0.0]]), target.population, target.clients)
    scores = SMOOTH.score(far, references)
    assert np.isfinite(scores).all()
    assert scores[0] > scores[2] > scores[1]


@pytest.mark.parametrize("attack", [RANK, SMOOTH], ids=repr)
def test_null_is_at_chance_and_a_planted_shift_is_found(attack: AttackR) -> None:
    """12 independent games of 500 records x 10 targets; band of 3 standard errors."""
    games = [game(80 + s, 10, n=500) for s in range(12)]
    mean, width = mean_interval([auc(g.scores(attack), g.included) for g in games])
    assert width < 0.015
    assert abs(mean - 0.5) < max(width, 0.01)
    leaky = game(1, 17, n=500, shift=2.0)
    assert auc(leaky.scores(attack), leaky.included) > 0.8
