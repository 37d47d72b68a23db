"""PASS, FAIL or INCONCLUSIVE by two one-sided bounds, and the verdict over all checks.

PASS needs the bound on the far side of the limit, FAIL the bound on the near side; a point estimate
decides nothing. A check passes only if every attack passes, which needs no correction. FAIL is a
union over attacks and checks, so its bounds are widened by Holm's (1979) step-down procedure over
the blocking checks: the probability of any false FAIL stays below `alpha_fail`.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import cache
from typing import Literal, get_args

from audits.roc import resolvable_from
from audits.sample_size import n_to_decide
from privfed.claims import Claim
from reports.record import Check, Estimate, Limit, Summary, VerdictKind

ProblemCode = Literal["crashed", "assumption_unverified", "instrument_invalid", "nothing_evaluated"]
Measure = Callable[[float], Estimate]

EXIT_PASS, EXIT_FAIL, EXIT_INCONCLUSIVE, EXIT_ERROR, EXIT_NOTHING = 0, 1, 3, 4, 5

_UNMEASURED = {"nothing_evaluated", "instrument_invalid", "unresolvable_fpr", "assumption_unverified"}
"""Reasons of an INCONCLUSIVE that no interval stands behind: the limit was never put to the test."""

_HOW_TO_DECIDE = ": run n >= {} units per side to decide (approximate; federations in proportion)"
_METRICS = {
    "auc": "AUC",
    "tpr_at_fpr": "TPR",
    "identification_at_1": "identification@1",
    "label_presence_auc": "AUC of labels held",
    "r_squared": "R² of the shares of a property",
    "attribute_advantage": "advantage on a hidden detail",
    "accuracy": "accuracy",
    "formal_epsilon": "epsilon",
}


@dataclass(frozen=True, slots=True)
class Obstacle:
    """Why a check cannot be judged, whatever the numbers say."""

    code: ProblemCode
    message: str


@dataclass(frozen=True, slots=True)
class Question:
    """One row of a check, ready to be judged.

    Attributes:
        limit: what the policy allows.
        attacks: by short name, a function from a confidence level to the estimate with bounds at
            that level. A metric without an attacker has one entry under the name "".
        blocking: whether the row belongs to the family that alpha_fail protects.
        obstacle: set when the row must not be judged.
    """

    limit: Limit
    attacks: Mapping[str, Measure]
    blocking: bool = True
    obstacle: Obstacle | None = None


@dataclass(frozen=True, slots=True)
class Ruling:
    """The outcome of one row, as `reports.record.Check` holds it.

    Attributes:
        attack: the attack that decided: the worst one.
        estimate: its estimate; `level_lower` and `level_upper` are the levels that were used.
        n_required: units per side that would decide an INCONCLUSIVE, if known.
    """

    verdict: VerdictKind
    reason_code: str
    message: str
    attack: str = ""
    estimate: Estimate | None = None
    n_required: int | None = None


@dataclass(frozen=True, slots=True)
class _Hypothesis:
    """That the true value is within the limit, for one attack of one row."""

    limit: Limit
    attack: str
    measure: Measure

    def excess(self, level: float) -> float:
        """How far the bound that FAIL needs lies beyond the limit; positive = refuted at `level`."""
        return _beyond(_near(self.measure(level), self.limit), self.limit)


@dataclass(frozen=True, slots=True)
class _Refuted:
    """Hypotheses refuted, each with its level, and the level of the last step."""

    levels: Mapping[_Hypothesis, float]
    last: float


def judge(
    questions: Sequence[Question], alpha_pass: float = 0.05, alpha_fail: float = 0.05
) -> tuple[Ruling, ...]:
    """Judge all rows of a policy together.

    Per row, in this order: an obstacle decides (crashed: ERROR, else INCONCLUSIVE); FAIL if the near
    bound of any attack is beyond the limit, at its Holm level; INCONCLUSIVE if an attack could not
    be resolved; PASS if the far bounds of all attacks are within the limit, each at 1 - alpha_pass;
    else INCONCLUSIVE, with the number of units that would decide. For "<=" the near bound is the
    lower one, for ">=" the upper one. Rows that do not block are tested one by one at alpha_fail.

    Args:
        questions: rows; every blocking one of the run, since Holm's procedure counts them.
        alpha_pass: largest probability of PASS for a true value beyond the limit, per row.
        alpha_fail: largest probability of any FAIL of a blocking row when all are within.

    Returns:
        One ruling per row, in order. FAIL means that the limit was refuted; PASS that an excess was
        refuted for the attacks that ran, and nothing about others.
    """
    for name, alpha in (("alpha_pass", alpha_pass), ("alpha_fail", alpha_fail)):
        if not 0 < alpha < 0.5:
            raise ValueError(f"expected {name} in (0, 0.5), got {name}={alpha}")
    rows = [_hypotheses(q, alpha_pass) for q in questions]
    family = [h for q, row in zip(questions, rows, strict=True) if q.blocking for h in row]
    shared = _step_down(family, alpha_fail)
    return tuple(
        _rule(q, row, shared if q.blocking else _step_down(row, alpha_fail), alpha_pass)
        for q, row in zip(questions, rows, strict=True)
    )


def judge_claims(claims: Sequence[Claim], delta: float, limit: Limit, unit: str) -> Ruling:
    """Judge the best of an arm's formal claims: what answers the policy first, then the smallest epsilon."""
    wanted = unit.strip().lower()
    ranked = sorted(claims, key=lambda c: (not covers(c, wanted), "server" not in c.against, c.epsilon))
    return judge_claim(ranked[0] if ranked else None, delta, limit, unit)


