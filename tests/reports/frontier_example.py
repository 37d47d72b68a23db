"""A frontier that nobody measured: two arms, two settings, a crash, a bound that is missing."""

from __future__ import annotations

import math
from collections.abc import Iterator

from reports.frontier import UNDEFENDED, Formal, Frontier, Point, Yardstick
from reports.record import Arm, Control, Estimate
from tests.reports.example import example
from tests.reports.example_results import estimate

VALUES = ("1", "2", "4", "8", "inf")
OBSERVERS = {"server": 0.3, "client 0": 0.14, "outsider with large": 0.1, "outsider with synthetic": 0.12}
SETTINGS = ("same-classes", "other-classes")
BEST = {"fedavg": 0.93, "feddgm": 0.9}
OPEN = ("feddgm", "server", "1")
CRASHED = ("fedavg", "client 0", "4")


def frontier(arms: tuple[str, ...] = ("feddgm",)) -> Frontier:
    """The invented frontier of these arms."""
    known = example()
    return Frontier(
        title=known.title,
        run=known.run,
        source_sha256="ab" * 32,
        defense="dp_sgd",
        knob="epsilon",
        values=VALUES,
        options={"clip": "1.0", "delta": "1e-05"},
        level=0.975,
        swept=arms,
        settings=known.settings,
        arms=(*known.arms, *(_played(a, v) for a in arms for v in VALUES)),
        points=tuple(p for s in SETTINGS for a in arms for p in _points(s, a)),
        yardsticks=tuple(y for s in SETTINGS for y in _yardsticks(s)),
        controls=_controls(),
    )


def _played(arm: str, value: str) -> Arm:
    return Arm(
        id=f"{arm}-{value}", title=f"{arm}, {value}", pipeline=arm, role="audited", defenses=("DpSgd",)
    )


def _points(setting: str, arm: str) -> Iterator[Point]:
    for observer, leak in OBSERVERS.items():
        for i, value in enumerate((UNDEFENDED, *VALUES)):
            share = 1.0 if value == UNDEFENDED else math.log2(i + 1) / 3.2
            yield _point(setting, arm, observer, value, share, leak * (0.7 if arm == "fedavg" else 1.0))


def _point(setting: str, arm: str, observer: str, value: str, share: float, leak: float) -> Point:
    crashed = (arm, observer, value) == CRASHED
    found = estimate("auc", 0.5 + leak * share, 0.025)
    if (arm, observer, value) == OPEN:
        found = found.model_copy(update={"upper": None})
    best = BEST[arm] - (0.1 if setting == "other-classes" else 0)
    return Point(
        setting=setting,
        arm=arm,
        played=arm if value == UNDEFENDED else f"{arm}-{value}",
        observer=observer,
        value=value,
        attack="" if crashed else "LiRA online",
        attacks=5,
        leakage=None if crashed else found,
        tpr=None if crashed else estimate("tpr_at_fpr", 0.01 + 0.2 * leak * share, 0.01, fpr=0.01),
        accuracy=estimate("accuracy", best - 0.35 * (1 - share), 0.012),
        claims=() if value in (UNDEFENDED, "inf") else (_claim(float(value)),),
        reason="RMIA: ZeroDivisionError: planted" if crashed else "",
    )


def _claim(epsilon: float) -> Formal:
    return Formal(
        epsilon=epsilon, delta=1e-5, unit="record", neighbouring="add or remove one",
        against=("server", "clients", "outsiders"), unverified=("sampling",) if epsilon == 1 else (),
    )  # fmt: skip


def _yardsticks(setting: str) -> Iterator[Yardstick]:
    for observer in OBSERVERS:
        yield Yardstick(
            kind="baseline", setting=setting, arm="prior-only", observer=observer, attack="RMIA",
            leakage=estimate("auc", 0.5, 0.02), tpr=estimate("tpr_at_fpr", 0.01, 0.01, fpr=0.01),
            accuracy=estimate("accuracy", 0.62, 0.02),
        )  # fmt: skip
    for observer, auc in (("server", 0.72), ("outsider with synthetic", 0.6)):
        yield Yardstick(
            kind="class means", setting=setting, observer=observer, attack="class means of members",
            leakage=estimate("auc", auc, 0.02), tpr=estimate("tpr_at_fpr", 0.03, 0.01, fpr=0.01),
        )  # fmt: skip
    yield Yardstick(
        kind="baseline", setting=setting, arm="public-classifier", accuracy=estimate("accuracy", 0.7, 0.02)
    )


def _controls() -> tuple[Control, ...]:
    place = {"setting": "same-classes", "arm": "positive-twin", "observer": "server"}
    found: Estimate = estimate("auc", 0.55, 0.02)
    return tuple(
        Control(
            kind="positive", attack=attack, estimate=found, expectation="lower bound of the AUC >= 0.6",
            passed=passed, reason="" if passed else "AUC 0.550 [0.530, 0.570]", **place,
        )
        for attack, passed in (("RMIA", True), ("LiRA online", False))
    )  # fmt: skip
