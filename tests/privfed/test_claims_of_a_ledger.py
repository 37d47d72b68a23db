"""Which claims a ledger supports: by boundary, by unit, and with the trainings that came before."""

from __future__ import annotations

from dataclasses import replace

import pytest
from dp_accounting import GaussianDpEvent, PoissonSampledDpEvent

from privfed.accounting import epsilon, second_opinions
from privfed.claims import EVERYBODY, Assumption
from privfed.event_trees import dumps, loads
from privfed.hooks import Charge, Spent, after, beside, merge
from privfed.ledger import UNDECLARED, Ledger, Tuning, claims
from privfed.randomness import Stream

DELTA = 1e-5
RECORD = Spent(None, GaussianDpEvent(2.0))
CLIENT = Spent(None, GaussianDpEvent(9.0), unit="client", neighbouring="replace_one")
NOTHING = Spent(None, None)


def test_noise_for_two_units_supports_two_claims() -> None:
    both = after(RECORD, CLIENT)
    found = claims(Ledger().spend(0, both).spend(1, both), DELTA)
    assert [(c.unit, c.neighbouring, c.against) for c in found] == [
        ("record", "add_or_remove_one", EVERYBODY),
        ("client", "replace_one", EVERYBODY),
    ]
    assert found[0].epsilon == pytest.approx(epsilon([RECORD.event], DELTA))
    assert found[1].epsilon == pytest.approx(epsilon([CLIENT.event], DELTA, "pld", "replace_one"))


def test_events_for_one_unit_are_composed_and_others_are_kept_apart() -> None:
    a, b = Charge(GaussianDpEvent(1.0)), Charge(GaussianDpEvent(2.0), "client")
    merged = merge([a, b, a])
    assert [c.unit for c in merged] == ["record", "client"]
    assert epsilon([merged[0].event], DELTA) == pytest.approx(epsilon([a.event, a.event], DELTA))


def test_each_boundary_speaks_of_those_behind_it() -> None:
    ledger = Ledger().spend(0, NOTHING).spend_on_sum([0, 1], CLIENT).publish(RECORD)
    found = claims(ledger, DELTA)
    assert [(c.unit, c.against) for c in found] == [
        ("client", ("clients", "outsiders")),
        ("record", ("outsiders",)),
    ]


def test_a_sum_or_a_publication_without_noise_leaves_no_claim_of_its_page() -> None:
    ledger = Ledger().spend_on_sum([0], CLIENT).spend_on_sum([0], NOTHING).publish(RECORD).publish(NOTHING)
    assert claims(ledger, DELTA) == ()


def test_a_round_for_another_unit_is_no_guarantee_for_this_one() -> None:
    assert claims(Ledger().spend(0, RECORD).spend(0, CLIENT), DELTA) == ()


def test_delta_is_held_against_the_number_of_units_it_speaks_of() -> None:
    ledger = Ledger().spend(0, after(RECORD, CLIENT))
    record, client = claims(ledger, 1e-2, records={0: 500, 1: 30})
    rules = [next(a for a in c.assumptions if a.name.startswith("delta")) for c in (record, client)]
    assert [(r.name, r.verified) for r in rules] == [
        ("delta below one over the number of records", False),
        ("delta below one over the number of clients", True),
    ]


def test_a_claim_carries_the_tree_of_its_events() -> None:
    (found,) = claims(Ledger().spend(0, RECORD).spend(0, RECORD), DELTA)
    assert epsilon(loads(found.trace), DELTA) == pytest.approx(found.epsilon)


def test_trainings_that_came_before_are_charged_and_none_declared_is_said() -> None:
    ledger = Ledger().spend(0, RECORD)
    (once,) = claims(ledger, DELTA)
    (thrice,) = claims(ledger, DELTA, tuning=Tuning(3))
    (drawn,) = claims(ledger, DELTA, tuning=Tuning(3, "geometric"))
    assert UNDECLARED in once.outside
    assert UNDECLARED not in thrice.outside
    assert thrice.epsilon == pytest.approx(epsilon([RECORD.event] * 3, DELTA))
    assert once.epsilon < drawn.epsilon
    assert thrice.against == EVERYBODY
    assert drawn.against == ("outsiders",), "server and clients saw every training"
    assert "RDP" in drawn.accountant
    many, many_drawn = (claims(ledger, DELTA, tuning=Tuning(50, s))[0] for s in ("fixed", "geometric"))
    assert many_drawn.epsilon < many.epsilon, "choosing their number at random is what makes tuning cheap"


def test_noise_that_comes_twice_leaves_every_claim_unverified() -> None:
    stream = Stream(0).child("aggregate", 0)
    ledger = Ledger().spend_on_sum([0], CLIENT, stream).spend_on_sum([0], CLIENT, stream)
    (found,) = claims(ledger, DELTA)
    assert not found.verified


def test_two_messages_promise_together_only_what_both_promise() -> None:
    assert beside(CLIENT, NOTHING).charges == ()
    assert beside(NOTHING, CLIENT).charges == ()
    assert [c.unit for c in beside(after(RECORD, CLIENT), RECORD).charges] == ["record"]
    both = beside(RECORD, RECORD)
    assert epsilon([both.event], DELTA) == pytest.approx(epsilon([RECORD.event] * 2, DELTA))


def test_what_an_event_rests_on_and_nobody_checked_is_not_verified() -> None:
    resting = replace(CLIENT, needs=("every update clipped",))
    (found,) = claims(Ledger().spend_on_sum([0], resting), DELTA)
    assert [(a.name, a.verified) for a in found.assumptions] == [("every update clipped", False)]
    checked = Spent(None, None, (Assumption("every update clipped", True, "seen"),))
    (found,) = claims(Ledger().spend(0, checked).spend_on_sum([0], resting), DELTA)
    assert found.verified


def test_rounds_read_back_cost_the_same_without_amplification() -> None:
    """One event of many steps would be read as sampled once for all of them."""
    sampled = [PoissonSampledDpEvent(0.1, GaussianDpEvent(2.0))] * 10
    direct, read = (second_opinions(e, DELTA) for e in (sampled, loads(dumps(sampled))))
    assert direct == read
