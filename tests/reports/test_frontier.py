"""The picture and the tables of a sweep, from figures that nobody measured."""

from __future__ import annotations

import re

import pytest

from reports.axes import FRAME
from reports.frontier import UNDEFENDED, Frontier, from_json, is_gap, to_json
from reports.frontier_chart import FrontierPanel, panels
from reports.frontier_page import HEAD, as_markdown, claim, groups, how, render
from reports.labels import label_box, overlap
from reports.record import Estimate
from tests.reports.frontier_example import CRASHED, OBSERVERS, OPEN, VALUES, frontier
from tests.reports.hostile import FIXED, TEXTS, _walk
from tests.reports.pages import Page, read

BOTH = ("fedavg", "feddgm")


@pytest.fixture(scope="module")
def both() -> Frontier:
    return frontier(BOTH)


@pytest.fixture(scope="module")
def html(both: Frontier) -> str:
    return render(both)


@pytest.fixture(scope="module")
def page(html: str) -> Page:
    return read(html)


def panel(found: Frontier, observer: str, setting: int = 0) -> FrontierPanel:
    return next(p for p in panels(found)[setting][1] if p.title == observer)


def numbers(path: str) -> list[tuple[float, float]]:
    return [(float(x), float(y)) for x, y in re.findall(r"([\d.]+),([\d.]+)", path)]


def test_there_is_a_panel_for_each_setting_and_observer(both: Frontier) -> None:
    assert [s for s, _ in panels(both)] == ["same-classes", "other-classes"]
    assert all([p.title for p in row] == list(OBSERVERS) for _, row in panels(both))


def test_a_line_joins_the_points_in_the_order_of_the_knob_and_leaves_out_the_undefended() -> None:
    found = panel(frontier(), "outsider with large")
    (line,) = found.paths
    by_label = {m.label: (m.x, m.y) for m in found.marks}
    assert numbers(line.d) == [by_label[v] for v in VALUES]
    assert list(by_label) == [UNDEFENDED, *VALUES]
    assert line.d.count("M") == 1


def test_a_crash_breaks_the_line_and_is_said(both: Frontier) -> None:
    arm, observer, value = CRASHED
    found = panel(both, observer)
    (line,) = (p for p in found.paths if p.arm == arm)
    assert line.d.count("M") == 2
    assert len(numbers(line.d)) == len(VALUES) - 1
    (gap,) = found.gaps
    assert (gap.arm, gap.label, gap.reason) == (arm, value, "RMIA: ZeroDivisionError: planted")
    assert gap.x is not None
    assert not any((m.arm, m.label) == (arm, value) for m in found.marks)
    text = read(render(both)).text
    assert "FedAvg, 4: RMIA: ZeroDivisionError: planted" in text


def test_a_gap_without_an_accuracy_has_no_mark_but_a_reason(both: Frontier) -> None:
    lost = [
        p.model_copy(update={"accuracy": None, "reason": "no model"}) if is_gap(p) else p for p in both.points
    ]
    found = both.model_copy(update={"points": tuple(lost)})
    (gap,) = panel(found, CRASHED[1]).gaps
    assert gap.x is None
    assert "no model" in read(render(found)).text


def test_a_bound_that_is_not_known_reaches_the_end_of_its_axis(both: Frontier) -> None:
    arm, observer, value = OPEN
    (mark,) = (m for m in panel(both, observer).marks if (m.arm, m.label) == (arm, value))
    assert mark.y1 == FRAME.top
    assert mark.y < mark.y0 < FRAME.bottom
    assert "[0.569, –]" in render(both)


def test_nothing_known_of_an_estimate_is_a_gap(both: Frontier) -> None:
    blank: dict[str, str | None] = {"value": None, "lower": None, "upper": None, "reason": "too few"}
    empty = tuple(
        p.model_copy(update={"leakage": unresolved(p.leakage, blank), "reason": "too few"})
        for p in both.points
    )
    found = both.model_copy(update={"points": empty})
    assert panels(found) == ()
    assert "there is nothing to draw" in render(found)
    assert "not resolved" in as_markdown(found)


def unresolved(estimate: Estimate | None, blank: dict[str, str | None]) -> Estimate | None:
    return None if estimate is None else estimate.model_copy(update=blank)


