"""Quantile regression against its oracle: s | x ~ N(w'x, 1), and false positives at the level asked for."""

from __future__ import annotations

from dataclasses import replace
from itertools import product
from typing import Any

import numpy as np
import pytest
import torch
from scipy.stats import binom, norm

from attacks.interface import Floats
from attacks.quantile import Head, QuantileRegression, QuantileResidual
from privfed.nets import initial, module_of
from privfed.randomness import Stream
from tests.attacks.federations import (
    SPEC,
    candidates,
    extract,
    federations,
    no_references,
    server_view,
    weights,
)
from tests.attacks.simulation import auc

HEADS: tuple[Head, ...] = ("gaussian", "pinball")
WEIGHTS = np.array([1.0, -2.0, 0.5])


def drawn(n: int, seed: int, spread: float = 0.0) -> tuple[Floats, Floats]:
    """Features (n, 3) and scores (n, 1) about w'x, their deviation exp(spread x_1)."""
    rng = np.random.default_rng(seed)
    x = rng.normal(size=(n, 3))
    return x, (x @ WEIGHTS + np.exp(spread * x[:, 0]) * rng.normal(size=n))[:, None]


def quantile(observation: QuantileResidual, x: Floats, s: Floats, new: Floats) -> Floats:
    """The learnt (1 - alpha)-quantile at `new`, read off two signals, in which scores are linear."""
    zero, one = (observation.residuals(x, s, new, np.full((len(new), 1), v))[:, 0] for v in (0.0, 1.0))
    level = norm.ppf(1 - observation.alpha) if observation.head == "gaussian" else 0.0
    return (level - zero) / (one - zero)


@pytest.mark.parametrize("head", HEADS)
@pytest.mark.parametrize("alpha", [0.05, 0.5])
def test_the_learnt_quantile_is_that_of_the_synthetic_law(head: Head, alpha: float) -> None:
    x, s = drawn(4000, 0)
    new = drawn(50, 1)[0]
    found = quantile(QuantileResidual(head=head, alpha=alpha), x, s, new)
    np.testing.assert_allclose(found, new @ WEIGHTS + norm.ppf(1 - alpha), atol=0.3)
    assert np.mean(found - new @ WEIGHTS) == pytest.approx(norm.ppf(1 - alpha), abs=0.12)


@pytest.mark.parametrize("head", HEADS)
@pytest.mark.parametrize("spread", [0.0, 0.5])
def test_held_out_false_positives_are_alpha(head: Head, spread: float) -> None:
    """4,000 to learn from, 4,000 held out; 99.9 % interval of the binomial with both samples' noise."""
    alpha, n = 0.1, 4000
    x, s = drawn(n, 2, spread)
    new, values = drawn(n, 3, spread)
    signal = QuantileResidual(head=head, alpha=alpha).residuals(x, s, new, values)[:, 0]
    called = (signal > (norm.ppf(1 - alpha) if head == "gaussian" else 0)).sum()
    low, high = binom.interval(0.999, n, alpha)
    centre, half = (low + high) / 2, (high - low) / 2
    assert abs(called - centre) <= half * np.sqrt(2)


def test_a_shift_between_members_and_population_fails_visibly() -> None:
    """Its assumption broken: non-members score a unit higher than the population they are judged by."""
    x, s = drawn(2000, 4)
    new, values = drawn(2000, 5)
    called = (QuantileResidual().residuals(x, s, new, values + 1) > norm.ppf(0.95)).mean()
    assert called > 0.15


def test_varying_spread_is_learnt() -> None:
    x, s = drawn(4000, 6, 0.5)
    new = np.array([[-1.5, 0, 0], [1.5, 0, 0]])
    low, high = (QuantileResidual().residuals(x, s, new, np.full((2, 1), v))[:, 0] for v in (0.0, 1.0))
    deviation = 1 / (high - low)
    np.testing.assert_allclose(deviation, np.exp(0.5 * new[:, 0]), rtol=0.15)


