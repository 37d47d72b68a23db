from __future__ import annotations

import math
from dataclasses import replace
from typing import Any

import pytest
import torch
from opacus.optimizers import DPOptimizer
from opacus.optimizers import optimizer as opacus_optimizer
from torch import Tensor, nn
from torch.nn import functional as F

from defenses import dp_sgd
from defenses._dp_steps import poisson
from defenses.dp_sgd import SIMULATED, DpSgd
from privfed.accounting import epsilon
from privfed.hooks import Spent
from privfed.nets import NetSpec, Params, initial, module_of
from privfed.randomness import Stream
from privfed.records import Records, concatenate
from privfed.training import Recipe, Task

SPEC = NetSpec("convnet", channels=1, size=8, classes=10, width=8, depth=2)
PLAIN = DpSgd(noise_multiplier=1.0, clip=1.0, sampling_rate=0.3, steps=12, expected_batch=18.0, lr=0.5)
CLIPPED = "every per-sample gradient clipped"
NOISE = "Gaussian noise of the stated size"
SAMPLED = "Poisson sampling"
COUNTED = "all steps counted"


def records(n: int, scale: float = 1.0, seed: int = 0) -> Records:
    generator = torch.Generator().manual_seed(seed)
    return Records(
        scale * torch.randn(n, 1, 8, 8, generator=generator), torch.randint(0, 10, (n,), generator=generator)
    )


def task(data: Records, stream: Stream = Stream(0)) -> Task:  # noqa: B008
    return Task(SPEC, initial(SPEC, torch.Generator().manual_seed(1)), data, Recipe(1, 10, 0.1), stream)


def flat(params: Params) -> Tensor:
    return torch.cat([p.flatten() for p in params.values()])


def failed(spent: Spent[Params]) -> set[str]:
    return {a.name for a in spent.checked if not a.verified}


# What it computes


@pytest.mark.parametrize("momentum", [0.0, 0.9])
def test_without_noise_clipping_and_sampling_it_is_full_batch_sgd(momentum: float) -> None:
    job = task(records(20))
    module = module_of(SPEC, job.start)
    plain = torch.optim.SGD(module.parameters(), lr=0.1, momentum=momentum)
    for _ in range(5):
        plain.zero_grad()
        F.cross_entropy(module(job.records.inputs), job.records.labels).backward()
        plain.step()
    trained = DpSgd(0.0, 1e9, 1.0, 5, 20.0, 0.1, momentum).train(job).value
    expected = flat({k: p.detach() for k, p in module.named_parameters()})
    assert torch.allclose(flat(trained), expected, atol=2e-6)


@pytest.mark.parametrize("scale", [1.0, 1e2, 1e4])
def test_one_record_moves_the_clipped_sum_by_at_most_the_clip(scale: float) -> None:
    summed = DpSgd(0.0, 0.7, 1.0, 1, 1.0, 1.0)
    data = records(15)
    without = summed.train(task(data))
    with_it = summed.train(task(concatenate([data, records(1, scale, seed=9)])))
    moved = float((flat(with_it.value) - flat(without.value)).norm())
    assert moved <= 0.7 * (1 + 1e-4)
    if scale > 1:
        assert moved > 0.6  # the record's own gradient is far larger, so the clip is what binds


def test_same_stream_same_result_and_other_rounds_other_noise() -> None:
    data = records(40)
    first, again = (PLAIN.train(task(data, Stream(0).child("round", 0))) for _ in range(2))
    other = PLAIN.train(task(data, Stream(0).child("round", 1)))
    assert torch.equal(flat(first.value), flat(again.value))
    assert first.checked == again.checked
    assert not torch.allclose(flat(first.value), flat(other.value))


def test_rounds_without_gradients_show_independent_noise_of_the_stated_size() -> None:
    job = task(records(0))
    walk = [flat(PLAIN.train(replace(job, stream=Stream(0, (r,)))).value) - flat(job.start) for r in (0, 1)]
    stated = PLAIN.lr * PLAIN.noise_multiplier * PLAIN.clip / PLAIN.expected_batch * math.sqrt(PLAIN.steps)
    # 1,026 parameters: the relative standard error of a standard deviation is 2.2 %.
    assert all(abs(float(w.std()) / stated - 1) < 0.1 for w in walk)
    assert abs(float(torch.corrcoef(torch.stack(walk))[0, 1])) < 0.15


def test_an_empty_batch_takes_a_noisy_step() -> None:
    job = task(records(5))
    spent = replace(PLAIN, sampling_rate=1e-12, steps=3).train(job)
    assert not failed(spent)
    assert float((flat(spent.value) - flat(job.start)).abs().min()) > 0


def test_global_random_state_is_neither_read_nor_noise() -> None:
    job = task(records(20))
    torch.manual_seed(1)
    first = PLAIN.train(job)
    torch.manual_seed(2)
    assert torch.equal(flat(first.value), flat(PLAIN.train(job).value))


# What it claims


