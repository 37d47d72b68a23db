"""Verdicts: their order, Holm's procedure, error rates, and the verdict over all checks."""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from numpy.typing import NDArray
from scipy.stats import binom, norm

from audits.intervals import clopper_pearson
from audits.roc import tpr_at_fpr
from audits.statistics import federated_auc
from audits.verdict import Measure, Obstacle, Question, Ruling, judge, judge_claim, judge_claims, overall
from privfed.claims import Assumption, Claim
from reports.record import Check, Estimate, Limit, VerdictKind
from tests.audits.designs import Design, most_misses

AT_MOST = Limit(op="<=", value=0.6)
AT_LEAST = Limit(op=">=", value=0.6)


def measure(value: float, error: float = 0.02) -> Measure:
    """A normal estimate with a known standard error."""

    def at(level: float) -> Estimate:
        half = float(norm.ppf(level)) * error
        return Estimate(
            metric="auc", value=value, lower=value - half, upper=value + half, level_lower=level,
            level_upper=level, method="normal", n_in=200, n_out=200, n_federations=1, scope="artefact",
        )  # fmt: skip

    return at


def exact(successes: int, trials: int) -> Measure:
    def at(level: float) -> Estimate:
        lower, upper = clopper_pearson(successes, trials, level)
        return Estimate(
            metric="tpr", value=successes / trials, lower=lower, upper=upper, level_lower=level,
            level_upper=level, method="exact", n_in=trials, n_out=0, n_federations=1, scope="artefact",
        )  # fmt: skip

    return at


def one(limit: Limit = AT_MOST, **attacks: Measure) -> Ruling:
    return judge([Question(limit, attacks)])[0]


@pytest.mark.parametrize(
    ("value", "limit", "verdict", "code"),
    [
        (0.50, AT_MOST, "PASS", "within_limit"),
        (0.70, AT_MOST, "FAIL", "over_limit"),
        (0.58, AT_MOST, "INCONCLUSIVE", "ci_straddles"),
        (0.62, AT_MOST, "INCONCLUSIVE", "ci_straddles"),
        (0.70, AT_LEAST, "PASS", "within_limit"),
        (0.50, AT_LEAST, "FAIL", "over_limit"),
        (0.62, AT_LEAST, "INCONCLUSIVE", "ci_straddles"),
    ],
)
def test_two_bounds_give_three_verdicts(value: float, limit: Limit, verdict: str, code: str) -> None:
    ruling = one(limit, lira=measure(value))
    assert (ruling.verdict, ruling.reason_code, ruling.attack) == (verdict, code, "lira")


def test_an_undecided_check_says_what_would_decide_it() -> None:
    """Half width 0.033 at a distance of 0.02 from the limit: (0.033 / 0.02)^2 times the units."""
    ruling = one(lira=measure(0.58))
    assert ruling.n_required == pytest.approx(200 * (1.645 * 0.02 / 0.02) ** 2, rel=0.01)
    assert f"run n >= {ruling.n_required} units per side to decide" in ruling.message


def test_the_message_names_value_bounds_and_limit() -> None:
    assert one(lira=measure(0.7)).message == "AUC 0.700 [0.667, 0.733] is over the limit <= 0.6"


def test_the_worst_attack_decides_and_all_must_pass() -> None:
    ruling = one(loss=measure(0.5), lira=measure(0.55))
    assert (ruling.verdict, ruling.attack) == ("PASS", "lira")
    ruling = one(loss=measure(0.5), lira=measure(0.59))
    assert (ruling.verdict, ruling.attack) == ("INCONCLUSIVE", "lira")
    ruling = one(rmia=measure(0.8), loss=measure(0.5), lira=measure(0.9))
    assert (ruling.verdict, ruling.attack) == ("FAIL", "lira")


def test_each_bound_is_shown_at_the_level_of_the_decision_it_serves() -> None:
    rulings = judge([Question(AT_MOST, {"lira": measure(0.5)})] * 4, alpha_pass=0.1, alpha_fail=0.04)
    estimate = rulings[0].estimate
    assert estimate is not None
    assert (estimate.level_lower, estimate.level_upper) == (0.99, 0.9)


def test_holm_steps_down_where_bonferroni_stops() -> None:
    """z = 2.4 has p = 0.008 and z = 1.8 has p = 0.036: refuted once the first is gone."""
    rows = [Question(AT_MOST, {"a": measure(0.6 + z * 0.02)}) for z in (2.4, 1.8)]
    assert [r.verdict for r in judge(rows)] == ["FAIL", "FAIL"]
    assert judge([rows[1], Question(AT_MOST, {"a": measure(0.5)})])[0].verdict == "INCONCLUSIVE"
    assert judge([rows[1]])[0].verdict == "FAIL"


