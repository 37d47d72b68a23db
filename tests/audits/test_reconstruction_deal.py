"""Members, decoys and public records: apart from each other, and decoys of the members' labels."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor

from audits.reconstruction_cases import Case
from audits.reconstruction_deal import Dealt, Pool, Shares, deal, pool
from privfed.randomness import Stream
from privfed.records import Records


def numbered(per_class: int = 30, classes: int = 3, shares: Shares | None = None) -> Pool:
    """Records whose single pixel is a number of their own."""
    labels = torch.arange(classes).repeat_interleave(per_class)
    pixels = torch.arange(len(labels)).float().view(-1, 1, 1, 1)
    records = Records(pixels, labels)
    by_class = tuple(records.take(labels == c) for c in range(classes))
    return Pool(by_class, shares or Shares(5, 15, per_class), "numbers")


def dealt(records: int = 2, clients: int = 3, seed: int = 0, **fields: str) -> Dealt:
    case = Case("records", "mlp", "analytic", records, **fields)  # type: ignore[arg-type]
    return deal(numbered(), case, clients, Stream(seed))


def numbers(*parts: Records) -> list[int]:
    flat: Tensor = torch.cat([p.inputs.flatten() for p in parts])
    return [int(v) for v in flat]


def test_nobody_holds_what_another_holds() -> None:
    found = dealt()
    members = numbers(*found.clients)
    assert len(set(members)) == len(members) == 6
    assert not set(members) & set(numbers(found.public))
    assert not set(members) & set(numbers(*found.decoys))
    assert not set(numbers(found.public)) & set(numbers(*found.decoys))


def test_decoys_carry_the_members_labels_in_the_same_shares() -> None:
    found = deal(numbered(300, 3, Shares(5, 200, 300)), Case("records", "mlp", "analytic", 8), 4, Stream(1))
    for own, decoys in zip(found.clients, found.decoys, strict=True):
        counts = own.labels.bincount(minlength=3)
        assert torch.equal(decoys.labels.bincount(minlength=3), counts * 13)
        assert len(set(numbers(decoys))) == len(decoys)


def test_the_public_shard_is_the_same_under_every_seed_and_members_are_not() -> None:
    one, other = dealt(seed=0), dealt(seed=1)
    assert numbers(one.public) == numbers(other.public)
    assert numbers(*one.clients) != numbers(*other.clients)


def test_a_shard_of_one_class() -> None:
    found = dealt(records=4, clients=5, sharing="one class")
    assert [c.labels.unique().tolist() for c in found.clients] == [[0], [1], [2], [0], [1]]
    members = numbers(*found.clients)
    assert len(set(members)) == len(members)


def test_the_digits_are_drawn_once_for_all() -> None:
    found = pool("digits")
    assert found is pool("digits")
    assert len(found.by_class) == 10
    assert all(bool((r.labels == c).all()) for c, r in enumerate(found.by_class))
    assert all(len(r) > found.shares.public + found.shares.decoys for r in found.by_class)


def test_too_few_records_and_text_are_refused() -> None:
    with pytest.raises(ValueError, match="expected at least 33 records for the clients, got records=30"):
        dealt(records=11, clients=3)
    with pytest.raises(ValueError, match="expected at least 11 records for the clients, got records=10"):
        dealt(records=11, clients=3, sharing="one class")
    with pytest.raises(ValueError, match="expected a data set of images, got source='sentiment:4'"):
        pool("sentiment:4")
