"""Opacus's optimisers, one for each way of clipping, and the same with noise of the operating system.

What differs from Opacus 1.6 is there for the guarantee:

- Adaptive clipping (Andrew et al., arXiv 1905.03871, Algorithm 1) moves the clip by a noisy count of
  the records that were not clipped. Opacus adds up bits, one record moves that by 1, and divides by the
  size of the batch, which add-or-remove-one must not reveal. Theorem 1 needs the centred sum of
  (bit - 1/2), which one record moves by 1/2, over a public number; that is what is used here.
- The gradient of ghost clipping is set to None before the second backward pass, not to zero: where
  two parameters share one gradient tensor, as the two biases of an LSTM do, adding in place would
  count both twice, and a record would weigh more than the clip.
"""

from __future__ import annotations

import math
from typing import Any

import torch
from opacus.optimizers import (
    AdaClipDPOptimizer,
    DPOptimizer,
    DPOptimizerFastGradientClipping,
    DPPerLayerOptimizer,
)

from defenses import _dp_random
from defenses._dp_stated import gradient_noise


class PerLayer(DPPerLayerOptimizer):  # type: ignore[misc]
    """Every parameter tensor clipped by itself, to the clip over the root of their number."""

    def __init__(self, inner: Any, *, max_grad_norm: float, **knobs: Any) -> None:
        count = sum(len(group["params"]) for group in inner.param_groups)
        super().__init__(inner, max_grad_norm=[max_grad_norm / math.sqrt(count)] * count, **knobs)
        self.max_grad_norm = max_grad_norm  # Opacus adds the parts up again in single precision


class Ghost(DPOptimizerFastGradientClipping):  # type: ignore[misc]
    """Noise for gradients that were clipped on the way, by Opacus's second backward pass."""

    def zero_grad(self, set_to_none: bool = True) -> None:
        """Clears gradients to None, whatever is asked."""
        super().zero_grad(set_to_none=True)


class Adaptive(AdaClipDPOptimizer):  # type: ignore[misc]
    """A clip that follows a quantile of gradient norms, by a noisy count of public scale."""

    sample_size: int
    unclipped_num: Any
    max_grad_norm: float

    def zero_grad(self, set_to_none: bool = False) -> None:
        """Clears gradients, and the count unless the batch goes on in a further piece."""
        kept = (self.sample_size, self.unclipped_num) if self._is_last_step_skipped else (0, 0)
        super().zero_grad(set_to_none)
        self.sample_size, self.unclipped_num = kept

    def clip_and_accumulate(self) -> None:
        """Clips and counts; nothing to count in an empty batch, which Opacus cannot shape."""
        if len(self.grad_samples[0]):
            super().clip_and_accumulate()
        else:
            DPOptimizer.clip_and_accumulate(self)

    def add_noise(self) -> None:
        """Noise on the gradient, larger than without a count, and on the count."""
        centred = float(self.unclipped_num) - self.sample_size / 2
        self.unclipped_num = torch.tensor(centred, device=self.params[0].device)
        super().add_noise()

    def update_max_grad_norm(self) -> None:
        """Moves the clip by what was made noisy, and by nothing else."""
        fraction = 0.5 + float(self.unclipped_num) / self.expected_batch_size
        moved = self.max_grad_norm * math.exp(
            -self.clipbound_learning_rate * (fraction - self.target_unclipped_quantile)
        )
        self.max_grad_norm = min(max(moved, self.min_clipbound), self.max_clipbound)


class _FromSystem:
    """Noise of the operating system in the place of Opacus's; `handed` is the latest, flat."""

    unclipped_num: Any

    def add_noise(self: Any) -> None:
        scale = gradient_noise(self.noise_multiplier, getattr(self, "unclipped_num_std", None))
        drawn = [scale * self.max_grad_norm * _dp_random.normal(*p.shape) for p in self.params]
        for p, noise in zip(self.params, drawn, strict=True):
            # Rounded to the parameter's precision after the sum: rounding is post-processing.
            p.grad = (p.summed_grad.double() + noise.to(p.device)).to(p.dtype).view_as(p)
        self.handed = torch.cat([noise.flatten() for noise in drawn])
        if isinstance(self, Adaptive):
            centred = float(self.unclipped_num) - self.sample_size / 2
            self.unclipped_num = centred + self.unclipped_num_std * float(_dp_random.normal(1))


class SystemFlat(_FromSystem, DPOptimizer):  # type: ignore[misc]
    """Flat clipping, noise of the operating system."""


class SystemPerLayer(_FromSystem, PerLayer):
    """Clipping by parameter, noise of the operating system."""


class SystemGhost(_FromSystem, Ghost):
    """Ghost clipping, noise of the operating system."""


class SystemAdaptive(_FromSystem, Adaptive):
    """Adaptive clipping, noise of the operating system."""


KINDS: dict[tuple[str, str], Any] = {
    ("flat", "seeded"): DPOptimizer,
    ("per_layer", "seeded"): PerLayer,
    ("adaptive", "seeded"): Adaptive,
    ("ghost", "seeded"): Ghost,
    ("flat", "system"): SystemFlat,
    ("per_layer", "system"): SystemPerLayer,
    ("adaptive", "system"): SystemAdaptive,
    ("ghost", "system"): SystemGhost,
}
