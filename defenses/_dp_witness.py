"""An independent look at each DP-SGD step: what the optimiser really clipped, sampled and added.

The witness reads per-sample gradients, their clipped sum and the final gradient after each step,
recomputes what they should be, and turns the lot into assumptions of the claim. Each statistical
check raises a false alarm with probability at most 1e-6 a run, by non-asymptotic bounds (Laurent
and Massart 2000, Lemma 1, for the noise; Bernstein's inequality for the sampling).
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from privfed.claims import Assumption

LOG_ALARM = math.log(2 / 1e-6)
ROUNDING = 1e-5
PROBES = 3


@dataclass(frozen=True, slots=True)
class Step:
    """One step as it was seen.

    Attributes:
        size: records in the batch.
        excess: L2 distance between the sum used and the sum of gradients clipped one by one, as a
            multiple of what rounding explains; at most 1 when every record was clipped.
        draws: numbers of noise added, one a parameter.
        power: sum of squares of the noise over its stated deviation.
        echo: inner product of that noise with the noise of the step before; 0 for the first.
    """

    size: int
    excess: float
    draws: int
    power: float
    echo: float


@dataclass(frozen=True, slots=True)
class Stated:
    """What the steps are held against: the knobs of the claim, and the number of records."""

    noise_multiplier: float
    clip: float
    sampling_rate: float
    steps: int
    expected_batch: float
    records: int


def watch(stated: Stated, seen: list[Step]) -> Callable[[Any], None]:
    """A step hook for an Opacus optimiser that appends what it sees to `seen`."""
    before: Tensor | None = None

    def look(optimizer: Any) -> None:
        nonlocal before
        each = torch.cat([g.flatten(1) for g in optimizer.grad_samples], dim=1)
        total = torch.cat([p.summed_grad.flatten() for p in optimizer.params])
        used = torch.cat([p.grad.flatten() for p in optimizer.params])
        scale = stated.noise_multiplier * stated.clip or 1.0
        noise = (used * stated.expected_batch - total) / scale
        echo = 0.0 if before is None else float(noise @ before)
        before = noise
        excess = _excess(each, total, stated.clip)
        seen.append(Step(len(each), excess, noise.numel(), float(noise @ noise), echo))

    return look


def assumptions(stated: Stated, seen: Sequence[Step]) -> tuple[Assumption, ...]:
    """What the run says about each assumption of Poisson-sampled DP-SGD."""
    return (
        _sampled(stated, [step.size for step in seen]),
        _clipped(stated, [step.excess for step in seen]),
        _noisy(stated, seen),
        Assumption(
            "all steps counted", len(seen) == stated.steps, f"{len(seen)} steps ran, {stated.steps} accounted"
        ),
    )


def separate(module: nn.Module, shape: Sequence[int]) -> Assumption:
    """Whether per-sample gradients mean anything: no output of a record may depend on another record.

    Args:
        module: as it trains, in training mode, its layers already accepted by Opacus, which knows
            which layers with parameters mix records, and takes those it does not know on trust.
        shape: of one input.
    """
    apart = _keeps_apart(module, shape)
    layers = [m for m in module.modules() if next(m.parameters(False), None) is not None]
    kinds = ", ".join(sorted({type(layer).__name__ for layer in layers}))
    return Assumption(
        "no layer mixes records",
        apart,
        f"Opacus accepts every layer: {kinds}; on made-up records {'no' if apart else 'an'} output has a "
        "gradient in another record",
    )


def _keeps_apart(module: nn.Module, shape: Sequence[int]) -> bool:
    like = next(module.parameters())
    # Numbers without a pattern that a layer could cancel, and without a look at the data.
    wave = torch.arange(PROBES * math.prod(shape), dtype=like.dtype, device=like.device).sin()
    inputs = wave.view(PROBES, *shape).requires_grad_()
    outputs = module(inputs)
    for own in range(PROBES):
        (gradient,) = torch.autograd.grad(outputs[own].sum(), inputs, retain_graph=True)
        others = torch.arange(PROBES, device=like.device) != own
        if (gradient[others] != 0).any():  # true of NaN
            return False
    return True


def _excess(each: Tensor, total: Tensor, clip: float) -> float:
    norms = each.norm(dim=1)
    factor = (clip / norms).clamp(max=1.0)  # a zero gradient gives an infinite ratio, clamped to 1
    allowed = ROUNDING * (factor * norms).sum() + 1e-6 * len(each) + 1e-12
    return float((total - factor @ each).norm() / allowed)


def _clipped(stated: Stated, excess: Sequence[float]) -> Assumption:
    within = all(e <= 1 for e in excess)  # false for NaN, unlike a comparison of the maximum
    return Assumption(
        "every per-sample gradient clipped",
        within,
        f"the sum of every step {'is' if within else 'is not'} the sum of gradients clipped one by one to "
        f"L2 norm {stated.clip:g}, recomputed to within rounding",
    )


def _sampled(stated: Stated, sizes: Sequence[int]) -> Assumption:
    draws = stated.records * len(sizes)
    rate = stated.sampling_rate
    slack = math.sqrt(2 * draws * rate * (1 - rate) * LOG_ALARM) + LOG_ALARM / 3 if rate < 1 else 0.0
    within = abs(sum(sizes) - draws * rate) <= slack
    return Assumption(
        "Poisson sampling",
        within,
        f"every record is drawn by itself with rate {rate:g} in every step; the number of records drawn is "
        f"{'within' if within else 'outside'} Bernstein's bound for that rate",
    )


def _noisy(stated: Stated, seen: Sequence[Step]) -> Assumption:
    name = "Gaussian noise of the stated size"
    if stated.noise_multiplier == 0:
        return Assumption(name, False, "noise multiplier 0: no noise was added")
    count = sum(step.draws for step in seen)
    power = sum(step.power for step in seen)
    echo = sum(step.echo for step in seen)
    repeats = abs(echo) > math.sqrt(2 * count * LOG_ALARM) + LOG_ALARM
    return Assumption(
        name,
        _chi_square(power, count) and not repeats,
        f"added noise has {power / max(count, 1):.4f} of its stated variance over {count} draws and "
        f"{'repeats' if repeats else 'does not repeat'} from step to step; it comes from a seeded "
        "pseudo-random stream that no attack is handed",
    )


def _chi_square(power: float, count: int) -> bool:
    spread = 2 * math.sqrt(count * LOG_ALARM)
    return -spread <= power - count <= spread + 2 * LOG_ALARM