@given(st.lists(st.floats(-4, 6), min_size=1, max_size=8))
def test_refuted_rows_are_those_of_the_textbook_procedure(z: list[float]) -> None:
    rulings = judge([Question(AT_MOST, {"a": measure(0.6 + x * 0.02)}) for x in z])
    p = np.asarray(norm.sf(z))
    order, expected = np.argsort(p, kind="stable"), set()
    for step, index in enumerate(order):
        if p[index] >= 0.05 / (len(z) - step):
            break
        expected.add(int(index))
    assert {i for i, r in enumerate(rulings) if r.verdict == "FAIL"} == expected


def test_rows_that_do_not_block_stay_out_of_the_family() -> None:
    rows = [Question(AT_MOST, {"a": measure(0.636)}), *[Question(AT_MOST, {"a": measure(0.636)}, False)] * 9]
    assert {r.verdict for r in judge(rows)} == {"FAIL"}


def test_obstacles_come_before_any_number() -> None:
    for code, verdict in (
        ("crashed", "ERROR"), ("assumption_unverified", "INCONCLUSIVE"),
        ("instrument_invalid", "INCONCLUSIVE"), ("nothing_evaluated", "INCONCLUSIVE"),
    ):  # fmt: skip
        row = Question(AT_MOST, {"lira": measure(0.1)}, True, Obstacle(code, "why"))  # type: ignore[arg-type]
        ruling = judge([row])[0]
        assert (ruling.verdict, ruling.reason_code, ruling.message) == (verdict, code, "why")


def test_no_attack_is_nothing_evaluated() -> None:
    ruling = one()
    assert (ruling.verdict, ruling.reason_code) == ("INCONCLUSIVE", "nothing_evaluated")


def test_an_fpr_below_the_resolution_is_never_passed() -> None:
    zeros = np.zeros(100)
    ruling = one(Limit(op="<=", value=0.9), lira=lambda level: tpr_at_fpr(zeros, zeros, 0.001, level))
    assert (ruling.verdict, ruling.reason_code, ruling.n_required) == (
        "INCONCLUSIVE", "unresolvable_fpr", 1000
    )  # fmt: skip
    assert ruling.message == "needs at least 1000 non-members, got 100"


def test_one_unresolved_attack_keeps_a_row_from_passing_but_not_from_failing() -> None:
    silent: Measure = lambda level: federated_auc(np.zeros((2, 3)), np.ones((2, 3), bool), level)  # noqa: E731
    assert one(a=measure(0.5), b=silent).reason_code == "nothing_evaluated"
    assert one(a=measure(0.9), b=silent).verdict == "FAIL"


def verdict_at(successes: int, trials: int) -> str:
    return one(Limit(op="<=", value=0.01), a=exact(successes, trials)).verdict


def rates(trials: int, true: float) -> dict[str, float]:
    """Exact probability of each verdict for a binomial count with that rate."""
    most = int(binom.ppf(1 - 1e-9, trials, true)) + 1
    kinds = [verdict_at(x, trials) for x in range(most + 1)]
    weights = binom.pmf(np.arange(most + 1), trials, true)
    return {k: float(weights[[i for i, v in enumerate(kinds) if v == k]].sum()) for k in set(kinds)}


def test_behaviour_well_within_the_limit() -> None:
    assert rates(500, 0.001)["PASS"] == pytest.approx(0.91, abs=0.005)
    assert rates(2000, 0.001)["PASS"] > 0.999


@pytest.mark.parametrize("trials", [500, 1000, 2000])
def test_behaviour_on_the_limit(trials: int) -> None:
    found = rates(trials, 0.01)
    assert 0.025 <= found["PASS"] <= 0.05
    assert 0.025 <= found["FAIL"] <= 0.05
    assert found["INCONCLUSIVE"] == pytest.approx(0.92, abs=0.02)
    assert 2 * found["PASS"] * found["FAIL"] < 0.004


def test_behaviour_over_the_limit() -> None:
    assert rates(2000, 0.02)["FAIL"] == pytest.approx(0.97, abs=0.01)


