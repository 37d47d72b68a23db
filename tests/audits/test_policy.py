"""Policies: the packaged ones, each rule of validation with its message, and the linter."""

from __future__ import annotations

import re

import pytest

from audits.document import DocumentError
from audits.policy import CheckRule, Policy, lint, load_policy, packaged_policies, packaged_policy
from privfed.release import Observer

TEXT = """\
schema: privacy-policy/1
id: example
subject: {tier: internal, purpose: test, recipients: staff, privacy_unit: record}
controls: {positive: {metric: auc, min_lower: 0.6}}
checks:
  - id: AUC
    title: Average
    metric: auc
    observer: server
    limit: {op: "<=", value: 0.6}
    rationale: because
  - id: TPR
    title: Confident
    metric: {name: tpr_at_fpr, fpr: 0.01}
    observer: outsider with large
    limit: {op: "<=", value: 0.05}
    rationale: because
  - id: EPS
    title: Formal
    metric: {name: formal_epsilon, delta: 1.0e-5}
    arms: claiming
    limit: {op: "<=", value: 8}
    rationale: because
  - id: ACC
    title: Useful
    metric: accuracy
    limit: {op: ">=", value: 0.8}
    rationale: because
"""


def policy(old: str = "", new: str = "") -> Policy:
    assert old in TEXT
    return load_policy(TEXT.replace(old, new, 1), "policy.yaml").value


def rule(id: str, text: str = TEXT) -> CheckRule:
    return next(c for c in load_policy(text).value.checks if c.id == id)


def test_defaults() -> None:
    found = policy()
    assert (found.decision.alpha_pass, found.decision.alpha_fail, found.decision.power) == (0.05, 0.05, 0.8)
    assert found.decision.on_inconclusive == "block"
    assert (found.controls.negative, found.controls.blind) == ("required", "required")
    check = found.checks[0]
    assert (check.attack, check.arms, check.settings) == (("any",), ("audited",), ("all",))
    assert (check.slice, check.blocking) == ("natural", True)
    assert [c.metric.params for c in found.checks] == [{}, {"fpr": 0.01}, {"delta": 1e-5}, {}]


def test_the_line_of_a_limit_is_known() -> None:
    assert load_policy(TEXT).line_of("checks", 1, "limit", "value") == 16


def test_what_a_rule_covers() -> None:
    everything, formal = rule("AUC"), rule("EPS")
    named = rule(
        "AUC", TEXT.replace("observer: server", "observer: server\n    arms: [plain]\n    attack: lira")
    )
    assert everything.wants_arm("dp", audited=True, claims=False)
    assert not everything.wants_arm("dp", audited=False, claims=True)
    assert formal.wants_arm("dp", audited=True, claims=True)
    assert not formal.wants_arm("dp", audited=True, claims=False)
    assert named.wants_arm("plain", audited=False, claims=False)
    assert not named.wants_arm("dp", audited=True, claims=True)
    assert everything.wants_attack("rmia")
    assert named.wants_attack("lira")
    assert not named.wants_attack("rmia")
    assert everything.wants_setting("a")
    assert not rule("AUC", TEXT.replace("rationale:", "settings: b\n    rationale:", 1)).wants_setting("a")


OBSERVER = "expected 'server', 'malicious server', 'client', 'outsider' or 'outsider with ARTEFACT'"


@pytest.mark.parametrize(
    ("old", "new", "message"),
    [
        ("value: 0.6}", "value: 1.7}", ":10: checks[0].limit.value: expected a number in [0, 1], got 1.7"),
        ("value: 0.6}", "value: true}", ":10: checks[0].limit.value: expected a number, got True"),
        ("value: 0.6}", "value: '0.6'}", ":10: checks[0].limit.value: expected a number, got '0.6'"),
        ("value: 0.6}", "value: .inf}", ":10: checks[0].limit.value: expected a finite number, got inf"),
        ("value: 8}", "value: -1}", ":22: checks[2].limit.value: expected a number >= 0, got -1.0"),
        ('"<="', '">="', ":10: checks[0].limit.op: expected '<=' for auc, got '>='"),
        ('">="', '"<="', ":27: checks[3].limit.op: expected '>=' for accuracy, got '<='"),
        (", delta: 1.0e-5", "", ":20: checks[2].metric: expected 'delta' beside formal_epsilon, got none"),
        (", fpr: 0.01", "", ":14: checks[1].metric: expected 'fpr' beside tpr_at_fpr, got none"),
        ("fpr: 0.01", "fpr: 0", ":14: checks[1].metric.fpr: expected a number in (0, 1), got 0"),
        ("delta: 1.0e-5", "delta: 1", ":20: checks[2].metric.delta: expected a number in (0, 1), got 1"),
        ("metric: auc\n", "metric: {name: auc, fpr: 0.1}\n",
         ":8: checks[0].metric.fpr: expected no 'fpr' beside auc, got 0.1"),
        ("metric: auc\n", "metric: f1\n", ":8: checks[0].metric: expected one of 'auc', 'tpr_at_fpr', "),
        ("observer: server", "observer: sever", f":9: checks[0].observer: {OBSERVER}, got 'sever'"),
        ("    observer: server\n", "", f":6: checks[0].observer: {OBSERVER}, got none"),
        ("arms: claiming", "observer: server", ":21: checks[2].observer: expected none beside formal"),
        ("id: TPR", "id: AUC", ":12: checks[1].id: expected ids of their own, got 'AUC' twice"),
        ("id: TPR", "id: T PR", ":12: checks[1].id: expected text of the form "),
        ("    rationale: because\n", "", ":6: checks[0]: expected key 'rationale', got none"),
        ("rationale: because", "rationale: ''", ":11: checks[0].rationale: expected text of at least 1"),
        ("observer: server", "observr: server", ":9: checks[0]: unknown key 'observr' (did you mean"),
        ("observer: server", "slice: some", ":9: checks[0].slice: expected one of 'all', 'natural' or"),
        ("observer: server", "attack: []", ":9: checks[0].attack: expected at least 1 of them, got "),
        ("id: example", "id: example\ndecision: {alpha_pass: 0.5}",
         ":3: decision.alpha_pass: expected a number in (0, 0.5), got 0.5"),
        ("id: example", "id: example\ndecision: {alpha_fail: 0}",
         ":3: decision.alpha_fail: expected a number in (0, 0.5), got 0"),
        ("id: example", "id: example\ndecision: {power: 1}",
         ":3: decision.power: expected a number in (0, 1), got 1"),
        ("id: example", "id: example\ndecision: {on_inconclusive: yes}",
         ":3: decision.on_inconclusive: expected one of 'block' or 'warn', got 'yes'"),
        ("min_lower: 0.6", "min_lower: 0.4",
         ":4: controls.positive.min_lower: expected a number in (0.5, 1), got 0.4"),
        (", privacy_unit: record", "", ":3: subject: expected key 'privacy_unit', got none"),
        ("privacy-policy/1", "privacy-policy/2", ":1: schema: expected one of 'privacy-policy/1', got"),
    ],
)  # fmt: skip
def test_every_mistake_has_its_line(old: str, new: str, message: str) -> None:
    with pytest.raises(DocumentError, match=re.escape("policy.yaml" + message)):
        policy(old, new)


