"""Turns evidence and controls into the rows of a policy, judged."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace

from audits.document import Document
from audits.evidence import Evidence
from audits.examination import Examined
from audits.policy import SOUGHT, CheckRule, Policy
from audits.units import PLURALS, WORDS, Kind
from audits.verdict import Measure, Obstacle, Question, Ruling, judge, judge_claims
from privfed.claims import Claim
from reports.record import Check, Control, Limit

_MEANINGS = {
    "auc": "How often this observer tells {used} from {unused}; 0.5 is guessing.",
    "tpr_at_fpr": "Share of the {units} used that this observer names while wrongly naming at most the "
    "stated share of the others.",
    "identification": "Share of the records that this observer rebuilds which look most like one that was "
    "used, among those used and about as many that were not.",
    "label_inference": "How often this observer ranks a label that a client holds above one that a client "
    "lacks; 0.5 is guessing.",
    "property_inference": "How much of the differences between clients, in the share of their records that "
    "has some property, this observer explains; 0 is no more than the share in the whole population "
    "tells, 1 is all.",
    "attribute_inference": "How much oftener this observer fills in a hidden detail of a known record "
    "rightly where the record was used than where it was not; 0 is no more than anybody could conclude.",
    "formal_epsilon": "Mathematical bound on what can be learnt about one unit that the claim protects; "
    "smaller is stronger.",
    "accuracy": "Share of unseen records that the delivered model classifies rightly.",
}


def meaning(metric: str, unit: Kind) -> str:
    """A metric in plain words, of the privacy unit the audit asks about."""
    used, unused = WORDS[unit]
    return _MEANINGS[metric].format(used=used, unused=unused, units=PLURALS[unit])


@dataclass(frozen=True, slots=True)
class Judged:
    """What is known of one arm in one setting.

    Attributes:
        audited: whether the plan audits this arm (else it is a baseline or a control).
        evidence: of every probe that is no baseline and has something to read.
        claims: its formal statements.
        accuracy: of the delivered model, with bounds at a given level.
        twins: ids of the control arms that vouch for the attacks.
        declares: whether its plan asks for a claim, whatever came of it.
        unread: observers who hold something of the clients that no attack reads.
        examined: what came of asking for the data themselves, where there was something to ask.
    """

    setting: str
    arm: str
    audited: bool
    twins: tuple[str, ...]
    evidence: tuple[Evidence, ...]
    claims: tuple[Claim, ...]
    accuracy: Measure
    declares: bool = False
    unread: tuple[str, ...] = ()
    examined: tuple[Examined, ...] = ()


@dataclass(frozen=True, slots=True)
class _Row:
    """One rule on one arm in one setting, with the controls that speak for it.

    Attributes:
        left_out: attacks that decide nothing because a control of theirs failed, with the reason.
        held: by kind of control that the policy requires, the attacks for which one was run and held.
    """

    index: int
    rule: CheckRule
    arm: Judged
    left_out: Mapping[str, str]
    held: Mapping[str, frozenset[str]]

    @property
    def wanted(self) -> dict[str, Evidence | Examined]:
        """What the rule counts on this arm, by the name of the attack."""
        if self.rule.metric.name in SOUGHT:
            return {x.inquiry.name: x for x in self.arm.examined if _asks(self.rule, x)}
        return {e.probe.name: e for e in self.arm.evidence if _counts(self.rule, e)}

    @property
    def usable(self) -> dict[str, Evidence | Examined]:
        """The same without the attacks left out."""
        return {name: e for name, e in self.wanted.items() if name not in self.left_out}


@dataclass(frozen=True, slots=True)
class _Asked:
    """One rule of a policy, and the unit the audit asks about."""

    index: int
    rule: CheckRule
    document: Document[Policy]
    unit: Kind


def judge_all(
    document: Document[Policy],
    arms: Sequence[Judged],
    controls: Sequence[Control],
    unit: Kind = "record",
) -> tuple[Check, ...]:
    """Every rule of the policy on every arm and setting it speaks about, in the order of the policy.

    A rule about an artefact that an arm does not release has no row on that arm; the coverage matrix
    shows it. A rule that names what is nowhere, or that has no row at all, gets one row that says so.
    """
    policy = document.value
    rows = _rows(policy, arms, controls)
    measured = [r for r in rows if r.rule.metric.name != "formal_epsilon"]
    questions = [_question(r, document) for r in measured]
    rulings = judge(questions, policy.decision.alpha_pass, policy.decision.alpha_fail)
    found = [(r, _qualified(r, x)) for r, x in zip(measured, rulings, strict=True)]
    found += [(r, _formal(r, document)) for r in rows if r.rule.metric.name == "formal_epsilon"]
    found.sort(key=lambda pair: (pair[0].index, arms.index(pair[0].arm)))
    checks = []
    for index, rule in enumerate(policy.checks):
        asked = _Asked(index, rule, document, unit)
        mine = [(row.arm, ruling) for row, ruling in found if row.index == index]
        checks += [_check(asked, a.setting, a.arm, x) for a, x in mine]
        nowhere = Ruling("INCONCLUSIVE", "nothing_evaluated", "this arm was not run in this setting")
        checks += [_check(asked, s, a, nowhere) for s, a in _not_run(rule, arms)]
        if absent := _absent(rule, arms, bool(mine)):
            nothing = Ruling("INCONCLUSIVE", "nothing_evaluated", absent)
            checks.append(_check(asked, "", "", nothing))
    return tuple(checks)


def _rows(policy: Policy, arms: Sequence[Judged], controls: Sequence[Control]) -> list[_Row]:
    required = ["positive", *(k for k in ("negative", "blind") if getattr(policy.controls, k) == "required")]
    needed = [c for c in controls if c.kind in required]

    def held(arm: Judged, observer: str) -> dict[str, frozenset[str]]:
        return {k: _held([c for c in needed if c.kind == k], arm, observer) for k in required}

    return [
        _Row(index, rule, arm, _left_out(needed, arm, rule.observer), held(arm, rule.observer))
        for index, rule in enumerate(policy.checks)
        for arm in arms
        if rule.wants_setting(arm.setting)
        and rule.wants_arm(arm.arm, arm.audited, bool(arm.claims) or arm.declares)
        and (not rule.observer or rule.observer in arm.unread or _has_row(rule, arm))
    ]


def _not_run(rule: CheckRule, arms: Sequence[Judged]) -> list[tuple[str, str]]:
    """Settings and arms that the rule speaks of by name and that were not played together."""
    settings = dict.fromkeys(a.setting for a in arms if rule.wants_setting(a.setting))
    named = [a for a in dict.fromkeys(a.arm for a in arms) if a in rule.arms]
    played = {(a.setting, a.arm) for a in arms}
    return [(s, a) for s in settings for a in named if (s, a) not in played]


def _has_row(rule: CheckRule, arm: Judged) -> bool:
    """Whether the arm has anything that the rule counts."""
    if rule.metric.name in SOUGHT:
        return any(_asks(rule, x) for x in arm.examined)
    return any(_counts(rule, e) for e in arm.evidence)


def _asks(rule: CheckRule, examined: Examined) -> bool:
    inquiry = examined.inquiry
    known = examined.measure is not None or bool(examined.crashed)
    mine = inquiry.observer.label == rule.observer and rule.wants_attack(inquiry.name)
    return known and mine and inquiry.sought == SOUGHT[rule.metric.name] and not inquiry.disclosed


def _counts(rule: CheckRule, evidence: Evidence) -> bool:
    return evidence.probe.observer.label == rule.observer and rule.wants_attack(evidence.probe.name)


def _question(row: _Row, document: Document[Policy]) -> Question:
    rule, limit = row.rule, _limit(row.rule, document, row.index)
    if rule.metric.name == "accuracy":
        return Question(limit, {"": row.arm.accuracy}, rule.blocking)
    if not row.wanted:
        unread = "this observer holds something that no attack of this version reads"
        return Question(limit, {}, rule.blocking, Obstacle("nothing_evaluated", unread))
    crashed = [f"{name}: {e.crashed}" for name, e in row.wanted.items() if e.crashed]
    if crashed:
        return Question(limit, {}, rule.blocking, Obstacle("crashed", "; ".join(crashed)))
    if not row.usable:
        return Question(limit, {}, rule.blocking, Obstacle("instrument_invalid", _omissions(row)))
    attacks = {name: m for name, e in row.usable.items() if (m := _measure(rule, e)) is not None}
    return Question(limit, attacks, rule.blocking)


def _measure(rule: CheckRule, found: Evidence | Examined) -> Measure | None:
    if isinstance(found, Evidence):
        return found.measure(rule.metric.name, rule.metric.fpr, rule.slice)
    return found.measure


def _qualified(row: _Row, ruling: Ruling) -> Ruling:
    """The ruling with what its controls take away from it.

    A PASS needs an attack that was seen to find a planted leak, and where the policy requires it all of
    them seen at chance where nothing leaks, in a setting whose records do not give members away. A FAIL
    needs none of this, for the leak was found.
    """
    if not row.rule.observer or ruling.reason_code in ("crashed", "instrument_invalid"):
        return ruling
    if ruling.verdict == "PASS" and (doubt := _doubt(row)):
        text = f"{doubt}; {ruling.message}"
        ruling = replace(ruling, verdict="INCONCLUSIVE", reason_code="instrument_invalid", message=text)
    omitted = _omissions(row)
    return replace(ruling, message=f"{ruling.message}; {omitted}") if omitted else ruling


def _doubt(row: _Row) -> str:
    """Which required control was never run for these attacks; empty when all were run and held."""
    names, held = list(row.usable), row.held
    if not any(name in held["positive"] for name in names):
        return "no positive control was run that shows what these attacks can find"
    # Chance is known beforehand: decoys are in or out by a coin, shares are set against those of others.
    if row.rule.metric.name in SOUGHT:
        return ""
    if unseen := [name for name in names if name not in held.get("negative", names)]:
        return f"no negative control was run that shows {', '.join(unseen)} at chance where nothing leaks"
    if not held.get("blind", names):
        return "no blind control was run that shows members and non-members alike before training"
    return ""


def _omissions(row: _Row) -> str:
    out = [name for name in row.wanted if name in row.left_out]
    return "; ".join(f"{name} left out: {row.left_out[name]}" for name in out)


def _left_out(controls: Iterable[Control], arm: Judged, observer: str) -> dict[str, str]:
    """Attacks of one observer whose controls failed, with the reason; they decide nothing.

    The twins' controls speak for every arm of their setting; decoy membership only for its own arm.
    """
    found: dict[str, str] = {}
    for control in controls:
        if control.passed or control.setting != arm.setting:
            continue
        if control.kind == "blind":
            differ = f"members and non-members differ before any training ({control.reason})"
            return {name: differ for name in _names(arm)}
        if control.observer == observer and control.arm in (arm.arm, *arm.twins):
            found[control.attack] = f"its {control.kind} control failed ({control.reason})"
    return found


def _names(arm: Judged) -> list[str]:
    return [*(e.probe.name for e in arm.evidence), *(x.inquiry.name for x in arm.examined)]


def _held(controls: Iterable[Control], arm: Judged, observer: str) -> frozenset[str]:
    """Attacks that controls of one kind vouch for on this arm; the blind one speaks for its setting."""
    passed = [c for c in controls if c.passed and c.setting == arm.setting]
    if any(c.kind == "blind" for c in passed):
        return frozenset(_names(arm))
    return frozenset(c.attack for c in passed if c.observer == observer and c.arm in (arm.arm, *arm.twins))


def _absent(rule: CheckRule, arms: Sequence[Judged], has_rows: bool) -> str:
    """What the rule names and nobody found; empty when it has its rows."""
    settings, ids = {a.setting for a in arms}, {a.arm for a in arms}
    unknown = [
        f"no {what} {name!r} (there is {', '.join(sorted(known))})"
        for what, names, special, known in (
            ("setting", rule.settings, {"all"}, settings),
            ("arm", rule.arms, {"audited", "claiming"}, ids),
        )
        for name in names
        if name not in known | special
    ]
    if unknown:
        return "; ".join(unknown)
    if has_rows:
        return ""
    if rule.observer:
        seen = sorted({e.probe.observer.label for a in arms for e in a.evidence})
        return f"nothing was seen by {rule.observer!r} on these arms (attacked were: {', '.join(seen)})"
    return "no audited arm makes a differential-privacy claim" if "claiming" in rule.arms else "no such arm"


def _formal(row: _Row, document: Document[Policy]) -> Ruling:
    limit, unit = _limit(row.rule, document, row.index), document.value.subject.privacy_unit
    return judge_claims(row.arm.claims, row.rule.metric.delta or 0.0, limit, unit)


def _limit(rule: CheckRule, document: Document[Policy], index: int) -> Limit:
    line = document.line_of("checks", index, "limit")
    return Limit(op=rule.limit.op, value=rule.limit.value, policy_line=line)


def _check(asked: _Asked, setting: str, arm: str, ruling: Ruling) -> Check:
    rule = asked.rule
    return Check(
        id=rule.id,
        title=rule.title,
        rationale=rule.rationale,
        meaning=meaning(rule.metric.name, asked.unit),
        blocking=rule.blocking,
        setting=setting,
        arm=arm,
        attack=ruling.attack,
        observer=rule.observer,
        estimate=ruling.estimate,
        limit=_limit(rule, asked.document, asked.index),
        verdict=ruling.verdict,
        reason_code=ruling.reason_code,
        message=ruling.message,
        n_required=ruling.n_required,
    )
