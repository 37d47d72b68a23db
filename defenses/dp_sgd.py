"""DP-SGD at the clients: record-level differential privacy of everything a client sends.

Abadi et al. (arXiv 1607.00133, Algorithm 1) with Poisson sampling, through Opacus: per-sample
gradients by GradSampleModule, clipping and noise by DPOptimizer. What follows a client's training
(distillation, aggregation, release) is post-processing of it.
"""

from __future__ import annotations

import math
import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from functools import lru_cache
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from defenses._dp_witness import Stated, Step, assumptions, separate, watch
from privfed.accounting import Accountant, calibrate
from privfed.hooks import Spent
from privfed.nets import Params, module_of, parameter_shapes
from privfed.records import Records

if TYPE_CHECKING:
    from dp_accounting import DpEvent

    from privfed.randomness import Stream
    from privfed.training import Task

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

    The noise is reproducible. That is sound in an audit, where attacks see releases and never a
    seed, and wrong in a deployment: the assumptions here say what the simulated claim needs, and
    `SIMULATED`, outside the claim, is the caveat.

    Attributes:
        noise_multiplier: standard deviation of the noise on the sum of clipped gradients over
            `clip`; 0 trains without noise and earns no claim.
        clip: largest L2 norm of one record's gradient; finite.
        sampling_rate: probability that a record is in a batch, in (0, 1].
        steps: a round, whatever the number of records.
        expected_batch: public divisor of the noisy sum, in records; about the sampling rate times
            a public guess of the number of records.
        lr, momentum: of SGD, as in torch.optim.SGD.
    """

    noise_multiplier: float
    clip: float
    sampling_rate: float
    steps: int
    expected_batch: float
    lr: float
    momentum: float = 0.0

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
        """
        _require(delta is not None, "a delta beside epsilon", delta=delta)
        _require(epsilon > 0, "epsilon > 0", epsilon=epsilon)
        _require(rounds >= 1, "rounds >= 1", rounds=rounds)
        silent = cls(0.0, clip, sampling_rate, steps, expected_batch, lr, momentum)
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
            ValueError: if the task has a teacher.
        """
        if task.teacher is not None:
            shape = tuple(task.teacher.shape)
            raise ValueError(f"expected a task without a teacher under DP-SGD, got teacher of shape {shape}")
        seen: list[Step] = []
        stated = self._stated(len(task.records))
        module = _per_sample(task)
        with _without_hooks(module):
            apart = separate(module._module, task.spec.input_shape)
        optimizer = self._optimizer(module, task.stream.child("noise"))
        optimizer.attach_step_hook(_in_turn(watch(stated, seen), _pull(task)))
        with _without_hook_warning():
            for chosen in _poisson(stated, task.stream.child("poisson")):
                _step(module, optimizer, task.records.take(chosen))
        trained = {name: p.detach().clone() for name, p in module._module.named_parameters()}
        fixed = {name: task.start[name].detach().clone() for name in task.frozen}
        params = {name: {**trained, **fixed}[name] for name in task.start}
        checked = (*assumptions(stated, seen), apart)
        return Spent(params, self.event, checked, outside=(SIMULATED,))

    def _stated(self, records: int) -> Stated:
        return Stated(
            self.noise_multiplier, self.clip, self.sampling_rate, self.steps, self.expected_batch, records
        )

    def _optimizer(self, module: nn.Module, stream: Stream) -> Any:
        from opacus.optimizers import DPOptimizer

        parameters = [p for p in module.parameters() if p.requires_grad]
        return DPOptimizer(
            torch.optim.SGD(parameters, lr=self.lr, momentum=self.momentum),
            noise_multiplier=self.noise_multiplier,
            max_grad_norm=self.clip,
            expected_batch_size=self.expected_batch,
            generator=stream.torch(parameters[0].device.type),
        )


def _step(module: nn.Module, optimizer: Any, batch: Records) -> None:
    optimizer.zero_grad(set_to_none=True)
    if len(batch):
        F.cross_entropy(module(batch.inputs), batch.labels, reduction="sum").backward()
    else:
        # No record, no backward pass: the sum is zero and the noise is added all the same.
        for p in optimizer.params:
            p.grad_sample = p.new_zeros((0, *p.shape))
    optimizer.step()


def _poisson(stated: Stated, stream: Stream) -> Tensor:
    """Which records are in which step: boolean, shape (steps, records), all entries independent."""
    draws = torch.rand(stated.steps, stated.records, generator=stream.torch(), dtype=torch.float64)
    return draws < stated.sampling_rate


def _per_sample(task: Task) -> Any:
    from opacus import GradSampleModule
    from opacus.validators import ModuleValidator

    module = module_of(task.spec, task.start).to(next(iter(task.start.values())).device).train()
    # Before anything is frozen: the validator passes over frozen layers, which may mix records too.
    errors = ModuleValidator.validate(module, strict=False)
    if errors:
        raise ValueError(f"expected a net whose layers keep records apart, got spec={task.spec}: {errors[0]}")
    for name, parameter in module.named_parameters():
        parameter.requires_grad_(name not in task.frozen)
    # Layers that Opacus has no rule for (the LSTM of this project) are differentiated by torch.func.
    return GradSampleModule(module, loss_reduction="sum")


def _pull(task: Task) -> Callable[[Any], None] | None:
    """Adds mu (w - anchor) to what an optimiser is about to descend; None without a proximal term."""
    mu, anchor = task.recipe.proximal, task.start if task.anchor is None else task.anchor
    if not mu:
        return None
    towards = [anchor[name] for name in parameter_shapes(task.spec) if name not in task.frozen]

    def pull(optimizer: Any) -> None:
        for p, a in zip(optimizer.params, towards, strict=True):
            p.grad.add_(p.detach() - a.to(p), alpha=mu)

    return pull


def _in_turn(look: Callable[[Any], None], pull: Callable[[Any], None] | None) -> Callable[[Any], None]:
    """The witness first: it holds the noise against a gradient that nothing else was added to."""

    def act(optimizer: Any) -> None:
        look(optimizer)
        if pull is not None:
            pull(optimizer)

    return act


@lru_cache(maxsize=256)
def _noise_for(epsilon: float, delta: float, steps: int, rate: float, accountant: Accountant) -> float:
    return calibrate(lambda noise: _event(noise, rate, steps), epsilon, delta, accountant)


def _event(noise_multiplier: float, rate: float, steps: int) -> DpEvent:
    from dp_accounting import GaussianDpEvent, PoissonSampledDpEvent, SelfComposedDpEvent

    return SelfComposedDpEvent(PoissonSampledDpEvent(rate, GaussianDpEvent(noise_multiplier)), steps)


def _require(holds: bool, rule: str, **got: object) -> None:
    if not holds:
        raise ValueError(f"expected {rule}, got {', '.join(f'{k}={v}' for k, v in got.items())}")


@contextmanager
def _without_hooks(module: Any) -> Iterator[None]:
    """What runs in here is no training: no activation is kept for per-sample gradients."""
    module.disable_hooks()
    yield
    module.enable_hooks()


@contextmanager
def _without_hook_warning() -> Iterator[None]:
    """Images need no gradient, which is what torch warns of once a module."""
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", message="Full backward hook is firing")
        yield
