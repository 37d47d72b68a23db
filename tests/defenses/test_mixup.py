"""MixUp as a defence: what it sets, what it leaves alone, what it refuses, and that it promises nothing."""

from __future__ import annotations

import math
from dataclasses import replace

import pytest
import torch

from audits.defense_fit import misfit
from defenses.dp_sgd import DpSgd
from defenses.mixup import MixUp
from privfed.hooks import Hooks, apply_local
from privfed.pipelines.fedavg import FedAvg
from privfed.records import Records
from privfed.training import train
from tests.privfed.training_twin import FULL, MLP, PLAIN, same, tasks

DP = DpSgd(noise_multiplier=1.0, clip=1.0, sampling_rate=0.5, steps=3, expected_batch=4.0, lr=0.1)


def test_clients_train_by_the_recipe_with_that_alpha() -> None:
    plain, wanted = tasks(MLP, FULL, (6, 4)), tasks(MLP, replace(FULL, mixup=0.4), (6, 4))
    spent = apply_local(Hooks(tasks=(MixUp(0.4),)), plain, train)
    for one, expected, before in zip(spent, train(wanted), train(plain), strict=True):
        assert same(one.value, expected)
        assert not same(one.value, before)
        assert one.charges == ()


def test_what_has_a_teacher_is_left_alone() -> None:
    (task,) = tasks(MLP, FULL, (3,))
    taught = replace(task, teacher=torch.zeros(3, 6))
    assert MixUp(0.4).adapt(taught) is taught


def test_numbers_of_words_are_refused() -> None:
    (task,) = tasks(MLP, PLAIN, (3,))
    words = replace(task, records=Records(torch.ones(3, 4, dtype=torch.int64), task.records.labels))
    with pytest.raises(
        ValueError, match=r"^expected inputs that can be blended .*got inputs of torch.int64$"
    ):
        MixUp(0.4).adapt(words)


def test_it_is_refused_beside_dp_sgd_in_a_plan_and_in_a_run() -> None:
    place, reason = misfit(FedAvg(), "fedavg", [("mix_up", MixUp(0.4)), ("dp_sgd", DP)]) or (-1, "")
    assert place == 0
    assert reason == "expected no mix_up beside a defence that clips record by record: it mixes records"
    with pytest.raises(ValueError, match=r"^expected a recipe that keeps records apart .*got mixup=0.4$"):
        apply_local(Hooks(local=DP, tasks=(MixUp(0.4),)), tasks(MLP, PLAIN, (6,)), train)


@pytest.mark.parametrize("alpha", [0.0, -1.0, math.inf, math.nan])
def test_alpha_out_of_range(alpha: float) -> None:
    with pytest.raises(ValueError, match=rf"^expected a finite alpha > 0, got alpha={alpha}$"):
        MixUp(alpha)
