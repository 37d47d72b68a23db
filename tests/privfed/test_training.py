"""Local training: both engines compute what torch.optim.SGD does, whatever trains beside it."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch.nn import functional as F

from privfed.augmentation import Dsa
from privfed.nets import NetSpec
from privfed.randomness import Stream
from privfed.records import Records
from privfed.training import (
    STACK,
    Engine,
    FlatParams,
    Recipe,
    descend,
    predict,
    stack,
    stack_size,
    train,
    unstack,
    weighted_loss,
)
from tests.privfed.training_twin import (
    CONVNET,
    ENGINES,
    FULL,
    MLP,
    PLAIN,
    RAGGED,
    assert_close,
    by_torch,
    every_engine,
    same,
    tasks,
)

every_spec = pytest.mark.parametrize("spec", [CONVNET, MLP], ids=lambda s: s.family)
every_recipe = pytest.mark.parametrize(
    "recipe",
    [PLAIN, FULL, replace(FULL, dsa=Dsa()), replace(PLAIN, batch=100), replace(PLAIN, batch=1)],
    ids=["plain", "momentum and decay", "augmented", "one batch", "single records"],
)


@every_spec
@every_recipe
@every_engine
def test_a_task_is_what_torch_sgd_makes_of_the_module(spec: NetSpec, recipe: Recipe, engine: Engine) -> None:
    work = tasks(spec, recipe)
    # The module starts from the same weights, rounded to float32 and back, as the task's are.
    assert_close(train(work, engine), [by_torch(t) for t in work])


@settings(max_examples=25)
@given(
    st.lists(st.integers(0, 12), min_size=1, max_size=6),
    st.integers(0, 3),
    st.integers(1, 6),
    st.sampled_from([0.0, 0.9]),
    st.sampled_from([CONVNET, MLP]),
)
def test_the_engines_agree_on_ragged_tasks(
    sizes: list[int], epochs: int, batch: int, momentum: float, spec: NetSpec
) -> None:
    work = tasks(spec, Recipe(epochs, batch, lr=0.1, momentum=momentum, weight_decay=0.01), sizes)
    assert_close(train(work, "looped"), train(work, "stacked"))


def test_the_engines_agree_in_float32() -> None:
    """The precision that is used: 24 bits, amplified by ten steps of training on a smooth loss."""
    work = [
        replace(
            t,
            start={k: v.float() for k, v in t.start.items()},
            records=Records(t.records.inputs.float(), t.records.labels),
        )
        for t in tasks(CONVNET, replace(FULL, dsa=Dsa()))
    ]
    for a, b in zip(train(work, "looped"), train(work, "stacked"), strict=True):
        for name in a:
            torch.testing.assert_close(a[name], b[name], rtol=1e-3, atol=1e-4)


@every_spec
@every_recipe
def test_what_trains_beside_a_task_does_not_matter(spec: NetSpec, recipe: Recipe) -> None:
    work = tasks(spec, recipe)
    for engine in ENGINES:
        together, alone = train(work, engine), [train([t], engine)[0] for t in work]
        assert_close(together, alone)
        if engine == "looped":
            assert all(same(a, b) for a, b in zip(together, alone, strict=True))


@every_spec
@every_engine
def test_the_order_of_tasks_is_the_order_of_results(spec: NetSpec, engine: Engine) -> None:
    work = tasks(spec, FULL)
    order = [3, 0, 7, 1, 6, 2, 5, 4]
    straight, shuffled = train(work, engine), train([work[i] for i in order], engine)
    assert_close(shuffled, [straight[i] for i in order])


@every_engine
def test_several_architectures_and_recipes_in_one_call(engine: Engine) -> None:
    work = [*tasks(CONVNET, PLAIN, (5, 3)), *tasks(MLP, PLAIN, (4,)), *tasks(CONVNET, FULL, (5, 2))]
    work = [work[i] for i in (4, 2, 0, 3, 1)]
    assert_close(train(work, engine), [by_torch(t) for t in work])


@every_engine
def test_more_tasks_than_a_stack_holds(engine: Engine) -> None:
    work = tasks(MLP, PLAIN, [1 + m % 5 for m in range(STACK + 3)])
    results = train(work, engine)
    assert len(results) == STACK + 3
    assert_close(results[-3:], [by_torch(t) for t in work[-3:]])


@every_spec
@every_engine
def test_the_same_streams_give_the_same_bits(spec: NetSpec, engine: Engine) -> None:
    recipe = replace(FULL, dsa=Dsa())
    first = train(tasks(spec, recipe), engine)
    torch.manual_seed(99)
    second = train(tasks(spec, recipe), engine)
    assert all(same(a, b) for a, b in zip(first, second, strict=True))
    moved = [replace(t, stream=t.stream.child("other")) for t in tasks(spec, recipe)]
    other = train(moved, engine)
    assert [same(a, b) for a, b in zip(first, other, strict=True)] == [n == 0 for n in RAGGED]


@every_engine
def test_the_global_generator_is_left_alone(engine: Engine) -> None:
    before = torch.get_rng_state()
    train(tasks(CONVNET, replace(FULL, dsa=Dsa())), engine)
    assert torch.equal(torch.get_rng_state(), before)


@every_spec
@every_engine
def test_without_records_or_epochs_a_model_stays_as_a_copy(spec: NetSpec, engine: Engine) -> None:
    idle = [*tasks(spec, FULL, (0, 0)), *tasks(spec, replace(FULL, epochs=0), (3, 5))]
    mixed = tasks(spec, FULL, (0, 6))
    for task, result in zip([*idle, mixed[0]], [*train(idle, engine), train(mixed, engine)[0]], strict=True):
        assert same(task.start, result)
        result["1.bias"] += 1
        assert not same(task.start, result)
    assert train([], engine) == []


@every_engine
def test_inputs_are_left_as_they_were(engine: Engine) -> None:
    work, untouched = tasks(CONVNET, FULL), tasks(CONVNET, FULL)
    train(work, engine)
    for task, before in zip(work, untouched, strict=True):
        assert same(task.start, before.start)
        assert torch.equal(task.records.inputs, before.records.inputs)


@every_engine
def test_training_learns(engine: Engine) -> None:
    (task,) = tasks(CONVNET, Recipe(epochs=80, batch=4, lr=0.1, momentum=0.9), (12,))
    (params,) = train([task], engine)
    assert (predict(CONVNET, params, task.records.inputs).argmax(1) == task.records.labels).all()


def test_a_stack_is_undone_into_copies() -> None:
    nets = [t.start for t in tasks(CONVNET, PLAIN, (1, 1, 1))]
    stacked = stack(nets)
    parts = unstack(stacked)
    assert all(same(a, b) for a, b in zip(nets, parts, strict=True))
    stacked["0.bias"].zero_()
    assert all(same(a, b) for a, b in zip(nets, parts, strict=True))
    assert (stack_size("looped"), stack_size("stacked")) == (1, STACK)


def test_a_flat_buffer_is_its_parameters() -> None:
    nets = [t.start for t in tasks(CONVNET, PLAIN, (1, 1))]
    flat = FlatParams(stack(nets))
    assert flat.buffer.shape == (2, sum(v.numel() for v in nets[0].values()))
    loss = sum((v * (m + 1)).sum() for m, v in enumerate(flat.views.values()))
    assert isinstance(loss, torch.Tensor)
    sizes = [v.numel() for v in nets[0].values()]
    expected = torch.cat([torch.full((n,), float(m + 1), dtype=torch.float64) for m, n in enumerate(sizes)])
    assert torch.equal(flat.gradient(loss), expected.expand(2, -1))
    flat.buffer.zero_()
    assert all((v == 0).all() and not v.requires_grad for v in flat.detached().values())


@pytest.mark.parametrize("recipe", [PLAIN, FULL], ids=["plain", "momentum and decay"])
def test_the_step_without_idle_models_is_the_same_to_the_bit(recipe: Recipe) -> None:
    generator = Stream(0).torch()
    start, gradient, velocity = (torch.randn(3, 50, generator=generator) for _ in range(3))
    results = []
    for active in (None, torch.ones(3, 1)):
        buffer, moving = start.clone(), velocity.clone()
        descend(buffer, gradient, moving, recipe, active)
        results.append((buffer, moving))
    (a, b), (c, d) = results
    assert torch.equal(a, c)
    assert torch.equal(b, d)
    assert not torch.equal(a, start)


def test_the_loss_is_a_mean_over_real_records() -> None:
    generator = Stream(0).torch()
    logits = torch.randn(3, 5, 4, generator=generator)
    labels = torch.randint(4, (3, 5), generator=generator)
    weight = torch.tensor([[1.0, 1, 1, 1, 1], [1, 1, 0, 0, 0], [0, 0, 0, 0, 0]])
    losses = weighted_loss(logits, labels, weight)
    for m, n in enumerate((5, 2)):
        torch.testing.assert_close(losses[m], F.cross_entropy(logits[m, :n], labels[m, :n]))
    assert losses[2] == 0


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"epochs": -1}, "expected epochs >= 0 and batch >= 1, got -1 and 4"),
        ({"batch": 0}, "expected epochs >= 0 and batch >= 1, got 2 and 0"),
        ({"lr": 0.0}, "expected lr > 0, got lr=0.0"),
        ({"lr": float("nan")}, "expected lr > 0, got lr=nan"),
        ({"momentum": 1.0}, r"expected momentum in \[0, 1\), got momentum=1.0"),
        ({"momentum": -0.1}, r"expected momentum in \[0, 1\), got momentum=-0.1"),
        ({"weight_decay": -1.0}, "expected weight_decay >= 0, got weight_decay=-1.0"),
        ({"weight_decay": float("nan")}, "expected weight_decay >= 0, got weight_decay=nan"),
        ({"proximal": -0.5}, "expected proximal >= 0, got proximal=-0.5"),
    ],
)
def test_a_recipe_that_cannot_be_followed(change: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        replace(PLAIN, **change)
