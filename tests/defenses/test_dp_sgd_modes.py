"""Ways of clipping, batches in pieces, and noise of the operating system: each by what it computes."""

from __future__ import annotations

import math
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
import torch
from opacus.optimizers import AdaClipDPOptimizer, DPOptimizerFastGradientClipping, DPPerLayerOptimizer
from scipy.stats import kstest
from torch import Tensor

from defenses import _dp_random
from defenses._dp_optimizers import Adaptive, Ghost, SystemFlat
from defenses._dp_stated import as_accounted, gradient_noise
from defenses._dp_steps import poisson
from defenses._dp_witness import Witness
from defenses.dp_sgd import SIMULATED, DpSgd
from privfed.hooks import Spent
from privfed.nets import NetSpec, Params, initial
from privfed.randomness import Stream
from privfed.records import Records
from privfed.training import Recipe, Task
from tests.defenses.test_dp_sgd_tasks import LSTM, MLP, NOISY, SPECS, SUMMED, alone, names, task

CLIPPED = "every per-sample gradient clipped"
NOISE = "Gaussian noise of the stated size"
COUNTED = "Gaussian noise on the count that moves the clip"
SECURE = "noise from a cryptographically secure source"
every_family = pytest.mark.parametrize("spec", SPECS, ids=lambda s: s.family)
every_clipping = pytest.mark.parametrize("clipping", ["flat", "per_layer", "adaptive", "ghost"])


def flat(params: Params) -> Tensor:
    return torch.cat([p.flatten() for p in params.values()])


def failed(spent: Spent[Params]) -> set[str]:
    return {a.name for a in spent.checked if not a.verified}


def evidence(spent: Spent[Params], name: str) -> str:
    return next(a.evidence for a in spent.checked if a.name == name)


# Ghost clipping.


@every_family
@pytest.mark.parametrize("part", [None, "a bias"])
def test_ghost_clipping_gives_the_updates_of_flat_clipping(spec: NetSpec, part: str | None) -> None:
    frozen = names(spec, part) if part else ()
    job = task(spec, 20, frozen=frozen)
    flatly, ghostly = (replace(NOISY, clipping=c).train(job) for c in ("flat", "ghost"))
    torch.testing.assert_close(flat(ghostly.value), flat(flatly.value), rtol=1e-5, atol=1e-6)
    assert repr(ghostly.event) == repr(flatly.event)
    assert not failed(ghostly)


def test_ghost_clipping_says_in_which_steps_it_was_recounted() -> None:
    spent = replace(NOISY, clipping="ghost").train(task(MLP, 20))
    assert evidence(spent, CLIPPED).startswith("in 4 of 6 steps each record's gradient was recomputed")


def test_gradients_that_ghost_clipping_adds_twice_are_seen(monkeypatch: pytest.MonkeyPatch) -> None:
    """Opacus clears to zero in place, and an LSTM's biases share one tensor: each is then added twice."""

    def in_place(self: Any, set_to_none: bool = False) -> None:
        DPOptimizerFastGradientClipping.zero_grad(self, False)

    monkeypatch.setattr(Ghost, "zero_grad", in_place)
    assert failed(replace(NOISY, clipping="ghost", clip=0.3).train(task(LSTM, 20))) == {CLIPPED}


def test_ghost_norms_that_are_too_small_are_seen(monkeypatch: pytest.MonkeyPatch) -> None:
    from opacus.grad_sample import GradSampleModuleFastGradientClipping as Module

    real = Module.get_norm_sample
    monkeypatch.setattr(Module, "get_norm_sample", lambda self: real(self) / 2)
    assert failed(replace(NOISY, clipping="ghost", clip=0.3).train(task(MLP, 20))) == {CLIPPED}


# Clipping by layer.


@every_family
def test_every_parameter_is_clipped_to_its_share(spec: NetSpec) -> None:
    job = task(spec)
    each = [alone(job, record) for record in range(len(job.records))]
    share = 0.3 / math.sqrt(len(job.start))
    expected = {
        k: sum(g[k] * min(1.0, share / max(float(g[k].norm()), 1e-9)) for g in each) for k in job.start
    }
    trained = replace(SUMMED, clip=0.3, clipping="per_layer").train(job).value
    for k, v in job.start.items():
        torch.testing.assert_close(v - trained[k], expected[k], rtol=1e-3, atol=1e-5)


