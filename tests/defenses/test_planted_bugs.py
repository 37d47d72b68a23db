"""Six bugs of DP-SGD implementations, each planted, each turning a named check red; and none without.

Two kinds of checks: assumptions, which the run itself verifies, and the empirical one, a lower
bound on epsilon from a gradient canary. The empirical check takes 48 runs a side, so that perfect
separation shows 1.79 nats; claims are below that.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from opacus.optimizers import DPOptimizer
from opacus.validators import ModuleValidator
from torch import Tensor, nn

from audits.gradient_canaries import CanaryTest, gradient_canaries, judge, linear_canary
from defenses import dp_sgd
from defenses._dp_stated import Clipping
from defenses._dp_steps import poisson
from defenses.dp_sgd import DpSgd
from privfed.accounting import epsilon
from privfed.hooks import Spent
from privfed.nets import NetSpec, Params
from privfed.randomness import Stream
from privfed.records import Records, concatenate
from privfed.training import Task

DELTA = 1e-5
RUNS = 48
CLIPPED = "every per-sample gradient clipped"
NOISE = "Gaussian noise of the stated size"
SAMPLED = "Poisson sampling"
APART = "no layer mixes records"

# One full-batch step costs 0.93 nats, which perfect separation refutes.
PLAIN = DpSgd(noise_multiplier=4.0, clip=1.0, sampling_rate=1.0, steps=1, expected_batch=4.0, lr=0.01)
KNOBS = {f: getattr(PLAIN, f) for f in ("clip", "sampling_rate", "steps", "expected_batch", "lr")}
CANARY = linear_canary()
# Others beside the canary, and enough numbers of noise to see a size by.
CROWD = linear_canary(records=60, width=40).task


def claimed(defense: DpSgd) -> float:
    return epsilon([defense.event], DELTA)


def tried(defense: DpSgd, seed: int = 0) -> CanaryTest:
    return gradient_canaries(defense, CANARY, RUNS, Stream(seed), delta=DELTA)


def failed(spent: Spent[Params]) -> set[str]:
    return {a.name for a in spent.checked if not a.verified}


class Faulty(DPOptimizer):  # type: ignore[misc]
    """An optimiser to plant bugs in."""

    @classmethod
    def instead_of(cls, right: Any) -> Any:
        return cls(
            right.original_optimizer,
            noise_multiplier=right.noise_multiplier,
            max_grad_norm=right.max_grad_norm,
            expected_batch_size=right.expected_batch_size,
            generator=right.generator,
        )


class WithoutNoise(Faulty):
    def add_noise(self) -> None:
        for p in self.params:
            p.grad = p.summed_grad.clone()


class ClipsTheBatch(Faulty):
    def clip_and_accumulate(self) -> None:
        total = [g.sum(0) for g in self.grad_samples]
        norm = torch.cat([t.flatten() for t in total]).norm()
        for p, t in zip(self.params, total, strict=True):
            p.summed_grad = t * (self.max_grad_norm / norm).clamp(max=1.0)


class DividesNoiseByTheBatch(Faulty):
    def add_noise(self) -> None:
        super().add_noise()
        for p in self.params:
            p.grad = p.summed_grad + (p.grad - p.summed_grad) / self.expected_batch_size


@dataclass(frozen=True)
class MissingNoise(DpSgd):
    def _optimizer(self, module: nn.Module, stream: Stream) -> Any:
        return WithoutNoise.instead_of(super()._optimizer(module, stream))


@dataclass(frozen=True)
class BatchClipping(DpSgd):
    def _optimizer(self, module: nn.Module, stream: Stream) -> Any:
        return ClipsTheBatch.instead_of(super()._optimizer(module, stream))


@dataclass(frozen=True)
class FixedSeed(DpSgd):
    """The same numbers in every round."""

    def _optimizer(self, module: nn.Module, stream: Stream) -> Any:
        return super()._optimizer(module, Stream(0))


@dataclass(frozen=True)
class NoiseDividedTwice(DpSgd):
    def _optimizer(self, module: nn.Module, stream: Stream) -> Any:
        return DividesNoiseByTheBatch.instead_of(super()._optimizer(module, stream))


@dataclass(frozen=True)
class WrongRate(DpSgd):
    """The accountant hears of a hundredth of the sampling rate."""

    @property
    def event(self) -> Any:
        return replace(RIGHT_RATE, sampling_rate=self.sampling_rate / 100).event


RIGHT_RATE = replace(PLAIN, noise_multiplier=1.0, steps=6)


# The planted bugs.


def test_missing_noise_turns_the_noise_assumption_red() -> None:
    assert failed(MissingNoise(4.0, **KNOBS).train(CROWD)) == {NOISE}


def test_missing_noise_turns_the_empirical_check_red() -> None:
    faulty = MissingNoise(4.0, **KNOBS)
    found = tried(faulty)
    assert found.bound == pytest.approx(1.795, abs=1e-3)  # nothing on the wrong side of the threshold
    assert found.refutes(claimed(faulty))


def test_clipping_the_batch_turns_the_clipping_assumption_red() -> None:
    assert failed(BatchClipping(4.0, **KNOBS).train(CROWD)) == {CLIPPED}


def test_a_fixed_noise_seed_turns_the_empirical_check_red() -> None:
    """Within a run the noise looks right; over runs it is the same number, which tells nothing apart."""
    faulty = FixedSeed(4.0, **KNOBS)
    assert not failed(faulty.train(CROWD))
    assert tried(faulty).refutes(claimed(faulty))


def test_noise_divided_by_the_batch_size_twice_turns_the_noise_assumption_red() -> None:
    assert failed(NoiseDividedTwice(4.0, **KNOBS).train(CROWD)) == {NOISE}


def test_noise_divided_by_the_batch_size_twice_turns_the_empirical_check_red() -> None:
    faulty = NoiseDividedTwice(4.0, **{**KNOBS, "expected_batch": 40.0})
    assert tried(faulty).refutes(claimed(faulty))


def test_a_wrong_sampling_rate_in_the_accountant_turns_the_sampling_assumption_red() -> None:
    faulty = WrongRate(1.0, **{**KNOBS, "sampling_rate": 0.5, "steps": 6})
    assert failed(faulty.train(CROWD)) == {SAMPLED}


def test_a_wrong_sampling_rate_in_the_accountant_turns_the_empirical_check_red() -> None:
    faulty = WrongRate(1.0, **{**KNOBS, "steps": 6})
    assert claimed(faulty) < 0.5 < claimed(RIGHT_RATE)
    assert tried(faulty).refutes(claimed(faulty))


def with_batch_norm(spec: NetSpec, params: Params) -> nn.Module:
    """The names of a linear net's parameters, all inputs standardised over the batch first."""
    return nn.Sequential(nn.Linear(40, 2), nn.BatchNorm1d(2, affine=False, track_running_stats=False))