def covers(claim: Claim, unit: str) -> bool:
    """Whether the claim protects that unit: a client that may be replaced covers each of its records."""
    return claim.unit == unit or (
        unit == "record" and claim.unit == "client" and claim.neighbouring == "replace_one"
    )


def judge_claim(claim: Claim | None, delta: float, limit: Limit, unit: str) -> Ruling:
    """Judge a formal claim against a limit on epsilon at `delta`; no sampling error is involved.

    A claim over the limit FAILS even when an assumption is unverified: the arm promises less than
    the policy asks, and a broken assumption could only make that worse. Within the limit it PASSES
    if the run verified every assumption. An arm without a claim, or with one at a larger delta, about
    another unit, or that does not hold against the server, is INCONCLUSIVE with "nothing_evaluated": the
    policy asked for a number that nobody stated, and the absence of a promise neither keeps nor breaks it.
    What the claim leaves out is named in every message that quotes its epsilon.

    Args:
        claim: what the arm states.
        delta: what the policy asks epsilon at.
        limit: on epsilon.
        unit: whose privacy the policy is about, as its `privacy_unit` names it.
    """
    if claim is None:
        return Ruling("INCONCLUSIVE", "nothing_evaluated", "no differential-privacy claim was made")
    estimate = _claimed(claim)
    if not covers(claim, wanted := unit.strip().lower()):
        text = f"the claim protects one {claim.unit}, the policy asks for one {wanted}"
        return Ruling("INCONCLUSIVE", "nothing_evaluated", text, estimate=estimate)
    if "server" not in claim.against:
        text = f"the claim holds against {' and '.join(claim.against)}, not against the server"
        return Ruling("INCONCLUSIVE", "nothing_evaluated", text, estimate=estimate)
    if claim.delta > delta:
        text = f"the claim holds at delta {claim.delta:g}, the policy asks for delta {delta:g}"
        return Ruling("INCONCLUSIVE", "nothing_evaluated", text, estimate=estimate)
    uncovered = f"; not covered by the claim: {', '.join(claim.outside)}" if claim.outside else ""
    if claim.epsilon > limit.value:
        text = _text(estimate, limit, "is over") + uncovered
        return Ruling("FAIL", "over_limit", text, estimate=estimate)
    if unverified := [a.name for a in claim.assumptions if not a.verified]:
        text = f"not verified: {', '.join(unverified)}"
        return Ruling("INCONCLUSIVE", "assumption_unverified", text, estimate=estimate)
    text = _text(estimate, limit, "is within") + uncovered
    return Ruling("PASS", "within_limit", text, estimate=estimate)


