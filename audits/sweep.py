"""From a derived plan to a frontier: plays what is not in the store, and takes the strongest attack of each.

A point is an arm with one value of the knob under one observer. Federations are kept by content, so a sweep
shares them with audits and with other sweeps, and one that was interrupted goes on where it stopped.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from audits.assemble import PUBLIC_ARM, arm_rows, setting_rows
from audits.audit import Request, Steps, measure, run_controls, run_row
from audits.coverage import OBSERVERS
from audits.evidence import Evidence
from audits.finding import Finding
from audits.public_baseline import public_accuracy
from audits.setting import Setting
from audits.statistics import federated_mean
from audits.sweep_knob import label
from audits.sweep_plan import Derived
from privfed.claims import Claim
from privfed.release import Observer
from reports.frontier import UNDEFENDED, Formal, Frontier, Point, Yardstick
from reports.record import Estimate

LEVEL = 0.975
"""Of each bound: an interval of 95 %."""
FPR = 0.01
CLASS_MEANS = "class means of members"
AGAINST = {"server": "server", "client": "clients", "outsider": "outsiders"}
"""The word of a claim for the role of an observer."""


@dataclass(frozen=True, slots=True)
class Strongest:
    """The attack with the highest AUC, of `attacks` that scored; or why it cannot be told."""

    evidence: Evidence | None
    attacks: int
    reason: str = ""


def sweep(request: Request, derived: Derived, steps: Steps) -> Frontier:
    """Runs what is not yet in the store, and draws the frontier from it.

    Args:
        request: the derived plan with its data; the policy says what a positive control must find.
        derived: the same plan with the values of the knob.
        steps: what to tell the person who waits.
    """
    ready, knob = request.ready, derived.knob
    settings, findings = measure(request, steps)
    places = {(f.setting.id, f.arm.id): f for f in findings}
    public = [s for s in settings if s.world.public_labelled]
    return Frontier(
        title=ready.plan.title,
        run=run_row(request, settings),
        source_sha256=derived.source.sha256,
        defense=knob.defense,
        knob=knob.name,
        values=tuple(label(v) for v in knob.values),
        options={name: str(value) for name, value in derived.options.items()},
        level=LEVEL,
        swept=derived.swept,
        settings=setting_rows(ready, settings),
        arms=tuple(a for a in arm_rows(ready, bool(public)) if a.role != "control"),
        points=tuple(p for s in settings for p in _points(derived, s, places)),
        yardsticks=tuple(y for s in settings for y in _yardsticks(derived, s, findings, request)),
        controls=tuple(run_controls(findings, request.policy.value)),
    )


def strongest(finding: Finding, observer: Observer) -> Strongest | None:
    """Of the attacks that this observer ran; None where it saw nothing to attack.

    Where one of them crashed the strongest cannot be told: it may have been that one.
    """
    own = [e for e in finding.evidence if e.probe.observer == observer and not e.probe.baseline]
    crashed = [f"{e.probe.name}: {e.crashed}" for e in own if e.crashed]
    if crashed:
        return Strongest(None, 0, "; ".join(crashed))
    scored = [e for e in own if e.scores is not None]
    known = [e for e in scored if _auc(e).value is not None]
    if not known:
        return Strongest(None, 0, _auc(scored[0]).reason) if scored else None
    return Strongest(max(known, key=lambda e: _auc(e).value or 0.0), len(known))


def claims_against(claims: Sequence[Claim], observer: Observer) -> tuple[Formal, ...]:
    """The promises that bound what this observer sees."""
    return tuple(
        Formal(
            epsilon=c.epsilon,
            delta=c.delta,
            unit=c.unit,
            neighbouring=c.neighbouring.replace("_", " "),
            against=c.against,
            unverified=tuple(a.name for a in c.assumptions if not a.verified),
        )
        for c in claims
        if AGAINST[observer.role] in c.against
    )


def _points(derived: Derived, setting: Setting, places: dict[tuple[str, str], Finding]) -> Iterator[Point]:
    played = [(arm, arm, UNDEFENDED) for arm in derived.swept]
    played += [(v.swept, v.played, v.value) for v in derived.variants]
    played.sort(key=lambda p: derived.swept.index(p[0]))
    for observer in OBSERVERS:
        for swept, arm, value in played:
            finding = places.get((setting.id, arm))
            found = None if finding is None else strongest(finding, observer)
            if finding is not None and found is not None:
                yield _point(finding, observer, swept, value, found)


def _point(finding: Finding, observer: Observer, swept: str, value: str, found: Strongest) -> Point:
    evidence, accuracy = found.evidence, _accuracy(finding)
    lacks = "" if accuracy is not None else "no model is delivered whose labels anybody trained"
    return Point(
        setting=finding.setting.id,
        arm=swept,
        played=finding.arm.id,
        observer=observer.label,
        value=value,
        attack="" if evidence is None else evidence.probe.name,
        attacks=found.attacks,
        leakage=None if evidence is None else _auc(evidence),
        tpr=None if evidence is None else _tpr(evidence),
        accuracy=accuracy,
        claims=claims_against(finding.claims, observer),
        reason="; ".join(r for r in (found.reason, lacks) if r),
    )


def _yardsticks(
    derived: Derived, setting: Setting, findings: Sequence[Finding], request: Request
) -> Iterator[Yardstick]:
    own = [f for f in findings if f.setting.id == setting.id]
    for finding in (f for f in own if f.arm.role == "baseline"):
        yield from _baseline(finding)
    for observer in OBSERVERS:
        # The true means are handed to it whatever an arm released: one undefended arm is as good as another.
        means = [e for f in own if f.arm.id == derived.swept[0] for e in f.evidence if _is_means(e, observer)]
        yield from (_beside("class means", setting.id, "", e, None) for e in means)
    if setting.world.public_labelled:
        accuracy = federated_mean(public_accuracy(setting, request.root), LEVEL)
        yield Yardstick(kind="baseline", setting=setting.id, arm=PUBLIC_ARM, accuracy=accuracy)


def _baseline(finding: Finding) -> Iterator[Yardstick]:
    """A baseline under every observer that could attack it; its accuracy alone where none could."""
    accuracy = _accuracy(finding)
    found = [strongest(finding, observer) for observer in OBSERVERS]
    attacked = [s.evidence for s in found if s is not None and s.evidence is not None]
    for evidence in attacked:
        yield _beside("baseline", finding.setting.id, finding.arm.id, evidence, accuracy)
    if not any(found) and accuracy is not None:
        yield Yardstick(kind="baseline", setting=finding.setting.id, arm=finding.arm.id, accuracy=accuracy)


def _is_means(evidence: Evidence, observer: Observer) -> bool:
    own = evidence.probe.observer == observer and evidence.probe.name == CLASS_MEANS
    return own and evidence.probe.baseline and evidence.scores is not None


def _beside(kind: str, setting: str, arm: str, evidence: Evidence, accuracy: Estimate | None) -> Yardstick:
    return Yardstick(
        kind="baseline" if kind == "baseline" else "class means",
        setting=setting,
        arm=arm,
        observer=evidence.probe.observer.label,
        attack=evidence.probe.name,
        leakage=_auc(evidence),
        tpr=_tpr(evidence),
        accuracy=accuracy,
    )


def _auc(evidence: Evidence) -> Estimate:
    return evidence.estimate("auc", None, "natural", LEVEL)


def _tpr(evidence: Evidence) -> Estimate:
    return evidence.estimate("tpr_at_fpr", FPR, "natural", LEVEL)


def _accuracy(finding: Finding) -> Estimate | None:
    """Of the one model that is delivered to everybody, as in the report of an audit."""
    return federated_mean(finding.correct("large"), LEVEL) if finding.has("large") else None
