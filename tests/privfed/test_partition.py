import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from privfed import partition as module
from privfed.partition import (
    Dirichlet,
    Iid,
    Partition,
    Shards,
    Users,
    by_user,
    dirichlet,
    iid,
    partition,
    shards,
)
from privfed.randomness import Stream

LABELS = st.lists(st.integers(0, 4), min_size=12, max_size=80).map(lambda x: torch.tensor(x))
HOW = st.one_of(
    st.floats(0.3, 100).map(lambda alpha: Dirichlet(alpha, minimum=1)),
    st.integers(1, 3).map(Shards),
    st.just(Iid()),
)


@given(LABELS, st.integers(1, 4), HOW, st.integers(0, 5))
def test_parts_are_disjoint_and_cover_all_records(
    labels: torch.Tensor, clients: int, how: Partition, seed: int
) -> None:
    parts = partition(labels, clients, how, Stream(seed))
    assert len(parts) == clients
    assert torch.cat(parts).sort().values.tolist() == list(range(len(labels)))
    assert all(len(p) >= 1 and p.tolist() == sorted(p.tolist()) for p in parts)


@given(LABELS, st.integers(1, 4), HOW)
def test_same_stream_same_parts(labels: torch.Tensor, clients: int, how: Partition) -> None:
    first, second = (partition(labels, clients, how, Stream(3, ("p",))) for _ in range(2))
    assert all(torch.equal(a, b) for a, b in zip(first, second, strict=True))


@given(st.integers(0, 20))
def test_dirichlet_keeps_its_minimum(seed: int) -> None:
    labels = torch.arange(200) % 10
    assert min(len(p) for p in dirichlet(labels, 5, 0.3, Stream(seed), minimum=10)) >= 10


def test_dirichlet_gives_nothing_of_later_classes_to_a_full_client() -> None:
    labels = torch.arange(1000) % 10
    for seed in range(20):
        sizes = [len(p) for p in dirichlet(labels, 4, 0.05, Stream(seed), minimum=1)]
        # A client below its fair share of 250 may take at most one more class of 100.
        assert max(sizes) < 350


def test_dirichlet_survives_an_alpha_whose_draws_underflow() -> None:
    labels = torch.arange(100) % 10
    parts = dirichlet(labels, 3, 1e-4, Stream(0), minimum=1)
    held = [set(labels[p].tolist()) for p in parts]
    assert sum(len(h) for h in held) == 10, "every class must lie with one client"


def test_dirichlet_with_large_alpha_is_nearly_equal() -> None:
    labels = torch.arange(1000) % 10
    sizes = [len(p) for p in dirichlet(labels, 4, 1e6, Stream(0), minimum=1)]
    assert max(sizes) - min(sizes) <= 10


def test_shards_bound_the_classes_of_a_client() -> None:
    labels = torch.arange(400) % 10
    for part in shards(labels, 10, 2, Stream(1)):
        assert len(part) == 40
        assert len(labels[part].unique()) <= 2


def test_iid_sizes_differ_by_one_at_most() -> None:
    sizes = [len(p) for p in iid(torch.zeros(11, dtype=torch.int64), 3, Stream(0))]
    assert sorted(sizes) == [3, 4, 4]


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda y: dirichlet(y, 2, 0.0, Stream(0)), "expected a finite alpha > 0, got alpha=0.0"),
        (lambda y: dirichlet(y, 2, float("nan"), Stream(0)), "expected a finite alpha > 0, got alpha=nan"),
        (lambda y: dirichlet(y, 2, 1.0, Stream(0), -1), "expected minimum >= 0, got minimum=-1"),
        (lambda y: dirichlet(y, 3, 1.0, Stream(0), 5), "at least 5 record.* got clients=3 for 10 records"),
        (lambda y: shards(y, 2, 0, Stream(0)), "expected per_client >= 1, got per_client=0"),
        (lambda y: shards(y, 4, 3, Stream(0)), "at least 3 record.* got clients=4 for 10 records"),
        (lambda y: iid(y, 0, Stream(0)), "expected clients >= 1, got clients=0"),
        (lambda y: iid(y, 11, Stream(0)), "at least 1 record.* got clients=11 for 10 records"),
    ],
)
def test_impossible_requests(call: object, message: str) -> None:
    assert callable(call)
    with pytest.raises(ValueError, match=message):
        call(torch.arange(10) % 2)


def test_an_unlikely_request_ends_with_advice(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "MAX_DRAWS", 3)
    with pytest.raises(
        ValueError, match=r"within 3 Dirichlet draws, got minimum=33, alpha=0.01.*raise alpha"
    ):
        dirichlet(torch.zeros(100, dtype=torch.int64), 3, 0.01, Stream(0), minimum=33)


def test_shares_follow_the_dirichlet_law() -> None:
    rng = np.random.default_rng(0)
    counts = [module._draw_counts(np.array([1000]), 2, 0.5, rng)[0, 0] for _ in range(4000)]
    share = np.array(counts) / 1000
    # Beta(1/2, 1/2): mean 1/2, variance 1/8.
    assert abs(share.mean() - 0.5) < 0.02
    assert abs(share.var() - 0.125) < 0.005


@given(st.lists(st.integers(0, 5), min_size=1, max_size=40), st.integers(0, 5))
def test_by_user_gives_every_user_a_client_in_order(users: list[int], seed: int) -> None:
    owner, labels = torch.tensor(users), torch.zeros(len(users), dtype=torch.int64)
    parts = partition(labels, len(set(users)), Users(), Stream(seed), owner)
    assert torch.cat(parts).sort().values.tolist() == list(range(len(users)))
    assert [owner[p].unique().tolist() for p in parts] == [[u] for u in sorted(set(users))]
    assert all(p.tolist() == sorted(p.tolist()) for p in parts)


def test_other_partitions_do_not_read_the_users() -> None:
    labels = torch.arange(60) % 3
    for how in (Iid(), Shards(2), Dirichlet(0.5)):
        without, ignored = (partition(labels, 3, how, Stream(4), users) for users in (None, torch.zeros(60)))
        assert all(torch.equal(a, b) for a, b in zip(without, ignored, strict=True))


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda y: Users(0), "expected minimum >= 1, got minimum=0"),
        (lambda y: by_user(y, 3), "as many users as clients, 3, got users=2 .raise candidates, or lower"),
        (lambda y: by_user(y, 2, 3), "at least 3 record.* got 2 of user 1 .raise candidates, or lower min"),
        (
            lambda y: partition(y, 2, Users(), Stream(0)),
            "a data set with users .* got users=None .name another",
        ),
        (
            lambda y: partition(y, 2, Users(), Stream(0), y[1:]),
            r"one user a record, shape \(5,\), got users=\(4,\)",
        ),
    ],
)
def test_users_that_cannot_be_clients(call: object, message: str) -> None:
    assert callable(call)
    with pytest.raises(ValueError, match=message):
        call(torch.tensor([0, 1, 0, 1, 0]))