def false_fails(runs: int, rows: int, federations: int, n: int) -> tuple[int, int]:
    """Runs with a FAIL, and with a PASS of the first row, when every true AUC lies exactly on its limit.

    All rows of a run share one set of federations and members, as the attacks of one audit do.
    """
    rng = np.random.default_rng(rows)
    design, failed, passed = Design(0.0, difficulty=1.0), 0, 0
    for _ in range(runs):
        scores, included = design.draw(rng, federations, n)
        noisy = [scores + 0.7 * rng.normal(size=scores.shape) for _ in range(rows)]
        verdicts = [r.verdict for r in judge([Question(Limit(op="<=", value=0.5), {"a": m})
                    for m in map(_auc_of(included), noisy)])]  # fmt: skip
        failed, passed = failed + ("FAIL" in verdicts), passed + (verdicts[0] == "PASS")
    return failed, passed


def _auc_of(included: NDArray[np.bool_]) -> Callable[[NDArray[np.float64]], Measure]:
    return lambda scores: lambda level: federated_auc(scores, included, level)


def test_an_audit_on_the_limit_fails_falsely_in_at_most_five_of_a_hundred_runs() -> None:
    failed, passed = false_fails(200, rows=6, federations=6, n=60)
    assert failed <= most_misses(200)
    assert passed <= most_misses(200)


@pytest.mark.slow
@pytest.mark.parametrize("rows", [1, 12])
def test_an_audit_on_the_limit_fails_falsely_in_at_most_five_of_a_hundred_runs_at_length(rows: int) -> None:
    failed, passed = false_fails(1000, rows, federations=16, n=200)
    assert failed <= most_misses(1000)
    assert passed <= most_misses(1000)


def claim(epsilon: float = 4.0, delta: float = 1e-5, verified: bool = True) -> Claim:
    assumptions = (Assumption("Poisson sampling", verified, "loader"),)
    return Claim(epsilon, delta, "record", "add_or_remove_one", "rdp", "poisson", "Gaussian", (), assumptions)


@pytest.mark.parametrize(
    ("made", "verdict", "code"),
    [
        (claim(), "PASS", "within_limit"),
        (claim(8.0), "PASS", "within_limit"),
        (claim(9.0), "FAIL", "over_limit"),
        (claim(9.0, verified=False), "FAIL", "over_limit"),
        (claim(verified=False), "INCONCLUSIVE", "assumption_unverified"),
        (claim(delta=1e-6), "PASS", "within_limit"),
        (claim(delta=1e-3), "INCONCLUSIVE", "nothing_evaluated"),
        (None, "INCONCLUSIVE", "nothing_evaluated"),
    ],
)
def test_a_formal_claim_is_judged_without_an_interval(made: Claim | None, verdict: str, code: str) -> None:
    ruling = judge_claim(made, 1e-5, Limit(op="<=", value=8.0), "record")
    assert (ruling.verdict, ruling.reason_code) == (verdict, code)


@pytest.mark.parametrize("epsilon", [4.0, 9.0])
def test_a_claim_about_another_unit_answers_nothing(epsilon: float) -> None:
    """Neither within nor over: a promise to clients is no promise to records, nor the other way round."""
    limit = Limit(op="<=", value=8.0)
    ruling = judge_claim(replace(claim(epsilon), unit="client"), 1e-5, limit, "record")
    assert (ruling.verdict, ruling.reason_code) == ("INCONCLUSIVE", "nothing_evaluated")
    assert ruling.message == "the claim protects one client, the policy asks for one record"
    assert judge_claim(claim(epsilon), 1e-5, limit, "patient").reason_code == "nothing_evaluated"
    assert judge_claim(claim(), 1e-5, limit, "Record ").verdict == "PASS"


def test_a_client_that_may_be_replaced_covers_its_records() -> None:
    made = replace(claim(), unit="client", neighbouring="replace_one")
    assert judge_claim(made, 1e-5, Limit(op="<=", value=8.0), "record").verdict == "PASS"


def test_a_claim_that_leaves_the_server_out_answers_nothing() -> None:
    made = replace(claim(), against=("clients", "outsiders"))
    ruling = judge_claim(made, 1e-5, Limit(op="<=", value=8.0), "record")
    assert (ruling.verdict, ruling.reason_code) == ("INCONCLUSIVE", "nothing_evaluated")
    assert ruling.message == "the claim holds against clients and outsiders, not against the server"


def test_of_several_claims_the_one_that_answers_the_policy_is_judged() -> None:
    limit = Limit(op="<=", value=8.0)
    central = replace(claim(1.0), against=("clients", "outsiders"))
    client = replace(claim(2.0), unit="client")
    ruling = judge_claims((client, central, claim(5.0), claim(4.0)), 1e-5, limit, "record")
    assert (ruling.verdict, ruling.estimate and ruling.estimate.value) == ("PASS", 4.0)
    assert judge_claims((), 1e-5, limit, "record").reason_code == "nothing_evaluated"


