"""Entropies against golden values and naive twins, Taylor softmax, and columns by label."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from attacks._posteriors import (
    by_label,
    correct,
    entropy,
    grouped,
    log_probabilities,
    minus_log,
    modified_entropy,
    soft_margin_confidence,
)
from attacks._signals import logit_confidence
from attacks.interface import Candidates, Signals
from privfed.records import Records

LOGITS = st.lists(st.floats(-12, 12), min_size=2, max_size=6)


def golden() -> torch.Tensor:
    return torch.tensor([[0.7, 0.2, 0.1]], dtype=torch.float64).log()


@pytest.mark.parametrize(("label", "expected"), [(0, 0.162167), (2, 2.959736)])
def test_golden_modified_entropy(label: int, expected: float) -> None:
    assert modified_entropy(golden(), torch.tensor([label])).item() == pytest.approx(expected, abs=5e-7)


def test_golden_entropy() -> None:
    assert entropy(golden(), torch.tensor([0])).item() == pytest.approx(0.801819, abs=5e-7)


@given(LOGITS, st.integers(0, 5))
def test_entropies_equal_the_naive_sums(logits: list[float], seed: int) -> None:
    label = seed % len(logits)
    p = torch.softmax(torch.tensor(logits, dtype=torch.float64), 0).tolist()
    plain = -sum(q * math.log(q) for q in p)
    modified = -(1 - p[label]) * math.log(p[label])
    modified -= sum(q * math.log1p(-q) for i, q in enumerate(p) if i != label)
    z, y = torch.tensor([logits]), torch.tensor([label])
    assert entropy(z.double(), y).item() == pytest.approx(plain, rel=1e-4, abs=1e-9)
    assert modified_entropy(z.double(), y).item() == pytest.approx(modified, rel=1e-4, abs=1e-9)


def test_entropies_stay_exact_where_probabilities_round_to_one() -> None:
    """p_i = e^-m for one rival: Mentr = e^-m (m + ...) for the wrong label, e^-2m order for the right one."""
    m = 100.0
    z = torch.tensor([[m, 0.0]])
    tail = math.exp(-m)
    assert entropy(z, torch.tensor([0])).item() == pytest.approx(tail * (1 + m), rel=1e-9)
    assert modified_entropy(z, torch.tensor([0])).item() == pytest.approx(2 * tail**2, rel=1e-9)
    assert modified_entropy(z, torch.tensor([1])).item() == pytest.approx(2 * m, rel=1e-9)


def test_entropy_of_certainty_has_a_finite_logarithm() -> None:
    z, y = torch.tensor([[2000.0, 0.0, 0.0]]), torch.tensor([0])
    assert modified_entropy(z, y).item() == 0
    assert 700 < minus_log(modified_entropy(z, y)).item() < 710


def test_probabilities_and_complements_add_up_to_one() -> None:
    log_p, log_rest = log_probabilities(torch.randn(7, 5, 4, generator=torch.Generator().manual_seed(0)))
    np.testing.assert_allclose((log_p.exp() + log_rest.exp()).numpy(), 1.0, rtol=1e-12)


def test_correct_is_the_first_choice_and_ties_count() -> None:
    z = torch.tensor([[2.0, 1.0], [1.0, 2.0], [1.0, 1.0]])
    assert correct(z, torch.tensor([0, 0, 0])).tolist() == [1, 0, 1]


def taylor(x: float) -> float:
    return sum(x**k / math.factorial(k) for k in range(5))


def test_soft_margin_taylor_equals_the_formula() -> None:
    z = [1.2, -0.4, 0.3]
    own, rivals = taylor(z[1] - 0.6), taylor(z[0]) + taylor(z[2])
    p = own / (own + rivals)
    found = soft_margin_confidence(torch.tensor([z], dtype=torch.float64), torch.tensor([1]), 0.6, 4)
    assert found.item() == pytest.approx(math.log(p / (1 - p)))


@given(LOGITS, st.integers(0, 5))
def test_without_margin_and_polynomial_it_is_the_plain_confidence(logits: list[float], seed: int) -> None:
    z, y = torch.tensor([logits]), torch.tensor([seed % len(logits)])
    np.testing.assert_allclose(soft_margin_confidence(z, y, 0.0, 0), logit_confidence(z, y))


@given(st.floats(-60, 60), st.sampled_from([2, 4, 6]))
def test_even_orders_give_probabilities_everywhere(z: float, order: int) -> None:
    logits = torch.tensor([[z, 0.0]], dtype=torch.float64)
    assert math.isfinite(soft_margin_confidence(logits, torch.tensor([0]), 0.6, order).item())


def test_trap_third_order_is_negative_on_unlikely_labels() -> None:
    """Terms up to the third power, as public code computes "n = 4": 1 + x + x^2/2 + x^3/6 < 0 at -2."""
    assert sum((-2.0) ** k / math.factorial(k) for k in range(4)) < 0
    logits = torch.tensor([[-2.0, 0.0]], dtype=torch.float64)
    assert math.isnan(soft_margin_confidence(logits, torch.tensor([0]), 0.0, 3).item())


def test_columns_by_label_hold_the_population_of_that_label_and_client() -> None:
    rng = np.random.default_rng(0)
    labels, own = torch.tensor([2, 0, 2, 1, 2]), torch.tensor([1, 2, 0, 2])
    clients = np.array([0, 1, 1, 0])
    known = Candidates(
        Records(torch.zeros(4, 1), own),
        torch.from_numpy(clients),
        Records(torch.zeros(5, 1), labels),
        Records(torch.zeros(1, 1), torch.zeros(1, dtype=torch.int64)),
    )
    signals = Signals(rng.normal(size=(4, 3)), rng.normal(size=(5, 3, 2)), clients)
    found = by_label(signals, known)
    assert found.population.shape == (3, 3, 6)
    np.testing.assert_array_equal(found.candidates, signals.candidates)
    np.testing.assert_array_equal(found.clients, clients * 3 + own.numpy())
    for client in range(2):
        for label in range(3):
            column = found.population[..., client * 3 + label]
            expected = signals.population[labels.numpy() == label][..., client]
            np.testing.assert_array_equal(column[: len(expected)], expected)
            assert np.isnan(column[len(expected) :]).all()
    assert [g.tolist() for g in grouped(found)] == [[0], [3], [2], [1]]