def test_batch_norm_left_in_turns_the_assumption_on_layers_red(monkeypatch: pytest.MonkeyPatch) -> None:
    """Left in past the validator: a net with one never starts training otherwise."""
    monkeypatch.setattr(dp_sgd, "module_of", with_batch_norm)
    monkeypatch.setattr(ModuleValidator, "validate", lambda module, strict: [])
    assert APART in failed(PLAIN.train(CROWD))


def test_batch_norm_with_weights_is_refused_before_training(monkeypatch: pytest.MonkeyPatch) -> None:
    net = nn.Sequential(nn.Linear(40, 2), nn.BatchNorm1d(2))
    monkeypatch.setattr(dp_sgd, "module_of", lambda spec, params: net)
    with pytest.raises(ValueError, match=r"^expected a net whose layers keep records apart, got spec="):
        PLAIN.train(CROWD)


# And none of them.


@pytest.mark.parametrize("clipping", ["flat", "per_layer", "adaptive", "ghost"])
def test_the_correct_implementation_turns_no_assumption_red(clipping: Clipping) -> None:
    """Each statistical assumption raises a false alarm in at most one run in a million."""
    defense = replace(RIGHT_RATE, sampling_rate=0.5, clipping=clipping)
    assert not any(failed(defense.train(replace(CROWD, stream=Stream(seed)))) for seed in range(10))


