"""LiRA against explicit loops, its documented traps, and the design of the game."""

from __future__ import annotations

import numpy as np
import pytest
from scipy.stats import norm

from attacks.interface import Floats, References, Signals
from attacks.lira import Lira, Mode, Variance
from attacks.loss import LossThreshold
from tests.attacks.simulation import Design, auc, bernoulli, exact_half, game, mean_interval

MODES: tuple[Mode, ...] = ("online", "offline")
VARIANCES: tuple[Variance, ...] = ("fixed", "per_record")


def naive(target: Signals, references: References, mode: Mode, per_record: bool) -> Floats:
    """One record and query at a time; expects at least two references on each side."""
    n, queries = target.candidates.shape
    scores = np.zeros(n)
    for q in range(queries):
        values = [references.candidates[:, i, q] for i in range(n)]
        split = [(v[references.included[:, i]], v[~references.included[:, i]]) for i, v in enumerate(values)]
        pooled = [
            np.sqrt(
                sum(((s[side] - s[side].mean()) ** 2).sum() for s in split)
                / sum(len(s[side]) - 1 for s in split)
            )
            for side in (0, 1)
        ]
        for i, (inside, outside) in enumerate(split):
            sd_in, sd_out = (inside.std(ddof=1), outside.std(ddof=1)) if per_record else pooled
            x = target.candidates[i, q]
            if mode == "offline":
                scores[i] += (x - outside.mean()) / sd_out / np.sqrt(queries)
            else:
                scores[i] += norm.logpdf(x, inside.mean(), sd_in) - norm.logpdf(x, outside.mean(), sd_out)
    return scores


@pytest.mark.parametrize("mode", MODES)
@pytest.mark.parametrize("variance", VARIANCES)
def test_vectorised_score_equals_the_loops(mode: Mode, variance: Variance) -> None:
    g = game(0, 12, n=40, shift=1.0, queries=3, design=exact_half)
    target, references = g.target(0), g.references(np.arange(1, 12))
    expected = naive(target, references, mode, variance == "per_record")
    np.testing.assert_allclose(Lira(mode=mode, variance=variance).score(target, references), expected)


def test_auto_switches_to_per_record_variance_at_64_references() -> None:
    g = game(1, 65, n=30)
    few, many = g.references(np.arange(1, 64)), g.references(np.arange(1, 65))
    target = g.target(0)
    for references, variance in zip((few, many), VARIANCES, strict=True):
        np.testing.assert_array_equal(
            Lira().score(target, references), Lira(variance=variance).score(target, references)
        )


def test_fixed_variance_does_not_mix_in_the_spread_between_records() -> None:
    g = game(2, 16, n=200)
    far = g.candidates + np.linspace(-1e3, 1e3, 200)[:, None]
    plain = Lira(mode="offline").score(g.target(0), g.references(np.arange(1, 16)))
    moved = Lira(mode="offline").score(
        Signals(far[0], g.population[0], g.clients),
        References(far[1:], g.population[1:], g.included[1:]),
    )
    np.testing.assert_allclose(moved, plain, atol=1e-6)


def test_in_and_out_keep_their_own_variance() -> None:
    rng = np.random.default_rng(0)
    included = exact_half(rng, 40, 300)
    values = rng.normal(size=(40, 300, 1)) * np.where(included, 0.2, 2.0)[..., None]
    at_mean = Signals(np.zeros((300, 1)), np.zeros((1, 1, 1)), np.zeros(300, np.int64))
    scores = Lira(variance="fixed").score(at_mean, References(values, np.zeros((40, 1, 1, 1)), included))
    assert scores.mean() == pytest.approx(np.log(10), rel=0.1)  # log sd_out / sd_in


def test_offline_score_is_one_sided_and_does_not_saturate() -> None:
    references = game(3, 17, n=1).references(np.arange(1, 17))
    base = references.candidates[~references.included[:, 0], 0, 0].mean()
    x = base + np.array([-40.0, -3.0, 0.0, 3.0, 40.0, 41.0])
    scores = [
        Lira(mode="offline").score(
            Signals(np.array([[v]]), np.zeros((200, 1, 1)), np.zeros(1, np.int64)), references
        )[0]
        for v in x
    ]
    assert np.all(np.diff(scores) > 0)


