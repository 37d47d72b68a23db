"""Each measure on models whose answers are known: perfect ones, and ones that say the same of everything."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch

from audits.personalisation_measures import (
    accuracy,
    newcomer_accuracy,
    personal_accuracy,
    pooled_accuracy,
    probe_accuracy,
    with_tuned_heads,
)
from privfed.nets import head_of, representation_of
from privfed.randomness import Stream
from privfed.training import Recipe
from tests.audits.personal_setting import SPEC, cohort, constant, perfect

RECIPE = Recipe(epochs=10, batch=2, lr=0.1)
STREAM = Stream(0)
ZERO = {"3.weight": torch.zeros(4, 4), "3.bias": torch.zeros(4)}


def test_perfect_models_are_right_everywhere() -> None:
    got = cohort()
    assert personal_accuracy(SPEC, [perfect()] * 4, got.clients) == 1
    assert pooled_accuracy(SPEC, perfect(), got) == 1
    assert probe_accuracy(SPEC, perfect(), got) == 1


def test_clients_weigh_by_their_test_records() -> None:
    """Two clients with 2 tests all right, two with 6 half right: 10 of 16, not the 3 / 4 of plain means."""
    models = [perfect(), perfect(), constant(0), constant(1)]
    assert personal_accuracy(SPEC, models, cohort().clients) == 10 / 16


def test_a_constant_model_has_its_class_share_of_the_pooled_tests() -> None:
    """24 tests: 8 of each class of the clients, 4 of each class of the newcomers."""
    got = [pooled_accuracy(SPEC, constant(label), cohort()) for label in range(4)]
    assert got == [8 / 24, 8 / 24, 4 / 24, 4 / 24]
    assert accuracy(SPEC, constant(2), cohort().newcomers[0].test) == 0.5


def test_newcomers_learn_a_head_on_features_that_tell_classes_apart() -> None:
    assert newcomer_accuracy(SPEC, perfect(), ZERO, cohort(), RECIPE, STREAM) == 1


def test_newcomers_are_at_chance_on_features_that_tell_nothing() -> None:
    assert newcomer_accuracy(SPEC, constant(2), ZERO, cohort(), RECIPE, STREAM) == 0.5


def test_the_head_of_the_global_model_does_not_count_for_newcomers() -> None:
    other = {**perfect(), **head_of(SPEC, constant(0))}
    recipe = replace(RECIPE, epochs=0)
    heads = [head_of(SPEC, perfect()), ZERO]
    for head in heads:
        scores = {newcomer_accuracy(SPEC, m, head, cohort(), recipe, STREAM) for m in (perfect(), other)}
        assert len(scores) == 1


def test_a_probe_of_constant_features_says_one_class() -> None:
    assert probe_accuracy(SPEC, constant(0), cohort()) in (8 / 24, 4 / 24)


def test_tuning_moves_heads_alone_and_each_by_its_own_records() -> None:
    got = cohort()
    start = {**perfect(), **ZERO}
    both = (got.clients[0], got.newcomers[0])
    tuned = with_tuned_heads(SPEC, start, both, RECIPE, [STREAM.child(k) for k in range(2)])
    for model in tuned:
        for name, tensor in representation_of(SPEC, start).items():
            assert torch.equal(model[name], tensor)
    held = [set(m["3.bias"].argsort(descending=True)[:2].tolist()) for m in tuned]
    assert held == [{0, 1}, {2, 3}]


@pytest.mark.parametrize("label", range(4))
def test_tuning_without_epochs_changes_nothing(label: int) -> None:
    (same,) = with_tuned_heads(
        SPEC, constant(label), cohort().clients[:1], replace(RECIPE, epochs=0), [STREAM]
    )
    assert torch.equal(same["3.bias"], constant(label)["3.bias"])
