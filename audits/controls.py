"""The controls beside every attack: a planted leak must be found, and nothing where there is nothing."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Literal

from attacks.interface import Bools
from audits.coverage import Probe
from audits.evidence import Evidence, blind_auc
from audits.examination import Examined
from audits.plan import Arm
from audits.setting import Setting
from reports.record import Control, Estimate

ALPHA = 0.05
GENERATED = ("generator", "bank", "synthetic")
"""Names of what a generator is and what it makes."""


def expected(arm: Arm, probe: Probe) -> Literal["positive", "negative", ""]:
    """What a control arm promises of an attack: to be found, to leak nothing, or neither.

    The twins promise it of every artefact. FedBKD with a planted leak, and in the mode whose
    generator no local model ever teaches, promise it of the generators and what they make: clients
    train on their records whatever becomes of them. Any other control leaks on purpose.
    """
    pipeline, generator = arm.pipeline, getattr(arm.pipeline, "generator", None)
    if generator is not None:
        if getattr(probe.attack.observation, "artefact", "") not in GENERATED:
            return ""
        if getattr(pipeline, "planted", False):
            return "positive"
        return "negative" if getattr(generator, "mode", "") == "released" else ""
    return "negative" if getattr(pipeline, "trained_on", "members") == "public" else "positive"


def leaks_everything(arm: Arm) -> bool:
    """Whether a control arm leaks on purpose in every artefact."""
    return (
        not hasattr(arm.pipeline, "generator") and getattr(arm.pipeline, "trained_on", "members") != "public"
    )


def positive(setting: str, arm: str, evidence: Iterable[Evidence], least: float) -> list[Control]:
    """The positive twin: every attack must find the canaries it memorised or published.

    An attack that crashed found nothing: its control failed. One with nothing to read has none.
    """
    rule, found = f"lower bound of the AUC >= {least:g}", []
    for e in _attempted(evidence):
        estimate = _auc(e, "canaries" if e.canaries.any() else "natural", 1 - ALPHA)
        passed = estimate is not None and estimate.lower is not None and estimate.lower >= least
        found.append(_control("positive", setting, arm, e, estimate, rule, passed))
    return found


def positive_inquiries(setting: str, arm: str, examined: Iterable[Examined]) -> list[Control]:
    """The positive twin once more: what asks for the data themselves must do better than chance there."""
    found = []
    for x in examined:
        if x.inquiry.disclosed or (x.measure is None and not x.crashed):
            continue
        estimate = None if x.measure is None else x.measure(1 - ALPHA)
        least = estimate.lower if estimate is not None else None
        passed = least is not None and least > x.chance
        reason = f"crashed: {x.crashed}" if estimate is None else _value(estimate)
        found.append(
            Control(
                kind="positive",
                setting=setting,
                arm=arm,
                attack=x.inquiry.name,
                observer=x.inquiry.observer.label,
                estimate=estimate,
                expectation=f"lower bound above chance, {x.chance:.3f}",
                passed=passed,
                reason="" if passed else reason,
            )
        )
    return found


def negative(setting: str, arm: str, evidence: Sequence[Evidence], family: int) -> list[Control]:
    """Membership that never reached the pipeline: every attack must be at chance.

    An attack that crashed was not seen at chance: its control failed.

    Args:
        setting: where the evidence is from.
        arm: likewise.
        evidence: of decoy membership, or of a null twin.
        family: number of such controls in the audit; the level is Bonferroni's, so that sound
            instruments fail in at most 5 % of audits.
    """
    level = 1 - ALPHA / 2 / max(1, family)
    rule, found = f"interval of the AUC at {level:.4%} a side holds 0.5", []
    for e in _attempted(evidence):
        estimate = _auc(e, "all", level)
        passed = estimate is not None and _holds_chance(estimate)
        found.append(_control("negative", setting, arm, e, estimate, rule, passed))
    return found


def blind(setting: Setting, included: Bools, family: int) -> Control:
    """A classifier on the raw records alone must be at chance; one that cannot be fitted was not."""
    level = 1 - ALPHA / 2 / max(1, family)
    estimate, reason = None, ""
    try:
        estimate = blind_auc(
            setting.candidates, setting.canaries.numpy(), included, level, setting.privacy_units
        )
    except ValueError as error:  # too few members to cross-validate; the rest of the audit stands
        reason = f"crashed: {error}".splitlines()[0]
    passed = estimate is not None and _holds_chance(estimate)
    return Control(
        kind="blind",
        setting=setting.id,
        arm="",
        attack="classifier on raw records",
        observer="",
        estimate=estimate,
        expectation=f"interval of the AUC at {level:.4%} a side holds 0.5",
        passed=passed,
        reason=reason if estimate is None else "" if passed else _value(estimate),
    )


def _attempted(evidence: Iterable[Evidence]) -> list[Evidence]:
    return [e for e in evidence if e.scores is not None or e.crashed]


def _auc(e: Evidence, part: str, level: float) -> Estimate | None:
    return None if e.crashed else e.estimate("auc", None, part, level)


def _holds_chance(estimate: Estimate) -> bool:
    known = estimate.lower is not None and estimate.upper is not None
    return known and (estimate.lower or 0.0) <= 0.5 <= (estimate.upper or 1.0)


def _control(
    kind: str, setting: str, arm: str, e: Evidence, estimate: Estimate | None, expectation: str, passed: bool
) -> Control:
    reason = f"crashed: {e.crashed}" if estimate is None else _value(estimate)
    return Control(
        kind="positive" if kind == "positive" else "negative",
        setting=setting,
        arm=arm,
        attack=e.probe.name,
        observer=e.probe.observer.label,
        estimate=estimate,
        expectation=expectation,
        passed=passed,
        reason="" if passed else reason,
    )


def _value(estimate: Estimate) -> str:
    if estimate.value is None or estimate.lower is None or estimate.upper is None:
        return estimate.reason
    name = "AUC" if estimate.metric == "auc" else estimate.metric
    return f"{name} {estimate.value:.3f} [{estimate.lower:.3f}, {estimate.upper:.3f}]"
