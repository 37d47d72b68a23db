"""A frontier as one self-contained HTML page and as Markdown; both show the same rows.

Everything in it is untrusted: the page's templates and `reports.markdown.escape` see to that.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

from reports import markdown, text, wording
from reports.findings import count, unique
from reports.frontier import UNDEFENDED, Formal, Frontier, Point, Yardstick, titles
from reports.frontier_chart import CLASS_MEANS, panels
from reports.html import templates
from reports.markdown import escape
from reports.record import Control

HEAD = ("Arm", "Knob", "Strongest attack", "AUC (leakage)", "TPR at FPR 1 %", "Accuracy", "Formal claim")
UNKNOWN = "not known"

Row = tuple[str, ...]
"""Cells under `HEAD`."""


def render(frontier: Frontier) -> str:
    """The whole page."""
    names = titles(frontier)
    swept = unique((*frontier.swept, *(p.arm for p in frontier.points)))
    beside = [arm for arm in unique(w.arm for w in frontier.yardsticks if w.arm) if arm not in swept]
    context: dict[str, Any] = {
        "frontier": frontier,
        "names": names,
        "swept": swept,
        "beside": beside,
        "series": {arm: i for i, arm in enumerate((*swept, *beside))},
        "roles": dict.fromkeys(swept, "audited") | dict.fromkeys(beside, "baseline"),
        "settings": panels(frontier),
        "head": HEAD,
        "groups": tuple(groups(frontier)),
        "how": how(frontier),
        "controls": controls(frontier),
    }
    return templates().get_template("frontier.html").render(context)


def as_markdown(frontier: Frontier) -> str:
    """The same as Markdown: what was swept, the table, what to keep in mind."""
    return "\n".join(_lines(frontier)) + "\n"


def groups(frontier: Frontier) -> Iterator[tuple[str, str, tuple[Row, ...]]]:
    """By setting and observer: every point in the order of the knob, then what it is to be held against."""
    names = titles(frontier)
    for setting, observer in unique((p.setting, p.observer) for p in frontier.points):
        points = [p for p in frontier.points if (p.setting, p.observer) == (setting, observer)]
        beside = [w for w in frontier.yardsticks if w.setting == setting and w.observer in (observer, "")]
        rows = (*(_point(p, frontier, names) for p in points), *(_yardstick(w, names) for w in beside))
        yield names[setting], observer, rows


def how(frontier: Frontier) -> tuple[str, ...]:
    """How to read the picture, in sentences that hold for every format."""
    return (
        f"Each point is a set of {frontier.run.federations} federations of its own, with one value of "
        f"{frontier.knob}; a line joins the points of one arm in the order of {frontier.knob}.",
        "For each point and observer the strongest attack is the one with the highest AUC on the same "
        "federations that the figure is read from. Choosing the largest of several noisy figures leans "
        "upwards, the more so the less there is to find, and the intervals do not correct for it: small "
        "differences between points are not to be read.",
        f"Intervals are of {level(frontier)}, for each figure by itself.",
        "A frontier is no verdict: it says what these attacks found at these settings, not what is allowed.",
    )


def level(frontier: Frontier) -> str:
    """Confidence of the interval between two bounds, in percent."""
    return text.percent(round(1 - 2 * (1 - frontier.level), 6))


def controls(frontier: Frontier) -> str:
    """How the controls went, in one sentence."""
    held = sum(c.passed for c in frontier.controls)
    if not frontier.controls:
        return f"No control was run. {wording.NO_CONTROL}"
    return f"{held} of {count(len(frontier.controls), 'control')} held."


def claim(row: Sequence[Formal]) -> str:
    """Formal claims in words; "none" without any."""
    return "; ".join(_claim(c) for c in row) or "none"


def _claim(formal: Formal) -> str:
    promise = f"epsilon {text.number(formal.epsilon, 2)}, delta {text.plain(formal.delta)}, {formal.unit}"
    return promise + (f" (not verified: {', '.join(formal.unverified)})" if formal.unverified else "")


def _point(point: Point, frontier: Frontier, names: dict[str, str]) -> Row:
    knob = point.value if point.value == UNDEFENDED else f"{frontier.knob} = {point.value}"
    if point.leakage is None:
        figures = (point.reason or UNKNOWN, UNKNOWN, UNKNOWN)
    else:
        attack = point.attack + (" (a control of it failed)" if _doubtful(point, frontier) else "")
        figures = (attack, text.interval(point.leakage), text.interval(point.tpr))
    accuracy = UNKNOWN if point.accuracy is None else text.interval(point.accuracy)
    return (names[point.arm], knob, *figures, accuracy, claim(point.claims))


def _doubtful(point: Point, frontier: Frontier) -> bool:
    """Whether a control of the very attack failed where the point is."""
    place = (point.setting, point.attack, point.observer)
    return any((c.setting, c.attack, c.observer) == place and not c.passed for c in frontier.controls)


def _yardstick(row: Yardstick, names: dict[str, str]) -> Row:
    arm = names[row.arm] if row.arm else CLASS_MEANS
    figures = (text.NONE if e is None else text.interval(e) for e in (row.leakage, row.tpr, row.accuracy))
    return (arm, row.kind, row.attack or "nothing to read", *figures, text.NONE)


def _lines(frontier: Frontier) -> Iterator[str]:
    yield f"### Leakage against accuracy by {escape(frontier.defense)}, {escape(frontier.knob)}"
    yield from ("", escape(frontier.title), "")
    given = ", ".join(f"{name} = {value}" for name, value in frontier.options.items())
    yield escape(f"Other options: {given or 'none'}.")
    yield from ("", *(f"- {escape(sentence)}" for sentence in how(frontier)))
    yield f"- {escape(controls(frontier))}"
    yield from (f"- failed: {escape(_failed(c))}" for c in frontier.controls if not c.passed)
    rows = ((setting, observer, *row) for setting, observer, own in groups(frontier) for row in own)
    yield from ("", *markdown.table(("Setting", "Observer", *HEAD), rows))
    run = frontier.run
    yield from ("", *markdown.code(run.command), "")
    yield escape(
        f"Run {run.id} of {run.created}, seed {run.seed}, plan {run.plan} (sha256 {frontier.source_sha256}), "
        f"data {run.dataset}, privfed {run.tool_version}, {run.device}; reproducible: {run.determinism}."
    )


def _failed(control: Control) -> str:
    place = ", ".join(x for x in (control.setting, control.arm, control.attack, control.observer) if x)
    return f"{control.kind} control, {place}: expected {control.expectation}; {control.reason}"
