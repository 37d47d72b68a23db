"""The profile behind a claim: the Gaussian's where events are one, its own pair where none are known."""

from __future__ import annotations

import math
from dataclasses import replace
from pathlib import Path

import pytest
from dp_accounting import GaussianDpEvent
from dp_accounting.dp_event import RepeatAndSelectDpEvent

from audits import privacy_profile as module
from audits.privacy_profile import POINTS, privacy_profile
from privfed.claims import Claim
from privfed.event_trees import dumps
from privfed.trade_off import gdp_delta

CLAIM = Claim(4.377, 1e-5, "record", "add_or_remove_one", "pld", "none", "g")
GAUSSIAN = replace(CLAIM, trace=dumps([GaussianDpEvent(1.0)]))


@pytest.fixture(autouse=True)
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PRIVFED_CACHE", str(tmp_path))


@pytest.mark.parametrize(("exchanged", "mu"), [(False, 1.0), (True, 2.0)])
def test_events_have_the_profile_of_their_mechanism(exchanged: bool, mu: float) -> None:
    found = privacy_profile(GAUSSIAN, exchanged)[1:]
    assert len(found) == POINTS
    assert [d for _, d in found] == pytest.approx([gdp_delta(mu, e) for e, _ in found], rel=1e-2, abs=1e-9)


def test_without_events_there_is_the_one_pair() -> None:
    assert privacy_profile(CLAIM) == ((4.377, 1e-5),)


def test_an_exchange_counts_as_one_removed_and_one_added() -> None:
    ((epsilon, delta),) = privacy_profile(CLAIM, exchanged=True)
    assert epsilon == 2 * 4.377
    assert delta == pytest.approx((1 + math.exp(4.377)) * 1e-5)
    assert privacy_profile(replace(CLAIM, neighbouring="replace_one"), exchanged=True) == ((4.377, 1e-5),)


def test_a_random_number_of_trainings_is_read_by_the_accountant_that_knows_it() -> None:
    events = [RepeatAndSelectDpEvent(GaussianDpEvent(1.0), 3.0, 1.0)]
    found = privacy_profile(replace(CLAIM, epsilon=9.0, trace=dumps(events)))
    assert len(found) == 1 + POINTS
    assert all(0 <= d <= 1 for _, d in found)


def test_it_is_worked_out_once(monkeypatch: pytest.MonkeyPatch) -> None:
    first = privacy_profile(GAUSSIAN)
    monkeypatch.setattr(module, "_read", lambda claim, relation: pytest.fail("worked out again"))
    assert privacy_profile(GAUSSIAN) == first
