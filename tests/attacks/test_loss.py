"""Loss threshold."""

import numpy as np
import pytest

from attacks.interface import References, Signals
from attacks.loss import LossThreshold, gap_attack_accuracy

NONE = References(np.empty((0, 3, 2)), np.empty((0, 0, 2, 1)), np.empty((0, 3), bool))


def test_score_is_minus_the_mean_loss_over_known_queries_and_needs_no_references() -> None:
    phi = np.array([[0.0, 2.0], [1.0, np.nan], [np.nan, np.nan]])
    scores = LossThreshold().score(Signals(phi, np.empty((0, 2, 1)), np.zeros(3, np.int64)), NONE)
    np.testing.assert_allclose(
        scores, [-(np.log(2) + np.log1p(np.exp(-2))) / 2, -np.log1p(np.exp(-1)), np.nan]
    )


@pytest.mark.parametrize(("train", "test", "expected"), [(1, 0.5, 0.75), (0.8, 0.8, 0.5), (0.2, 0.4, 0.4)])
def test_gap_attack(train: float, test: float, expected: float) -> None:
    assert gap_attack_accuracy(train, test) == pytest.approx(expected)


def test_gap_attack_equals_the_balanced_accuracy_of_its_rule() -> None:
    right_in, right_out = np.array([1, 1, 1, 0], bool), np.array([1, 0, 0, 0], bool)
    balanced = (right_in.mean() + (~right_out).mean()) / 2
    assert gap_attack_accuracy(right_in.mean(), right_out.mean()) == pytest.approx(balanced)


def test_gap_attack_refuses_what_is_no_accuracy() -> None:
    with pytest.raises(ValueError, match=r"expected test_accuracy in \[0, 1\], got test_accuracy=1.5"):
        gap_attack_accuracy(0.5, 1.5)