def overall(checks: Iterable[Check], block_inconclusive: bool = True) -> Summary:
    """The verdict over the blocking checks: FAIL before ERROR before INCONCLUSIVE before PASS.

    Exit codes: 0 pass, 1 policy violated, 3 inconclusive, 4 error, 5 nothing evaluated. Checks that
    do not block never change it. A run in which no blocking check was put to the test (nothing was
    evaluated, the instrument is unproven, the FPR cannot be resolved, an assumption is open) gives 5,
    whatever the policy says of inconclusive checks.

    Args:
        checks: judged rows.
        block_inconclusive: whether an INCONCLUSIVE blocking check gives 3; else it gives 0 if any
            blocking check was put to the test, while the verdict stays INCONCLUSIVE.
    """
    blocking = [c for c in checks if c.blocking]
    counts = {kind: sum(c.verdict == kind for c in blocking) for kind in get_args(VerdictKind)}
    if all(c.reason_code in _UNMEASURED for c in blocking):
        nothing = "No blocking check of the policy could be put to the test: this run shows nothing."
        return Summary(verdict="INCONCLUSIVE", exit_code=EXIT_NOTHING, counts=counts, sentence=nothing)
    undecided = EXIT_INCONCLUSIVE if block_inconclusive else EXIT_PASS
    codes: tuple[tuple[VerdictKind, int], ...] = (
        ("FAIL", EXIT_FAIL), ("ERROR", EXIT_ERROR), ("INCONCLUSIVE", undecided), ("PASS", EXIT_PASS)
    )  # fmt: skip
    verdict, code = next((v, c) for v, c in codes if counts[v])
    return Summary(verdict=verdict, exit_code=code, counts=counts, sentence=_sentence(verdict, counts))


def _hypotheses(question: Question, alpha_pass: float) -> list[_Hypothesis]:
    """The attacks of a row that have an interval; none when the row must not be judged."""
    if question.obstacle is not None:
        return []
    kept = [_Hypothesis(question.limit, name, cache(m)) for name, m in question.attacks.items()]
    return [h for h in kept if _resolved(h.measure(1 - alpha_pass))]


def _step_down(family: Sequence[_Hypothesis], alpha: float) -> _Refuted:
    """Holm's procedure: what is refuted leaves the family, which lowers the level for the rest."""
    found: dict[_Hypothesis, float] = {}
    while True:
        level = 1 - alpha / max(1, len(family) - len(found))
        new = [h for h in family if h not in found and h.excess(level) > 0]
        if not new:
            return _Refuted(found, level)
        found |= dict.fromkeys(new, level)


def _rule(question: Question, row: list[_Hypothesis], refuted: _Refuted, alpha_pass: float) -> Ruling:
    """The ruling of one row, in the order that `judge` states."""
    if question.obstacle is not None:
        verdict: VerdictKind = "ERROR" if question.obstacle.code == "crashed" else "INCONCLUSIVE"
        return Ruling(verdict, question.obstacle.code, question.obstacle.message)
    if not question.attacks:
        return Ruling("INCONCLUSIVE", "nothing_evaluated", "no attack was evaluated")
    if failed := [h for h in row if h in refuted.levels]:
        worst = max(failed, key=lambda h: h.excess(refuted.levels[h]))
        return _decided("FAIL", worst, refuted.levels[worst], alpha_pass)
    if len(row) < len(question.attacks):
        return _unresolved(question, {h.attack for h in row}, alpha_pass)
    worst = max(row, key=lambda h: _beyond(_far(h.measure(1 - alpha_pass), h.limit), h.limit))
    within = _beyond(_far(worst.measure(1 - alpha_pass), worst.limit), worst.limit) <= 0
    return _decided("PASS" if within else "INCONCLUSIVE", worst, refuted.last, alpha_pass)


