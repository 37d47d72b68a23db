"""The naive twin of local training: one model at a time, by torch.optim.SGD on its module."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import numpy as np
import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from privfed.augmentation import apply, draw
from privfed.nets import NetSpec, Params, initial, module_of
from privfed.randomness import Stream
from privfed.records import Records
from privfed.training import Engine, Recipe, Task, feature_divergence

CONVNET = NetSpec("convnet", channels=1, size=8, classes=4, width=4, depth=2)
MLP = NetSpec("mlp", channels=1, size=8, classes=4, width=6, depth=1)
PLAIN = Recipe(epochs=2, batch=4, lr=0.1)
FULL = replace(PLAIN, momentum=0.9, weight_decay=0.01)
RAGGED = (9, 0, 1, 4, 17, 8, 0, 3)
ENGINES: tuple[Engine, ...] = ("looped", "stacked")
every_engine = pytest.mark.parametrize("engine", ENGINES)


def noise(spec: NetSpec, n: int, seed: int) -> Records:
    """Float64, so that two orders of summation differ by rounding only."""
    generator = Stream(seed, ("records",)).torch()
    inputs = torch.rand(n, *spec.input_shape, generator=generator, dtype=torch.float64) * 2 - 1
    return Records(inputs, torch.randint(spec.classes, (n,), generator=generator))


def weights(spec: NetSpec, seed: int) -> Params:
    """Float64, with values that float32 holds."""
    return {k: v.double() for k, v in initial(spec, Stream(seed, ("start",)).torch()).items()}


def tasks(spec: NetSpec, recipe: Recipe, sizes: Sequence[int] = RAGGED) -> list[Task]:
    return [
        Task(spec, weights(spec, m), noise(spec, n, m), recipe, Stream(m, ("train",)))
        for m, n in enumerate(sizes)
    ]


def by_torch(task: Task) -> Params:
    """The task by torch.optim.SGD on the module, with the batches that the task's own stream gives."""
    module = module_of(task.spec, task.start).double()
    for name, parameter in module.named_parameters():
        parameter.requires_grad_(name not in task.frozen)
    recipe, n = task.recipe, len(task.records)
    optimiser = torch.optim.SGD(_groups(module, recipe), recipe.lr, momentum=recipe.momentum)
    batches, augment = task.stream.child("batches").torch(), task.stream.child("augment").torch()
    mixing = task.stream.child("mixup").numpy()
    for _ in range(recipe.epochs if n else 0):
        for index in torch.randperm(n, generator=batches).split(recipe.batch):
            x, y = _targets(task, index, mixing)
            if recipe.dsa is not None:
                x = apply(x.unsqueeze(0), draw(recipe.dsa, [augment])).squeeze(0)
            optimiser.zero_grad()
            (_loss(task, module, x, y, index) + _proximal(task, module)).backward()
            optimiser.step()
    return {k: v.detach() for k, v in module.named_parameters()}


def _groups(module: nn.Module, recipe: Recipe) -> list[dict[str, object]]:
    """Weights and biases apart, told from one another by "bias" in their names."""
    named = list(module.named_parameters())
    spared = 1.0 if recipe.decay_biases else 0.0
    return [
        {"params": [p for k, p in named if "bias" not in k], "weight_decay": recipe.weight_decay},
        {"params": [p for k, p in named if "bias" in k], "weight_decay": spared * recipe.weight_decay},
    ]


def _targets(task: Task, index: Tensor, mixing: np.random.Generator) -> tuple[Tensor, Tensor]:
    """Inputs and soft labels of a batch, blended and smoothed as the recipe says."""
    recipe, classes = task.recipe, task.spec.classes
    x, y = task.records.inputs[index], F.one_hot(task.records.labels[index], classes).double()
    if recipe.mixup:
        share = mixing.beta(recipe.mixup, recipe.mixup)
        partner = torch.from_numpy(mixing.permutation(len(index)))
        x, y = share * x + (1 - share) * x[partner], share * y + (1 - share) * y[partner]
    return x, (1 - recipe.smoothing) * y + recipe.smoothing / classes


def _loss(task: Task, module: nn.Module, x: Tensor, y: Tensor, index: Tensor) -> Tensor:
    if task.teacher is None:
        return F.cross_entropy(module(x), y)
    *body, _ = module.children()
    return feature_divergence(nn.Sequential(*body)(x), task.teacher[index]).mean()


def _proximal(task: Task, module: nn.Module) -> Tensor:
    anchor = task.start if task.anchor is None else task.anchor
    squares = [(p - anchor[name]).square().sum() for name, p in module.named_parameters() if p.requires_grad]
    return task.recipe.proximal / 2 * torch.stack(squares).sum()


def assert_close(first: Sequence[Params], second: Sequence[Params]) -> None:
    """Float64 rounding, which a few dozen steps on nets this small multiply by less than a thousand."""
    for a, b in zip(first, second, strict=True):
        assert a.keys() == b.keys()
        for name in a:
            torch.testing.assert_close(a[name], b[name], rtol=1e-10, atol=1e-11)


def same(first: Params, second: Params) -> bool:
    return first.keys() == second.keys() and all(torch.equal(first[k], second[k]) for k in first)
