"""How fast local training is: the two engines, a plain DataLoader loop, and the optimiser step alone.

One torch thread throughout, as in the workers of an audit.
"""

from __future__ import annotations

import itertools
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import partial

import torch
from torch import nn
from torch.nn import functional as F
from torch.utils.data import DataLoader, TensorDataset

from audits.benchmark_ratio import Ratio, compare
from privfed.nets import NetSpec, initial, module_of
from privfed.randomness import Stream
from privfed.records import Records
from privfed.training import FlatParams, Recipe, Task, descend, stack, train

RECIPE = Recipe(epochs=1, batch=64, lr=0.05, momentum=0.9)
NETS = {
    "mlp 64-64-10, 8x8": NetSpec("mlp", channels=1, size=8, classes=10, width=64, depth=1),
    "mlp 784-64-10, 28x28": NetSpec("mlp", channels=1, size=28, classes=10, width=64, depth=1),
    "convnet w8 d2, 8x8": NetSpec("convnet", channels=1, size=8, classes=10, width=8, depth=2),
    "convnet w16 d3, 3x32x32": NetSpec("convnet", channels=3, size=32, classes=10, width=16, depth=3),
}
STREAM = Stream(0, ("benchmark",))


def engine_ratios(models: int = 16, records: int = 256, repeats: int = 5) -> list[Ratio]:
    """Each net: stacked over looped, and both over a DataLoader loop; one epoch of every model."""
    found = []
    with one_thread():
        for name, spec in NETS.items():
            tasks = _tasks(spec, models, records)
            ways: dict[str, Callable[[], object]] = {
                "DataLoader loop": partial(_plain, tasks),
                "looped": partial(train, tasks, "looped"),
                "stacked": partial(train, tasks, "stacked"),
            }
            topic = f"train {models} x {name}"
            found += compare(topic, ways, list(itertools.combinations(reversed(ways), 2)), repeats)
    return found


def step_ratios(models: int = 16, steps: int = 200, repeats: int = 5) -> list[Ratio]:
    """Each net: the optimiser's step on one flat buffer over torch.optim.SGD, for one model and many."""
    flat, plain = "one flat buffer", "torch.optim.SGD"
    found = []
    with one_thread():
        for (name, spec), count in itertools.product(NETS.items(), sorted({1, models})):
            ways = {
                plain: partial(_torch_steps, spec, count, steps),
                flat: partial(_flat_steps, spec, count, steps),
            }
            found += compare(f"{steps} SGD steps of {count} x {name}", ways, [(flat, plain)], repeats)
    return found


@contextmanager
def one_thread() -> Iterator[None]:
    """Torch on one thread, and afterwards as before."""
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        yield
    finally:
        torch.set_num_threads(before)


def _tasks(spec: NetSpec, models: int, records: int) -> list[Task]:
    images = torch.rand(records, spec.channels, spec.size, spec.size, generator=STREAM.torch()) * 2 - 1
    data = Records(images, torch.arange(records) % spec.classes)
    starts = [initial(spec, STREAM.child("start", m).torch()) for m in range(models)]
    return [Task(spec, start, data, RECIPE, STREAM.child(m)) for m, start in enumerate(starts)]


def _plain(tasks: list[Task]) -> list[nn.Module]:
    """What one would write first: a module, a DataLoader and torch.optim.SGD, model after model."""
    return [_plain_one(task) for task in tasks]


def _plain_one(task: Task) -> nn.Module:
    module, recipe = module_of(task.spec, task.start), task.recipe
    optimiser = torch.optim.SGD(module.parameters(), recipe.lr, momentum=recipe.momentum)
    loader = DataLoader(
        TensorDataset(task.records.inputs, task.records.labels),
        recipe.batch,
        shuffle=True,
        generator=task.stream.torch(),
    )
    for _ in range(recipe.epochs):
        for images, labels in loader:
            optimiser.zero_grad()
            F.cross_entropy(module(images), labels).backward()
            optimiser.step()
    return module


def _flat_steps(spec: NetSpec, models: int, steps: int) -> None:
    params = stack([initial(spec, STREAM.torch())] * models)
    gradients = [torch.ones_like(v) for v in params.values()]
    flat = FlatParams(params)
    velocity = torch.zeros_like(flat.buffer)
    for _ in range(steps):
        gradient = torch.cat([g.flatten(1) for g in gradients], 1)
        descend(flat.buffer, gradient, velocity, RECIPE)


def _torch_steps(spec: NetSpec, models: int, steps: int) -> None:
    params = [p.requires_grad_() for p in stack([initial(spec, STREAM.torch())] * models).values()]
    optimiser = torch.optim.SGD(params, RECIPE.lr, momentum=RECIPE.momentum)
    for param in params:
        param.grad = torch.ones_like(param)
    for _ in range(steps):
        optimiser.step()
