"""Fills the record from what the audit found."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence

import numpy as np
from numpy.typing import NDArray

from audits.absence import why_absent
from audits.coverage import (
    LEFT_OUT,
    NOT_IN_SUITE,
    OBSERVERS,
    SUMS,
    UNTESTED,
    Probe,
    Scope,
    left_out,
    why_not_asked,
)
from audits.document import Document
from audits.evidence import Evidence
from audits.examination import Examined
from audits.finding import Finding
from audits.inquiry import Inquiry
from audits.inquiry_list import inquiries_listed
from audits.pictures import pictures
from audits.plan import ReadyPlan
from audits.policy import Policy as PolicyRules
from audits.reconstruction_ceiling import Ceiling
from audits.setting import Setting
from audits.statistics import federated_mean
from audits.store import TRANSCRIPT, transcript
from audits.strongest import strongest
from privfed.answers import weights_of
from privfed.release import Transcript
from privfed.transcript_files import MANIFEST
from reports.record import (
    PERSONALISED,
    Arm,
    Cell,
    Inquired,
    Policy,
    Subject,
    Taxonomy,
    TradeOff,
    Utility,
)
from reports.record import Setting as SettingRow

LEVEL = 0.95
FPRS = (0.1, 0.01, 0.001)
PUBLIC_ARM = "public-only"
MEMBERSHIP = (
    Taxonomy(scheme="NIST AI 100-2", version="E2025", id="NISTAML.033", name="Membership Inference"),
    Taxonomy(
        scheme="MITRE ATLAS",
        version="5.6.0",
        id="AML.T0024.000",
        name="Infer Training Data Membership",
    ),
    Taxonomy(scheme="OWASP ML Top 10", version="2023", id="ML04:2023", name="Membership Inference Attack"),
)

RECONSTRUCTION = (
    Taxonomy(scheme="NIST AI 100-2", version="E2025", id="NISTAML.032", name="Data Reconstruction"),
    Taxonomy(scheme="MITRE ATLAS", version="5.6.0", id="AML.T0024.001", name="Invert AI Model"),
    Taxonomy(scheme="OWASP ML Top 10", version="2023", id="ML03:2023", name="Model Inversion Attack"),
)
PROPERTY = (Taxonomy(scheme="NIST AI 100-2", version="E2025", id="NISTAML.034", name="Property Inference"),)


def policy_row(document: Document[PolicyRules]) -> Policy:
    """The policy as the record names it."""
    subject = document.value.subject
    return Policy(
        id=document.value.id,
        sha256=document.sha256,
        tier=subject.tier,
        purpose=subject.purpose,
        recipients=subject.recipients,
        privacy_unit=subject.privacy_unit,
    )


def setting_rows(ready: ReadyPlan, settings: Sequence[Setting]) -> tuple[SettingRow, ...]:
    """The regimes, with the sizes of their splits."""
    return tuple(
        SettingRow(
            id=s.id,
            title=plan.title,
            description=plan.description,
            n_public=len(s.candidates.public),
            n_candidates=len(s.canaries),
            n_canaries=int(s.canaries.sum()),
            n_population=len(s.candidates.population),
            n_test=len(s.test),
            clients=tuple(int((s.candidates.clients == k).sum()) for k in range(s.clients)),
            classes=s.world.surrogate.classes,
        )
        for s, plan in zip(settings, ready.plan.settings, strict=True)
    )


def arm_rows(ready: ReadyPlan, with_public: bool) -> tuple[Arm, ...]:
    """The arms as configured, and the classifier on the public shard where there is one."""
    rows = [
        Arm(
            id=a.id,
            title=a.title,
            pipeline=a.pipeline_name,
            defenses=a.defenses,
            role=a.role,
            configuration=repr(a.pipeline),
            settings=a.settings,
        )
        for a in ready.arms
    ]
    if with_public:
        rows.append(
            Arm(
                id=PUBLIC_ARM,
                title="Classifier on the public shard",
                pipeline="none",
                role="baseline",
                configuration="the large model, trained on the public shard alone",
            )
        )
    return tuple(rows)


def subjects(findings: Sequence[Finding]) -> tuple[Subject, ...]:
    """One transcript of each audited arm and setting, by digest, with its model's size."""
    rows = []
    for f in findings:
        if f.arm.role == "audited":
            folder = f.jobs[0].folders[0]
            (model,) = (r for r in transcript(folder).releases if r.name == "large")
            rows.append(
                Subject(
                    name=f"{f.arm.title}, {f.setting.id}: transcript of federation 0",
                    kind="transcript",
                    sha256=_sha256((folder / TRANSCRIPT / MANIFEST).read_bytes()),
                    parameters=sum(t.numel() for t in weights_of(model).values()),
                )
            )
    return tuple(rows)