def test_records_short_of_references_still_have_a_score() -> None:
    g = game(4, 9, n=50)
    included = g.included.copy()
    included[:, 0], included[:, 1], included[1:, 2], included[2:, 3] = True, False, False, True
    references = References(g.candidates[1:], g.population[1:], included[1:])
    for mode in MODES:
        for variance in VARIANCES:
            assert np.isfinite(Lira(mode=mode, variance=variance).score(g.target(0), references)).all()


def test_rounds_a_client_sat_out_weigh_nothing() -> None:
    g = game(5, 16, n=30, queries=3)
    candidates = g.candidates.copy()
    candidates[0, :, 1] = np.nan
    some = Lira().score(Signals(candidates[0], g.population[0], g.clients), g.references(np.arange(1, 16)))
    kept = Signals(g.candidates[0][:, [0, 2]], g.population[0][:, [0, 2]], g.clients)
    less = References(g.candidates[1:][:, :, [0, 2]], g.population[1:][:, :, [0, 2]], g.included[1:])
    np.testing.assert_allclose(some, Lira().score(kept, less))


@pytest.mark.parametrize(("field", "value"), [("mode", "both"), ("variance", "pooled")])
def test_unknown_options_are_refused(field: str, value: str) -> None:
    with pytest.raises(ValueError, match=rf"expected {field} to be one of .*, got {field}='{value}'"):
        Lira(**{field: value})  # type: ignore[arg-type]


def null_aucs(
    attack: Lira, federations: int, design: Design, leave_out: bool = True, seeds: int = 12
) -> tuple[float, float]:
    games = [game(100 + s, federations, design=design) for s in range(seeds)]
    return mean_interval([auc(g.scores(attack, leave_out), g.included) for g in games])


@pytest.mark.parametrize("federations", [8, 16])
@pytest.mark.parametrize("mode", MODES)
@pytest.mark.parametrize("variance", VARIANCES)
def test_bernoulli_inclusion_is_at_chance_without_leakage(
    federations: int, mode: Mode, variance: Variance
) -> None:
    """12 independent games of 1,000 records x `federations` targets; band of 3 standard errors."""
    mean, width = null_aucs(Lira(mode=mode, variance=variance), federations, bernoulli)
    assert width < 0.01
    assert abs(mean - 0.5) < max(width, 0.01)


@pytest.mark.parametrize(
    ("federations", "variance", "expected"),
    [(8, "fixed", 0.473), (8, "per_record", 0.434), (16, "fixed", 0.494), (16, "per_record", 0.492)],
)
def test_trap_exact_half_inclusion_biases_the_score(
    federations: int, variance: Variance, expected: float
) -> None:
    mean, width = null_aucs(Lira(variance=variance), federations, exact_half)
    assert width < 0.01
    assert mean == pytest.approx(expected, abs=0.01)


@pytest.mark.parametrize(("federations", "expected"), [(8, 0.687), (16, 0.627), (32, 0.590), (64, 0.564)])
def test_trap_target_among_its_references_looks_like_leakage(federations: int, expected: float) -> None:
    mean, width = null_aucs(Lira(variance="fixed"), federations, exact_half, leave_out=False, seeds=4)
    assert width < 0.02
    assert mean == pytest.approx(expected, abs=0.01)


@pytest.mark.parametrize("federations", [17, 65])
def test_planted_shift_is_found_where_the_loss_drowns_in_difficulty(federations: int) -> None:
    """Difficulty spreads over 2 sd, membership shifts every record by 0.8."""
    g = game(7, federations, n=3000, shift=0.8)
    target, references = g.target(0), g.references(np.arange(1, federations))
    online, offline, loss = (
        auc(a.score(target, references), g.included[0])
        for a in (Lira(variance="fixed"), Lira(mode="offline", variance="fixed"), LossThreshold())
    )
    optimum = norm.cdf(0.8 / np.sqrt(2))
    assert min(online, offline) > loss + 0.05
    assert max(online, offline) < optimum + 0.02
    assert online > optimum - 0.05


def test_varied_effects_are_found_better_online() -> None:
    """Membership moves each record by its own amount: only references that held it can tell."""
    g = game(8, 65, n=3000)
    effect = np.random.default_rng(9).exponential(1.0, (3000, 1))
    candidates = g.candidates + effect * g.included[..., None]
    target = Signals(candidates[0], g.population[0], g.clients)
    references = References(candidates[1:], g.population[1:], g.included[1:])
    online, offline = (
        auc(Lira(mode=m, variance="fixed").score(target, references), g.included[0])
        for m in ("online", "offline")
    )
    assert online > offline + 0.02
