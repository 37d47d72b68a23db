from __future__ import annotations

import re

import pytest
from hypothesis import given
from hypothesis import strategies as st

from reports.axes import FRAME, Box, Scale
from reports.bars import EDGE, WIDTH, bars
from reports.labels import label_box, overlap, place_labels
from reports.roc import roc_panels
from reports.tradeoff import trade_off
from tests.reports.example import empty, example
from tests.reports.example_checks import check
from tests.reports.example_results import estimate
from tests.reports.large import large

PLACE = ("s", "a", "k", "o")
finite = st.floats(-1e6, 1e6)


@given(finite, st.floats(1e-3, 1e6), finite)
def test_no_value_is_drawn_outside_its_axis(low: float, width: float, value: float) -> None:
    scale = Scale(low, low + width, 10, 110)
    assert 10 <= scale.at(value) <= 110
    assert all(10 <= tick.at <= 110 for tick in scale.ticks())
    assert len(scale.ticks()) <= 6


def test_ticks_of_a_logarithmic_axis_are_powers_of_ten() -> None:
    assert [t.label for t in Scale(1 / 720, 1, 0, 1, log=True).ticks()] == ["0.01", "0.1", "1"]


@pytest.mark.parametrize(
    ("value", "verdict", "side"), [(0.7, "FAIL", 1), (0.5, "PASS", -1)], ids=["over", "within"]
)
def test_an_interval_lies_on_the_side_of_the_limit_that_its_verdict_says(
    value: float, verdict: str, side: int
) -> None:
    (bar,) = bars([check("X", verdict, estimate("auc", value, 0.02), 0.6, PLACE)])  # type: ignore[arg-type]
    assert bar is not None
    assert bar.value is not None
    assert bar.lower < bar.value < bar.upper
    assert side * (bar.value - bar.limit) > 0
    assert side * (bar.upper - bar.limit) > 0
    assert bar.allowed == (EDGE, bar.limit - EDGE)


def test_without_an_estimate_there_is_no_bar() -> None:
    assert bars([check("X", "ERROR", None, 0.6, PLACE)]) == (None,)


def test_a_missing_bound_reaches_the_end_of_the_axis() -> None:
    open_ended = estimate("auc", 0.6, 0.02).model_copy(update={"upper": None})
    (bar,) = bars([check("X", "INCONCLUSIVE", open_ended, 0.6, PLACE)])
    assert bar is not None
    assert bar.upper == WIDTH - EDGE


def test_every_arm_of_the_trade_off_is_drawn_inside_its_frame() -> None:
    panels = trade_off(example())
    assert [setting for setting, _ in panels] == ["same-classes", "other-classes"]
    assert sum(len(p.marks) for _, row in panels for p in row) == len(example().tradeoff)
    for mark in (m for _, row in panels for p in row for m in p.marks):
        assert FRAME.left <= mark.x0 <= mark.x <= mark.x1 <= FRAME.right
        assert FRAME.top <= mark.y1 <= mark.y <= mark.y0 <= FRAME.bottom
    assert trade_off(empty()) == ()


def test_labels_do_not_cover_one_another() -> None:
    for panel in (p for _, row in trade_off(example()) for p in row):
        boxes = [label_box((m.label_x, m.label_y, m.anchor), m.label) for m in panel.marks]
        assert all(overlap(a, b) == 0 for i, a in enumerate(boxes) for b in boxes[:i])


def test_a_label_stays_in_the_frame_even_in_a_corner() -> None:
    frame = Box(0, 0, 200, 100)
    (spot,) = place_labels([(195.0, 5.0, 190.0, 200.0, 10.0, 0.0)], ["corner label"], frame)
    box = label_box(spot, "corner label")
    assert overlap(box, frame) == (box.right - box.left) * (box.bottom - box.top)


def test_one_curve_per_arm_and_none_below_the_resolution() -> None:
    for _, panels in roc_panels(large(points=20)):
        for panel in panels:
            arms = [curve.cell.arm for curve in panel.curves]
            assert len(arms) == len(set(arms)) == 6
            assert panel.resolution == 720
            for x, y in re.findall(r"(-?[\d.]+),(-?[\d.]+)", "".join(c.line + c.band for c in panel.curves)):
                assert FRAME.left <= float(x) <= FRAME.right
                assert FRAME.top <= float(y) <= FRAME.bottom
    assert roc_panels(empty()) == ()
