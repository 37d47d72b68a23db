"""Parts of a net, and what pulls on them: frozen parameters, spared biases, anchors, teachers; features."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import replace

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from privfed.nets import NetSpec, Params, feature_width, features, head_names, head_of, representation_of
from privfed.training import Engine, Recipe, Task, is_bias, represent, stack, train
from tests.privfed.architectures.specs import by_module, every_spec
from tests.privfed.training_twin import (
    CONVNET,
    FULL,
    MLP,
    PLAIN,
    assert_close,
    by_torch,
    every_engine,
    noise,
    same,
    tasks,
    weights,
)

FAMILIES = [
    CONVNET,
    MLP,
    NetSpec("cnn", channels=1, size=16, classes=3, hidden=(2, 3, 5, 4)),
    NetSpec("lstm", channels=3, size=4, classes=2, hidden=(4, 5)),
]
SIZES = (5, 0, 1, 9)
every_family = pytest.mark.parametrize("spec", FAMILIES, ids=lambda s: s.family)
every_part = pytest.mark.parametrize("part", ["head", "representation", "first"])


def names(spec: NetSpec, part: str) -> tuple[str, ...]:
    whole = weights(spec, 0)
    parts = {"head": head_of(spec, whole), "representation": representation_of(spec, whole)}
    return tuple(parts.get(part, [next(iter(whole))]))


def freeze(work: Sequence[Task], part: str) -> list[Task]:
    return [replace(t, frozen=names(t.spec, part)) for t in work]


def bits(value: Tensor) -> Tensor:
    """Zeros of both signs apart."""
    return value.view(torch.int64)


# Frozen parameters.


@every_family
@every_part
@every_engine
def test_frozen_parameters_stay_to_the_bit_and_the_others_follow_torch(
    spec: NetSpec, part: str, engine: Engine
) -> None:
    work = freeze(tasks(spec, FULL, SIZES), part)
    work[0].start[work[0].frozen[0]].view(-1)[0] = -0.0
    trained = train(work, engine)
    assert_close(trained, [by_torch(t) for t in work])
    for task, result in zip(work, trained, strict=True):
        assert list(result) == list(task.start), "in the order of the start"
        for name, value in result.items():
            still = torch.equal(bits(value), bits(task.start[name]))
            assert still == (name in task.frozen or len(task.records) == 0)


@every_engine
def test_a_frozen_part_is_a_copy(engine: Engine) -> None:
    work = freeze(tasks(MLP, PLAIN, (4, 3)), "head")
    for task, result in zip(work, train(work, engine), strict=True):
        result["3.bias"].add_(1)
        assert not torch.equal(task.start["3.bias"], result["3.bias"])


@every_engine
def test_tasks_that_freeze_different_parts_train_side_by_side(engine: Engine) -> None:
    parts = ("head", "representation", "head", "first")
    whole, *others = tasks(MLP, FULL, (5, 4, 6, 3, 5))
    work = [whole, *(freeze([t], p)[0] for t, p in zip(others, parts, strict=True))]
    assert_close(train(work, engine), [by_torch(t) for t in work])


@pytest.mark.parametrize(
    ("frozen", "message"),
    [
        (("3.weight", "nine"), "expected frozen to name parameters of the start, got frozen=nine"),
        (
            ("1.weight", "1.bias", "3.weight", "3.bias"),
            "expected a parameter to train, got frozen=1.weight, 1.bias, 3.weight, 3.bias",
        ),
    ],
)
def test_parts_that_cannot_be_frozen(frozen: tuple[str, ...], message: str) -> None:
    (task,) = tasks(MLP, PLAIN, (3,))
    with pytest.raises(ValueError, match=f"^{re.escape(message)}$"):
        replace(task, frozen=frozen)


# Weight decay without biases.


@every_family
@every_engine
def test_spared_biases_are_a_parameter_group_without_decay(spec: NetSpec, engine: Engine) -> None:
    work = tasks(spec, replace(FULL, weight_decay=0.2, decay_biases=False), SIZES)
    assert_close(train(work, engine), [by_torch(t) for t in work])


@every_family
@every_engine
def test_after_one_step_sparing_biases_is_worth_the_decay_of_each(spec: NetSpec, engine: Engine) -> None:
    recipe = Recipe(epochs=1, batch=9, lr=0.5, weight_decay=0.2)
    work = tasks(spec, recipe, (3, 5))
    both = [replace(t, recipe=replace(recipe, decay_biases=False)) for t in work]
    for task, decayed, spared in zip(work, train(work, engine), train(both, engine), strict=True):
        for name, start in task.start.items():
            gain = 0.5 * 0.2 * start if "bias" in name else torch.zeros_like(start)
            torch.testing.assert_close(spared[name] - decayed[name], gain, rtol=1e-10, atol=1e-12)


@every_spec
def test_biases_are_the_vectors_that_are_no_scale(spec: NetSpec) -> None:
    """Of normalisation's two vectors the scale is called weight."""
    for name, value in weights(spec, 0).items():
        assert is_bias(name) == (value.ndim == 1 and not name.endswith("weight"))


# The proximal term.


