"""Numbers of units: published tables, a simulation beside the exact power, and extrapolation."""

from __future__ import annotations

import re

import numpy as np
import pytest

from audits.roc import tpr_at_fpr
from audits.sample_size import n_to_decide, power_of_tpr, required_n
from reports.record import Estimate

TPR = {
    (0.001, 0.005): 4600, (0.001, 0.01): 1500, (0.01, 0.02): 3900, (0.01, 0.03): 1280,
    (0.01, 0.05): 510, (0.1, 0.15): 1160, (0.1, 0.2): 340,
}  # fmt: skip
AUC = {0.51: 10306, 0.52: 2577, 0.53: 1146, 0.55: 413, 0.60: 104}


@pytest.mark.parametrize(("at", "published"), TPR.items())
def test_tpr_against_the_simulated_table(at: tuple[float, float], published: int) -> None:
    """The table gives a number that reaches the power; ours is the one from which all do.

    Power climbs in saw teeth, so the first number that reaches it lies below the table's (by 14 %
    at most), and the last one that misses it lies above (by 14 % at most).
    """
    needed = required_n("tpr_at_fpr", {"fpr": at[0]}, at[1])
    assert needed is not None
    assert 0.95 <= needed / published <= 1.15
    beyond = np.linspace(needed, 1.5 * needed, 50).astype(np.int64)
    assert power_of_tpr(beyond, *at, 0.05).min() >= 0.8
    around = np.linspace(0.85 * published, 1.05 * published, 200).astype(np.int64)
    assert power_of_tpr(around, *at, 0.05).max() >= 0.8


def test_tpr_is_never_planned_below_its_resolution() -> None:
    """600 units would bound the TPR at 0.1 % by 2 %, but nothing is reported under 1,000."""
    assert power_of_tpr(np.array(600), 0.001, 0.02, 0.05) > 0.8
    assert required_n("tpr_at_fpr", {"fpr": 0.001}, 0.02) == 1000


def test_exact_power_agrees_with_simulation() -> None:
    rng = np.random.default_rng(0)
    uppers = [tpr_at_fpr(rng.random(340), rng.random(340), 0.1, 0.95).upper for _ in range(2000)]
    passed = np.mean([u is not None and u <= 0.2 for u in uppers])
    assert passed == pytest.approx(float(power_of_tpr(np.array(340), 0.1, 0.2, 0.05)), abs=0.03)


@pytest.mark.parametrize(("limit", "published"), AUC.items())
def test_auc_against_the_table(limit: float, published: int) -> None:
    assert required_n("auc", {}, limit) == pytest.approx(published, abs=1)


@pytest.mark.parametrize(("decoys", "published"), [(10, 90), (100, 970), (1000, 9760)])
def test_proportion_against_the_table(decoys: int, published: int) -> None:
    needed = required_n("proportion", {"chance": 1 / decoys}, 2 / decoys)
    assert needed is not None
    assert 1 <= needed / published <= 1.13


def test_a_limit_at_chance_can_never_be_passed() -> None:
    assert required_n("auc", {}, 0.5) is None
    assert required_n("tpr_at_fpr", {"fpr": 0.01}, 0.01) is None


def estimate(value: float | None, lower: float | None, upper: float | None, n_out: int = 300) -> Estimate:
    return Estimate(
        metric="auc", value=value, lower=lower, upper=upper, method="", n_in=200, n_out=n_out,
        n_federations=1, scope="artefact",
    )  # fmt: skip


@pytest.mark.parametrize(
    ("bounds", "n_out", "needed"),
    [
        ((0.55, 0.45, 0.65), 300, 800),
        ((0.65, 0.55, 0.75), 300, 800),
        ((0.55, 0.45, 0.65), 100, 400),
        ((0.55, 0.45, 0.65), 0, 800),
        ((0.55, 0.54, 0.56), 300, 200),
        ((0.60, 0.50, 0.70), 300, None),
        ((None, None, None), 300, None),
    ],
)
def test_n_to_decide_scales_with_the_square_of_the_half_width(
    bounds: tuple[float | None, float | None, float | None], n_out: int, needed: int | None
) -> None:
    found = n_to_decide(estimate(*bounds, n_out), 0.6)
    assert found == (needed if needed is None else pytest.approx(needed, abs=1))


def test_no_number_of_records_tells_shares_of_clients_better() -> None:
    found = estimate(0.55, 0.45, 0.65, 300)
    assert n_to_decide(found, 0.6) is not None
    assert n_to_decide(found.model_copy(update={"metric": "r_squared"}), 0.6) is None


@pytest.mark.parametrize(
    ("metric", "power", "message"),
    [
        ("f1", 0.8, "expected metric 'auc', 'tpr_at_fpr' or 'proportion', got metric='f1'"),
        ("auc", 1.0, "expected power in (0, 1) and alpha in (0, 0.5), got power=1.0, alpha=0.05"),
    ],
)
def test_wrong_input_is_named(metric: str, power: float, message: str) -> None:
    with pytest.raises(ValueError, match=re.escape(message)):
        required_n(metric, {}, 0.6, power)
