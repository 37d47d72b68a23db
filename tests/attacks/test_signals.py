"""The three scales of confidence, against naive formulas."""

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from attacks import _signals


def test_logit_confidence_matches_the_naive_formula() -> None:
    logits = torch.randn(3, 5, 4, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    labels = torch.tensor([0, 3, 1, 2, 2])
    phi = _signals.logit_confidence(logits, labels)
    assert phi.shape == (3, 5)
    for model in range(3):
        for i, y in enumerate(labels.tolist()):
            p = torch.softmax(logits[model, i], 0)[y]
            assert float(phi[model, i]) == pytest.approx(float(torch.log(p / (1 - p))), abs=1e-12)


def test_logit_confidence_survives_logits_whose_probability_rounds_to_one() -> None:
    phi = _signals.logit_confidence(
        torch.tensor([[900.0, 0.0, 0.0], [0.0, 900.0, 900.0]]), torch.tensor([0, 0])
    )
    np.testing.assert_allclose(phi.numpy(), [900 - np.log(2), -900 - np.log(2)])


def test_one_class_has_no_rival() -> None:
    phi = _signals.logit_confidence(torch.tensor([[3.0]]), torch.tensor([0])).numpy()
    assert phi[0] == np.inf
    assert _signals.probability(phi)[0] == 1
    assert _signals.loss(phi)[0] == 0


def test_loss_is_the_cross_entropy() -> None:
    logits = torch.randn(6, 4, generator=torch.Generator().manual_seed(1), dtype=torch.float64)
    labels = torch.tensor([0, 1, 2, 3, 0, 1])
    loss = torch.nn.functional.cross_entropy(logits, labels, reduction="none")
    np.testing.assert_allclose(
        _signals.loss(_signals.logit_confidence(logits, labels).numpy()), loss.numpy(), rtol=1e-12
    )


@given(st.floats(-600, 600))
def test_loss_and_confidence_are_inverse(phi: float) -> None:
    nats = _signals.loss(np.array([phi]))
    np.testing.assert_allclose(_signals.confidence_at_loss(nats), [phi], rtol=1e-9, atol=1e-9)


@given(st.floats(-30, 30))
def test_probability_and_confidence_are_inverse(phi: float) -> None:
    p = _signals.probability(np.array([phi]))
    np.testing.assert_allclose(_signals.confidence_at_probability(p), [phi], atol=1e-2)
    np.testing.assert_allclose(-np.log(p), _signals.loss(np.array([phi])), atol=1e-12)