@pytest.mark.parametrize("head", HEADS)
def test_members_of_real_models_are_found_and_the_population_is_at_its_level(head: Head) -> None:
    known, included, views = federations(leaky=True)
    observation = QuantileResidual(head=head, alpha=0.25)
    above = norm.ppf(0.75) if head == "gaussian" else 0.0
    found, called = [], []
    for view, members in zip(views[:3], included[:3], strict=True):
        signals = extract(observation, known, view)
        found.append(auc(QuantileRegression(observation).score(signals, no_references(signals)), members))
        called.append((signals.population > above).mean())
    assert np.mean(found) > 0.9
    # Folds predict what they did not learn: 600 population records at 0.25.
    low, high = binom.interval(0.999, 600, 0.25)
    assert low <= 600 * np.mean(called) <= high


def test_updates_are_learnt_one_by_one_and_rounds_sat_out_are_unknown() -> None:
    known = candidates(20, 30)
    params = {
        (r, k): initial(SPEC, torch.Generator().manual_seed(2 * r + k))
        for r, k in product(range(2), range(2))
    }
    updates = [weights(p, "update", r, k) for (r, k), p in params.items() if (r, k) != (1, 0)]
    both = extract(QuantileResidual("update"), known, server_view(*updates))
    one = extract(QuantileResidual("update"), known, server_view(updates[1]))
    owners = known.clients.numpy()
    np.testing.assert_array_equal(both.clients, owners)
    assert np.isnan(both.candidates[owners == 0, 1]).all()
    assert np.isnan(both.candidates).sum() == (owners == 0).sum()
    assert np.isnan(both.population[:, 1, 0]).all()
    np.testing.assert_allclose(both.candidates[owners == 1, 0], one.candidates[owners == 1, 0])


def test_the_margin_is_what_is_learnt() -> None:
    """Scaling a model's logits scales mean and deviation alike: the residual stays."""
    known = candidates(20, 40)
    params = initial(SPEC, torch.Generator().manual_seed(0))
    larger = {k: v * (3.0 if k.startswith("3") else 1.0) for k, v in params.items()}
    with torch.no_grad():
        logits = [module_of(SPEC, p)(known.records.inputs) for p in (params, larger)]
    np.testing.assert_allclose(logits[1], 3 * logits[0], rtol=1e-4, atol=1e-5)
    found = [
        extract(QuantileResidual(head="pinball", alpha=0.5), known, server_view(weights(p, "large")))
        for p in (params, larger)
    ]
    np.testing.assert_allclose(found[1].candidates, 3 * found[0].candidates, rtol=1e-3, atol=1e-3)


def test_too_small_a_population_teaches_nothing() -> None:
    view = server_view(weights(initial(SPEC, torch.Generator().manual_seed(0)), "large"))
    assert QuantileResidual().extract(view, candidates(4, 9), Stream(0)) is None
    assert QuantileResidual().extract(view, candidates(4, 10), Stream(0)) is not None


def test_a_label_the_population_lacks_is_still_scored() -> None:
    view = server_view(weights(initial(SPEC, torch.Generator().manual_seed(0)), "large"))
    known = candidates(20, 40)
    lacking = replace(known, population=known.population.take(known.population.labels != 3))
    assert np.isfinite(extract(QuantileResidual(), lacking, view).candidates).all()


@pytest.mark.parametrize(
    ("knobs", "message"),
    [
        ({"head": "x"}, "expected head to be one of gaussian, pinball, got head='x'"),
        ({"alpha": 1.0}, r"expected alpha in \(0, 1\), got alpha=1.0"),
        ({"alpha": float("nan")}, r"expected alpha in \(0, 1\), got alpha=nan"),
        ({"components": 0}, "expected components >= 1, got components=0"),
        ({"artefact": "x"}, "expected artefact to be one of .*, got artefact='x'"),
    ],
)
def test_bad_knobs_are_refused(knobs: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        QuantileResidual(**knobs)
