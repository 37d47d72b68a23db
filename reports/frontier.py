"""The frontier of a sweep: leakage against accuracy as one knob of one defence is turned, as plain values.

Frozen pydantic models with the rules of `reports.record`. JSON has no infinity, so a value of the knob is
text: the number as it was typed, "inf" for none of the noise.
"""

from __future__ import annotations

from typing import Literal

from reports.record import Arm, Control, Estimate, Part, Probability, Run, Setting

UNDEFENDED = "undefended"
"""Stands for the value of the knob where there is no defence."""


class Formal(Part):
    """What one point promises on paper; fields as in `reports.record.DpCard`.

    Attributes:
        unverified: assumptions that some run did not verify.
    """

    epsilon: float
    delta: float
    unit: str
    neighbouring: str
    against: tuple[str, ...]
    unverified: tuple[str, ...]


class Point(Part):
    """One value of the knob for one arm and one observer: a federation set of its own.

    Attributes:
        arm: id of the swept arm; `played` is the id of the arm with the defence.
        value: of the knob as text, or `UNDEFENDED`.
        attack: the strongest by AUC of the `attacks` that ran; empty where that is not known.
        leakage: its AUC over candidates that are not canaries; null with a reason.
        tpr: its TPR at an FPR of 1 %, likewise.
        accuracy: of the one model that is delivered, on test records; null with a reason.
        claims: that bound what this observer sees; empty for none.
        reason: why leakage or accuracy is null.
    """

    setting: str
    arm: str
    played: str
    observer: str
    value: str
    attack: str = ""
    attacks: int = 0
    leakage: Estimate | None
    tpr: Estimate | None
    accuracy: Estimate | None
    claims: tuple[Formal, ...] = ()
    reason: str = ""


class Yardstick(Part):
    """What the points are to be held against: a baseline arm, or a release of class means alone.

    Attributes:
        kind: "baseline" is an arm without, or with less, private data; "class means" is what
            publishing the mean record of each class of the members would already give away.
        arm: id of the baseline arm; empty for class means.
        observer: empty where no observer has anything to read: the accuracy alone counts.
        attack, leakage, tpr, accuracy: as in `Point`.
    """

    kind: Literal["baseline", "class means"]
    setting: str
    arm: str = ""
    observer: str = ""
    attack: str = ""
    leakage: Estimate | None = None
    tpr: Estimate | None = None
    accuracy: Estimate | None = None


class Frontier(Part):
    """A sweep, whole.

    Attributes:
        run: as for an audit; its `plan_sha256` is that of the derived plan, `source_sha256` that of
            the plan it was derived from.
        defense, knob: names as in a plan.
        values: of the knob, in order.
        options: the other options of the defence, as text.
        level: confidence of each bound; 0.975 makes intervals of 95 %.
        swept: ids of the arms that got the defence.
        arms: these, each with the defence, and the baselines.
        controls: the same as beside the attacks of an audit.
    """

    schema_version: Literal["1.0"] = "1.0"
    title: str
    run: Run
    source_sha256: str
    defense: str
    knob: str
    values: tuple[str, ...]
    options: dict[str, str]
    level: Probability
    swept: tuple[str, ...]
    settings: tuple[Setting, ...]
    arms: tuple[Arm, ...]
    points: tuple[Point, ...]
    yardsticks: tuple[Yardstick, ...]
    controls: tuple[Control, ...]


def to_json(frontier: Frontier) -> str:
    """The frontier as JSON text, keys in field order, UTF-8, no NaN or infinity."""
    return frontier.model_dump_json(indent=1) + "\n"


def from_json(text: str) -> Frontier:
    """A frontier from JSON text; raises pydantic.ValidationError when it does not fit the schema."""
    return Frontier.model_validate_json(text)


def is_gap(point: Point) -> bool:
    """Whether there is nothing to draw: the leakage or the accuracy is not known."""
    return any(e is None or e.value is None for e in (point.leakage, point.accuracy))


def titles(frontier: Frontier) -> dict[str, str]:
    """Title by id of every arm and setting; an id without a title stands for itself."""
    ids = {i for p in frontier.points for i in (p.setting, p.arm)}
    ids |= {i for w in frontier.yardsticks for i in (w.setting, w.arm)}
    arms = {a.id: a.title for a in frontier.arms if a.title}
    return {i: i for i in sorted(ids)} | arms | {s.id: s.title for s in frontier.settings if s.title}
