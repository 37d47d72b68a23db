"""Turns evidence and controls into the rows of a policy, judged."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import partial

from audits.document import Document
from audits.evidence import Evidence
from audits.policy import CheckRule, Policy
from audits.verdict import Measure, Obstacle, Question, Ruling, judge, judge_claim
from privfed.claims import Claim
from reports.record import Check, Control, Limit

MEANINGS = {
    "auc": "How often this observer tells a record that was used from one that was not; 0.5 is guessing.",
    "tpr_at_fpr": "Share of the records used that this observer names while wrongly naming at most the "
    "stated share of the others.",
    "formal_epsilon": "Mathematical bound on what any observer can learn about one record; "
    "smaller is stronger.",
    "accuracy": "Share of unseen records that the delivered model classifies rightly.",
}


@dataclass(frozen=True, slots=True)
class Judged:
    """What is known of one arm in one setting.

    Attributes:
        audited: whether the plan audits this arm (else it is a baseline or a control).
        evidence: of every probe that is no baseline and has something to read.
        claim: its formal statement, if any.
        accuracy: of the delivered model, with bounds at a given level.
        twins: ids of the control arms that vouch for the attacks.
    """

    setting: str
    arm: str
    audited: bool
    twins: tuple[str, ...]
    evidence: tuple[Evidence, ...]
    claim: Claim | None
    accuracy: Measure


def judge_all(
    document: Document[Policy], arms: Sequence[Judged], controls: Sequence[Control]
) -> tuple[Check, ...]:
    """Every row of the policy on every arm and setting it speaks about."""
    policy = document.value
    rows = [
        (index, rule, arm)
        for index, rule in enumerate(policy.checks)
        for arm in arms
        if rule.wants_setting(arm.setting) and rule.wants_arm(arm.arm, arm.audited, arm.claim is not None)
    ]
    measured = [row for row in rows if row[1].metric.name != "formal_epsilon" and _relevant(row[1], row[2])]
    questions = [_question(rule, arm, controls, policy, document, i) for i, rule, arm in measured]
    rulings = judge(questions, policy.decision.alpha_pass, policy.decision.alpha_fail)
    formal = [row for row in rows if row[1].metric.name == "formal_epsilon"]
    decided = [
        *zip(measured, rulings, strict=True),
        *((row, _formal(row[1], row[2], document, row[0])) for row in formal),
    ]
    decided.sort(key=lambda pair: (pair[0][0], arms.index(pair[0][2])))
    return tuple(_check(rule, arm, ruling, document, i) for (i, rule, arm), ruling in decided)


def _relevant(rule: CheckRule, arm: Judged) -> bool:
    """A rule about an artefact that the arm does not release has no row; the coverage matrix shows it."""
    return not rule.observer or any(e.probe.observer.label == rule.observer for e in arm.evidence)


def _question(
    rule: CheckRule,
    arm: Judged,
    controls: Sequence[Control],
    policy: Policy,
    document: Document[Policy],
    index: int,
) -> Question:
    limit = _limit(rule, document, index)
    if rule.metric.name == "accuracy":
        return Question(limit, {"": arm.accuracy}, rule.blocking)
    wanted = [
        e for e in arm.evidence if e.probe.observer.label == rule.observer and rule.wants_attack(e.probe.name)
    ]
    crashed = [f"{e.probe.name}: {e.crashed}" for e in wanted if e.crashed]
    if crashed:
        return Question(limit, {}, rule.blocking, Obstacle("crashed", "; ".join(crashed)))
    failed = _failed(controls, arm, rule.observer)
    usable = [e for e in wanted if e.probe.name not in failed]
    if wanted and not usable:
        return Question(limit, {}, rule.blocking, Obstacle("instrument_invalid", next(iter(failed.values()))))
    metric, fpr = rule.metric.name, rule.metric.fpr
    attacks: Mapping[str, Measure] = {
        e.probe.name: partial(e.estimate, metric, fpr, rule.slice) for e in usable
    }
    return Question(limit, attacks, rule.blocking)


def _failed(controls: Sequence[Control], arm: Judged, observer: str) -> dict[str, str]:
    """Attacks of one observer whose controls failed, with the reason; they decide nothing.

    The twins' controls speak for every arm of their setting; decoy membership only for its own arm.
    """
    found: dict[str, str] = {}
    for control in controls:
        if control.passed or control.setting != arm.setting:
            continue
        if control.kind == "blind":
            differ = f"members and non-members differ before any training: {control.reason}"
            return {e.probe.name: differ for e in arm.evidence}
        if control.observer == observer and control.arm in (arm.arm, *arm.twins):
            found[control.attack] = f"{control.kind} control of {control.attack} failed: {control.reason}"
    return found


def _formal(rule: CheckRule, arm: Judged, document: Document[Policy], index: int) -> Ruling:
    return judge_claim(arm.claim, rule.metric.delta or 0.0, _limit(rule, document, index))


def _limit(rule: CheckRule, document: Document[Policy], index: int) -> Limit:
    line = document.line_of("checks", index, "limit")
    return Limit(op=rule.limit.op, value=rule.limit.value, policy_line=line)


def _check(rule: CheckRule, arm: Judged, ruling: Ruling, document: Document[Policy], index: int) -> Check:
    return Check(
        id=rule.id,
        title=rule.title,
        rationale=rule.rationale,
        meaning=MEANINGS[rule.metric.name],
        blocking=rule.blocking,
        setting=arm.setting,
        arm=arm.arm,
        attack=ruling.attack,
        observer=rule.observer,
        estimate=ruling.estimate,
        limit=_limit(rule, document, index),
        verdict=ruling.verdict,
        reason_code=ruling.reason_code,
        message=ruling.message,
        n_required=ruling.n_required,
    )
