"""What is allowed, fixed before anything is measured: the policy a record is judged against.

The limits of the packaged policies are proposals, no norms; each check must say why its limit is
where it is.
"""

from __future__ import annotations

import re
from importlib.resources import files
from pathlib import Path
from typing import Annotated, Literal

from pydantic import AfterValidator, BaseModel, BeforeValidator, ConfigDict, Field, model_validator

from audits.document import Document, load_document
from audits.epsilon import max_auc
from audits.problems import Misplaced, shown
from audits.roc import resolvable_from
from audits.sample_size import required_n
from privfed.claims import max_tpr

MetricName = Literal[
    "auc",
    "tpr_at_fpr",
    "identification",
    "label_inference",
    "property_inference",
    "attribute_inference",
    "formal_epsilon",
    "accuracy",
]
SOUGHT = {
    "identification": "records",
    "label_inference": "labels",
    "property_inference": "property",
    "attribute_inference": "attribute",
}
"""What an attack has to ask for, by the metric it is judged by."""
AT_CHANCE = {"label_inference": 0.5, "property_inference": 0.0, "attribute_inference": 0.0}
"""What they are where nothing leaks; identification is as frequent as members among the candidates."""
Number = Annotated[float, Field(strict=True, allow_inf_nan=False)]
Text = Annotated[str, Field(min_length=1)]

DEFAULT_POLICY = "restricted-api"

_FOLDER = "policies"
_OBSERVERS = "'server', 'malicious server', 'client', 'outsider' or 'outsider with ARTEFACT'"
_PARAMETERS: dict[str, tuple[str, ...]] = {"tpr_at_fpr": ("fpr",), "formal_epsilon": ("delta",)}


def _listed(value: object) -> object:
    """One name stands for a list of one."""
    return (value,) if isinstance(value, str) else value


def _named(value: object) -> object:
    """A metric without parameters may be given by its name alone."""
    return {"name": value} if isinstance(value, str) else value


def _observer(label: str) -> str:
    if label in ("", "server", "malicious server", "client", "outsider"):
        return label
    if re.fullmatch("outsider with .+", label):
        return label
    raise ValueError(f"expected {_OBSERVERS}, got {label!r}")


Names = Annotated[tuple[Text, ...], Field(min_length=1), BeforeValidator(_listed)]


class Part(BaseModel):
    """A frozen part of the policy; unknown keys are refused."""

    model_config = ConfigDict(frozen=True, extra="forbid")


class Metric(Part):
    """What is measured: `fpr` belongs to tpr_at_fpr, `delta` to formal_epsilon."""

    name: MetricName
    fpr: Annotated[Number, Field(gt=0, lt=1)] | None = None
    delta: Annotated[Number, Field(gt=0, lt=1)] | None = None

    @model_validator(mode="after")
    def _has_its_parameters(self) -> Metric:
        for key in ("fpr", "delta"):
            given, due = getattr(self, key) is not None, key in _PARAMETERS.get(self.name, ())
            if due and not given:
                raise Misplaced((), f"expected {key!r} beside {self.name}, got none")
            if given and not due:
                raise Misplaced((key,), f"expected no {key!r} beside {self.name}, got {getattr(self, key)!r}")
        return self

    @property
    def params(self) -> dict[str, float]:
        """Parameters by name, as in `reports.record.Estimate`."""
        return {key: getattr(self, key) for key in _PARAMETERS.get(self.name, ())}


class LimitRule(Part):
    """The largest ("<=") or smallest (">=") value allowed."""

    op: Literal["<=", ">="]
    value: Number