def test_clipping_one_layer_too_little_is_seen(monkeypatch: pytest.MonkeyPatch) -> None:
    real = DPPerLayerOptimizer.__init__

    def loose(self: Any, inner: Any, *, max_grad_norm: list[float], **knobs: Any) -> None:
        real(self, inner, max_grad_norm=[2 * max_grad_norm[0], *max_grad_norm[1:]], **knobs)

    monkeypatch.setattr(DPPerLayerOptimizer, "__init__", loose)
    assert failed(replace(NOISY, clipping="per_layer", clip=0.1).train(task(MLP, 20))) == {CLIPPED}


# Adaptive clipping.


def test_noise_on_gradient_and_count_together_cost_the_noise_multiplier() -> None:
    """One Gaussian each: squared sensitivities over variances add up (Andrew et al., Theorem 1)."""
    for noise, count in ((1.0, 1.0), (0.7, 3.0), (2.0, 1.1)):
        own = gradient_noise(noise, count)
        assert own**-2 + (0.5 / count) ** 2 == pytest.approx(noise**-2, rel=1e-12)
    assert gradient_noise(0.0, 1.0) == 0.0
    assert gradient_noise(1.3, None) == 1.3


def test_adaptive_clipping_claims_what_flat_clipping_does() -> None:
    spent = replace(NOISY, clipping="adaptive").train(task(MLP, 20))
    assert repr(spent.event) == repr(NOISY.event)
    assert not failed(spent)
    assert COUNTED in {a.name for a in spent.checked}


def clips(monkeypatch: pytest.MonkeyPatch, defense: DpSgd, job: Task) -> list[float]:
    used: list[float] = []
    real = Witness.look

    def look(self: Witness, optimizer: Any) -> None:
        used.append(float(optimizer.max_grad_norm))
        real(self, optimizer)

    monkeypatch.setattr(Witness, "look", look)
    assert not failed(defense.train(job)) - {NOISE}
    return used


@pytest.mark.parametrize("start", [0.02, 5.0])
@pytest.mark.parametrize("largest", [None, 7])
def test_the_clip_goes_to_the_quantile_of_norms(
    start: float, largest: int | None, monkeypatch: pytest.MonkeyPatch
) -> None:
    job = task(MLP, 60)
    norms = torch.stack([flat(alone(job, r)) for r in range(60)]).norm(dim=1)
    defense = DpSgd(
        0.0,
        start,
        1.0,
        30,
        60.0,
        1e-9,
        clipping="adaptive",
        clip_rate=0.5,
        count_noise=0.1,
        largest_batch=largest,
    )
    used = clips(monkeypatch, defense, job)
    assert used[0] == start
    low, high = (float(norms.quantile(q)) for q in (0.4, 0.6))
    assert low <= used[-1] <= high


def test_the_clip_does_not_depend_on_the_size_of_the_batch(monkeypatch: pytest.MonkeyPatch) -> None:
    """Under no records the sum of (bit - 1/2) is zero, and the clip moves by noise alone."""
    defense = replace(NOISY, clipping="adaptive", count_noise=1e6, clip_rate=1e-6, expected_batch=10.0)
    moves = [np.diff(np.log(clips(monkeypatch, defense, task(MLP, n)))) for n in (0, 30)]
    # Noise of deviation a million drowns a count of at most 15: both differ by it over the public ten.
    np.testing.assert_allclose(moves[0], moves[1], atol=1e-6 * 15 / 10 + 1e-9)


def test_a_count_over_the_private_size_is_seen(monkeypatch: pytest.MonkeyPatch) -> None:
    """What Opacus does by itself."""

    def by_size(self: Any) -> None:
        self.unclipped_num = self.unclipped_num + self.sample_size / 2
        AdaClipDPOptimizer.update_max_grad_norm(self)

    monkeypatch.setattr(Adaptive, "update_max_grad_norm", by_size)
    assert failed(replace(NOISY, clipping="adaptive").train(task(MLP, 40))) == {CLIPPED}