@pytest.mark.parametrize(("epsilon", "words"), [(4.0, "is within"), (9.0, "is over")])
def test_what_a_claim_leaves_out_is_named_beside_its_epsilon(epsilon: float, words: str) -> None:
    made = replace(claim(epsilon), outside=("label sets", "counts"))
    ruling = judge_claim(made, 1e-5, Limit(op="<=", value=8.0), "record")
    assert f"{words} the limit <= 8; not covered by the claim: label sets, counts" in ruling.message


def check(verdict: VerdictKind, blocking: bool = True, code: str = "") -> Check:
    return Check(
        id="A", title="", rationale="", blocking=blocking, setting="", arm="", attack="", observer="",
        estimate=None, limit=AT_MOST, verdict=verdict, reason_code=code, message="",
    )  # fmt: skip


NOTHING = check("INCONCLUSIVE", code="nothing_evaluated")


@pytest.mark.parametrize(
    ("checks", "verdict", "code"),
    [
        ([check("PASS")], "PASS", 0),
        ([check("PASS"), check("INCONCLUSIVE")], "INCONCLUSIVE", 3),
        ([check("INCONCLUSIVE"), check("ERROR"), check("PASS")], "ERROR", 4),
        ([check("ERROR"), check("FAIL"), check("INCONCLUSIVE")], "FAIL", 1),
        ([check("PASS"), check("FAIL", blocking=False), check("ERROR", blocking=False)], "PASS", 0),
        ([], "INCONCLUSIVE", 5),
        ([check("PASS", blocking=False)], "INCONCLUSIVE", 5),
        ([NOTHING, NOTHING], "INCONCLUSIVE", 5),
        ([NOTHING, check("PASS")], "INCONCLUSIVE", 3),
        ([NOTHING, check("ERROR")], "ERROR", 4),
    ],
)
def test_overall(checks: list[Check], verdict: str, code: int) -> None:
    summary = overall(checks)
    assert (summary.verdict, summary.exit_code) == (verdict, code)


def test_inconclusive_may_warn_without_becoming_pass() -> None:
    summary = overall([check("PASS"), check("INCONCLUSIVE")], block_inconclusive=False)
    assert (summary.verdict, summary.exit_code) == ("INCONCLUSIVE", 0)
    assert overall([NOTHING], block_inconclusive=False).exit_code == 5


UNMEASURED = ["nothing_evaluated", "instrument_invalid", "unresolvable_fpr", "assumption_unverified"]


@pytest.mark.parametrize("block", [True, False])
@pytest.mark.parametrize("code", UNMEASURED)
def test_a_run_that_put_nothing_to_the_test_never_gives_0(code: str, block: bool) -> None:
    """Whatever the policy says of inconclusive checks: a broken instrument is no open question."""
    undecided = [check("INCONCLUSIVE", code=code), NOTHING]
    summary = overall(undecided, block_inconclusive=block)
    assert (summary.verdict, summary.exit_code) == ("INCONCLUSIVE", 5)
    assert summary.sentence.endswith("this run shows nothing.")
    beside = overall([*undecided, check("PASS", code="within_limit")], block_inconclusive=block)
    assert beside.exit_code == (3 if block else 0)


@given(st.lists(st.builds(check, st.sampled_from(["PASS", "FAIL", "INCONCLUSIVE", "ERROR"]), st.booleans())))
def test_checks_that_do_not_block_never_change_the_summary(checks: list[Check]) -> None:
    assert overall(checks) == overall([c for c in checks if c.blocking])


def test_counts_and_sentences_promise_nothing_beyond_the_run() -> None:
    summary = overall([check("PASS"), check("PASS"), check("FAIL")])
    assert summary.counts == {"PASS": 2, "FAIL": 1, "INCONCLUSIVE": 0, "ERROR": 0}
    assert summary.sentence == "1 of 3 blocking checks are beyond their limit."
    kinds: tuple[VerdictKind, ...] = ("PASS", "FAIL", "INCONCLUSIVE", "ERROR")
    for kind in kinds:
        assert not re.search("compliant|anonym|safe|legal", overall([check(kind)]).sentence, re.IGNORECASE)


def test_wrong_input_is_named() -> None:
    with pytest.raises(ValueError, match=re.escape("expected alpha_fail in (0, 0.5), got alpha_fail=0.7")):
        judge([], alpha_fail=0.7)