class CheckRule(Part):
    """One rule. It expands to one judged row for each arm and setting; each row takes every attack.

    Attributes:
        attack: short names of attacks, or "any" for all that this observer ran; all must pass.
        observer: label of the point of observation (`privfed.release.Observer.label`); needed for
            all metrics of attacks, meaningless for "formal_epsilon" and "accuracy".
        arms: ids, or "audited" (every arm of that role), or "claiming" (those of them that make a
            differential-privacy claim).
        settings: ids, or "all".
        slice: candidates counted for "auc" and "tpr_at_fpr": all, those that are not canaries, or the
            canaries.
        blocking: whether the row counts for the overall verdict.
        rationale: why the limit is where it is.
    """

    id: Annotated[str, Field(pattern=r"^[A-Za-z0-9][A-Za-z0-9._-]*$")]
    title: Text
    metric: Annotated[Metric, BeforeValidator(_named)]
    limit: LimitRule
    rationale: Text
    attack: Names = ("any",)
    observer: Annotated[str, AfterValidator(_observer)] = ""
    arms: Names = ("audited",)
    settings: Names = ("all",)
    slice: Literal["all", "natural", "canaries"] = "natural"
    blocking: bool = True

    @model_validator(mode="after")
    def _fits_its_metric(self) -> CheckRule:
        _expect_limit(self.metric.name, self.limit)
        attacked = self.metric.name not in ("formal_epsilon", "accuracy")
        if attacked and not self.observer:
            raise Misplaced(("observer",), f"expected {_OBSERVERS}, got none")
        if not attacked and self.observer:
            raise Misplaced(("observer",), f"expected none beside {self.metric.name}, got {self.observer!r}")
        return self

    def wants_arm(self, arm: str, audited: bool, claims: bool) -> bool:
        """Whether the rule is judged on an arm, given its id, its role and whether it makes a claim."""
        selectors = (audited and "audited" in self.arms, audited and claims and "claiming" in self.arms)
        return arm in self.arms or any(selectors)

    def wants_setting(self, setting: str) -> bool:
        """Whether the rule is judged in a setting."""
        return "all" in self.settings or setting in self.settings

    def wants_attack(self, attack: str) -> bool:
        """Whether the rule counts an attack."""
        return "any" in self.attack or attack in self.attack


class Subject(Part):
    """What is to be released, to whom and for what; whose privacy counts."""

    tier: Text
    purpose: Text
    recipients: Text
    privacy_unit: Text


class Decision(Part):
    """Error probabilities of the verdict.

    Attributes:
        alpha_pass: largest probability of PASS when the true value is over the limit, per check.
        alpha_fail: largest probability of any FAIL when all true values are within their limits.
        power: planned probability of PASS when nothing leaks.
        on_inconclusive: whether a blocking check without a decision blocks.
    """

    alpha_pass: Annotated[Number, Field(gt=0, lt=0.5)] = 0.05
    alpha_fail: Annotated[Number, Field(gt=0, lt=0.5)] = 0.05
    power: Annotated[Number, Field(gt=0, lt=1)] = 0.8
    on_inconclusive: Literal["block", "warn"] = "block"


class PositiveControl(Part):
    """A planted leak must be found: the lower bound of the metric must reach `min_lower`."""

    metric: Literal["auc"] = "auc"
    min_lower: Annotated[Number, Field(gt=0.5, lt=1)]


class Controls(Part):
    """Controls without which the instrument counts as unproven."""

    positive: PositiveControl
    negative: Literal["required", "optional"] = "required"
    blind: Literal["required", "optional"] = "required"


class Policy(Part):
    """A policy, whole."""

    form: Literal["privacy-policy/1"] = Field(alias="schema")
    id: Text
    title: str = ""
    subject: Subject
    decision: Decision = Decision()
    checks: Annotated[tuple[CheckRule, ...], Field(min_length=1)]
    controls: Controls

    @model_validator(mode="after")
    def _ids_are_unique(self) -> Policy:
        seen: set[str] = set()
        for index, check in enumerate(self.checks):
            if check.id in seen:
                raise Misplaced(("checks", index, "id"), f"expected ids of their own, got {check.id!r} twice")
            seen.add(check.id)
        return self