def test_the_event_does_not_depend_on_the_records() -> None:
    spent = [PLAIN.train(task(records(n))) for n in (0, 40, 41)]
    assert {repr(s.event) for s in spent} == {repr(PLAIN.event)}
    assert {a.evidence for s in spent for a in s.checked if a.name == COUNTED} == {
        "12 steps ran, 12 accounted"
    }


def test_a_correct_run_verifies_every_assumption() -> None:
    for seed in range(20):
        assert not failed(PLAIN.train(task(records(40), Stream(seed))))


def test_no_noise_earns_no_event() -> None:
    spent = replace(PLAIN, noise_multiplier=0.0).train(task(records(20)))
    assert spent.event is None
    assert failed(spent) == {NOISE}


def test_the_simulation_is_named_outside_the_claim() -> None:
    assert PLAIN.train(task(records(5))).outside == (SIMULATED,)


# Planted bugs


def test_clipping_the_batch_in_place_of_each_record_is_seen(monkeypatch: pytest.MonkeyPatch) -> None:
    def clip_batch(self: Any) -> None:
        total = [g.sum(0) for g in self.grad_samples]
        norm = torch.cat([t.flatten() for t in total]).norm()
        for p, t in zip(self.params, total, strict=True):
            p.summed_grad = t * (self.max_grad_norm / norm).clamp(max=1.0)

    monkeypatch.setattr(DPOptimizer, "clip_and_accumulate", clip_batch)
    assert failed(PLAIN.train(task(records(40)))) == {CLIPPED}


