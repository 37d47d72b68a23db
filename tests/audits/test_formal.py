"""What a claim's events imply beside its epsilon, and that it is worked out once."""

from __future__ import annotations

from pathlib import Path

import pytest
from dp_accounting import DpEvent, GaussianDpEvent
from dp_accounting.dp_event import RepeatAndSelectDpEvent

from audits import formal
from privfed.claims import Claim, max_tpr
from privfed.event_trees import dumps

GAUSSIAN = GaussianDpEvent(1.0)


def claim(event: DpEvent, epsilon: float) -> Claim:
    return Claim(epsilon, 1e-5, "record", "add_or_remove_one", "pld", "none", "g", trace=dumps([event]))


@pytest.fixture(autouse=True)
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PRIVFED_CACHE", str(tmp_path))


def test_one_gaussian_has_its_golden_trade_off() -> None:
    found = formal._implied(claim(GAUSSIAN, 4.377))
    assert found.mu == pytest.approx(1.0)
    golden = {"0.01": 0.0924, "0.001": 0.0183, "0.0001": 0.0033}
    assert {k: round(found.max_tpr[k], 4) for k in golden} == golden
    assert all(4.37 < e < 4.8 for e in found.epsilons.values())


def test_an_implied_bound_is_never_above_that_of_epsilon_alone() -> None:
    found = formal._implied(claim(GAUSSIAN, 0.01))
    assert all(v <= max_tpr(0.01, 1e-5, float(k)) for k, v in found.max_tpr.items())


def test_a_random_number_of_trainings_is_read_by_the_accountant_that_knows_it() -> None:
    found = formal._implied(claim(RepeatAndSelectDpEvent(GAUSSIAN, 3.0, 1.0), 9.0))
    assert found.mu is None
    assert all(0 < v <= max_tpr(9.0, 1e-5, float(k)) for k, v in found.max_tpr.items())


def test_it_is_worked_out_once(monkeypatch: pytest.MonkeyPatch) -> None:
    first = formal._implied(claim(GAUSSIAN, 4.377))
    monkeypatch.setattr(formal, "_computed", lambda claim: pytest.fail("worked out again"))
    assert formal._implied(claim(GAUSSIAN, 4.377)) == first
