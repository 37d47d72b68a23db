"""Who holds which record: every class as often as the next, none twice, and no record in two places."""

from __future__ import annotations

from collections import Counter
from dataclasses import replace

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from audits.personalisation_deal import Cohort, deal_classes, deal_images, deal_users
from audits.personalisation_tasks import SETTINGS, Setting
from privfed.nets import NetSpec
from privfed.randomness import Stream
from privfed.records import Records
from tests.audits.personal_setting import TINY, TINY_TEXT, cohort

STREAM = Stream(3)


def numbered(count: int, classes: int, first: int = 0) -> Records:
    """Records that carry their own number, classes in turn."""
    numbers = torch.arange(first, first + count)
    return Records(numbers.float().view(-1, 1, 1, 1).expand(-1, 1, 2, 2), numbers % classes)


def numbers(records: Records) -> list[int]:
    return [int(v) for v in records.inputs.flatten(1)[:, 0]]


def dealt(setting: Setting = TINY, seed: int = 3) -> Cohort:
    return deal_images(setting, numbered(60, 4), numbered(40, 4, 1000), Stream(seed))


@given(st.integers(2, 8), st.data())
def test_every_class_equally_often_and_none_twice(classes: int, data: st.DataObject) -> None:
    held = data.draw(st.integers(1, min(3, classes)))
    clients = classes * data.draw(st.integers(1, 2))
    hands = deal_classes(clients, held, classes, Stream(data.draw(st.integers(0, 99))))
    assert [len(set(hand)) for hand in hands] == [held] * clients
    assert set(Counter(c for hand in hands for c in hand).values()) == {clients * held // classes}


@pytest.mark.parametrize(("clients", "held"), [(4, 5), (4, 0), (3, 2)])
def test_impossible_deals_are_refused(clients: int, held: int) -> None:
    with pytest.raises(
        ValueError, match=f"clients \\* held divisible by it, got clients={clients}, held={held}"
    ):
        deal_classes(clients, held, 4, STREAM)


def test_no_record_is_in_two_places() -> None:
    got = dealt()
    everybody = (*got.clients, *got.newcomers)
    trained = [n for c in everybody for n in numbers(c.train)] + numbers(got.probe)
    tested = [n for c in everybody for n in numbers(c.test)]
    assert len(set(trained)) == len(trained) == 6 * TINY.train + 4 * TINY.probe
    assert len(set(tested)) == len(tested) == 6 * TINY.test
    assert max(trained) < 1000 <= min(tested)


def test_clients_hold_equal_shares_of_their_own_classes() -> None:
    got = dealt()
    for client in (*got.clients, *got.newcomers):
        shares = Counter(client.train.labels.tolist())
        assert list(shares.values()) == [4, 4]
        assert Counter(client.test.labels.tolist()) == {label: 2 for label in shares}


def test_labels_stay_with_their_records() -> None:
    got = dealt()
    for client in got.clients:
        assert [n % 4 for n in numbers(client.train)] == client.train.labels.tolist()


def test_probe_and_pooled_test_are_balanced() -> None:
    got = dealt()
    assert Counter(got.probe.labels.tolist()) == dict.fromkeys(range(4), TINY.probe)
    assert Counter(got.pooled.labels.tolist()) == dict.fromkeys(range(4), 6)


def test_pooled_test_is_everybodys() -> None:
    assert len(cohort().pooled) == 2 * 2 + 2 * 6 + 2 * 4


def test_the_seed_alone_decides() -> None:
    first, again, other = dealt(), dealt(), dealt(seed=4)
    assert numbers(first.clients[0].train) == numbers(again.clients[0].train)
    assert numbers(first.clients[0].train) != numbers(other.clients[0].train)


def test_classes_too_small_are_refused() -> None:
    with pytest.raises(ValueError, match="at least 15 records of every class, got class 0 with 10"):
        deal_images(TINY, numbered(40, 4), numbered(40, 4), STREAM)


def test_shares_that_cannot_be_equal_are_refused() -> None:
    with pytest.raises(ValueError, match="divisible by held=2, got train=7, test=4"):
        dealt(replace(TINY, train=7))


def users(count: int = 6, each: int = 14) -> tuple[Records, torch.Tensor]:
    whole = numbered(count * each, 2)
    return whole, torch.arange(count).repeat_interleave(each)


def test_users_stay_whole_and_apart() -> None:
    got = deal_users(TINY_TEXT, *users(), STREAM)
    everybody = (*got.clients, *got.newcomers)
    owners = [{n // 14 for n in numbers(c.train) + numbers(c.test)} for c in everybody]
    assert sorted(next(iter(o)) for o in owners) == list(range(6))
    assert [len(o) for o in owners] == [1] * 6
    own = [n for c in everybody for n in numbers(c.train) + numbers(c.test)]
    assert len(set(own)) == len(own) == 6 * 14


def test_probe_of_users_is_balanced_and_from_newcomers() -> None:
    got = deal_users(TINY_TEXT, *users(), STREAM)
    assert set(numbers(got.probe)) <= {n for c in got.newcomers for n in numbers(c.train)}
    assert Counter(got.probe.labels.tolist()) == dict.fromkeys(range(2), TINY_TEXT.probe)


def test_too_few_users_are_refused() -> None:
    with pytest.raises(ValueError, match="at least 6 users, got users=5"):
        deal_users(TINY_TEXT, *users(5), STREAM)


def test_users_with_too_few_records_are_refused() -> None:
    with pytest.raises(ValueError, match="at least 14 records of every user, got records=13"):
        deal_users(TINY_TEXT, *users(each=13), STREAM)


@pytest.mark.parametrize("name", ["clients", "newcomers", "train", "test", "probe", "rounds"])
def test_settings_without_anything_are_refused(name: str) -> None:
    with pytest.raises(ValueError, match=f"expected {name} >= 1, got {name}=0"):
        replace(TINY, **{name: 0})  # type: ignore[arg-type]


def test_schedules_are_those_of_the_tables() -> None:
    """25 clients hold 7,200 and 2,400 images, nets are FedRep's, and users are 40 with 120 sentences each."""
    fashion, cifar, text = (SETTINGS[name] for name in ("fashion", "cifar", "text"))
    assert [(s.clients + s.newcomers) * s.train for s in (fashion, cifar, text)] == [7200, 7500, 2400]
    assert [(s.clients + s.newcomers) * s.test for s in (fashion, cifar, text)] == [2400, 2500, 2400]
    assert [s.clients * s.fraction for s in (fashion, cifar, text)] == [5, 5, 8]
    assert fashion.net == NetSpec("mlp", 1, 28, 10, hidden=(512, 256, 64))
    assert [s.sgd.decay_biases for s in (fashion, cifar, text)] == [False] * 3
