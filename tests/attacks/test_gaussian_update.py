"""The Gaussian likelihood ratio against published and simulated values, and what is fitted for it."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch
from scipy.stats import multivariate_normal, norm
from sklearn.covariance import ledoit_wolf

from attacks import gaussian_update
from attacks.gaussian_update import (
    FLOOR,
    GaussianUpdate,
    UpdateLikelihood,
    exact_log_ratio,
    fitted_scale,
    glir_log_p,
    whitened,
)
from attacks.interface import Floats, Signals
from privfed.randomness import Stream
from privfed.release import View
from tests.attacks.federations import candidates, extract, federations, no_references, server_view, weights
from tests.attacks.movements import trained
from tests.attacks.simulation import auc

GOLDEN = [
    # d, n, exact, GLiR, dot product, theory: AUC on whitened Gaussians
    (10, 10, 0.760, 0.752, 0.748, 0.760),
    (50, 32, 0.821, 0.818, 0.817, 0.812),
    (100, 32, 0.900, 0.898, 0.896, 0.894),
    (100, 256, 0.670, 0.669, 0.669, 0.671),
    (1000, 256, 0.915, 0.914, 0.914, 0.919),
]


def simulated(d: int, n: int, trials: int) -> tuple[Floats, Floats, np.ndarray]:
    """Means of n standard normal gradients with a given one in, and without."""
    rng = np.random.default_rng(d * n)
    g = rng.normal(size=(trials, d))
    inside = np.arange(trials) % 2 == 0
    with_it = g / n + rng.normal(size=(trials, d)) * np.sqrt(n - 1) / n
    without = rng.normal(size=(trials, d)) / np.sqrt(n)
    return np.where(inside[:, None], with_it, without), g, inside


@pytest.mark.parametrize(("d", "n", "exact", "glir", "dot", "theory"), GOLDEN)
def test_golden_areas_under_the_curve(
    d: int, n: int, exact: float, glir: float, dot: float, theory: float
) -> None:
    """The table was simulated itself, with a number of trials it does not give.

    Its columns share their draws, so their gaps are known far better (to the rounding of two entries and
    a little more) than their level, which is off by up to .007 from 200,000 trials.
    """
    mean, g, inside = simulated(d, n, 6_000 if d == 1000 else 20_000)
    scores = exact_log_ratio(mean, g, n), -glir_log_p(mean, g, n), (mean * g).sum(1)
    got, golden = np.array([auc(s, inside) for s in scores]), np.array([exact, glir, dot])
    np.testing.assert_allclose(got - got[0], golden - golden[0], atol=4e-3)
    np.testing.assert_allclose(got, golden, atol=0.015)
    assert norm.cdf(np.sqrt(d / n) / np.sqrt(2)) == pytest.approx(theory, abs=1e-3)


def test_the_exact_ratio_beats_glir_and_the_dot_product() -> None:
    mean, g, inside = simulated(10, 10, 100_000)
    exact = auc(exact_log_ratio(mean, g, 10), inside)
    assert exact > auc(-glir_log_p(mean, g, 10), inside) > auc((mean * g).sum(1), inside)


def test_the_exact_ratio_is_that_of_the_two_densities() -> None:
    rng = np.random.default_rng(0)
    mean, g, n = rng.normal(size=4), rng.normal(size=(6, 4)), 5
    inside = [multivariate_normal(x / n, np.eye(4) * (n - 1) / n**2).logpdf(mean) for x in g]
    outside = multivariate_normal(np.zeros(4), np.eye(4) / n).logpdf(mean)
    np.testing.assert_allclose(exact_log_ratio(mean, g, n), np.array(inside) - outside)


def test_glir_never_falls_below_its_floor() -> None:
    g = np.full((1, 3), 1e4)
    assert glir_log_p(g[0], g, 10)[0] == FLOOR
    assert glir_log_p(np.zeros(3), np.zeros((1, 3)) + 1e-3, 10)[0] >= FLOOR


def test_whitening_inverts_the_shrunk_covariance_and_the_reference_bug_does_not() -> None:
    """`torch.cholesky_inverse` wants the factor: given the covariance itself, it inverts something else."""
    rng = np.random.default_rng(3)
    background = rng.normal(size=(400, 6)) @ rng.normal(size=(6, 6))
    white = whitened(background, 6)
    assert white is not None
    covariance = ledoit_wolf(background)[0]
    inverse = white.directions @ white.directions.T
    np.testing.assert_allclose(inverse @ covariance, np.eye(6), atol=1e-8)
    sigma = torch.from_numpy(covariance)
    right = torch.cholesky_inverse(torch.linalg.cholesky(sigma)).numpy()
    np.testing.assert_allclose(inverse, right, rtol=1e-6, atol=1e-10)
    wrong = torch.cholesky_inverse(sigma).numpy()
    assert np.abs(wrong - right).max() > 0.1 * np.abs(right).max()


@pytest.mark.parametrize("shape", [(40, 12), (12, 40)])
def test_whitening_keeps_leading_directions_whichever_side_is_longer(shape: tuple[int, int]) -> None:
    background = np.random.default_rng(1).normal(size=shape) * np.linspace(1, 5, shape[1]) + 3
    white = whitened(background, 5)
    assert white is not None
    assert white.gradients.shape == (shape[0], 5)
    np.testing.assert_allclose(background @ white.directions - white.mean, white.gradients, atol=1e-9)
    spread = white.gradients.T @ white.gradients / shape[0]
    np.testing.assert_allclose(spread, np.diag(np.diag(spread)), atol=1e-9)
    leading = np.linalg.svd(background - background.mean(0))[1][:5] ** 2
    kept = np.linalg.svd((background - background.mean(0)) @ np.linalg.qr(white.directions)[0])[1] ** 2
    np.testing.assert_allclose(kept, leading)


def test_directions_that_do_not_vary_are_dropped() -> None:
    background = np.random.default_rng(2).normal(size=(30, 4))
    background[:, 3] = -background[:, :3].sum(1)
    white = whitened(background, 10)
    assert white is not None
    assert white.directions.shape == (4, 3)
    assert whitened(np.ones((5, 3)), 2) is None


def test_the_scale_of_an_update_is_found() -> None:
    rng = np.random.default_rng(4)
    mean, n, found = rng.normal(size=300), 40, []
    for _ in range(50):
        u = (mean + rng.normal(size=300) / np.sqrt(n)) / 0.07
        found.append(fitted_scale(u, mean, n))
        a = np.linspace(0.5, 2, 2001) * found[-1]
        density = 300 * np.log(a) - n / 2 * ((a[:, None] * u - mean) ** 2).sum(1)
        assert a[density.argmax()] == pytest.approx(found[-1], rel=1e-3)
    assert np.mean(found) == pytest.approx(0.07, rel=0.01)


def test_evidence_adds_up_over_the_known_rounds() -> None:
    signals = np.array([[1.0, 2.0], [np.nan, -1.0], [np.nan, np.nan]])
    read = Signals(signals, np.zeros((1, 2, 1)), np.zeros(3, dtype=np.int64))
    np.testing.assert_array_equal(GaussianUpdate().score(read, no_references(read)), [3.0, -1.0, np.nan])


@pytest.mark.parametrize("test", ["exact", "glir"])
@pytest.mark.parametrize("part", ["all", "head", "representation"])
def test_members_are_found_in_federated_averaging(part: Any, test: Any) -> None:
    known, included, _ = federations(True)
    attack = GaussianUpdate(UpdateLikelihood(part, test))
    scores = []
    for view in trained(True)[:3]:
        read = extract(attack.observation, known, view)
        scores.append(attack.score(read, no_references(read)))
    assert auc(np.stack(scores), included[:3]) > (0.6 if part == "head" else 0.9)


def test_folded_gradients_still_tell(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(gaussian_update, "_FOLDED", 500)
    known, included, _ = federations(True)
    view = trained(True)[0]
    first, again = (extract(UpdateLikelihood(), known, view) for _ in range(2))
    np.testing.assert_array_equal(first.candidates, again.candidates)
    assert auc(first.candidates.sum(1), included[0]) > 0.9


def still(view: View) -> View:
    """The same view, but the clients send back what they were sent."""
    sent = {r.round: r for r in view.select("weights", "surrogate")}
    back = [weights(dict(sent[r].tensors), "update", r, k) for r in range(2) for k in range(2)]
    return server_view(*(sent[r] for r in range(2)), *back)


def test_clients_that_stayed_say_nothing() -> None:
    known = candidates(8, 4)
    read = UpdateLikelihood().extract(still(trained(True)[0]), known, Stream(0))
    assert read is not None
    assert np.isnan(read.candidates).all()
    assert read.population.shape == (4, 2, 2)
    assert UpdateLikelihood().extract(server_view(), known, Stream(0)) is None


@pytest.mark.parametrize(
    ("field", "value", "message"),
    [
        ("test", "t", "expected test to be one of exact, glir, got test='t'"),
        ("part", "tail", "expected part to be one of all, head, representation, got part='tail'"),
        ("dimensions", 0, "expected dimensions >= 1, got dimensions=0"),
    ],
)
def test_bad_knobs_are_refused(field: str, value: Any, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        UpdateLikelihood(**{field: value})
