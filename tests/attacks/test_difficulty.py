"""Difficulty calibration by hand, against the plain loss, and at chance without a leak."""

from __future__ import annotations

import numpy as np
import pytest

from attacks._signals import loss, probability
from attacks.difficulty import DifficultyCalibrated, Scale
from attacks.interface import Floats, References, Signals
from attacks.loss import LossThreshold
from tests.attacks.simulation import auc, game, mean_interval

SCALES: tuple[Scale, ...] = ("logit", "loss", "probability")


def scaled(phi: Floats, scale: Scale) -> Floats:
    return {"logit": phi, "loss": -loss(phi), "probability": probability(phi)}[scale]


@pytest.mark.parametrize("scale", SCALES)
def test_score_is_the_target_less_the_mean_of_references_without_the_record(scale: Scale) -> None:
    target = Signals(np.array([[1.0]]), np.zeros((1, 1, 1)), np.zeros(1, np.int64))
    phi = np.array([0.5, -1.0, 7.0])
    references = References(phi[:, None, None], np.zeros((3, 1, 1, 1)), np.array([[False], [False], [True]]))
    expected = scaled(np.array(1.0), scale) - scaled(phi[:2], scale).mean()
    assert DifficultyCalibrated(scale=scale).score(target, references)[0] == pytest.approx(expected)


@pytest.mark.parametrize("references", [1, 16])
@pytest.mark.parametrize("scale", SCALES)
def test_calibration_beats_the_loss_it_calibrates_even_with_one_reference(
    scale: Scale, references: int
) -> None:
    """30 independent games of 1,000 records, paired; difficulty spreads over 2 sd, members gain 1.5."""
    gains = []
    for seed in range(30):
        g = game(seed, references + 1, shift=1.5)
        target, others = g.target(0), g.references(np.arange(1, references + 1))
        found, plain = (
            auc(a.score(target, others), g.included[0])
            for a in (DifficultyCalibrated(scale=scale), LossThreshold())
        )
        gains.append(found - plain)
    mean, width = mean_interval(gains)
    assert mean > width


@pytest.mark.parametrize("scale", SCALES)
def test_null_is_at_chance(scale: Scale) -> None:
    """12 independent games of 500 records x 10 targets; band of 3 standard errors."""
    games = [game(20 + s, 10, n=500) for s in range(12)]
    attack = DifficultyCalibrated(scale=scale)
    mean, width = mean_interval([auc(g.scores(attack), g.included) for g in games])
    assert width < 0.015
    assert abs(mean - 0.5) < max(width, 0.01)


def test_unknown_scales_are_refused() -> None:
    with pytest.raises(ValueError, match=r"expected scale to be one of logit, loss, .*, got scale='x'"):
        DifficultyCalibrated(scale="x")  # type: ignore[arg-type]
