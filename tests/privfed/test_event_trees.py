"""Events as text: whatever is written comes back, and nothing else is made from a file."""

from __future__ import annotations

import json
import math

import pytest
from dp_accounting import (
    ComposedDpEvent,
    DpEvent,
    GaussianDpEvent,
    LaplaceDpEvent,
    NonPrivateDpEvent,
    PoissonSampledDpEvent,
    SelfComposedDpEvent,
)
from dp_accounting.dp_event import RepeatAndSelectDpEvent
from hypothesis import given
from hypothesis import strategies as st

from privfed.accounting import epsilon
from privfed.event_trees import DEEPEST, dumps, loads

leaves = st.one_of(
    st.floats(0.1, 9.0).map(GaussianDpEvent),
    st.floats(0.1, 9.0).map(LaplaceDpEvent),
)
events = st.recursive(
    leaves,
    lambda inner: st.one_of(
        st.tuples(st.floats(0.01, 1.0), inner).map(lambda p: PoissonSampledDpEvent(*p)),
        st.tuples(inner, st.integers(1, 9)).map(lambda p: SelfComposedDpEvent(*p)),
        st.lists(inner, min_size=1, max_size=3).map(ComposedDpEvent),
        inner.map(lambda e: RepeatAndSelectDpEvent(e, 3.0, math.inf)),
    ),
    max_leaves=4,
)


@given(events)
def test_an_event_comes_back(event: DpEvent) -> None:
    assert loads(dumps([event])) == (event,)


def test_equal_neighbours_are_counted() -> None:
    a, b = GaussianDpEvent(1.0), GaussianDpEvent(2.0)
    assert dumps([a] * 9).count("GaussianDpEvent") == 1
    assert loads(dumps([a, a, b])) == (a, a, b)
    assert epsilon(loads(dumps([a, a, b])), 1e-5) == pytest.approx(epsilon([a, b, a], 1e-5))


def test_an_event_that_is_not_named_is_refused() -> None:
    with pytest.raises(ValueError, match=r"expected an event of .*, got event=NonPrivateDpEvent"):
        dumps([NonPrivateDpEvent()])


GAUSSIAN = {"kind": "GaussianDpEvent", "noise_multiplier": 1.0}


@pytest.mark.parametrize(
    "tree",
    [
        "",
        "null",
        "[1]",
        '[{"times": 1}]',
        json.dumps([{"times": 0, "event": GAUSSIAN}]),
        json.dumps([{"times": True, "event": GAUSSIAN}]),
        json.dumps([{"times": 1, "event": {"kind": "system", "noise_multiplier": 1.0}}]),
        json.dumps([{"times": 1, "event": {"kind": "GaussianDpEvent", "noise_multiplier": "1"}}]),
        json.dumps([{"times": 1, "event": {"kind": "GaussianDpEvent"}}]),
    ],
)
def test_a_damaged_tree_is_refused_in_one_line(tree: str) -> None:
    with pytest.raises(ValueError, match="expected a tree of privacy events, got text="):
        loads(tree)


def test_a_tree_without_end_is_refused() -> None:
    tree: dict[str, object] = GAUSSIAN
    for _ in range(DEEPEST + 2):
        tree = {"kind": "SelfComposedDpEvent", "count": 1, "event": tree}
    with pytest.raises(ValueError, match="deep"):
        loads(json.dumps([{"times": 1, "event": tree}]))
