"""The boundary search on models whose boundary is known in closed form."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor

from attacks import _boundary
from attacks._boundary import Label, boundary_distances, plan
from attacks.interface import Floats
from privfed.randomness import Stream
from privfed.records import Records

STREAM = Stream(4)


def half_spaces(weight: Tensor, bias: float) -> Label:
    return lambda inputs: (inputs.flatten(1).to(weight) @ weight + bias > 0).long()


def points(n: int, d: int, seed: int) -> Tensor:
    return torch.randn(n, d, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


def plane(d: int, seed: int) -> tuple[Label, Records, Tensor, Floats]:
    """A linear model, records that it labels rightly, starts, and the distances |wx + b| / |w|."""
    weight, bias = points(1, d, seed)[0] + 0.1, 0.3
    label, inputs = half_spaces(weight, bias), points(30, d, seed + 1)
    closed = ((inputs @ weight + bias).abs() / weight.norm()).numpy()
    return label, Records(inputs, label(inputs)), points(20, d, seed + 2) * 3, closed


@given(queries=st.integers(2, 2000))
def test_a_plan_keeps_to_its_budget_and_wastes_little(queries: int) -> None:
    spent = plan(queries).questions
    assert min(queries, 17) <= spent <= queries
    assert queries - spent < max(plan(queries).steps, 32)


def test_a_plan_needs_a_question_beside_the_first() -> None:
    with pytest.raises(ValueError, match="expected queries >= 2, got queries=1"):
        plan(1)


@given(queries=st.sampled_from((2, 10, 17, 64, 200)), seed=st.integers(0, 20))
def test_the_questions_asked_are_those_of_the_plan(queries: int, seed: int) -> None:
    label, records, starts, _ = plane(5, seed)
    asked = 0

    def counted(inputs: Tensor) -> Tensor:
        nonlocal asked
        asked += len(inputs)
        return label(inputs)

    found = boundary_distances(counted, records, starts, queries, STREAM)
    searched = int((~np.isnan(found)).sum())
    own, once = len(records), len(starts)
    assert asked == own + once + searched * (plan(queries).questions - 1) <= once + own * queries


def test_in_one_dimension_the_distance_is_exact_to_the_last_bisection() -> None:
    weight = torch.tensor([2.0], dtype=torch.float64)
    label, inputs = half_spaces(weight, -1.0), points(40, 1, 0)
    starts = torch.tensor([[4.0], [-3.0]], dtype=torch.float64)
    found = boundary_distances(label, Records(inputs, label(inputs)), starts, 11, STREAM)
    closed = (inputs[:, 0] - 0.5).abs().numpy()
    line = torch.where(inputs < 0.5, 4.0 - inputs, inputs + 3.0)[:, 0].numpy()
    assert plan(11).line == 10
    assert (found >= closed).all()
    assert (found - closed <= line / 2**10).all()


@given(d=st.integers(1, 12), seed=st.integers(0, 30), queries=st.sampled_from((9, 60, 300)))
def test_it_is_never_below_the_closed_form_nor_above_the_first_line(d: int, seed: int, queries: int) -> None:
    label, records, starts, closed = plane(d, seed)
    found = boundary_distances(label, records, starts, queries, STREAM)
    line = boundary_distances(label, records, starts, 1 + plan(queries).line, STREAM)
    known = ~np.isnan(found)
    np.testing.assert_array_equal(known, ~np.isnan(line))
    assert (found[known] >= closed[known] * (1 - 1e-9)).all()
    assert (found[known] <= line[known]).all()


@pytest.mark.parametrize("d", [2, 8, 20])
def test_with_the_true_normal_one_step_reaches_the_closed_form(
    d: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A turn begins a new bracket from 0, which six bisections cut to 1/64 of the distance before it."""
    label, records, starts, closed = plane(d, 3)
    weight = points(1, d, 3)[0] + 0.1
    side = (2 * records.labels - 1).unsqueeze(1)
    true = torch.where(side > 0, -weight, weight) / weight.norm()
    monkeypatch.setattr(_boundary, "_normal", lambda *_: true)
    found = boundary_distances(label, records, starts, 60, STREAM)
    line = boundary_distances(label, records, starts, 1 + plan(60).line, STREAM)
    assert (plan(60).steps, plan(60).refinements) == (1, 6)
    assert not np.isnan(found).any()
    assert (found - closed <= line / 2**6).all()
    assert (line - closed > line / 2**6).mean() > 0.5


def test_more_questions_bring_it_closer() -> None:
    label, records, starts, closed = plane(30, 7)
    means = [
        float((boundary_distances(label, records, starts, q, STREAM) / closed).mean()) for q in (17, 64, 256)
    ]
    assert means[0] > means[1] > means[2] >= 1


def test_a_misclassified_record_lies_at_distance_zero_and_costs_one_question() -> None:
    label, records, starts, _ = plane(4, 2)
    wrong = Records(records.inputs, 1 - records.labels)
    np.testing.assert_array_equal(boundary_distances(label, wrong, starts, 40, STREAM), np.zeros(30))


@pytest.mark.parametrize("count", [0, 7])
def test_without_a_start_of_another_label_nothing_is_said(count: int) -> None:
    def constant(inputs: Tensor) -> Tensor:
        return torch.ones(len(inputs), dtype=torch.int64)

    records = Records(points(5, 3, 0), torch.tensor([1, 1, 0, 1, 2]))
    found = boundary_distances(constant, records, points(count, 3, 1), 40, STREAM)
    np.testing.assert_array_equal(found, [np.nan, np.nan, 0.0, np.nan, 0.0])


def test_each_search_begins_at_the_nearest_record_with_another_label() -> None:
    """On a line, a start that lies beyond a second boundary would lead to the wrong one."""

    def band(inputs: Tensor) -> Tensor:
        return ((inputs[:, 0] > 1).long() + (inputs[:, 0] < -10).long()).clamp_max(1)

    starts = torch.tensor([[-12.0], [2.0], [0.5]])
    found = boundary_distances(band, Records(torch.zeros(1, 1), torch.tensor([0])), starts, 17, STREAM)
    assert 1 <= found[0] <= 1 + 2 * 2**-16 + 1e-6


def test_how_many_are_searched_at_once_does_not_change_the_result(monkeypatch: pytest.MonkeyPatch) -> None:
    label, records, starts, _ = plane(6, 1)
    whole = boundary_distances(label, records, starts, 80, STREAM)
    monkeypatch.setattr(_boundary, "_ELEMENTS", 6 * plan(80).probes * 4)
    np.testing.assert_allclose(boundary_distances(label, records, starts, 80, STREAM), whole, rtol=1e-9)


def test_noisy_answers_that_put_a_start_on_the_record_itself_give_zero() -> None:
    answers = iter([torch.tensor([0]), torch.tensor([1])])

    def fickle(inputs: Tensor) -> Tensor:
        return next(answers, torch.ones(len(inputs), dtype=torch.int64))

    same = torch.zeros(1, 3)
    found = boundary_distances(fickle, Records(same, torch.tensor([0])), same, 60, STREAM)
    assert 0 <= found[0] < 1e-30