def test_marks_stay_in_the_frame_and_labels_do_not_cover_one_another(both: Frontier) -> None:
    for found in (p for _, row in panels(both) for p in row):
        marks = (*found.marks, *found.hollow)
        for m in marks:
            assert FRAME.left <= m.x0 <= m.x <= m.x1 <= FRAME.right
            assert FRAME.top <= m.y1 <= m.y <= m.y0 <= FRAME.bottom
        boxes = [label_box((m.label_x, m.label_y, m.anchor), m.label) for m in marks]
        # Two arms of six points each are a crowd: a corner may touch, no more.
        assert all(overlap(a, b) < 25 for i, a in enumerate(boxes) for b in boxes[:i])


def test_yardsticks_are_drawn_where_they_belong(both: Frontier) -> None:
    server, client = panel(both, "server"), panel(both, "client 0")
    assert [m.label for m in server.hollow] == ["Prior only"]
    assert [line.label for line in client.lines] == ["Public classifier"]
    assert server.level is not None
    assert server.level.y1 < server.level.y < server.level.y0
    assert client.level is None


def test_every_point_and_yardstick_has_a_row(both: Frontier) -> None:
    found = list(groups(both))
    assert [(s, o) for s, o, _ in found[:1]] == [("Prior from the same classes", "server")]
    assert sum(len(rows) for _, _, rows in found) == len(both.points) + 2 * (4 + 2 + 4)
    assert all(len(row) == len(HEAD) for _, _, rows in found for row in rows)
    rows = found[0][2]
    assert rows[0][:3] == ("FedAvg", "undefended", "LiRA online (a control of it failed)")
    assert found[1][2][0][2] == "LiRA online"
    assert rows[0][-1] == "none"
    assert rows[1][-1] == "epsilon 1.00, delta 1e-05, record (not verified: sampling)"
    assert claim(()) == "none"


def test_the_caption_says_that_the_choice_leans_upwards_and_the_level(both: Frontier, page: Page) -> None:
    assert all(sentence in page.text for sentence in how(both))
    assert "leans upwards" in page.text
    assert "Intervals are of 95 %" in page.text
    assert "1 of 2 controls held." in page.text
    assert "AUC 0.550 [0.530, 0.570]" in page.text


def test_without_controls_the_page_says_that_nothing_was_shown(both: Frontier) -> None:
    bare = both.model_copy(update={"controls": ()})
    assert "No control was run." in render(bare)
    assert "No control was run." in as_markdown(bare)


def test_the_page_is_well_formed_and_loads_nothing(html: str, page: Page) -> None:
    assert page.unbalanced == []
    assert page.named("script", "link", "iframe", "object", "embed", "img", "form") == []
    assert not re.search(r"url\(|@import|https?:", html)
    policy = [t.attributes["content"] for t in page.named("meta") if "http-equiv" in t.attributes]
    assert policy == ["default-src 'none'; style-src 'unsafe-inline'; img-src data:"]
    ids = page.values("id")
    assert len(ids) == len(set(ids))
    assert {link[1:] for link in page.values("href")} <= set(ids)
    figures = [t for t in page.named("svg") if t.attributes.get("aria-hidden") != "true"]
    assert len(figures) == 8
    assert all(t.attributes.get("role") == "img" and t.attributes.get("aria-label") for t in figures)


def test_it_survives_the_trip_through_json(both: Frontier) -> None:
    assert from_json(to_json(both)) == both


def poisoned(found: Frontier, text: str) -> Frontier:
    """Every free string with `text` behind it; what is drawn stays what it was."""
    return Frontier.model_validate(_walk(found.model_dump(), text))


@pytest.mark.parametrize("text", TEXTS)
def test_hostile_text_stays_text(text: str, page: Page) -> None:
    assert "kind" in FIXED
    found = poisoned(frontier(BOTH), text)
    bad = read(render(found))
    assert bad.unbalanced == []
    assert {t.name for t in bad.tags} <= {t.name for t in page.tags} | {"thead"}
    assert not any(name.startswith("on") for t in bad.tags for name in t.attributes)
    # The command stands in a fenced block, where nothing is acted on.
    markdown = re.sub(r"(?ms)^(`{3,})sh\n.*?^\1$", "", as_markdown(found))
    assert "<" not in markdown
    assert found.run.command not in markdown
    assert not re.search(r"^\s*#+ heading|^- item", markdown, re.MULTILINE)
