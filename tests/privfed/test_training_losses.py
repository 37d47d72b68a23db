"""Losses beside plain cross-entropy, smoothed labels and blended records, against torch and by hand."""

from __future__ import annotations

import math
import re
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import stats

from privfed.augmentation import Dsa
from privfed.mixing import blend, pairings
from privfed.nets import NetSpec
from privfed.randomness import Stream
from privfed.records import Records
from privfed.training import Engine, Recipe, label_losses, train
from tests.privfed.training_twin import (
    CONVNET,
    FULL,
    MLP,
    PLAIN,
    assert_close,
    by_torch,
    every_engine,
    same,
    tasks,
)

TEXT = NetSpec("lstm", channels=3, size=4, classes=2, hidden=(4, 5))
RECIPES = [
    replace(FULL, smoothing=0.2),
    replace(FULL, smoothing=-0.2),
    replace(FULL, mixup=0.4),
    replace(FULL, mixup=1.0, smoothing=0.1, weight_decay=0.0),
]


@pytest.mark.parametrize("recipe", RECIPES, ids=["smoothed", "sharpened", "blended", "both"])
@pytest.mark.parametrize("spec", [CONVNET, MLP, TEXT], ids=lambda s: s.family)
@every_engine
def test_a_task_is_what_torch_makes_of_soft_targets(spec: NetSpec, recipe: Recipe, engine: Engine) -> None:
    work = tasks(spec, recipe)
    assert_close(train(work, engine), [by_torch(t) for t in work])


@every_engine
def test_blends_are_augmented_as_records_are(engine: Engine) -> None:
    work = tasks(CONVNET, replace(FULL, mixup=1.0, dsa=Dsa()))
    assert_close(train(work, engine), [by_torch(t) for t in work])


@settings(max_examples=20)
@given(
    st.lists(st.integers(0, 12), min_size=1, max_size=6),
    st.integers(1, 6),
    st.floats(-0.9, 0.9),
    st.sampled_from([0.0, 0.2, 1.0, 8.0]),
)
def test_the_engines_agree_on_ragged_tasks(
    sizes: list[int], batch: int, smoothing: float, mixup: float
) -> None:
    work = tasks(MLP, Recipe(2, batch, lr=0.1, smoothing=smoothing, mixup=mixup), sizes)
    assert_close(train(work, "looped"), train(work, "stacked"))


@every_engine
@pytest.mark.parametrize("recipe", RECIPES, ids=["smoothed", "sharpened", "blended", "both"])
def test_the_loss_matters_and_zero_is_plain_training(engine: Engine, recipe: Recipe) -> None:
    plain = train(tasks(MLP, FULL, (9, 5)), engine)
    changed = train(tasks(MLP, recipe, (9, 5)), engine)
    assert not any(same(a, b) for a, b in zip(plain, changed, strict=True))
    back = train(tasks(MLP, replace(FULL, smoothing=0.0, mixup=0.0), (9, 5)), engine)
    assert all(same(a, b) for a, b in zip(plain, back, strict=True))


@every_engine
def test_mixup_as_alpha_vanishes_is_plain_training(engine: Engine) -> None:
    """All shares are then 0 or 1, and either way each batch is trained on as it is, in some order."""
    assert_close(
        train(tasks(MLP, replace(FULL, mixup=1e-12)), engine),
        train(tasks(MLP, FULL), engine),
    )


@pytest.mark.parametrize("smoothing", [-0.5, 0.0, 0.3])
def test_one_record_by_hand(smoothing: float) -> None:
    """Softmax (1/2, 1/4, 1/4), label 0: the target is 1 - 2 s / 3 there and s / 3 elsewhere."""
    logits = torch.tensor([[[2.0, 1.0, 1.0]]], dtype=torch.float64) * math.log(2)
    target = 1 - 2 * smoothing / 3
    expected = target * math.log(2) + 2 * smoothing / 3 * math.log(4)
    (got,) = label_losses(logits, torch.tensor([[0]]), smoothing).flatten().tolist()
    assert got == pytest.approx(expected, rel=1e-12)