TIERS = {
    "public": (0.55, 0.03, 0.005, 2),
    "restricted-api": (0.60, 0.05, 0.01, 8),
    "internal": (0.65, 0.10, 0.02, 20),
}
OBSERVERS = {
    Observer("server").label, Observer("client", 0).label,
    Observer("outsider", holds=frozenset({"large"})).label,
    Observer("outsider", holds=frozenset({"synthetic"})).label,
}  # fmt: skip


def test_packaged_policies_are_found() -> None:
    assert packaged_policies() == tuple(sorted(TIERS))
    assert packaged_policy().value.id == "restricted-api"
    with pytest.raises(ValueError, match="internal, public, restricted-api, got name='x'"):
        packaged_policy("x")


@pytest.mark.parametrize("name", TIERS)
def test_packaged_policies_hold_the_limits_of_their_tier_for_every_observer(name: str) -> None:
    auc, one_percent, one_in_a_thousand, epsilon = TIERS[name]
    found = packaged_policy(name).value
    limits = {(c.metric.name, c.metric.fpr, c.observer): c.limit.value for c in found.checks}
    expected: dict[tuple[str, float | None, str], float] = {("formal_epsilon", None, ""): float(epsilon)}
    for observer in OBSERVERS:
        expected |= {
            ("auc", None, observer): auc,
            ("tpr_at_fpr", 0.01, observer): one_percent,
            ("tpr_at_fpr", 0.001, observer): one_in_a_thousand,
        }
    assert limits == expected
    assert all(c.rationale.startswith("Proposal, not a norm.") for c in found.checks)


def test_lint_tells_of_limits_that_the_plan_cannot_decide() -> None:
    assert lint(policy(), 100)[:2] == (
        "AUC: limit 0.6 needs about 104 units per side, planned 100",
        "TPR: limit 0.05 needs about 490 units per side, planned 100",
    )
    assert lint(policy("fpr: 0.01", "fpr: 0.001"), 500)[0] == (
        "TPR: FPR 0.001 is below 1/n: nothing is reported under 1000 non-members, planned 500"
    )
    assert lint(policy("value: 0.6}", "value: 0.5}"), 500)[0] == (
        "AUC: limit 0.5 is not above chance and can never be passed"
    )


@pytest.mark.parametrize(
    ("metric", "chance"),
    [("label_inference", 0.5), ("property_inference", 0.0), ("attribute_inference", 0.0)],
)
def test_lint_tells_of_limits_on_what_is_inferred_that_are_chance(metric: str, chance: float) -> None:
    def told(limit: float) -> tuple[str, ...]:
        changed = TEXT.replace("metric: auc\n", f"metric: {metric}\n", 1)
        return lint(load_policy(changed.replace("value: 0.6}", f"value: {limit}}}", 1)).value, 1000)

    never = f"AUC: limit {chance:g} is not above chance and can never be passed"
    assert never in told(chance)
    assert never not in told(chance + 0.1)
    assert not any(text.startswith("AUC:") for text in told(chance + 0.1))


@pytest.mark.parametrize("metric", ["property_inference", "attribute_inference"])
def test_what_is_inferred_is_limited_from_above(metric: str) -> None:
    wrong = TEXT.replace("metric: auc\n", f"metric: {metric}\n", 1).replace('"<="', '">="', 1)
    with pytest.raises(DocumentError, match=f"expected '<=' for {metric}, got '>='"):
        load_policy(wrong)
    nobody = TEXT.replace("metric: auc\n    observer: server", f"metric: {metric}", 1)
    with pytest.raises(DocumentError, match=r"expected 'server', .*, got none"):
        load_policy(nobody)


def test_lint_compares_the_limits_with_the_formal_epsilon() -> None:
    assert lint(policy(), 1000) == ("EPS: epsilon 8 guarantees none of the limits on attacks",)
    assert lint(policy("value: 8", "value: 1"), 1000) == (
        "TPR: limit 0.05 is looser than EPS guarantees (0.0272): it tests the implementation only",
    )
    assert lint(policy("value: 8", "value: 1.7"), 1000) == (
        "EPS: epsilon 1.7 guarantees none of the limits on attacks",
    )
