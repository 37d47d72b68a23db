"""A plan with one arm for every value of a knob; it goes through the same checks as a written plan."""

from __future__ import annotations

import hashlib
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from audits.catalogue import names
from audits.document import Document, DocumentError, canonical_json
from audits.plan import ReadyPlan, ready
from audits.plan_schema import ArmPlan, DefensePlan, Plan
from audits.problems import did_you_mean, shown
from audits.sweep_knob import CALIBRATED, Knob, beside_epsilon, calibrated, label


@dataclass(frozen=True, slots=True)
class Variant:
    """One point of a sweep before it is played.

    Attributes:
        swept: id of the arm that got the defence.
        played: id of the arm in the derived plan.
        value: of the knob, as text.
    """

    swept: str
    played: str
    value: str


@dataclass(frozen=True, slots=True)
class Derived:
    """A sweep, checked.

    Attributes:
        ready: the derived plan.
        source: the plan it was derived from.
        knob: what is turned.
        options: of the defence beside the knob.
        swept: ids of the arms that get the defence.
        variants: every point with the defence; each arm of `swept` is a point without it.
    """

    ready: ReadyPlan
    source: Document[Plan]
    knob: Knob
    options: Mapping[str, Any]
    swept: tuple[str, ...]
    variants: tuple[Variant, ...]


def derive(source: Document[Plan], knob: Knob, chosen: Sequence[str]) -> Derived:
    """The plan of a sweep.

    Args:
        source: what was read; its lines are where other mistakes would be.
        knob: what to turn.
        chosen: ids of audited arms; empty for every one without defences.

    Raises:
        ValueError: one line that names what was typed, the arm and the rule.
    """
    plan = source.value
    swept = _swept(plan, knob, chosen)
    options = _options(plan, knob)
    pairs = [_variants(arm, knob, options) for arm in swept]
    beside = [arm for arm in plan.arms if arm.role != "audited"]
    arms = [arm for own, many in zip(swept, pairs, strict=True) for arm in (own, *(a for _, a in many))]
    value = plan.model_copy(update={"arms": (*arms, *beside)})
    digest = hashlib.sha256(canonical_json(value).encode()).hexdigest()
    variants = tuple(variant for many in pairs for variant, _ in many)
    checked = _ready(Document(value, {}, digest, source.source), knob, variants)
    return Derived(checked, source, knob, options, tuple(a.id for a in swept), variants)


def blamed(text: str, plan: Plan, knob: Knob, variants: Sequence[Variant]) -> str:
    """A complaint about the derived plan in terms of what was typed: nobody has written its arms."""
    found = re.search(r"arms\[(\d+)\]\.?(?:defenses)?(?:\[\d+\])?(?:\.options|\.name)?\.?(.*)", text)
    played = {v.played: v for v in variants}
    if found is None or plan.arms[int(found[1])].id not in played:
        return text
    variant = played[plan.arms[int(found[1])].id]
    return f"{knob.typed}{variant.value} on arm {variant.swept!r}: {found[2].lstrip(': ')}"


def _ready(document: Document[Plan], knob: Knob, variants: Sequence[Variant]) -> ReadyPlan:
    try:
        return ready(document)
    except DocumentError as error:
        raise ValueError(blamed(str(error), document.value, knob, variants)) from error


def _swept(plan: Plan, knob: Knob, chosen: Sequence[str]) -> list[ArmPlan]:
    audited = {arm.id: arm for arm in plan.arms if arm.role == "audited"}
    for i, name in enumerate(chosen):
        if name not in audited:
            rule = f"expected --arm to be an audited arm of the plan, one of {', '.join(audited) or 'none'}"
            raise ValueError(f"{rule}, got {shown(name)}{did_you_mean(name, audited)}")
        if name in chosen[:i]:
            raise ValueError(f"expected each --arm once, got {shown(name)} twice")
        if any(d.name == knob.defense for d in audited[name].defenses):
            raise ValueError(f"expected --arm without {knob.defense} of its own, got {shown(name)}")
    found = [audited[name] for name in chosen] or [a for a in audited.values() if not a.defenses]
    if not found:
        raise ValueError("expected an audited arm without defences in the plan or --arm, got neither")
    return found


def _options(plan: Plan, knob: Knob) -> dict[str, Any]:
    """Of the plan's first use of the defence, less what the knob stands for; what was typed wins."""
    uses = [d for arm in plan.arms for d in arm.defenses if d.name == knob.defense]
    given = dict(uses[0].options) if uses else {}
    cls = names("defenses")[knob.defense]
    if calibrated(cls):
        with_epsilon = CALIBRATED in {knob.name, *knob.options} or (
            CALIBRATED in given and knob.name in beside_epsilon(cls)
        )
        known = {*beside_epsilon(cls), CALIBRATED} if with_epsilon else set(cls.__dataclass_fields__)
        given = {name: v for name, v in given.items() if name in {*known, "delta"}}
    given.pop(knob.name, None)
    return given | dict(knob.options)


def _variants(arm: ArmPlan, knob: Knob, options: Mapping[str, Any]) -> list[tuple[Variant, ArmPlan]]:
    found = []
    for number in knob.values:
        text = label(number)
        # An id holds small letters, digits and hyphens only.
        place = re.sub("^-", "minus", text).replace("+", "")
        name = re.sub(r"[^a-z0-9]+", "-", f"{arm.id}-{knob.defense}-{knob.name}-{place}")
        added = DefensePlan(name=knob.defense, options={**options, knob.name: number})
        title = f"{arm.title}, {knob.defense} with {knob.name} = {text}"
        played = arm.model_copy(update={"id": name, "title": title, "defenses": (*arm.defenses, added)})
        found.append((Variant(arm.id, name, text), played))
    return found