def test_missing_noise_is_seen(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(
        opacus_optimizer, "_generate_noise", lambda reference, **_: torch.zeros_like(reference)
    )
    assert failed(PLAIN.train(task(records(40)))) == {NOISE}


def test_noise_that_is_a_tenth_too_small_is_seen(monkeypatch: pytest.MonkeyPatch) -> None:
    real = opacus_optimizer._generate_noise
    monkeypatch.setattr(opacus_optimizer, "_generate_noise", lambda **k: 0.9 * real(**k))
    assert failed(PLAIN.train(task(records(40)))) == {NOISE}


def test_noise_that_repeats_in_every_step_is_seen(monkeypatch: pytest.MonkeyPatch) -> None:
    real = opacus_optimizer._generate_noise

    def fixed(reference: Tensor, **knobs: Any) -> Any:
        return real(reference=reference, **{**knobs, "generator": torch.Generator().manual_seed(0)})

    monkeypatch.setattr(opacus_optimizer, "_generate_noise", fixed)
    assert failed(PLAIN.train(task(records(40)))) == {NOISE}


def test_dividing_by_the_batch_size_twice_is_seen(monkeypatch: pytest.MonkeyPatch) -> None:
    def twice(self: Any) -> None:
        for p in self.params:
            p.grad /= self.expected_batch_size**2

    monkeypatch.setattr(DPOptimizer, "scale_grad", twice)
    assert failed(PLAIN.train(task(records(40)))) == {NOISE}


def test_another_sampling_rate_than_stated_is_seen(monkeypatch: pytest.MonkeyPatch) -> None:
    real = poisson
    monkeypatch.setattr(dp_sgd, "poisson", lambda s, r: real(replace(s, sampling_rate=0.5), r))
    assert failed(PLAIN.train(task(records(100)))) == {SAMPLED}


def test_another_number_of_steps_than_stated_is_seen(monkeypatch: pytest.MonkeyPatch) -> None:
    real = poisson
    monkeypatch.setattr(dp_sgd, "poisson", lambda s, r: real(replace(s, steps=s.steps + 1), r))
    assert failed(PLAIN.train(task(records(40)))) == {COUNTED}


def test_a_record_that_is_not_a_number_leaves_the_claim_unverified() -> None:
    data = records(20)
    data.inputs[3] = math.nan
    assert CLIPPED in failed(replace(PLAIN, sampling_rate=1.0).train(task(data)))


def test_batch_norm_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    def with_batch_norm(spec: NetSpec, params: Params) -> nn.Module:
        return nn.Sequential(nn.Flatten(), nn.BatchNorm1d(64), nn.Linear(64, 10))

    monkeypatch.setattr(dp_sgd, "module_of", with_batch_norm)
    with pytest.raises(ValueError, match=r"expected a net whose layers keep records apart, got spec="):
        PLAIN.train(task(records(5)))


def test_the_sampled_sizes_have_the_stated_mean() -> None:
    # 400 runs of 12 steps on 40 records: the mean batch has standard error sqrt(40 * .21 / 4800) = .042;
    # the interval is four standard errors wide on each side (misses once in 16,000).
    stated = PLAIN._stated(40)
    mean = sum(float(poisson(stated, Stream(s)).sum()) for s in range(400)) / 400 / 12
    assert mean == pytest.approx(0.3 * 40, abs=4 * 0.042)


# Knobs


@pytest.mark.parametrize(
    ("knobs", "message"),
    [
        ({"noise_multiplier": -1.0}, "expected a finite noise_multiplier >= 0, got noise_multiplier=-1.0"),
        ({"noise_multiplier": math.nan}, "expected a finite noise_multiplier >= 0, got noise_multiplier=nan"),
        ({"clip": 0.0}, "expected a finite clip > 0, got clip=0.0"),
        ({"clip": math.inf}, "expected a finite clip > 0, got clip=inf"),
        ({"sampling_rate": 0.0}, r"expected sampling_rate in \(0, 1\], got sampling_rate=0.0"),
        ({"sampling_rate": 1.5}, r"expected sampling_rate in \(0, 1\], got sampling_rate=1.5"),
        ({"steps": 0}, "expected whole steps >= 1, got steps=0"),
        ({"steps": 2.5}, "expected whole steps >= 1, got steps=2.5"),
        ({"steps": math.inf}, "expected whole steps >= 1, got steps=inf"),
        ({"expected_batch": 0.0}, "expected a finite expected_batch > 0, got expected_batch=0.0"),
        ({"lr": -0.1}, "expected a finite lr > 0, got lr=-0.1"),
        ({"momentum": 1.0}, r"expected momentum in \[0, 1\), got momentum=1.0"),
    ],
)
def test_knobs_out_of_range_are_refused(knobs: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=f"^{message}$"):
        replace(PLAIN, **knobs)


def for_epsilon(value: float, delta: float | None = 1e-5, rounds: int = 3, **knobs: Any) -> DpSgd:
    fields = {"clip": 1.0, "sampling_rate": 0.3, "steps": 4, "expected_batch": 18.0, "lr": 0.5}
    return DpSgd.for_epsilon(value, delta, rounds, **{**fields, **knobs})


@pytest.mark.parametrize(
    ("call", "message"),
    [
        ((4.0, None), "expected a delta beside epsilon, got delta=None"),
        ((4.0, 2.0), r"expected delta in \(0, 1\), got delta=2.0"),
        ((0.0,), "expected epsilon > 0, got epsilon=0.0"),
        ((4.0, 1e-5, 0), "expected rounds >= 1, got rounds=0"),
    ],
)
def test_impossible_targets_are_refused(call: tuple[Any, ...], message: str) -> None:
    with pytest.raises(ValueError, match=f"^{message}$"):
        for_epsilon(*call)


def test_calibrated_noise_spends_the_target_over_all_rounds() -> None:
    calibrated = for_epsilon(4.0, accountant="rdp")
    spent = epsilon([calibrated.event] * 3, 1e-5, "rdp")
    assert 4.0 - 0.01 < spent <= 4.0


def test_infinite_epsilon_is_training_without_noise() -> None:
    assert for_epsilon(math.inf).event is None


# Noise of one full-batch Gaussian release at delta 1e-5. The exact values (analytic Gaussian
# mechanism, Balle and Wang, arXiv 1805.06530, Theorem 8) are met from above: PLD rounds privacy
# losses up to a grid of 1e-4, so it asks for up to 5e-4 more, and never for less.
SIGMA = {1.0: 3.7306, 2.0: 1.9938, 4.0: 1.0812, 8.0: 0.6002, 10.0: 0.4999}


@pytest.mark.parametrize("target", [1.0, *(pytest.param(e, marks=pytest.mark.slow) for e in SIGMA if e > 1)])
def test_calibration_meets_the_exact_gaussian_noise(target: float) -> None:
    noise = for_epsilon(target, rounds=1, sampling_rate=1.0, steps=1).noise_multiplier
    assert SIGMA[target] - 1e-4 <= noise <= SIGMA[target] + 5e-4


@pytest.mark.slow
def test_a_canary_is_not_told_apart_better_than_claimed() -> None:
    # One full-batch step with and without a record of huge gradient; the score is the projection of the
    # update on that record's clipped gradient. Under the claim the score is Gaussian with mean gap 1/sigma.
    from scipy.stats import norm

    data, canary = records(10), records(1, 1e3, seed=9)
    silent = DpSgd(0.0, 1.0, 1.0, 1, 1.0, 1.0)
    both = concatenate([data, canary])
    direction = flat(silent.train(task(both)).value) - flat(silent.train(task(data)).value)
    noisy = replace(silent, noise_multiplier=1.0)
    scores = torch.tensor(
        [
            [float(flat(noisy.train(task(d, Stream(s, (side,)))).value) @ direction) for s in range(400)]
            for side, d in enumerate((data, both))
        ]
    )
    gap = float(scores[1].mean() - scores[0].mean())
    # Standard error of the gap: sqrt(2 / 400) = .071; the AUC of a unit gap is Phi(1 / sqrt 2) = .760.
    assert gap == pytest.approx(1.0, abs=4 * 0.071)
    assert float(scores.std(dim=1).mean()) == pytest.approx(1.0, abs=0.15)
    auc = float((scores[1][:, None] > scores[0][None, :]).double().mean())
    assert auc == pytest.approx(float(norm.cdf(1 / math.sqrt(2))), abs=0.07)