def cells(findings: Sequence[Finding], scope: Scope) -> tuple[Cell, ...]:
    """Every attack by every observer on every arm, run or not, with the reason if not."""
    rows = []
    for f in findings:
        if f.arm.role != "control":
            seen = transcript(f.jobs[0].folders[0])
            rows += [_cell(f, e, seen) for e in f.evidence]
            rows += [_row(f, p, status=_status(why), reason=why) for p, why in left_out(scope)]
            rows += [_untested(f, name, reason) for name, reason in (*UNTESTED, *_unread(seen))]
    return tuple(rows)


def inquired(findings: Sequence[Finding], scope: Scope, full: bool = False) -> tuple[Inquired, ...]:
    """Every attack on the data themselves on every arm that is no control, made or not and why not.

    Args:
        findings: of all arms.
        scope: of the audit.
        full: whether rebuilt and private images are shown.
    """
    rows = []
    for f in findings:
        if f.arm.role != "control":
            rows += [_inquired(f, e, full) for e in f.examined]
            rows += [
                _inquiry_row(f, q, status=_status(why), reason=why)
                for q in inquiries_listed()
                if (why := why_not_asked(q, scope))
            ]
    return tuple(rows)


def _inquired(finding: Finding, examined: Examined, full: bool) -> Inquired:
    inquiry = examined.inquiry
    if examined.crashed:
        return _inquiry_row(finding, inquiry, status="error", reason=examined.crashed)
    if examined.measure is None:
        reason = f"this arm has no {inquiry.artefact} to read it from"
        return _inquiry_row(finding, inquiry, status="not applicable", reason=reason)
    bound = finding.ceiling(inquiry) or Ceiling(None)
    return _inquiry_row(
        finding,
        inquiry,
        status="run",
        estimate=examined.measure(LEVEL),
        chance=None if np.isnan(examined.chance) else examined.chance,
        baselines={name: m(LEVEL) for name, m in examined.baselines.items()},
        details={name: m(LEVEL) for name, m in examined.details.items()},
        ceiling=bound.share,
        no_bound=bound.reason,
        contradicted=bool(bound.contradiction),
        contradiction=bound.contradiction,
        work=examined.work,
        asked=examined.asked,
        pictures=pictures(examined, finding.played, finding.setting) if full else (),
    )


def _inquiry_row(finding: Finding, inquiry: Inquiry, **fields: object) -> Inquired:
    known = {
        "setting": finding.setting.id,
        "arm": finding.arm.id,
        "attack": inquiry.name,
        "configuration": repr(inquiry.attack),
        "observer": inquiry.observer.label,
        "artefact": inquiry.artefact,
        "sought": inquiry.sought,
        "disclosed": inquiry.disclosed,
        "taxonomy": RECONSTRUCTION if inquiry.sought in ("records", "attribute") else PROPERTY,
    }
    return Inquired.model_validate(known | fields)


def _status(reason: str) -> str:
    return "not tested" if reason in (NOT_IN_SUITE, LEFT_OUT) else "not applicable"


def _unread(seen: Transcript) -> list[tuple[str, str]]:
    """Sums that clients send and no attack reads; what a count or a label set says is said outside claims."""
    sent = {r.name for r in seen.releases if r.sender.startswith("client")} & set(SUMS)
    return [(f"attacks on {SUMS[name]}", "no attack of this version reads them") for name in sorted(sent)]


