"""Softened confidence: what it reduces to, and that RMIA reads it as a probability."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch

from attacks._signals import probability
from attacks.confidence import ModelConfidence
from attacks.rmia import Rmia
from attacks.soft_margin import SoftMarginConfidence
from privfed.nets import initial, module_of
from tests.attacks.federations import SPEC, candidates, extract, play, server_view, weights
from tests.attacks.simulation import auc

PARAMS = initial(SPEC, torch.Generator().manual_seed(1))


def logits(inputs: torch.Tensor) -> torch.Tensor:
    with torch.no_grad():
        found: torch.Tensor = module_of(SPEC, PARAMS)(inputs).double()
    return found


def test_plain_softmax_is_the_plain_confidence() -> None:
    known, view = candidates(10, 6), server_view(weights(PARAMS, "large"))
    plain = extract(ModelConfidence(), known, view)
    soft = extract(SoftMarginConfidence(temperature=1, margin=0, order=0), known, view)
    np.testing.assert_allclose(soft.candidates, plain.candidates)
    np.testing.assert_allclose(soft.population, plain.population)


def test_temperature_is_that_of_the_softmax() -> None:
    known, view = candidates(10, 6), server_view(weights(PARAMS, "large"))
    soft = extract(SoftMarginConfidence(temperature=2, margin=0, order=0), known, view)
    p = torch.softmax(logits(known.records.inputs) / 2, 1)[torch.arange(10), known.records.labels]
    np.testing.assert_allclose(probability(soft.candidates[:, 0]), p, rtol=1e-4)


def test_the_published_signal_by_hand() -> None:
    known, view = candidates(10, 6), server_view(weights(PARAMS, "large"))
    z = (logits(known.records.inputs) / 2).numpy()
    y = known.records.labels.numpy()

    def f(x: Any) -> Any:
        return 1 + x + x**2 / 2 + x**3 / 6 + x**4 / 24

    own = f(z[np.arange(10), y] - 0.6)
    p = own / (own + f(z).sum(1) - f(z[np.arange(10), y]))
    found = probability(extract(SoftMarginConfidence(), known, view).candidates[:, 0])
    np.testing.assert_allclose(found, p, rtol=1e-4)


def test_a_margin_costs_confidence() -> None:
    known, view = candidates(10, 6), server_view(weights(PARAMS, "large"))
    low, high = (extract(SoftMarginConfidence(margin=m, order=0), known, view).candidates for m in (0.6, 0.0))
    np.testing.assert_allclose(high - low, 0.6)


def test_rmia_finds_members_through_it() -> None:
    attack = Rmia(observation=SoftMarginConfidence("update"))
    leaky, clean = (play(attack, leaky) for leaky in (True, False))
    assert auc(leaky.scores(attack), leaky.included) > 0.9
    assert abs(auc(clean.scores(attack), clean.included) - 0.5) < 0.1


@pytest.mark.parametrize(
    ("knobs", "message"),
    [
        ({"temperature": 0.0}, "expected temperature > 0, got temperature=0.0"),
        ({"temperature": float("nan")}, "expected temperature > 0, got temperature=nan"),
        ({"margin": -0.1}, "expected margin >= 0, got margin=-0.1"),
        ({"order": 3}, "expected an even order >= 0, got order=3"),
        ({"order": -2}, "expected an even order >= 0, got order=-2"),
        ({"artefact": "x"}, "expected artefact to be one of .*, got artefact='x'"),
    ],
)
def test_bad_knobs_are_refused(knobs: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        SoftMarginConfidence(**knobs)
