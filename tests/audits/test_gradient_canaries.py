from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np
import pytest
import torch
from scipy.optimize import brentq
from scipy.stats import norm

from audits.gradient_canaries import Canary, gradient_canaries, judge, linear_canary, scores
from defenses.dp_sgd import DpSgd
from privfed.hooks import Spent
from privfed.nets import Params
from privfed.randomness import Stream
from privfed.training import Task

SILENT = DpSgd(noise_multiplier=0.0, clip=1.0, sampling_rate=1.0, steps=8, expected_batch=1.0, lr=0.01)


@dataclass(frozen=True)
class Steady:
    """A hook of another kind: says whether the record was there with a chance of its own."""

    truthful: float

    def train(self, task: Task) -> Spent[Params]:
        present = bool((task.records.inputs[:, 0] > 0).any())
        told = present == bool(task.stream.numpy().random() < self.truthful)
        return Spent({k: v - float(told) * torch.ones_like(v) for k, v in task.start.items()}, None)


def test_the_score_is_the_clip_in_every_step_whatever_stands_beside_the_record() -> None:
    """The gradient has length 8 / sqrt 2 and is clipped to 1; the direction has length sqrt 2."""
    for others in (0, 5):
        inside, outside = scores(SILENT, linear_canary(others), 2, Stream(0))
        np.testing.assert_allclose(inside, 8 * 0.01 * np.sqrt(2), rtol=1e-4)
        np.testing.assert_allclose(outside, 0, atol=1e-6)


def test_every_run_has_noise_of_its_own() -> None:
    noisy = DpSgd(1.0, 1.0, 1.0, 1, 1.0, 0.01)
    inside, outside = scores(noisy, linear_canary(), 10, Stream(0))
    assert len(np.unique(np.concatenate([inside - 0.01 * np.sqrt(2), outside]).round(7))) == 20
    again = scores(noisy, linear_canary(), 10, Stream(0))
    np.testing.assert_array_equal(again, (inside, outside))


def test_perfect_separation_gives_the_most_that_so_many_runs_can_show() -> None:
    """The ceiling of attacks on 50 and 100 a side at 95 %: 2.570 and 3.281 nats."""
    for n, ceiling in ((50, 2.570), (100, 3.281)):
        found = judge(np.ones(2 * n), np.zeros(2 * n), delta=0.0)
        assert (found.true_positives, found.false_positives, found.n_in, found.n_out) == (n, 0, n, n)
        assert found.threshold == 0.5
        assert found.bound == pytest.approx(ceiling, abs=1e-3)
        assert found.refutes(ceiling - 0.01)
        assert not found.refutes(ceiling + 0.01)


def test_the_threshold_is_fixed_on_the_first_half() -> None:
    """First halves say the opposite of second halves: what was learnt there must fail here."""
    up, down = np.arange(50.0) + 100, np.arange(50.0)
    found = judge(np.concatenate([up, down]), np.concatenate([down, up]), delta=0.0)
    assert (found.true_positives, found.false_positives) == (0, 50)
    assert found.bound == 0


def test_scores_that_say_nothing_refute_nothing() -> None:
    assert judge(np.zeros(20), np.zeros(20), delta=1e-5).bound == 0


def test_bounds_cover_the_truth_as_often_as_they_say() -> None:
    """Unit Gaussians one apart lose 4.38 nats at 1e-5; with delta 0.2 the loss is far smaller and binds."""

    def delta(epsilon: float) -> float:
        return float(norm.cdf(-epsilon + 0.5) - np.exp(epsilon) * norm.cdf(-epsilon - 0.5))

    truth = brentq(lambda e: delta(e) - 0.2, 0.0, 5.0)
    generator = np.random.default_rng(0)
    wrong = sum(
        judge(generator.normal(1, 1, 60), generator.normal(0, 1, 60), delta=0.2).refutes(truth)
        for _ in range(200)
    )
    # 5 % at most; 20 or more of 200 would be a rate above that with 99.9 % confidence.
    assert wrong < 20


def test_any_local_hook_can_be_asked() -> None:
    canary = linear_canary()
    caught = gradient_canaries(Steady(1.0), _everywhere(canary), 40, Stream(0), delta=0.0)
    assert caught.refutes(1.0)
    fair = gradient_canaries(Steady(0.5), _everywhere(canary), 40, Stream(0), delta=0.0)
    assert not fair.refutes(0.0)


def _everywhere(canary: Canary) -> Canary:
    return replace(canary, direction={"0.bias": torch.ones(2)})


def test_what_cannot_be_asked_is_refused() -> None:
    canary = linear_canary()
    with pytest.raises(ValueError, match=r"^expected at least 4 runs a side, got runs=3$"):
        gradient_canaries(SILENT, canary, 3, Stream(0), delta=1e-5)
    with pytest.raises(ValueError, match=r"^expected confidence in \(0, 1\), got confidence=1.0$"):
        gradient_canaries(SILENT, canary, 8, Stream(0), delta=1e-5, confidence=1.0)
    message = r"^expected width >= 2, records >= 0 and scale > 0, got width=1, records=0, scale=8.0$"
    with pytest.raises(ValueError, match=message):
        linear_canary(width=1)