def test_missing_noise_on_the_count_is_seen(monkeypatch: pytest.MonkeyPatch) -> None:
    real = Adaptive.add_noise

    def exact(self: Any) -> None:
        centred = float(self.unclipped_num) - self.sample_size / 2
        real(self)
        self.unclipped_num = centred

    monkeypatch.setattr(Adaptive, "add_noise", exact)
    assert failed(replace(NOISY, clipping="adaptive").train(task(MLP, 40))) == {COUNTED}


def test_noise_of_the_flat_size_under_adaptive_clipping_is_seen(monkeypatch: pytest.MonkeyPatch) -> None:
    """The gradient's own noise must grow to pay for the count: here by 15 %."""
    from opacus.optimizers import DPOptimizer

    def flat_noise(self: Any) -> None:
        DPOptimizer.add_noise(self)
        self.unclipped_num = float(self.unclipped_num) - self.sample_size / 2
        self.unclipped_num += self.unclipped_num_std * float(torch.randn(1, generator=self.generator))

    monkeypatch.setattr(Adaptive, "add_noise", flat_noise)
    wide = NetSpec("mlp", channels=1, size=4, classes=3, width=60, depth=2)
    assert failed(replace(NOISY, clipping="adaptive").train(task(wide, 20))) == {NOISE}


# Pieces.


@every_clipping
@every_family
def test_a_batch_in_pieces_is_the_batch_in_one(spec: NetSpec, clipping: Any) -> None:
    job = task(spec, 20, recipe=Recipe(1, 10, 0.1, proximal=0.3))
    whole = replace(NOISY, clipping=clipping, momentum=0.5)
    expected = flat(whole.train(job).value)
    for largest in (1, 3, 100):
        spent = replace(whole, largest_batch=largest).train(job)
        torch.testing.assert_close(flat(spent.value), expected, rtol=1e-4, atol=1e-5)
        assert not failed(spent)


