import hashlib
from dataclasses import replace
from typing import Any

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from privfed.partition import Dirichlet, Shards
from privfed.randomness import Stream
from privfed.records import Records
from privfed.splits import NO_LABEL, Split, SplitPlan, make_split, with_canaries

LABELS = torch.arange(200) % 5
PLAN = SplitPlan(clients=3, candidates=60, public=50, population=40, test=30)
OTHER = replace(PLAN, regime="other-classes", private_classes=(3, 0, 4), candidates=50)
SIZES = st.tuples(st.integers(9, 60), *[st.integers(0, 46)] * 3)
RECORDS = Records(torch.arange(200.0).reshape(200, 1, 1, 1), LABELS)


def parts(split: Split) -> list[torch.Tensor]:
    return [split.public, split.candidates, split.population, split.test]


@given(SIZES, st.integers(0, 9))
def test_parts_are_disjoint_and_sized_as_asked(sizes: tuple[int, int, int, int], seed: int) -> None:
    candidates, public, population, test = sizes
    split = make_split(LABELS, SplitPlan(3, candidates, public, population, test), Stream(seed))
    assert [len(p) for p in parts(split)] == [public, candidates, population, test]
    index = torch.cat(parts(split))
    assert len(index.unique()) == len(index)
    assert split.owners.shape == (candidates,)
    assert split.owners.unique().tolist() == [0, 1, 2]


@given(st.integers(0, 9))
def test_every_part_has_its_share_of_each_class(seed: int) -> None:
    for part in parts(make_split(LABELS, PLAN, Stream(seed))):
        counts = LABELS[part].bincount(minlength=5)
        assert (counts - len(part) / 5).abs().max() <= 3


@given(st.permutations([0, 1, 2, 3, 4]), st.integers(0, 9))
def test_other_classes_keep_the_private_classes_out_of_the_public_shard(order: list[int], seed: int) -> None:
    plan = replace(OTHER, private_classes=tuple(order[:3]))
    split = make_split(LABELS, plan, Stream(seed))
    assert set(LABELS[split.public].tolist()) == set(order[3:])
    for part in parts(split)[1:]:
        assert set(LABELS[part].tolist()) <= set(order[:3])
    assert len(torch.cat(parts(split)).unique()) == sum(len(p) for p in parts(split))


def test_private_labels_are_reindexed_in_the_order_of_private_classes() -> None:
    split = make_split(LABELS, OTHER, Stream(0))
    sets = split.records(RECORDS)
    assert split.classes == 3
    for index, records in ((split.candidates, sets.candidates), (split.test, sets.test)):
        assert [OTHER.private_classes[y] for y in records.labels.tolist()] == LABELS[index].tolist()
        assert torch.equal(records.inputs.flatten(), index.float())


def test_public_records_of_other_classes_have_no_usable_label() -> None:
    public = make_split(LABELS, OTHER, Stream(0)).records(RECORDS).public
    assert set(public.labels.tolist()) == {NO_LABEL}
    with pytest.raises((IndexError, RuntimeError)):
        torch.nn.functional.cross_entropy(torch.zeros(len(public), 3), public.labels)


def test_same_classes_keep_all_labels() -> None:
    split = make_split(LABELS, PLAN, Stream(0))
    sets = split.records(RECORDS)
    assert split.private_classes == (0, 1, 2, 3, 4)
    assert torch.equal(sets.public.labels, LABELS[split.public])
    assert torch.equal(sets.population.labels, LABELS[split.population])


def test_same_stream_same_split_and_another_stream_another() -> None:
    first, again, other = (make_split(LABELS, PLAN, Stream(seed)) for seed in (1, 1, 2))
    assert torch.equal(first.candidates, again.candidates)
    assert torch.equal(first.owners, again.owners)
    assert not torch.equal(first.candidates, other.candidates)