def utilities(findings: Sequence[Finding], public: Mapping[str, NDArray[np.float64]]) -> tuple[Utility, ...]:
    """Accuracy of the models of every arm that is no control: broadcast, released, and the clients' own."""
    rows = [
        Utility(setting=f.setting.id, arm=f.arm.id, model=title, estimate=federated_mean(correct, LEVEL))
        for f in findings
        if f.arm.role != "control"
        for title, correct in _accuracies(f)
    ]
    rows += [
        Utility(
            setting=setting,
            arm=PUBLIC_ARM,
            model="released model",
            estimate=federated_mean(correct, LEVEL),
        )
        for setting, correct in public.items()
    ]
    return tuple(rows)


def _accuracies(finding: Finding) -> list[tuple[str, NDArray[np.float64]]]:
    models = (("broadcast surrogate", "surrogate"), ("released model", "large"))
    found = [(title, finding.correct(model)) for title, model in models if finding.has(model)]
    own = finding.personal
    return found if own is None else [*found, (PERSONALISED, own)]


def tradeoffs(findings: Sequence[Finding]) -> tuple[TradeOff, ...]:
    """Strongest attack of each observer against the accuracy of the delivered model, where that has one."""
    rows = []
    for f in findings:
        if f.arm.role == "control" or not f.has("large"):
            continue
        for observer in OBSERVERS:
            found = strongest([e for e in f.evidence if e.probe.observer == observer], LEVEL)
            if found is not None:
                rows.append(
                    TradeOff(
                        setting=f.setting.id,
                        arm=f.arm.id,
                        observer=observer.label,
                        attack=found.evidence.probe.name,
                        leakage=found.estimate,
                        accuracy=federated_mean(f.correct("large"), LEVEL),
                        tried=found.tried,
                    )
                )
    return tuple(rows)


def limitations(findings: Sequence[Finding]) -> tuple[str, ...]:
    """What this audit cannot say."""
    units = min(len(f.setting.canaries) for f in findings)
    federations = max(len(f.played.kept) for f in findings)
    return (
        "A check that passes says that the attacks run here did not find more than the limit allows; "
        "it says nothing of attacks that were not run.",
        f"Figures speak of the training procedure on this data set, at the scale of {federations} "
        f"simulated federations and at least {units} candidate records a setting.",
        "TPR at a low FPR is judged on one score a record, and cannot be resolved below one over the "
        "number of non-members; the table of checks says how many would be needed.",
        "The attacker is given as many reference federations as the audit ran, from the very "
        "distribution of the target: a strong attacker, but one with few references.",
        "Leakage against accuracy shows the strongest of several attacks for each observer. It pays "
        "for the choice: the value is taken on federations that did not choose it, and the bounds hold "
        "for all attacks that were tried.",
        "What rebuilds records, or names labels or the client that holds a record, was asked of the first "
        "federations alone, and inverts only as far as the suite that was run goes.",
    )


def _cell(finding: Finding, evidence: Evidence, seen: Transcript) -> Cell:
    probe = evidence.probe
    if evidence.crashed:
        return _row(finding, probe, status="error", reason=evidence.crashed)
    if evidence.scores is None:
        reason = why_absent(probe, seen, finding.setting.candidates.prior is not None)
        return _row(finding, probe, status="not applicable", reason=reason)
    curve = () if probe.baseline else evidence.curve(LEVEL)
    return _row(
        finding,
        probe,
        status="run",
        auc=evidence.estimate("auc", None, "natural", LEVEL),
        auc_canaries=evidence.estimate("auc", None, "canaries", LEVEL) if evidence.canaries.any() else None,
        tprs=tuple(evidence.estimate("tpr_at_fpr", fpr, "natural", LEVEL) for fpr in FPRS),
        roc=curve,
    )


def _row(finding: Finding, probe: Probe, **fields: object) -> Cell:
    known = {
        "setting": finding.setting.id,
        "arm": finding.arm.id,
        "attack": probe.name,
        "configuration": repr(probe.attack),
        "observer": probe.observer.label,
        "artefact": probe.artefact,
        "baseline": probe.baseline,
        "taxonomy": MEMBERSHIP,
    }
    return Cell.model_validate(known | fields)


def _untested(finding: Finding, name: str, reason: str) -> Cell:
    return Cell(
        setting=finding.setting.id,
        arm=finding.arm.id,
        attack=name,
        observer="server",
        artefact="client update",
        status="not tested",
        reason=reason,
    )


def _sha256(content: bytes) -> str:
    return hashlib.sha256(content).hexdigest()