@every_family
@every_engine
@pytest.mark.parametrize("anchored", [False, True], ids=["to the start", "to an anchor"])
def test_the_proximal_term_is_the_gradient_of_a_squared_distance(
    spec: NetSpec, engine: Engine, anchored: bool
) -> None:
    work = tasks(spec, replace(FULL, proximal=0.7), SIZES)
    if anchored:
        work = [replace(t, anchor=weights(spec, 50 + m)) for m, t in enumerate(work)]
    assert_close(train(work, engine), [by_torch(t) for t in work])


@every_engine
def test_one_step_from_the_anchor_is_a_plain_step_and_the_next_is_pulled_back(engine: Engine) -> None:
    plain = Recipe(epochs=1, batch=9, lr=0.5)
    near = replace(plain, proximal=0.4)
    for epochs, alike in ((1, True), (2, False)):
        work = tasks(MLP, replace(plain, epochs=epochs), (3, 5))
        pulled = [replace(t, recipe=replace(near, epochs=epochs)) for t in work]
        for a, b in zip(train(work, engine), train(pulled, engine), strict=True):
            assert same(a, b) == alike


@every_engine
def test_one_step_of_rate_one_over_mu_lands_at_the_anchor_less_the_plain_step(engine: Engine) -> None:
    recipe = Recipe(epochs=1, batch=9, lr=0.25, proximal=4.0)
    work = [replace(t, anchor=weights(MLP, 7)) for t in tasks(MLP, recipe, (3, 5))]
    plain = train([replace(t, recipe=replace(recipe, proximal=0.0)) for t in work], engine)
    for task, moved, landed in zip(work, plain, train(work, engine), strict=True):
        assert task.anchor is not None
        expected = {k: task.anchor[k] + moved[k] - task.start[k] for k in moved}
        assert_close([landed], [expected])


@every_engine
def test_a_frozen_part_is_not_pulled(engine: Engine) -> None:
    recipe = replace(FULL, proximal=0.7)
    work = [replace(t, anchor=weights(MLP, 7)) for t in freeze(tasks(MLP, recipe, SIZES), "head")]
    assert_close(train(work, engine), [by_torch(t) for t in work])


# Teachers.


@every_family
@every_engine
def test_a_teacher_takes_the_place_of_labels(spec: NetSpec, engine: Engine) -> None:
    recipe = replace(FULL, decay_biases=False)
    work = [
        replace(t, frozen=head_names(spec), teacher=represent(spec, weights(spec, 9), t.records.inputs))
        for t in tasks(spec, recipe, SIZES)
    ]
    trained = train(work, engine)
    assert_close(trained, [by_torch(t) for t in work])
    relabelled = [replace(t, records=replace(t.records, labels=t.records.labels.flip(0))) for t in work]
    assert all(same(a, b) for a, b in zip(trained, train(relabelled, engine), strict=True))


# All of it at once.


@settings(max_examples=25)
@given(
    sizes=st.lists(st.integers(0, 9), min_size=1, max_size=5),
    part=st.sampled_from(["none", "head", "representation", "first"]),
    proximal=st.sampled_from([0.0, 0.5]),
    momentum=st.sampled_from([0.0, 0.9]),
    decay_biases=st.booleans(),
    anchored=st.booleans(),
    spec=st.sampled_from(FAMILIES),
)
def test_the_engines_agree_whatever_is_switched_on(
    sizes: list[int],
    part: str,
    proximal: float,
    momentum: float,
    decay_biases: bool,
    anchored: bool,
    spec: NetSpec,
) -> None:
    recipe = Recipe(2, 4, 0.1, momentum, 0.05, decay_biases=decay_biases, proximal=proximal)
    work = tasks(spec, recipe, sizes)
    work = work if part == "none" else freeze(work, part)
    work = [replace(t, anchor=weights(spec, 7)) for t in work] if anchored else work
    looped, stacked = train(work, "looped"), train(work, "stacked")
    assert_close(looped, stacked)
    assert_close(looped, [by_torch(t) for t in work])


# Features.


@every_spec
def test_features_of_one_model_are_those_of_a_stack_without_its_head(spec: NetSpec) -> None:
    net, inputs = weights(spec, 0), noise(spec, 7, 1).inputs
    found = represent(spec, representation_of(spec, net), inputs)
    expected = features(spec, stack([net]), inputs.unsqueeze(0))[0]
    torch.testing.assert_close(found, expected, rtol=1e-10, atol=1e-12)
    head = list(head_of(spec, net).values())
    torch.testing.assert_close(
        found @ head[0].T + head[1], by_module(spec, net, inputs), rtol=1e-10, atol=1e-12
    )
    in_parts = represent(spec, net, inputs, batch=3)
    torch.testing.assert_close(in_parts, found, rtol=1e-10, atol=1e-12)


@every_spec
def test_features_carry_no_gradient_and_there_may_be_none(spec: NetSpec) -> None:
    net: Params = {k: v.requires_grad_() for k, v in weights(spec, 0).items()}
    assert not represent(spec, net, noise(spec, 2, 0).inputs).requires_grad
    assert represent(spec, net, noise(spec, 0, 0).inputs).shape == (0, feature_width(spec))
