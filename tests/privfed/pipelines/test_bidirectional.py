"""Distillation by features, in both directions."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from privfed.nets import head_names
from privfed.pipelines._bidirectional import Distillation, Exchange, to_global, to_locals
from privfed.pipelines.fedrep import FedRep
from privfed.randomness import Stream
from privfed.records import Records
from privfed.training import Recipe, feature_divergence, represent
from tests.privfed.pipelines.worlds import SURROGATE, assert_params_close, double_precision, noise, world

RECIPE = Recipe(epochs=2, batch=5, lr=0.1, momentum=0.5, weight_decay=1e-2, decay_biases=False)
DISTILLATION = Distillation(to_local=replace(RECIPE, lr=0.5))


def model(seed: int) -> dict[str, torch.Tensor]:
    return FedRep().init(world(), [Stream(seed)])[0].surrogate


def test_a_student_that_is_its_teacher_does_not_move() -> None:
    still = replace(DISTILLATION, to_local=replace(RECIPE, weight_decay=0.0))
    exchange = Exchange(model(1), model(1), noise(12, 0))
    (after,) = to_locals(world(), still, [exchange])
    assert_params_close(after, model(1))
    assert_params_close(to_global(SURROGATE, still, model(1), exchange), model(1))
    gap = feature_divergence(*(represent(SURROGATE, model(1), noise(12, 0).inputs) for _ in range(2)))
    assert float(gap.abs().max()) < 1e-6


def test_a_student_comes_closer_to_its_teacher() -> None:
    def gap(student: dict[str, torch.Tensor]) -> float:
        records = noise(12, 0).inputs
        taught = represent(SURROGATE, model(2), records)
        return float(feature_divergence(represent(SURROGATE, student, records), taught).mean())

    exchange = Exchange(model(1), model(2), noise(12, 0))
    (local,) = to_locals(world(), DISTILLATION, [exchange])
    assert gap(local) < gap(model(1))
    assert gap(to_global(SURROGATE, DISTILLATION, model(1), exchange)) < gap(model(1))


def test_the_divergence_is_reversed_and_in_nats() -> None:
    student, teacher = torch.tensor([[0.0, 1.0]]), torch.tensor([[2.0, 0.0]])
    p, q = student.softmax(-1), teacher.softmax(-1)
    expected = (p * (p.log() - q.log())).sum(-1)
    torch.testing.assert_close(feature_divergence(student, teacher), expected)


@settings(deadline=None, max_examples=10)
@given(records=st.integers(1, 13), batch=st.integers(1, 6))
def test_global_steps_add_up_the_mean_losses_of_all_batches(records: int, batch: int) -> None:
    """Against a loop over batches with torch.optim.SGD on two groups of parameters."""
    with double_precision():
        data = noise(records, records)
        recipe = replace(RECIPE, batch=batch)
        how = Distillation(to_local=recipe)
        found = to_global(SURROGATE, how, model(1), Exchange(model(1), model(2), data))
        assert_params_close(found, by_hand(data, recipe))


def by_hand(data: Records, recipe: Recipe) -> dict[str, torch.Tensor]:
    from privfed.nets import features

    student = {k: v.clone().requires_grad_() for k, v in model(1).items()}
    rep = {k: v for k, v in student.items() if k not in head_names(SURROGATE)}
    groups = [
        {"params": [v for k, v in rep.items() if k.endswith("weight")], "weight_decay": recipe.weight_decay},
        {"params": [v for k, v in rep.items() if k.endswith("bias")], "weight_decay": 0.0},
    ]
    optimizer = torch.optim.SGD(groups, lr=recipe.lr, momentum=recipe.momentum)
    for _ in range(3):
        optimizer.zero_grad()
        for x in data.inputs.split(recipe.batch):
            own = features(SURROGATE, {k: v.unsqueeze(0) for k, v in student.items()}, x.unsqueeze(0))[0]
            feature_divergence(own, represent(SURROGATE, model(2), x)).mean().backward()
        optimizer.step()
    return {k: v.detach() for k, v in student.items()}


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"iterations": -1}, "expected iterations >= 0, got iterations=-1"),
        ({"covering": "some"}, "expected covering 'held' or 'all', got covering='some'"),
    ],
)
def test_distillations_that_do_not_fit(change: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        replace(DISTILLATION, **change)
