from __future__ import annotations

import math
import re
from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from reports import roc
from reports.axes import FRAME, PALETTE, Box, Scale
from reports.bars import EDGE, WIDTH, bars
from reports.labels import Cross, label_box, overlap, place_labels
from reports.record import Estimate, RocPoint
from reports.roc import roc_panels
from reports.tradeoff import numbered, trade_off
from tests.reports.example import empty, example
from tests.reports.example_checks import check
from tests.reports.example_results import estimate
from tests.reports.large import large

PLACE = ("s", "a", "k", "o")
finite = st.floats(-1e6, 1e6)
UNIT = st.floats(0.0, 1.0)


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


@given(UNIT, UNIT, st.booleans())
def test_a_scale_never_reverses_an_order(a: float, b: float, log: bool) -> None:
    scale = Scale(0.001, 1.0, start=50, end=400, log=log)
    low, high = sorted((a, b))
    assert 50 <= scale.at(low) <= scale.at(high) <= 400


@given(st.floats(-10, 10), st.floats(0.01, 100), st.integers(2, 9))
def test_ticks_are_few_and_inside(low: float, span: float, count: int) -> None:
    ticks = Scale(low, low + span, start=0, end=100).ticks(count)
    assert len(ticks) <= count + 1
    assert all(0 <= tick.at <= 100 for tick in ticks)


def test_a_floor_allows_what_lies_above_it() -> None:
    floor = bars(example().checks)[-1]
    assert floor is not None
    assert floor.allowed[0] == floor.limit


@pytest.mark.parametrize("index", [0, 1])
def test_colours_stand_out_from_their_ground(index: int) -> None:
    ground = ("#ffffff", "#14171b")[index]
    assert all(_contrast(pair[index], ground) >= 3 for pair in PALETTE)


def _contrast(one: str, other: str) -> float:
    darker, lighter = sorted(map(_luminance, (one, other)))
    return (lighter + 0.05) / (darker + 0.05)


def _luminance(colour: str) -> float:
    channels = (int(colour[i : i + 2], 16) / 255 for i in (1, 3, 5))
    linear = [c / 12.92 if c <= 0.04045 else ((c + 0.055) / 1.055) ** 2.4 for c in channels]
    return 0.2126 * linear[0] + 0.7152 * linear[1] + 0.0722 * linear[2]


def _crosses() -> st.SearchStrategy[list[Cross]]:
    centre = st.tuples(st.floats(FRAME.left, FRAME.right), st.floats(FRAME.top, FRAME.bottom))
    return st.lists(centre.map(lambda c: (*c, c[0] - 12, c[0] + 12, c[1] - 9, c[1] + 9)), max_size=6)


@given(_crosses())
def test_labels_stay_inside_the_frame(crosses: list[Cross]) -> None:
    labels = ["FedDGM + DP-SGD"[: 6 + i] for i in range(len(crosses))]
    for spot, label in zip(place_labels(crosses, labels, FRAME), labels, strict=True):
        box = label_box(spot, label)
        area = (box.right - box.left) * (box.bottom - box.top)
        assert overlap(box, FRAME) >= 0.75 * area


def test_labels_of_neighbouring_marks_do_not_overlap() -> None:
    crosses: list[Cross] = [
        (200.0 + 8 * i, 150.0 + 4 * i, 190.0 + 8 * i, 210.0 + 8 * i, 140.0, 160.0) for i in range(4)
    ]
    labels = ["FedAvg", "FedDGM", "FedDGM with DP-SGD", "Prior only"]
    boxes = [label_box(s, t) for s, t in zip(place_labels(crosses, labels, FRAME), labels, strict=True)]
    assert all(overlap(a, b) == 0 for i, a in enumerate(boxes) for b in boxes[:i])


def test_each_observer_has_a_panel_on_the_same_scale_of_leakage() -> None:
    drawn = trade_off(example())
    assert [setting for setting, _ in drawn] == ["same-classes", "other-classes"]
    panels = [panel for _, group in drawn for panel in group]
    assert len(panels) == 8
    assert len({panel.y_ticks for panel in panels}) == 1
    assert all(panel.chance == panels[0].chance for panel in panels)
    assert all(m.x0 < m.x < m.x1 and m.y1 < m.y < m.y0 for p in panels for m in p.marks)