def test_the_partition_decides_ownership_alone() -> None:
    iid, skewed = (
        make_split(LABELS, replace(PLAN, partition=how), Stream(0)) for how in (Dirichlet(100.0), Shards(1))
    )
    assert torch.equal(iid.candidates, skewed.candidates)
    held = [len(LABELS[skewed.candidates][skewed.owners == k].unique()) for k in range(3)]
    assert max(held) <= 3


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"clients": 0}, "expected clients >= 1, got clients=0"),
        ({"candidates": 0}, "expected candidates >= 1, got candidates=0"),
        ({"test": -1}, "expected test >= 0, got test=-1"),
        ({"clients": 61}, r"at most one client per candidate \(60\), got clients=61"),
        ({"regime": "none"}, "expected regime to be one of same-classes, other-classes, got regime='none'"),
        ({"private_classes": (1, 2)}, "private_classes with regime 'other-classes' only.*same-classes"),
        (
            {"regime": "other-classes"},
            r"private_classes with regime 'other-classes' only.*private_classes=\(\)",
        ),
    ],
)
def test_a_plan_that_cannot_be_meant(change: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        replace(PLAN, **change)


@pytest.mark.parametrize(
    ("plan", "message"),
    [
        (
            replace(PLAN, test=100),
            r"candidates \+ population \+ test \+ public <= 200.*got candidates=60.*test=100",
        ),
        (
            replace(OTHER, test=100),
            r"candidates \+ population \+ test <= 120, the records of classes \(3, 0, 4\)",
        ),
        (replace(OTHER, public=81), "expected public <= 80.* got public=81"),
        (replace(OTHER, private_classes=(0, 9)), r"distinct private_classes.*got private_classes=\(0, 9\)"),
        (replace(OTHER, private_classes=(0, 0)), r"distinct private_classes.*got private_classes=\(0, 0\)"),
        (replace(OTHER, private_classes=(2,)), r"at least two private_classes, got private_classes=\(2,\)"),
        (replace(OTHER, private_classes=(0, 1, 2, 3, 4)), "expected a class outside of private_classes"),
    ],
)
def test_a_plan_the_data_cannot_fill(plan: SplitPlan, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        make_split(LABELS, plan, Stream(0))


@given(st.integers(0, 60), st.integers(0, 9))
def test_canaries_are_mislabelled_and_spread(count: int, seed: int) -> None:
    split = make_split(LABELS, PLAN, Stream(0))
    labels = split.records(RECORDS).candidates.labels
    canaries = with_canaries(labels, split.owners, 5, count, Stream(seed))
    assert int(canaries.mask.sum()) == count
    assert torch.equal(canaries.labels != labels, canaries.mask)
    assert canaries.labels.min() >= 0
    assert canaries.labels.max() < 5
    each = split.owners[canaries.mask].bincount(minlength=3)
    assert each.max() - each.min() <= 1


def test_canaries_take_what_a_small_client_has() -> None:
    owners = torch.tensor([0, 1, 1, 1, 1])
    canaries = with_canaries(torch.zeros(5, dtype=torch.int64), owners, 2, 4, Stream(0))
    assert owners[canaries.mask].bincount().tolist() == [1, 3]


def test_wrong_labels_are_uniform_over_the_other_classes() -> None:
    labels = torch.full((3000,), 2)
    wrong = with_canaries(labels, torch.zeros(3000, dtype=torch.int64), 4, 3000, Stream(0)).labels
    counts = wrong.bincount(minlength=4)
    assert counts[2] == 0
    assert counts[[0, 1, 3]].min() > 900


@pytest.mark.parametrize(
    ("count", "classes", "message"),
    [
        (6, 3, "expected 0 <= count <= 5 candidates, got count=6"),
        (-1, 3, "expected 0 <= count <= 5 candidates, got count=-1"),
        (1, 1, "expected classes >= 2 for a wrong label, got classes=1"),
    ],
)
def test_impossible_canaries(count: int, classes: int, message: str) -> None:
    zeros = torch.zeros(5, dtype=torch.int64)
    with pytest.raises(ValueError, match=message):
        with_canaries(zeros, zeros, classes, count, Stream(0))


@pytest.mark.parametrize(
    ("plan", "golden"),
    [
        (PLAN, "50b01d6681e52be9f6ae911793d42b78f583cd23c134881cee8268f45b086829"),
        (
            replace(PLAN, partition=Dirichlet(0.5)),
            "500ffad115e09f948f85723994817f091b78d6152dc73ab86e3539b23395d324",
        ),
        (
            replace(PLAN, partition=Shards(2)),
            "fb6e6ab1ee9b50495dd93a0b3c7c68831b0583020dfba11e36421ba737a46157",
        ),
        (OTHER, "010160f050863a153e41e0686206b604d165a4d224546c350b0182ce9d45845b"),
    ],
)
@pytest.mark.parametrize("users", [None, torch.arange(200) % 7])
def test_splits_without_users_are_what_they_always_were(
    plan: SplitPlan, golden: str, users: torch.Tensor | None
) -> None:
    split = make_split(LABELS, plan, Stream(7), users)
    digest = hashlib.sha256()
    for part in (split.public, split.candidates, split.population, split.test, split.owners):
        digest.update(part.numpy().tobytes())
    assert digest.hexdigest() == golden
    assert split.users == ()
