from dataclasses import replace
from typing import Any

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from privfed.partition import Users
from privfed.randomness import Stream
from privfed.splits import Split, SplitPlan, make_split

LABELS = torch.arange(200) % 5
# Users 0..7 with 40, 10, 30, 30, 20, 30, 20, 20 records of the five classes.
SIZES_OF_USERS = torch.tensor([40, 10, 30, 30, 20, 30, 20, 20])
OWNERS = torch.repeat_interleave(torch.arange(8), SIZES_OF_USERS)[
    torch.randperm(200, generator=Stream(0).torch())
]
BY_USER = SplitPlan(clients=4, candidates=60, public=50, population=20, test=30, partition=Users())


def parts(split: Split) -> list[torch.Tensor]:
    return [split.public, split.candidates, split.population, split.test]


@given(st.integers(1, 8), st.integers(8, 60), st.integers(0, 30), st.integers(0, 30), st.integers(0, 9))
def test_clients_are_the_users_with_the_most_records(
    clients: int, candidates: int, population: int, test: int, seed: int
) -> None:
    most = int(SIZES_OF_USERS.sort(descending=True).values[:clients].sum())
    if candidates + population + test > most:
        candidates, population, test = most // 2, most // 4, most // 4
    plan = SplitPlan(clients, candidates, 0, population, test, partition=Users())
    split = make_split(LABELS, plan, Stream(seed), OWNERS)
    # By size 40, then 30 three times, then 20 three times, then 10; of equals the first.
    assert split.users == tuple(sorted([0, 2, 3, 5, 4, 6, 7, 1][:clients]))
    assert torch.equal(torch.tensor(split.users)[split.owners], OWNERS[split.candidates])
    index = torch.cat(parts(split))
    assert len(index.unique()) == len(index) == candidates + population + test


@given(st.integers(0, 9))
def test_all_parts_of_the_clients_have_the_same_mix_of_users(seed: int) -> None:
    split = make_split(LABELS, BY_USER, Stream(seed), OWNERS)
    counts = torch.stack([OWNERS[p].bincount(minlength=8) for p in parts(split)[1:]])[:, list(split.users)]
    # 110 records of users with 40, 30, 30 and 30: as evenly as can be 28, 28, 27, 27, in every part.
    assert counts.sum(0).tolist() == [28, 28, 27, 27]
    assert (counts - counts.sum(1, keepdim=True) / 4).abs().max() <= 1
    assert set(OWNERS[split.public].tolist()) <= {1, 4, 6, 7}
    assert len(split.public) == 50


def test_a_small_user_gives_all_it_has_and_the_others_the_rest() -> None:
    plan = SplitPlan(8, 100, 0, 40, 50, partition=Users())
    split = make_split(LABELS, plan, Stream(0), OWNERS)
    taken = OWNERS[torch.cat(parts(split))].bincount(minlength=8)
    assert taken.tolist() == [30, 10, 30, 30, 20, 30, 20, 20]
    own = OWNERS[split.candidates].bincount(minlength=8)
    assert (own - taken * 100 / 190).abs().max() < 1, "every part has its share of each user"


def test_within_a_user_candidates_keep_the_share_of_each_class() -> None:
    split = make_split(LABELS, BY_USER, Stream(1), OWNERS)
    for client, user in enumerate(split.users):
        of_user = LABELS[user == OWNERS].bincount(minlength=5) / SIZES_OF_USERS[user]
        own = LABELS[split.candidates[split.owners == client]].bincount(minlength=5)
        assert (own - of_user * own.sum()).abs().max() <= 2


def test_users_of_other_classes_are_not_public_either() -> None:
    plan = replace(BY_USER, regime="other-classes", private_classes=(3, 0, 4), test=10, public=10)
    plan = replace(plan, candidates=30)
    split = make_split(LABELS, plan, Stream(0), OWNERS)
    assert set(LABELS[split.public].tolist()) <= {1, 2}
    assert not set(OWNERS[split.public].tolist()) & set(split.users)
    assert set(LABELS[split.candidates].tolist()) == {0, 3, 4}


def test_the_order_of_candidates_does_not_follow_users() -> None:
    owners = make_split(LABELS, BY_USER, Stream(0), OWNERS).owners
    assert owners[:30].bincount(minlength=4).min() >= 3


def test_same_stream_same_split_by_user_and_another_stream_another() -> None:
    first, again, other = (make_split(LABELS, BY_USER, Stream(seed), OWNERS) for seed in (1, 1, 2))
    assert all(torch.equal(a, b) for a, b in zip(parts(first), parts(again), strict=True))
    assert not torch.equal(first.candidates, other.candidates)
    assert first.users == other.users


@pytest.mark.parametrize(
    ("change", "users", "message"),
    [
        ({}, None, "expected a data set with users .* got users=None"),
        ({}, OWNERS[1:], r"expected one user a record, shape \(200,\), got users=\(199,\)"),
        ({"clients": 9}, OWNERS, "expected clients <= 8, the users with records .* got clients=9"),
        (
            {"test": 60},
            OWNERS,
            r"candidates \+ population \+ test <= 130, the records of the 4 users .*test=60",
        ),
        ({"public": 71}, OWNERS, r"public <= 70, .* users who are no clients .lower public .* got public=71"),
        ({"partition": Users(16)}, OWNERS, "at least 16 record.* got 15 of user 0 .raise candidates"),
        (
            {"candidates": 2, "clients": 2, "public": 0, "test": 150},
            (torch.arange(200) < 10).long(),
            "as many users as clients, 2, got users=1 .raise candidates",
        ),
    ],
)
def test_a_plan_that_the_users_cannot_fill(
    change: dict[str, Any], users: torch.Tensor | None, message: str
) -> None:
    with pytest.raises(ValueError, match=message):
        make_split(LABELS, replace(BY_USER, **change), Stream(0), users)