def test_a_baseline_nobody_can_attack_is_a_line_at_its_accuracy() -> None:
    record = example()
    rows = tuple(t for t in record.tradeoff if t.arm != "public-classifier")
    (_, panels), *_ = trade_off(record.model_copy(update={"tradeoff": rows}))
    assert [line.arm for line in panels[0].references] == ["public-classifier"]


def test_roc_axes_start_at_the_resolution_of_the_curve() -> None:
    (_, panels), *_ = roc_panels(example())
    assert {panel.resolution for panel in panels} == {720}
    assert all(len({c.cell.arm for c in p.curves}) == len(p.curves) for p in panels)
    banded = [c.cell.arm for p in panels for c in p.curves if c.band]
    assert set(banded) == {"fedavg", "feddgm", "feddgm-dp"}


def test_thinning_keeps_the_ends_and_every_visible_step() -> None:
    x = Scale(0.001, 1, 50, 400, log=True)
    y = Scale(0.001, 1, 260, 10, log=True)
    rates = [math.exp(math.log(0.001) * (1 - i / 4999)) for i in range(5000)]
    points = [RocPoint(fpr=r, tpr=r**0.5, lower=0, upper=1) for r in rates]
    kept = roc._thinned(points, x, y)
    assert (kept[0], kept[-1]) == (points[0], points[-1])
    assert 100 < len(kept) < 200
    assert all(x.at(b.fpr) - x.at(a.fpr) <= 2 * roc.STEP for a, b in pairwise(kept))


def test_paths_hold_numbers_only() -> None:
    paths = [d for _, ps in roc_panels(example()) for p in ps for c in p.curves for d in (c.line, c.band)]
    assert all(re.fullmatch(r"(M[\d.,L]+Z?)?", path) for path in paths)


def test_an_estimate_without_a_value_is_left_out_of_the_chart() -> None:
    record = example()
    nothing: dict[str, Estimate] = {"leakage": record.tradeoff[0].leakage.model_copy(update={"value": None})}
    rows = tuple(t.model_copy(update=nothing) for t in record.tradeoff)
    assert trade_off(record.model_copy(update={"tradeoff": rows})) == ()


def test_a_label_box_follows_its_anchor() -> None:
    start, middle, end = (label_box((100, 50, a), "abcd") for a in ("start", "middle", "end"))
    assert start.left == end.right == 100
    assert middle.left < 100 < middle.right
    assert overlap(start, Box(0, 0, 1, 1)) == 0


def test_checks_with_different_limits_do_not_squeeze_each_other() -> None:
    strict = check("A", "INCONCLUSIVE", estimate("tpr_at_fpr", 0.02, 0.01, fpr=0.01), 0.03, PLACE)
    loose = check("B", "FAIL", estimate("tpr_at_fpr", 0.3, 0.05, fpr=0.01), 0.1, PLACE)
    assert [bar.high for bar in bars([strict, loose]) if bar] == ["0.04", "0.4"]


@pytest.mark.parametrize(("arms", "named"), [(6, True), (9, False)])
def test_marks_too_many_for_names_are_numbered_and_explained(arms: int, named: bool) -> None:
    record, row = example(), example().tradeoff[0]
    ids = [f"arm-{i}" for i in range(arms)]
    many = record.model_copy(
        update={
            "arms": tuple(record.arms[0].model_copy(update={"id": i, "title": i}) for i in ids),
            "tradeoff": tuple(row.model_copy(update={"arm": i}) for i in ids),
        }
    )
    ((_, panels),) = trade_off(many)
    shown = [m.label for p in panels for m in p.marks]
    assert shown == (ids if named else [str(i) for i in range(1, arms + 1)])
    assert numbered(panels) == (() if named else tuple((str(i), a) for i, a in enumerate(ids, start=1)))
