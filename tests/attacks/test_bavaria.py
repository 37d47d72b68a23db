"""BaVarIA-type attack: closed form, what its prior learns, and what that buys over LiRA."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy.special import polygamma
from scipy.stats import invgamma, norm
from scipy.stats import t as student

from attacks.bavaria import Bavaria, Predictive, Prior, Seen, _inverse_trigamma, learnt, log_density
from attacks.interface import References, Signals
from attacks.lira import Lira
from tests.attacks.simulation import auc, game, mean_interval

PREDICTIVES: tuple[Predictive, ...] = ("student", "gaussian")


def one(values: list[float]) -> Seen:
    x = np.array(values)
    return Seen(*(np.array([[v]]) for v in (float(len(x)), x.mean(), ((x - x.mean()) ** 2).sum())))


def prior(mean: float, weight: float, shape: float, scale: float) -> Prior:
    return Prior(np.array([[mean]]), np.array([[weight]]), np.array([shape]), np.array([scale]))


@given(
    st.lists(st.floats(-5, 5), min_size=1, max_size=8),
    st.floats(-5, 5),
    st.floats(0.01, 20),
    st.floats(0.2, 20),
    st.floats(0.1, 20),
    st.floats(-9, 9),
)
def test_one_record_has_students_predictive(
    seen: list[float], mean: float, weight: float, shape: float, scale: float, at: float
) -> None:
    """Updated one value at a time, as conjugacy allows, instead of all at once."""
    m, k, a, b = mean, weight, shape, scale
    for x in seen:
        m, k, a, b = (k * m + x) / (k + 1), k + 1, a + 0.5, b + k * (x - m) ** 2 / (2 * (k + 1))
    spread = np.sqrt(b * (k + 1) / (a * k))
    found = [
        log_density(np.array([[at]]), prior(mean, weight, shape, scale), one(seen), s) for s in (True, False)
    ]
    assert found[0].item() == pytest.approx(student.logpdf(at, 2 * a, m, spread), abs=1e-8)
    assert found[1].item() == pytest.approx(norm.logpdf(at, m, spread), abs=1e-8)


def test_predictive_is_the_mixture_over_the_prior() -> None:
    """Without references: the density averaged over 400,000 draws of mean and variance."""
    rng = np.random.default_rng(0)
    variance = invgamma(3.0, scale=2.0).rvs(400_000, random_state=rng)
    mean = rng.normal(1.0, np.sqrt(variance / 0.5))
    nobody = Seen(*(np.zeros((1, 1)) for _ in range(3)))
    for at in (-2.0, 1.0, 3.0):
        expected = norm.pdf(at, mean, np.sqrt(variance)).mean()
        found = log_density(np.array([[at]]), prior(1.0, 0.5, 3.0, 2.0), nobody)
        assert np.exp(found.item()) == pytest.approx(expected, rel=0.02)


@given(st.floats(1e-6, 1e4))
def test_inverse_of_trigamma(y: float) -> None:
    assert polygamma(1, _inverse_trigamma(np.array(y))) == pytest.approx(y, rel=1e-9)


def varied(
    seed: int, references: int, n: int = 1500, shape: float = 3.0, gain: float = 0.8
) -> tuple[Signals, References, Any]:
    """Records differ in level, in variance (inverse gamma, mean 1) and in what membership adds."""
    rng = np.random.default_rng(seed)
    included = rng.random((references + 1, n)) < 0.5
    variance = (shape - 1) / rng.gamma(shape, size=n)
    noise = rng.normal(size=included.shape) * np.sqrt(variance)
    values = rng.normal(1, 2, n) + noise + included * rng.exponential(gain, n)
    empty = np.zeros((references + 1, 1, 1, 1))
    return (
        Signals(values[0][:, None], empty[0], np.zeros(n, np.int64)),
        References(values[1:][..., None], empty[1:], included[1:]),
        included[0],
    )


def test_the_prior_learns_variances_and_gaps() -> None:
    """Shape 3 and scale 2 of the variances; gaps of mean 0.8 and variance 0.64."""
    _, references, _ = varied(0, 32, n=20_000)
    (inside, seen), (outside, _) = learnt(references)
    for side in (inside, outside):
        assert side.shape[0] == pytest.approx(3.0, rel=0.1)
        assert side.scale[0] == pytest.approx(2.0, rel=0.1)
    with_both = (seen.count > 0) & (seen.count < 32)
    shift = np.where(with_both, inside.mean - outside.mean, np.nan)
    known = np.isfinite(shift)
    own = (references.candidates * references.included[..., None]).sum(0) / np.maximum(seen.count, 1)
    other = (references.candidates * ~references.included[..., None]).sum(0) / np.maximum(32 - seen.count, 1)
    np.testing.assert_allclose((inside.mean - other)[known], 0.8, atol=0.05)
    np.testing.assert_allclose((outside.mean - own)[known], -0.8, atol=0.05)
    expected = 1.0 / (0.64 + 1.0 / (32 - seen.count))
    np.testing.assert_allclose(inside.weight[known], expected[known], rtol=0.15)


def test_equal_variances_are_pooled() -> None:
    g = game(3, 17, n=2000, shift=1.0)
    for side, _ in learnt(g.references(np.arange(1, 17))):
        assert side.shape[0] > 20  # 40 pseudo-observations against the 8 a record has


@pytest.mark.parametrize("references", [8, 16, 32])
@pytest.mark.parametrize("predictive", PREDICTIVES)
@pytest.mark.parametrize("alike", [True, False])
def test_at_least_as_good_as_lira_of_own_variances(
    references: int, predictive: Predictive, alike: bool
) -> None:
    """20 independent games, paired: the mean gain in AUC is positive by 3 standard errors.

    Records alike in variance and gain, or different in both.
    """
    gains = []
    for seed in range(20):
        if alike:
            g = game(seed, references + 1, shift=0.8)
            target, others, members = g.target(0), g.references(np.arange(1, references + 1)), g.included[0]
        else:
            target, others, members = varied(seed, references)
        ours, lira = (
            auc(a.score(target, others), members)
            for a in (Bavaria(predictive=predictive), Lira(variance="per_record"))
        )
        gains.append(ours - lira)
    mean, width = mean_interval(gains)
    assert mean > width


@pytest.mark.parametrize("federations", [8, 16])
@pytest.mark.parametrize("predictive", PREDICTIVES)
def test_null_is_at_chance(federations: int, predictive: Predictive) -> None:
    """12 independent games of 1,000 records x `federations` targets; band of 3 standard errors."""
    games = [game(500 + s, federations) for s in range(12)]
    attack = Bavaria(predictive=predictive)
    mean, width = mean_interval([auc(g.scores(attack), g.included) for g in games])
    assert width < 0.01
    assert abs(mean - 0.5) < max(width, 0.01)


def test_records_short_of_references_still_have_a_score() -> None:
    g = game(4, 9, n=50)
    included = g.included.copy()
    included[:, 0], included[:, 1], included[1:, 2], included[2:, 3] = True, False, False, True
    references = References(g.candidates[1:], g.population[1:], included[1:])
    for predictive in PREDICTIVES:
        assert np.isfinite(Bavaria(predictive=predictive).score(g.target(0), references)).all()


@pytest.mark.parametrize("side", [True, False])
def test_references_all_on_one_side_tell_no_direction(side: bool) -> None:
    """IN and OUT then differ in how sure they are of the same mean, not in where it lies."""
    g = game(4, 17, n=200)
    references = References(g.candidates[1:], g.population[1:], np.full((16, 200), side))
    mean = references.candidates.mean(0)
    low, high = (
        Bavaria().score(Signals(mean + d, g.population[0], g.clients), references) for d in (-3.0, 3.0)
    )
    assert np.isfinite(low).all()
    np.testing.assert_allclose(low, high, atol=1e-6)


def test_signals_that_never_vary_stay_finite() -> None:
    g = game(4, 9, n=20)
    flat = References(np.ones_like(g.candidates[1:]), g.population[1:], g.included[1:])
    scores = Bavaria().score(Signals(np.ones((20, 1)), g.population[0], g.clients), flat)
    assert np.isfinite(scores).all()


def test_rounds_a_client_sat_out_weigh_nothing() -> None:
    g = game(5, 16, n=30, queries=3)
    candidates = g.candidates.copy()
    candidates[0, :, 1] = np.nan
    references = g.references(np.arange(1, 16))
    some = Bavaria().score(Signals(candidates[0], g.population[0], g.clients), references)
    kept = [0, 2]
    less = References(
        references.candidates[..., kept], references.population[:, :, kept], references.included
    )
    target = Signals(g.candidates[0][:, kept], g.population[0][:, kept], g.clients)
    np.testing.assert_allclose(some, Bavaria().score(target, less))


def test_unknown_predictives_are_refused() -> None:
    with pytest.raises(
        ValueError, match="expected predictive to be one of student, gaussian, got predictive='x'"
    ):
        Bavaria(predictive="x")  # type: ignore[arg-type]
