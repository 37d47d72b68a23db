"""DP-SGD at the clients: record-level differential privacy of everything a client sends.

Abadi et al. (arXiv 1607.00133, Algorithm 1) with Poisson sampling, through Opacus: per-sample
gradients by GradSampleModule, clipping and noise by DPOptimizer and its kin. What follows a client's
training (distillation, aggregation, release) is post-processing of it.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, replace
from functools import lru_cache
from typing import TYPE_CHECKING, Any, get_args

import torch
from torch import nn

from defenses._dp_assumptions import assumptions
from defenses._dp_stated import Adaptation, Clipping, Random, Stated, as_accounted
from defenses._dp_steps import (
    in_turn,
    pieces,
    poisson,
    pull,
    step,
    without_hook_warning,
    without_hooks,
    witness_of,
)
from defenses._dp_witness import separate
from privfed.accounting import Accountant, calibrate
from privfed.hooks import Spent
from privfed.nets import Params, module_of

if TYPE_CHECKING:
    from dp_accounting import DpEvent

    from privfed.randomness import Stream
    from privfed.training import Task

__all__ = ["SIMULATED", "DpSgd"]

# How far an adaptive clip may go from where it started, either way.
REACH = 1e3

SIMULATED = (
    "the quality of the random numbers: noise and sampling come from a seeded pseudo-random generator, so "
    "that a run can be repeated; a deployment must draw them from a cryptographically secure one and guard "
    "against floating-point attacks (Mironov 2012)"
)


@dataclass(frozen=True, slots=True)
class DpSgd:
    """Local training by DP-SGD with a fixed sampling rate and a fixed number of steps.

    One round of one client spends a Poisson-sampled Gaussian, `steps` times, for the unit *record*
    and the neighbouring relation *add or remove one*. Neither the rate, the number of steps, nor
    the divisor of the noisy sum depends on the number of records, which is private under that
    relation; a step whose batch is empty adds noise like any other.

    Frozen parameters have no gradient: they are in no norm, get no noise and come back as they were.
    Of the task's recipe only the proximal weight is used. The pull mu (w - anchor) depends on no
    record and is added to the noisy gradient, so it costs nothing. The start, frozen parameters and
    the anchor are taken as known: they come from others, or were paid for when they were made.

    With `random` "seeded" the noise is reproducible. That is sound in an audit, where attacks see
    releases and never a seed, and wrong in a deployment: the assumptions here say what the simulated
    claim needs, and `SIMULATED`, outside the claim, is the caveat. With "system" noise and sampling come
    from the operating system's cryptographically secure source: two runs are never the same, nothing
    that is stored under a hash of its settings can be made again, and the caveat goes.

    Four ways of clipping, all with one record's share of the sum within the clip:

    - "flat": the whole gradient to `clip`.
    - "per_layer": each of the L parameter tensors to clip / sqrt(L), as Opacus divides layers.
    - "adaptive": as flat, with a clip that starts at `clip` and follows a quantile of gradient norms
      (Andrew et al., arXiv 1905.03871). A noisy count is released beside the gradient; the gradient's own
      noise grows so that both together cost what `noise_multiplier` says (their Theorem 1), and the
      event is that of flat clipping.
    - "ghost": as flat, without gradients of single records in memory where Opacus can do without
      (linear layers; others make theirs one layer at a time) and in two backward passes (Li et al.,
      arXiv 2110.05679). The run recounts some steps the slow way: steps 1, 2, 4, ... and the last.

    Attributes:
        noise_multiplier: standard deviation of the noise on the sum of clipped gradients over
            `clip`; 0 trains without noise and earns no claim.
        clip: largest L2 norm of one record's gradient; finite.
        sampling_rate: probability that a record is in a batch, in (0, 1].
        steps: a round, whatever the number of records.
        expected_batch: public divisor of the noisy sum, in records; about the sampling rate times
            a public guess of the number of records.
        lr, momentum: of SGD, as in torch.optim.SGD.
        clipping: "flat", "per_layer", "adaptive" or "ghost".
        largest_batch: records that are in memory at once; a larger batch goes in pieces to the same
            sum. None = whole batches.
        random: "seeded", or "system" for a run that does not repeat.
        quantile: of gradient norms, that an adaptive clip follows, in (0, 1).
        clip_rate: of the adaptive clip's geometric update (0.2 in Andrew et al.).
        count_noise: standard deviation of the noise on the adaptive clip's count, above half the noise
            multiplier; None = a twentieth of the expected batch (Andrew et al.), or the noise multiplier
            if that is more.
    """

    noise_multiplier: float
    clip: float
    sampling_rate: float
    steps: int
    expected_batch: float
    lr: float
    momentum: float = 0.0
    clipping: Clipping = "flat"
    largest_batch: int | None = None
    random: Random = "seeded"
    quantile: float = 0.5
    clip_rate: float = 0.2
    count_noise: float | None = None

    def __post_init__(self) -> None:
        _require(
            0 <= self.noise_multiplier < math.inf,
            "a finite noise_multiplier >= 0",
            noise_multiplier=self.noise_multiplier,
        )
        _require(0 < self.clip < math.inf, "a finite clip > 0", clip=self.clip)
        _require(0 < self.sampling_rate <= 1, "sampling_rate in (0, 1]", sampling_rate=self.sampling_rate)
        _require(isinstance(self.steps, int) and self.steps >= 1, "whole steps >= 1", steps=self.steps)
        _require(
            0 < self.expected_batch < math.inf,
            "a finite expected_batch > 0",
            expected_batch=self.expected_batch,
        )
        _require(0 < self.lr < math.inf, "a finite lr > 0", lr=self.lr)
        _require(0 <= self.momentum < 1, "momentum in [0, 1)", momentum=self.momentum)
        for name, known in (("clipping", get_args(Clipping)), ("random", get_args(Random))):
            value = getattr(self, name)
            _require(value in known, f"{name} to be one of {', '.join(known)}", **{name: value})
        most = self.largest_batch
        _require(most is None or most >= 1, "largest_batch >= 1 or none", largest_batch=most)
        _require(0 < self.quantile < 1, "quantile in (0, 1)", quantile=self.quantile)
        _require(0 < self.clip_rate < math.inf, "a finite clip_rate > 0", clip_rate=self.clip_rate)
        given = self.count_noise
        _require(
            given is None or self.noise_multiplier / 2 < given < math.inf,
            "a finite count_noise above half the noise multiplier",
            count_noise=given,
        )

    @classmethod
    def for_epsilon(
        cls,
        epsilon: float,
        delta: float | None,
        rounds: int,
        *,
        clip: float,
        sampling_rate: float,
        steps: int,
        expected_batch: float,
        lr: float,
        momentum: float = 0.0,
        accountant: Accountant = "pld",
        clipping: Clipping = "flat",
        largest_batch: int | None = None,
        random: Random = "seeded",
    ) -> DpSgd:
        """The least noise that keeps a client within `epsilon` over `rounds` rounds.

        Args:
            epsilon: of the finished run, in nats; infinity trains without noise.
            delta: failure probability; below one over the number of records of any client.
            rounds: the most that one client takes part in.
            clip: as the field.
            sampling_rate: as the field.
            steps: as the field, a round.
            expected_batch: as the field.
            lr: as the field.
            momentum: as the field.
            accountant: the one the claim will be computed with.
            clipping: as the field; the noise does not depend on it.
            largest_batch: as the field.
            random: as the field.
        """
        _require(delta is not None, "a delta beside epsilon", delta=delta)
        _require(epsilon > 0, "epsilon > 0", epsilon=epsilon)
        _require(rounds >= 1, "rounds >= 1", rounds=rounds)
        silent = cls(
            0.0, clip, sampling_rate, steps, expected_batch, lr, momentum, clipping, largest_batch, random
        )
        if math.isinf(epsilon):
            return silent
        noise = _noise_for(epsilon, delta or 0.0, rounds * steps, sampling_rate, accountant)
        return replace(silent, noise_multiplier=noise)

    @property
    def event(self) -> DpEvent | None:
        """What one round of one client spends; None without noise."""
        return (
            _event(self.noise_multiplier, self.sampling_rate, self.steps) if self.noise_multiplier else None
        )

    def train(self, task: Task) -> Spent[Params]:
        """Parameters after `steps` noisy steps from the task's start, and what the run verified.

        Raises:
            ValueError: if the task has a teacher, or a recipe that mixes records.
        """
        _refuse_mixing(task)
        module = _per_sample(task, self.clip if self.clipping == "ghost" else None)
        with without_hooks(module):
            apart = separate(module._module, task.spec.input_shape)
        optimizer = self._optimizer(module, task.stream.child("noise"))
        stated = self._stated(len(task.records))
        witness = witness_of(as_accounted(stated, self.event), task, module)
        optimizer.attach_step_hook(in_turn(witness.look, pull(task)))
        with without_hook_warning():
            for chosen in poisson(stated, task.stream.child("poisson")):
                batch = [task.records.take(part) for part in pieces(chosen, self.largest_batch)]
                step(module, optimizer, batch, witness)
        trained = {name: p.detach().clone() for name, p in module._module.named_parameters()}
        fixed = {name: task.start[name].detach().clone() for name in task.frozen}
        params = {name: {**trained, **fixed}[name] for name in task.start}
        checked = (*assumptions(witness.stated, witness.seen), apart)
        return Spent(params, self.event, checked, outside=(SIMULATED,) if self.random == "seeded" else ())

    def _stated(self, records: int) -> Stated:
        return Stated(
            self.noise_multiplier, self.clip, self.sampling_rate, self.steps, self.expected_batch, records,
            self.clipping, self.random, self._adaptation() if self.clipping == "adaptive" else None,
        )  # fmt: skip

    def _adaptation(self) -> Adaptation:
        usual = max(self.expected_batch / 20, self.noise_multiplier)
        noise = usual if self.count_noise is None else self.count_noise
        return Adaptation(self.quantile, self.clip_rate, noise, self.clip / REACH, self.clip * REACH)

    def _optimizer(self, module: nn.Module, stream: Stream) -> Any:
        from defenses._dp_optimizers import KINDS

        parameters = [p for p in module.parameters() if p.requires_grad]
        how = self._adaptation()
        return KINDS[self.clipping, self.random](
            torch.optim.SGD(parameters, lr=self.lr, momentum=self.momentum),
            noise_multiplier=self.noise_multiplier,
            max_grad_norm=self.clip,
            expected_batch_size=self.expected_batch,
            generator=stream.torch(parameters[0].device.type) if self.random == "seeded" else None,
            **({} if self.clipping != "adaptive" else {
                "target_unclipped_quantile": how.quantile,
                "clipbound_learning_rate": how.rate,
                "unclipped_num_std": how.count_noise,
                "min_clipbound": how.smallest,
                "max_clipbound": how.largest,
            }),
        )  # fmt: skip


def _refuse_mixing(task: Task) -> None:
    if task.teacher is not None:
        shape = tuple(task.teacher.shape)
        raise ValueError(f"expected a task without a teacher under DP-SGD, got teacher of shape {shape}")
    mixup = getattr(task.recipe, "mixup", 0)
    if mixup:
        raise ValueError(f"expected a recipe that keeps records apart under DP-SGD, got mixup={mixup}")


def _per_sample(task: Task, ghost_clip: float | None = None) -> Any:
    from opacus.grad_sample import GradSampleModule, GradSampleModuleFastGradientClipping
    from opacus.validators import ModuleValidator

    module = module_of(task.spec, task.start).to(next(iter(task.start.values())).device).train()
    # Before anything is frozen: the validator passes over frozen layers, which may mix records too.
    errors = ModuleValidator.validate(module, strict=False)
    if errors:
        raise ValueError(f"expected a net whose layers keep records apart, got spec={task.spec}: {errors[0]}")
    for name, parameter in module.named_parameters():
        parameter.requires_grad_(name not in task.frozen)
    # Layers that Opacus has no rule for (the LSTM of this project) are differentiated by torch.func.
    if ghost_clip is None:
        return GradSampleModule(module, loss_reduction="sum")
    return GradSampleModuleFastGradientClipping(module, loss_reduction="sum", max_grad_norm=ghost_clip)


@lru_cache(maxsize=256)
def _noise_for(epsilon: float, delta: float, steps: int, rate: float, accountant: Accountant) -> float:
    return calibrate(lambda noise: _event(noise, rate, steps), epsilon, delta, accountant)


def _event(noise_multiplier: float, rate: float, steps: int) -> DpEvent:
    from dp_accounting import GaussianDpEvent, PoissonSampledDpEvent, SelfComposedDpEvent

    return SelfComposedDpEvent(PoissonSampledDpEvent(rate, GaussianDpEvent(noise_multiplier)), steps)


def _require(holds: bool, rule: str, **got: object) -> None:
    if not holds:
        raise ValueError(f"expected {rule}, got {', '.join(f'{k}={v}' for k, v in got.items())}")
