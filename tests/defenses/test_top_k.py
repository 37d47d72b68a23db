"""Top-k: the entries that moved furthest go, the rest stay where the round began."""

from __future__ import annotations

import math

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from defenses._sparse import count
from defenses.top_k import TopK
from privfed.nets import Params
from privfed.randomness import Stream
from tests.defenses.updates import ENTRIES, any_update, flat, length, minus, params, plus, unflat, zeros

NOWHERE = Stream(0)


def test_by_hand_the_largest_go_whatever_their_sign_and_tensor() -> None:
    change = torch.linspace(0.1, 0.2, ENTRIES)
    change[[0, 13, 20]] = torch.tensor([-3.0, 2.0, -1.0])
    spent = TopK(3 / ENTRIES).uplink(zeros(), unflat(change), NOWHERE)
    sent = flat(spent.value)
    assert sent.nonzero().flatten().tolist() == [0, 13, 20]
    assert sent[[0, 13, 20]].tolist() == [-3.0, 2.0, -1.0]
    assert spent.event is None


@given(any_update(), st.floats(0.01, 1.0))
def test_it_sends_so_many_entries_exactly_and_none_that_is_smaller_than_one_kept(
    change: Params, keep: float
) -> None:
    start = params(1)
    after = plus(start, change)
    sent = flat(TopK(keep).uplink(start, after, NOWHERE).value)
    kept = sent == flat(after)
    back = sent == flat(start)
    assert (kept | back).all(), "every entry is the trained one or the one it started from, to the bit"
    size = (flat(after) - flat(start)).abs()
    order = size.sort(descending=True).values
    told = (sent - flat(start)).abs().sort(descending=True).values
    k = count(keep, ENTRIES)
    assert torch.equal(told[:k], order[:k])
    assert not told[k:].any()


@given(any_update(), st.floats(0.01, 1.0))
def test_it_never_makes_an_update_longer(change: Params, keep: float) -> None:
    sent = TopK(keep).uplink(zeros(), change, NOWHERE).value
    assert length(sent) <= length(change) * (1 + 1e-12)
    assert TopK(keep).keeps_norm


def test_of_equals_the_first_go_and_all_of_one_changes_nothing() -> None:
    ones = unflat(torch.ones(ENTRIES))
    sent = flat(TopK(0.25).uplink(zeros(), ones, NOWHERE).value)
    assert sent.tolist() == [1.0] * 6 + [0.0] * (ENTRIES - 6)
    start, after = params(1), params(2)
    assert torch.equal(flat(TopK(1.0).uplink(start, after, NOWHERE).value), flat(after))


def test_a_tensor_that_was_not_broadcast_starts_from_zero() -> None:
    start, after = params(1), params(2)
    head = "b.weight"
    known = {name: t for name, t in start.items() if name != head}
    after[head] = torch.tensor([[9.0, 0, 0, 0], [0, 0, 0, 0]])
    sent = TopK(1e-9).uplink(known, after, NOWHERE).value
    assert torch.equal(sent[head], after[head])
    assert torch.equal(flat({k: sent[k] for k in known}), flat(known))


def test_what_is_no_number_counts_as_the_largest() -> None:
    change = torch.zeros(ENTRIES)
    change[[3, 5]] = torch.tensor([math.inf, math.nan])
    sent = flat(TopK(2 / ENTRIES).uplink(zeros(), unflat(change), NOWHERE).value)
    assert sent[3] == math.inf
    assert sent[5].isnan()
    assert sent.isfinite().sum() == ENTRIES - 2


@pytest.mark.parametrize(
    ("share", "entries", "expected"),
    [(0.07, 100, 7), (1e-9, 24, 1), (1.0, 24, 24), (0.26, 4, 2), (0.5, 0, 0)],
)
def test_a_share_is_rounded_up(share: float, entries: int, expected: int) -> None:
    assert count(share, entries) == expected


@pytest.mark.parametrize("keep", [0.0, -0.5, 1.01, math.nan])
def test_a_share_outside_its_range_is_refused(keep: float) -> None:
    with pytest.raises(ValueError, match=rf"expected keep in \(0, 1\], got keep={keep}"):
        TopK(keep)


def test_its_input_is_left_alone() -> None:
    start, after = params(1), params(2)
    before = flat(minus(after, start)).clone()
    TopK(0.1).uplink(start, after, NOWHERE)
    assert torch.equal(flat(minus(after, start)), before)