@pytest.mark.parametrize("seed", range(3))
def test_the_correct_implementation_does_not_turn_the_empirical_check_red(seed: int) -> None:
    assert not tried(PLAIN, seed).refutes(claimed(PLAIN))


def test_the_empirical_check_raises_false_alarms_as_rarely_as_it_says() -> None:
    """At most 5 % of tests, by the bound; 0 of 300 here, and 0 of 100 by real training when that was tried.

    The bound is loose at so few runs, so alarms are rarer than stated; where it is tight, its coverage
    is tested in tests/audits/test_gradient_canaries.py.
    """
    generator = np.random.default_rng(0)
    truth = claimed(PLAIN)
    alarms = sum(
        judge(generator.normal(0.25, 1, RUNS), generator.normal(0, 1, RUNS), delta=DELTA).refutes(truth)
        for _ in range(300)
    )
    assert alarms <= 15


def test_no_noise_at_all_is_detected_by_both_checks() -> None:
    silent = replace(PLAIN, noise_multiplier=0.0)
    spent = silent.train(CROWD)
    assert spent.event is None
    assert failed(spent) == {NOISE}
    assert tried(silent).bound > claimed(PLAIN)


# One record of huge gradient.


def summed(records: Records, clipping: Clipping, clip: float, largest: int | None) -> Tensor:
    """The sum of clipped gradients: one full-batch step of learning rate one without noise."""
    defense = DpSgd(0.0, clip, 1.0, 1, 1.0, 1.0, clipping=clipping, largest_batch=largest)
    task = replace(linear_canary(width=4, frozen_bias=False).task, records=records)
    return torch.cat([(task.start[k] - p).flatten() for k, p in defense.train(task).value.items()])


def some(n: int, scale: float, seed: int) -> Records:
    generator = Stream(seed).torch()
    return Records(scale * torch.randn(n, 4, generator=generator), torch.arange(n) % 2)


@settings(max_examples=25)
@given(
    st.sampled_from(["flat", "per_layer", "adaptive", "ghost"]),
    st.floats(1e-3, 1e6),
    st.floats(0.05, 20.0),
    st.sampled_from([None, 2]),
    st.integers(0, 99),
)
def test_one_record_moves_the_update_by_at_most_the_clip(
    clipping: Clipping, scale: float, clip: float, largest: int | None, seed: int
) -> None:
    others, record = some(5, 1.0, seed), some(1, scale, seed + 100)
    without = summed(others, clipping, clip, largest)
    with_it = summed(concatenate([others, record]), clipping, clip, largest)
    assert float((with_it - without).norm()) <= clip * (1 + 1e-4) + 1e-5


def test_the_planted_variants_draw_as_the_right_one_does() -> None:
    """So that what turns red is the bug and not the sampling."""
    variants: Sequence[type[DpSgd]] = (MissingNoise, BatchClipping, FixedSeed, NoiseDividedTwice, WrongRate)
    right = poisson(PLAIN._stated(9), Stream(1))
    assert all(torch.equal(poisson(v(4.0, **KNOBS)._stated(9), Stream(1)), right) for v in variants)


def test_a_task_that_mixes_records_is_refused() -> None:
    @dataclass(frozen=True)
    class Mixing:
        mixup: float = 0.2
        proximal: float = 0.0

    task = Task(CROWD.spec, CROWD.start, CROWD.records, Mixing(), CROWD.stream)  # type: ignore[arg-type]
    with pytest.raises(
        ValueError, match=r"^expected a recipe that keeps records apart under DP-SGD, got mixup=0.2$"
    ):
        PLAIN.train(task)
