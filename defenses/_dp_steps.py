"""The steps of DP-SGD: which records are in them, how they are differentiated, what is added."""

from __future__ import annotations

import warnings
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from defenses import _dp_random
from defenses._dp_recount import gradients
from defenses._dp_stated import Stated
from defenses._dp_witness import Witness
from privfed.nets import parameter_shapes
from privfed.records import Records

if TYPE_CHECKING:
    from privfed.randomness import Stream
    from privfed.training import Task


def pieces(chosen: Tensor, largest: int | None) -> Sequence[Tensor]:
    """The batch as masks or indices of at most `largest` records; one empty piece if it has none."""
    return (chosen,) if largest is None else chosen.nonzero().squeeze(1).split(largest)


def step(module: nn.Module, optimizer: Any, batch: Sequence[Records], witness: Witness) -> None:
    """One noisy step on a batch, in one piece or several (the order of Opacus's BatchMemoryManager)."""
    for left, piece in enumerate(batch, start=1 - len(batch)):
        optimizer.zero_grad(set_to_none=True)
        if left:
            optimizer.signal_skip_step()
        _backward(module, optimizer, piece)
        witness.piece(optimizer, piece)
        optimizer.step()


def _backward(module: Any, optimizer: Any, batch: Records) -> None:
    ghost = hasattr(module, "get_clipping_coef")
    if not len(batch):
        # No record, no backward pass: the sum is zero and the noise is added all the same.
        for p in optimizer.params:
            p.grad, p.grad_sample = torch.zeros_like(p), p.new_zeros((0, *p.shape))
    elif ghost:
        from opacus.utils.fast_gradient_clipping_utils import DPTensorFastGradientClipping

        losses = F.cross_entropy(module(batch.inputs), batch.labels, reduction="none")
        DPTensorFastGradientClipping(module, optimizer, losses, "sum").backward()
    else:
        F.cross_entropy(module(batch.inputs), batch.labels, reduction="sum").backward()


def witness_of(stated: Stated, task: Task, module: Any) -> Witness:
    """A witness of a run on `module`, which can make gradients of its own where ghost clipping hides them."""
    if stated.clipping != "ghost":
        return Witness(stated)
    free = [name for name in parameter_shapes(task.spec) if name not in task.frozen]

    def each(batch: Records) -> list[Tensor]:
        return gradients(task.spec, dict(module._module.named_parameters()), free, batch)

    return Witness(stated, each, lambda: module.per_sample_gradient_norms)


def poisson(stated: Stated, stream: Stream) -> Tensor:
    """Which records are in which step: boolean, shape (steps, records), all entries independent."""
    shape = (stated.steps, stated.records)
    if stated.random == "system":
        return _dp_random.uniform(*shape) < stated.sampling_rate
    draws = torch.rand(*shape, generator=stream.torch(), dtype=torch.float64)
    return draws < stated.sampling_rate


def pull(task: Task) -> Callable[[Any], None] | None:
    """Adds mu (w - anchor) to what an optimiser is about to descend; None without a proximal term."""
    mu, anchor = task.recipe.proximal, task.start if task.anchor is None else task.anchor
    if not mu:
        return None
    towards = [anchor[name] for name in parameter_shapes(task.spec) if name not in task.frozen]

    def pull(optimizer: Any) -> None:
        for p, a in zip(optimizer.params, towards, strict=True):
            p.grad.add_(p.detach() - a.to(p), alpha=mu)

    return pull


def in_turn(look: Callable[[Any], None], pull: Callable[[Any], None] | None) -> Callable[[Any], None]:
    """The witness first: it holds the noise against a gradient that nothing else was added to."""

    def act(optimizer: Any) -> None:
        look(optimizer)
        if pull is not None:
            pull(optimizer)

    return act


@contextmanager
def without_hooks(module: Any) -> Iterator[None]:
    """What runs in here is no training: no activation is kept for per-sample gradients."""
    module.disable_hooks()
    yield
    module.enable_hooks()


@contextmanager
def without_hook_warning() -> Iterator[None]:
    """Images need no gradient, which is what torch warns of once a module."""
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", message="Full backward hook is firing")
        yield