def test_a_gradient_step_by_hand() -> None:
    """From zero logits of two classes the gradient of the bias is p - t = (-1/2, 1/2) (1 - s)."""
    spec = NetSpec("linear", 1, 1, 2, width=1)
    records = Records(torch.zeros(1, 1), torch.tensor([0]))
    start = {"0.weight": torch.zeros(2, 1), "0.bias": torch.zeros(2)}
    (task,) = tasks(MLP, PLAIN, (1,))
    for smoothing in (0.0, 0.4, -0.4):
        recipe = Recipe(1, 1, lr=1.0, smoothing=smoothing)
        (after,) = train([replace(task, spec=spec, start=start, records=records, recipe=recipe)])
        torch.testing.assert_close(after["0.bias"], torch.tensor([0.5, -0.5]) * (1 - smoothing))


@pytest.mark.parametrize("alpha", [0.2, 1.0, 4.0])
def test_shares_are_beta_distributed(alpha: float) -> None:
    batches = [torch.tensor([3])] * 4000
    shares = np.array([p.share for p in pairings(batches, alpha, Stream(5))])
    assert stats.kstest(shares, stats.beta(alpha, alpha).cdf).pvalue > 0.01
    assert stats.kstest(shares, stats.beta(2 * alpha, 2 * alpha).cdf).pvalue < 1e-6


def test_partners_are_the_batch_in_any_order() -> None:
    batch = torch.tensor([7, 2, 5])
    found = pairings([batch] * 3000, 1.0, Stream(1))
    orders = [tuple(p.partner.tolist()) for p in found]
    assert {tuple(sorted(o)) for o in orders} == {(2, 5, 7)}
    counts = [orders.count(o) for o in set(orders)]
    assert len(counts) == 6
    assert stats.chisquare(counts).pvalue > 0.01


def test_padding_and_finished_models_are_left_alone() -> None:
    (pair,) = pairings([torch.tensor([4, 1])], 1.0, Stream(2))
    step = blend([pair, None], 3, torch.device("cpu"))
    assert step.partner.tolist() == [[*pair.partner.tolist(), 0], [0, 0, 0]]
    assert step.share.tolist() == [[pair.share], [1.0]]
    own, partners = torch.ones(2, 3, 2, 2), torch.zeros(2, 3, 2, 2)
    mixed = step.inputs(own, partners)
    assert mixed.dtype == torch.float32
    torch.testing.assert_close(mixed[0], torch.full((3, 2, 2), pair.share))
    assert torch.equal(mixed[1], own[1])
    torch.testing.assert_close(
        step.losses(own[:, :, 0, 0], partners[:, :, 0, 0])[0], torch.full((3,), pair.share)
    )


@every_engine
def test_what_trains_beside_a_task_does_not_matter(engine: Engine) -> None:
    work = tasks(MLP, replace(FULL, mixup=0.5))
    assert_close(train(work, engine), [train([t], engine)[0] for t in work])


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"smoothing": 1.0}, "expected smoothing in (-1, 1), got smoothing=1.0"),
        ({"smoothing": -1.0}, "expected smoothing in (-1, 1), got smoothing=-1.0"),
        ({"smoothing": math.nan}, "expected smoothing in (-1, 1), got smoothing=nan"),
        ({"mixup": -0.1}, "expected a finite mixup >= 0, got mixup=-0.1"),
        ({"mixup": math.inf}, "expected a finite mixup >= 0, got mixup=inf"),
    ],
)
def test_a_recipe_that_cannot_be_followed(change: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=f"^{re.escape(message)}$"):
        replace(PLAIN, **change)


def test_a_teacher_leaves_no_labels_to_soften() -> None:
    (task,) = tasks(MLP, replace(PLAIN, mixup=0.5), (3,))
    with pytest.raises(
        ValueError, match=r"^expected a recipe without smoothing and mixup .*got smoothing=0.0, mixup=0.5$"
    ):
        replace(task, teacher=torch.zeros(3, 6))


def test_integers_cannot_be_blended() -> None:
    (task,) = tasks(MLP, PLAIN, (3,))
    words = Records(torch.ones(3, 4, dtype=torch.int64), task.records.labels)
    with pytest.raises(
        ValueError, match=r"^expected inputs that can be blended .*got inputs of torch.int64$"
    ):
        replace(task, records=words, recipe=replace(PLAIN, mixup=0.5))