@every_clipping
def test_no_piece_is_larger_than_asked(clipping: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    sizes: list[int] = []
    real = Witness.piece

    def piece(self: Witness, optimizer: Any, batch: Records) -> None:
        sizes.append(len(batch))
        real(self, optimizer, batch)

    monkeypatch.setattr(Witness, "piece", piece)
    assert not failed(
        replace(NOISY, clipping=clipping, sampling_rate=1.0, largest_batch=3).train(task(MLP, 8))
    )
    assert sizes == [3, 3, 2] * NOISY.steps


# The operating system's numbers.


def test_numbers_of_the_system_are_uniform_and_gaussian() -> None:
    """Kolmogorov-Smirnov at one in a million."""
    u, z = _dp_random.uniform(100, 50), _dp_random.normal(100, 50)
    assert (u.shape, u.dtype, z.shape, z.dtype) == ((100, 50), torch.float64, (100, 50), torch.float64)
    assert kstest(u.flatten().numpy(), "uniform").pvalue > 1e-6
    assert kstest(z.flatten().numpy(), "norm").pvalue > 1e-6


def test_the_ends_of_the_system_source_are_finite(monkeypatch: pytest.MonkeyPatch) -> None:
    for byte, end in ((b"\x00", -(2.0**0.5)), (b"\xff", 2.0**0.5)):
        monkeypatch.setattr("os.urandom", lambda n, byte=byte: byte * n)
        assert 0 < float(_dp_random.uniform(1)) < 1
        assert math.isfinite(float(_dp_random.normal(1)))
        assert math.copysign(1, end) == math.copysign(1, float(_dp_random.normal(1)))


@every_clipping
def test_a_run_on_the_system_does_not_repeat_and_drops_the_caveat(clipping: Any) -> None:
    job = task(MLP, 20)
    secure = replace(NOISY, clipping=clipping, random="system")
    first, second = secure.train(job), secure.train(job)
    assert not torch.equal(flat(first.value), flat(second.value))
    assert first.outside == ()
    assert SECURE in {a.name for a in first.checked}
    assert not failed(first) | failed(second)
    seeded = NOISY.train(job)
    assert seeded.outside == (SIMULATED,)
    assert SECURE not in {a.name for a in seeded.checked}


def test_records_are_drawn_by_the_system_too() -> None:
    stated = replace(NOISY, random="system")._stated(50)
    first, second = (poisson(stated, Stream(0)) for _ in range(2))
    assert first.shape == (NOISY.steps, 50)
    assert not torch.equal(first, second)


def test_seeded_noise_in_a_run_on_the_system_is_seen(monkeypatch: pytest.MonkeyPatch) -> None:
    from opacus.optimizers import DPOptimizer

    monkeypatch.setattr(SystemFlat, "add_noise", DPOptimizer.add_noise)
    spent = replace(NOISY, random="system").train(task(MLP, 20))
    assert failed(spent) == {SECURE}


def test_noise_other_than_what_was_handed_out_is_seen(monkeypatch: pytest.MonkeyPatch) -> None:
    real = SystemFlat.add_noise

    def other(self: Any) -> None:
        real(self)
        for p in self.params:
            p.grad = p.summed_grad - (p.grad - p.summed_grad)

    monkeypatch.setattr(SystemFlat, "add_noise", other)
    assert failed(replace(NOISY, random="system").train(task(MLP, 20))) == {SECURE}


# Knobs.


@pytest.mark.parametrize(
    ("knobs", "message"),
    [
        (
            {"clipping": "soft"},
            "expected clipping to be one of flat, per_layer, adaptive, ghost, got clipping=soft",
        ),
        ({"random": "dice"}, "expected random to be one of seeded, system, got random=dice"),
        ({"largest_batch": 0}, "expected largest_batch >= 1 or none, got largest_batch=0"),
        ({"quantile": 1.0}, r"expected quantile in \(0, 1\), got quantile=1.0"),
        ({"clip_rate": 0.0}, "expected a finite clip_rate > 0, got clip_rate=0.0"),
        (
            {"count_noise": 0.5},
            "expected a finite count_noise above half the noise multiplier, got count_noise=0.5",
        ),
    ],
)
def test_knobs_out_of_range_are_refused(knobs: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=f"^{message}$"):
        replace(NOISY, **knobs)


def test_the_usual_noise_on_the_count() -> None:
    """A twentieth of the expected batch, and never so little that the gradient's noise would be infinite."""
    assert replace(NOISY, expected_batch=100.0)._adaptation().count_noise == 5.0
    assert replace(NOISY, expected_batch=1.0)._adaptation().count_noise == NOISY.noise_multiplier


def test_an_epsilon_takes_the_new_knobs() -> None:
    found = DpSgd.for_epsilon(
        math.inf, 1e-5, 1, clip=1.0, sampling_rate=0.5, steps=2, expected_batch=4.0, lr=0.1,
        clipping="ghost", largest_batch=3, random="system",
    )  # fmt: skip
    assert (found.clipping, found.largest_batch, found.random) == ("ghost", 3, "system")


def test_a_run_is_held_against_what_the_ledger_has() -> None:
    other = DpSgd(2.0, 1.0, 0.1, 9, 5.0, 0.5)
    held = as_accounted(NOISY._stated(8), other.event)
    assert (held.noise_multiplier, held.sampling_rate, held.steps, held.clip) == (2.0, 0.1, 9, NOISY.clip)
    assert as_accounted(NOISY._stated(8), None) == NOISY._stated(8)
    assert other.event is not None
    event = other.event.event.event
    with pytest.raises(ValueError, match=r"^expected an event of Poisson-sampled Gaussians, got event="):
        as_accounted(NOISY._stated(8), event)


def test_starts_do_not_change() -> None:
    job = task(MLP, 20)
    before = {k: v.clone() for k, v in job.start.items()}
    for clipping in ("per_layer", "adaptive", "ghost"):
        replace(NOISY, clipping=clipping).train(job)
    assert all(torch.equal(before[k], job.start[k]) for k in before)
    assert list(job.start) == list(initial(MLP, Stream(1).torch()))