def lint(policy: Policy, n_units: int) -> tuple[str, ...]:
    """What a reviewer should know before running this policy with `n_units` per side; no errors.

    Warns of limits this number cannot decide, FPRs below 1/n, limits that the policy's own formal
    epsilon already guarantees, and a formal epsilon that guarantees none of the limits on attacks.
    """
    warnings = [text for check in policy.checks for text in _too_few(check, policy.decision, n_units)]
    for formal in (c for c in policy.checks if c.metric.name == "formal_epsilon"):
        told = [c for c in policy.checks if c.observer and c.metric.name not in SOUGHT]
        warnings += _beside_formal(formal, told)
    return tuple(warnings)


def load_policy(source: Path | str, name: str = "policy") -> Document[Policy]:
    """A policy from a `Path` or from YAML text; raises `audits.document.DocumentError`."""
    return load_document(source, Policy, name)


def packaged_policies() -> tuple[str, ...]:
    """Names that `packaged_policy` takes."""
    folder = files("audits") / _FOLDER
    return tuple(sorted(f.name.removesuffix(".yaml") for f in folder.iterdir() if f.name.endswith(".yaml")))


def packaged_policy(name: str = DEFAULT_POLICY) -> Document[Policy]:
    """A policy that comes with the package.

    >>> packaged_policy().value.decision.alpha_fail
    0.05
    """
    if name not in packaged_policies():
        raise ValueError(f"expected a policy of {', '.join(packaged_policies())}, got name={name!r}")
    text = (files("audits") / _FOLDER / f"{name}.yaml").read_text(encoding="utf-8")
    return load_policy(text, f"{name}.yaml")


def _expect_limit(metric: MetricName, limit: LimitRule) -> None:
    wanted = ">=" if metric == "accuracy" else "<="
    if limit.op != wanted:
        raise Misplaced(("limit", "op"), f"expected {wanted!r} for {metric}, got {limit.op!r}")
    if metric == "formal_epsilon":
        if limit.value < 0:
            raise Misplaced(("limit", "value"), f"expected a number >= 0, got {shown(limit.value)}")
    elif not 0 <= limit.value <= 1:
        raise Misplaced(("limit", "value"), f"expected a number in [0, 1], got {shown(limit.value)}")


def _too_few(check: CheckRule, decision: Decision, n_units: int) -> list[str]:
    """Warnings when the planned number of units cannot decide a check."""
    if not check.observer:
        return []
    metric, limit = check.metric, check.limit.value
    never = [f"{check.id}: limit {limit:g} is not above chance and can never be passed"]
    if metric.name in SOUGHT:
        return never if limit <= AT_CHANCE.get(metric.name, -1.0) else []
    if metric.fpr is not None and n_units < resolvable_from(metric.fpr):
        return [f"{check.id}: FPR {metric.fpr:g} is below 1/n: nothing is reported under "
                f"{resolvable_from(metric.fpr)} non-members, planned {n_units}"]  # fmt: skip
    needed = required_n(metric.name, metric.params, limit, decision.power, decision.alpha_pass)
    if needed is None:
        return never
    if needed > n_units:
        return [f"{check.id}: limit {limit:g} needs about {needed} units per side, planned {n_units}"]
    return []


def _beside_formal(formal: CheckRule, attacks: list[CheckRule]) -> list[str]:
    """Warnings about the limits on attacks, seen from the limit on epsilon."""
    held = [c for c in attacks if _implied(c, formal) <= c.limit.value]
    told = [f"{c.id}: limit {c.limit.value:g} is looser than {formal.id} guarantees "
            f"({_implied(c, formal):.3g}): it tests the implementation only" for c in held]  # fmt: skip
    if attacks and not held:
        told.append(f"{formal.id}: epsilon {formal.limit.value:g} guarantees none of the limits on attacks")
    return told


def _implied(check: CheckRule, formal: CheckRule) -> float:
    """The most any attack can reach where `formal` holds."""
    epsilon, delta = formal.limit.value, formal.metric.delta or 0.0
    if check.metric.fpr is None:
        return max_auc(epsilon, delta)
    return max_tpr(epsilon, delta, check.metric.fpr)
