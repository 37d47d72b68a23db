"""Label smoothing as a defence: what it sets, what it leaves alone, and that it promises nothing."""

from __future__ import annotations

import inspect
import math
import re
from dataclasses import replace

import pytest
import torch
from torch.nn import functional as F

from audits.defense_fit import misfit
from defenses.dp_sgd import DpSgd
from defenses.label_smoothing import LabelSmoothing
from defenses.soteria import Soteria
from privfed.hooks import Hooks, apply_local
from privfed.pipelines.fedavg import FedAvg
from privfed.training import predict, train
from tests.privfed.training_twin import FULL, MLP, noise, same, tasks


@pytest.mark.parametrize("smoothing", [0.1, -0.1])
def test_clients_train_by_the_recipe_with_that_smoothing(smoothing: float) -> None:
    plain, wanted = tasks(MLP, FULL, (6, 4)), tasks(MLP, replace(FULL, smoothing=smoothing), (6, 4))
    spent = apply_local(Hooks(tasks=(LabelSmoothing(smoothing),)), plain, train)
    for one, expected, before in zip(spent, train(wanted), train(plain), strict=True):
        assert same(one.value, expected)
        assert not same(one.value, before)
        assert one.charges == ()


def test_the_sign_decides_how_sure_a_model_gets() -> None:
    """Trained long on a handful of records, the mean top probability orders as the target does."""
    recipe = replace(FULL, epochs=60, weight_decay=0.0)
    records = noise(MLP, 8, 0)
    sure = []
    for smoothing in (0.3, 0.0, -0.1):
        (task,) = tasks(MLP, recipe, (8,))
        (trained,) = train([LabelSmoothing(smoothing).adapt(task)])
        sure.append(float(F.softmax(predict(MLP, trained, records.inputs), 1).amax(1).mean()))
    assert sure[0] < sure[1] < sure[2]
    # The smoothed target has 1 - s + s / K on the label, and nothing pulls beyond it.
    assert sure[0] == pytest.approx(0.7 + 0.3 / MLP.classes, abs=0.1)


def test_what_has_a_teacher_is_left_alone() -> None:
    (task,) = tasks(MLP, FULL, (3,))
    taught = replace(task, teacher=torch.zeros(3, 6))
    assert LabelSmoothing(0.1).adapt(taught) is taught


def test_it_is_refused_beside_a_training_that_would_not_notice() -> None:
    dp = DpSgd(noise_multiplier=1.0, clip=1.0, sampling_rate=0.5, steps=3, expected_batch=4.0, lr=0.1)
    both = [("dp_sgd", dp), ("label_smoothing", LabelSmoothing(0.1))]
    place, reason = misfit(FedAvg(), "fedavg", both) or (-1, "")
    assert place == 1
    assert reason == (
        "expected no label_smoothing beside a defence that trains by a loss of its own: it would do nothing"
    )
    beside_soteria = [("soteria", Soteria(0.5)), ("label_smoothing", LabelSmoothing(0.1))]
    assert misfit(FedAvg(), "fedavg", beside_soteria) is None


@pytest.mark.parametrize("smoothing", [1.0, -1.0, math.nan])
def test_smoothing_out_of_range(smoothing: float) -> None:
    with pytest.raises(
        ValueError, match=rf"^expected smoothing in \(-1, 1\), got smoothing={re.escape(str(smoothing))}$"
    ):
        LabelSmoothing(smoothing)


def test_it_says_what_each_sign_is_reported_to_do() -> None:
    said = " ".join((inspect.getdoc(LabelSmoothing) or "").split())
    assert "easier; a negative one to make it harder" in said
    assert "no guarantee" in said
