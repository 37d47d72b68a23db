"""An independent look at each DP-SGD step: what the optimiser really clipped, sampled and added.

The witness reads per-sample gradients before they are clipped, and their sum and the final gradient
after, recomputes what they should be, and turns the lot into assumptions of the claim. Under ghost
clipping there are no per-sample gradients to read; there it makes its own in some steps. What was
seen becomes assumptions in `_dp_assumptions`.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor, nn

from defenses._dp_stated import Adaptation, Stated
from privfed.claims import Assumption
from privfed.records import Records

ROUNDING = 1e-5
# Norms that ghost clipping makes without the gradients themselves differ more in their last digits.
GHOST_ROUNDING = 1e-4
PROBES = 3


@dataclass(frozen=True, slots=True)
class Step:
    """One step as it was seen.

    Attributes:
        size: records in the batch.
        excess: L2 distance between the sum used and the sum of gradients clipped one by one, as a
            multiple of what rounding explains; at most 1 when every record was clipped. Where
            gradients were not recounted, length of the sum used over what the clip allows.
        draws: numbers of noise added, one a parameter.
        power: sum of squares of the noise over its stated deviation.
        echo: inner product of that noise with the noise of the step before; 0 for the first.
        recounted: whether `excess` is by gradients of each record.
        followed: whether the clip was the stated one, or the one that noisy counts led to.
        count_noise: noise on the count over its stated deviation; 0 without a count.
        handed: whether the noise is what the operating system's source gave; True for another source.
    """

    size: int
    excess: float
    draws: int
    power: float
    echo: float
    recounted: bool = True
    followed: bool = True
    count_noise: float = 0.0
    handed: bool = True


@dataclass(slots=True)
class _Batch:
    """What the witness made of the pieces of one batch so far."""

    size: int = 0
    total: Tensor | float = 0.0
    length: Tensor | float = 0.0
    centred: float = 0.0


@dataclass(slots=True)
class Witness:
    """Looks at every piece of a batch before the optimiser does, and at every step after.

    Attributes:
        stated: what the ledger has.
        each: per-sample gradients of a piece without Opacus, in parts of shape (n, total); None where
            the optimiser has them.
        norms: of the gradients of the latest piece, as ghost clipping found them, shape (n,).
        seen: the steps so far.
    """

    stated: Stated
    each: Callable[[Records], list[Tensor]] | None = None
    norms: Callable[[], Tensor] | None = None
    seen: list[Step] = field(default_factory=list)
    _batch: _Batch = field(default_factory=_Batch)
    _clip: float | None = None
    _before: Tensor | None = None

    def piece(self, optimizer: Any, piece: Records) -> None:
        """Before the optimiser takes a piece of a batch, its gradients ready."""
        self._batch.size += len(piece)
        clip = self._used(optimizer)
        if self.each is None:
            self._add(_blocks(optimizer, self.stated, clip))
        elif self._recounts:
            for part in self.each(piece):
                self._add([(part, clip)])
        elif len(piece) and self.norms is not None:
            self._batch.length += self.norms().clamp(max=clip).sum()

    def look(self, optimizer: Any) -> None:
        """The step hook of an Opacus optimiser: noise is added, nothing has moved yet."""
        clip, batch, stated = self._used(optimizer), self._batch, self.stated
        total = torch.cat([p.summed_grad.flatten() for p in optimizer.params])
        used = torch.cat([p.grad.flatten() for p in optimizer.params])
        scale = stated.gradient_noise * clip or 1.0
        noise = (used * stated.expected_batch - total) / scale
        echo = 0.0 if self._before is None else float(noise @ self._before)
        followed = clip == stated.clip if self._clip is None else math.isclose(clip, self._clip, rel_tol=1e-5)
        count_noise = self._follow(optimizer, clip)
        self.seen.append(
            Step(
                batch.size,
                self._excess(total),
                noise.numel(),
                float(noise @ noise),
                echo,
                self.each is None or self._recounts,
                followed,
                count_noise,
                _as_handed(optimizer, stated, noise * scale, total),
            )
        )
        self._before, self._batch = noise, _Batch()

    @property
    def _recounts(self) -> bool:
        """Steps 1, 2, 4, 8, ... and the last: early ones and some of every length of run."""
        step = len(self.seen) + 1
        return step & (step - 1) == 0 or step == self.stated.steps

    def _used(self, optimizer: Any) -> float:
        return float(optimizer.max_grad_norm) if self.stated.adaptation else self.stated.clip

    def _add(self, blocks: Sequence[tuple[Tensor, float]]) -> None:
        batch, parts = self._batch, []
        for gradients, clip in blocks:
            norms = gradients.norm(dim=1)
            factor = (clip / norms).clamp(max=1.0)  # a zero gradient gives an infinite ratio, clamped to 1
            parts.append(factor @ gradients)
            batch.length += (factor * norms).sum()
            batch.centred += float((norms <= clip).sum()) - len(norms) / 2
        batch.total = batch.total + torch.cat(parts)

    def _excess(self, total: Tensor) -> float:
        batch = self._batch
        if self.each is not None and not self._recounts:
            return float(total.norm() / (batch.length * (1 + GHOST_ROUNDING) + 1e-12))
        rounding = ROUNDING if self.each is None else GHOST_ROUNDING
        allowed = rounding * batch.length + 1e-6 * batch.size + 1e-12
        return float((total - batch.total).norm() / allowed)

    def _follow(self, optimizer: Any, clip: float) -> float:
        """Notes where the noisy count leads the clip; gives the noise on it over what is stated."""
        how = self.stated.adaptation
        if how is None:
            self._clip = clip
            return 0.0
        noisy = float(optimizer.unclipped_num)
        self._clip = _moved(clip, noisy / self.stated.expected_batch, how)
        return (noisy - self._batch.centred) / how.count_noise


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


def _blocks(optimizer: Any, stated: Stated, clip: float) -> list[tuple[Tensor, float]]:
    """Gradients that are clipped together, shape (n, size), each with its clip."""
    flat = [g.flatten(1) for g in optimizer.grad_samples]
    if stated.clipping == "per_layer":
        return [(g, clip / math.sqrt(len(flat))) for g in flat]
    return [(torch.cat(flat, dim=1), clip)]


def _moved(clip: float, centred: float, how: Adaptation) -> float:
    moved = clip * math.exp(-how.rate * (0.5 + centred - how.quantile))
    return min(max(moved, how.smallest), how.largest)


def _as_handed(optimizer: Any, stated: Stated, found: Tensor, total: Tensor) -> bool:
    if stated.random != "system":
        return True
    handed = getattr(optimizer, "handed", None)
    if handed is None:
        return False
    allowed = 1e-3 * handed.norm() + ROUNDING * total.norm()
    return bool((found - handed.to(found)).norm() <= allowed)