def _decided(verdict: VerdictKind, hypothesis: _Hypothesis, level: float, alpha_pass: float) -> Ruling:
    """The ruling with the estimate whose bounds are those that were compared with the limit."""
    limit = hypothesis.limit
    estimate = _both(hypothesis.measure(level), hypothesis.measure(1 - alpha_pass), limit)
    code, words = {
        "FAIL": ("over_limit", "is over" if limit.op == "<=" else "is under"),
        "PASS": ("within_limit", "is within"),
    }.get(verdict, ("ci_straddles", "cannot be told from"))
    message, needed = _text(estimate, limit, words), None
    if verdict == "INCONCLUSIVE":
        needed = n_to_decide(estimate, limit.value)
        message += _HOW_TO_DECIDE.format(needed) if needed else ""
    return Ruling(verdict, code, message, hypothesis.attack, estimate, needed)


def _unresolved(question: Question, resolved: set[str], alpha_pass: float) -> Ruling:
    """The ruling for a row with an attack that gave no interval."""
    attack = next(name for name in question.attacks if name not in resolved)
    estimate = question.attacks[attack](1 - alpha_pass)
    low = estimate.metric == "tpr_at_fpr" and estimate.n_in > 0
    needed = resolvable_from(estimate.params["fpr"]) if low else None
    code = "unresolvable_fpr" if low else "nothing_evaluated"
    return Ruling("INCONCLUSIVE", code, estimate.reason or "no interval", attack, estimate, needed)


def _resolved(estimate: Estimate) -> bool:
    return None not in (estimate.value, estimate.lower, estimate.upper)


def _near(estimate: Estimate, limit: Limit) -> float:
    """The bound that must be beyond the limit for FAIL."""
    bound = estimate.lower if limit.op == "<=" else estimate.upper
    return math.nan if bound is None else bound


def _far(estimate: Estimate, limit: Limit) -> float:
    """The bound that must be within the limit for PASS."""
    bound = estimate.upper if limit.op == "<=" else estimate.lower
    return math.nan if bound is None else bound


def _beyond(bound: float, limit: Limit) -> float:
    """Signed distance past the limit, positive on the forbidden side."""
    return bound - limit.value if limit.op == "<=" else limit.value - bound


def _both(for_fail: Estimate, for_pass: Estimate, limit: Limit) -> Estimate:
    """One estimate with each bound at the level of the decision it serves."""
    if limit.op == "<=":
        return for_pass.model_copy(update={"lower": for_fail.lower, "level_lower": for_fail.level_lower})
    return for_pass.model_copy(update={"upper": for_fail.upper, "level_upper": for_fail.level_upper})


def _claimed(claim: Claim) -> Estimate:
    return Estimate(
        metric="formal_epsilon", params={"delta": claim.delta}, value=claim.epsilon, lower=claim.epsilon,
        upper=claim.epsilon, level_lower=1.0, level_upper=1.0, method=claim.accountant, n_in=0, n_out=0,
        n_federations=0, scope="training algorithm",
    )  # fmt: skip


def _text(estimate: Estimate, limit: Limit, words: str) -> str:
    name = _METRICS.get(estimate.metric, estimate.metric)
    at = "".join(f" at {key.upper()} {value:g}" for key, value in estimate.params.items() if key == "fpr")
    band = "" if estimate.level_lower == 1 else f" [{estimate.lower:.3f}, {estimate.upper:.3f}]"
    return f"{name}{at} {estimate.value:.3f}{band} {words} the limit {limit.op} {limit.value:g}"


def _sentence(verdict: VerdictKind, counts: Mapping[str, int]) -> str:
    """One sentence on what the run showed; it never speaks of law, safety or anonymity."""
    total = sum(counts.values())
    match verdict:
        case "FAIL":
            return f"{counts['FAIL']} of {total} blocking checks are beyond their limit."
        case "ERROR":
            return f"{counts['ERROR']} of {total} blocking checks could not be run."
        case "INCONCLUSIVE":
            undecided = counts["INCONCLUSIVE"]
            return f"{undecided} of {total} blocking checks could not be decided; none failed."
        case "PASS":
            return f"All {total} blocking checks are within their limits, for the attacks that ran."
