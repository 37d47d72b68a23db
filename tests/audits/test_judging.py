"""From evidence and controls to rows: none vanishes, none passes unproven, crashes and doubts are named."""

from __future__ import annotations

from dataclasses import replace
from functools import partial

import numpy as np
import pytest

from attacks.attribute_inference import AttributeInference
from attacks.label_inference import LabelInference
from attacks.property_inference import PropertyLossTest
from audits.coverage import SERVER, SYNTHETIC, Probe, probes
from audits.evidence import Evidence
from audits.examination import Examined
from audits.inquiry import Inquiry
from audits.judging import Judged, judge_all
from audits.policy import load_policy
from audits.property_game import attribute_advantage, r_squared
from audits.statistics import federated_auc, federated_mean
from audits.verdict import overall
from privfed.claims import Claim
from privfed.randomness import Stream
from privfed.release import Observer
from reports.record import Check, Control
from tests.audits import tiny
from tests.audits.designs import Design

LOSS, ONLINE, OFFLINE, RMIA = "loss threshold", "LiRA online", "LiRA offline", "RMIA"
EPSILON = """\
  - id: EPSILON
    title: Formal
    metric: {name: formal_epsilon, delta: 1.0e-5}
    arms: claiming
    limit: {op: "<=", value: 8}
    rationale: because
"""
CLAIM = Claim(
    epsilon=3.0, delta=1e-5, unit="record", neighbouring="add_or_remove_one", accountant="pld",
    sampling="poisson", mechanism="gaussian", assumptions=(), outside=(),
)  # fmt: skip


def probe(name: str, observer: Observer = SERVER) -> Probe:
    return next(p for p in probes() if (p.name, p.observer) == (name, observer))


def evidence(name: str, shift: float = 0.0, observer: Observer = SERVER, crashed: str = "") -> Evidence:
    scores, included = Design(shift).draw(np.random.default_rng(1), 8, 400)
    canaries = np.zeros(400, dtype=bool)
    found = None if crashed else scores
    return Evidence(probe(name, observer), found, included, canaries, Stream(0), crashed)


def arm(*found: Evidence, id: str = "fedavg", setting: str = "s", claims: tuple[Claim, ...] = ()) -> Judged:
    return Judged(setting, id, True, ("twin",), found, claims, partial(federated_mean, np.ones((16, 200))))


def control(attack: str, passed: bool = True, kind: str = "positive", of: str = "twin") -> Control:
    return Control.model_validate({
        "kind": kind, "setting": "s", "arm": of, "attack": attack,
        "observer": "" if kind == "blind" else "server", "estimate": None, "expectation": "",
        "passed": passed, "reason": "" if passed else "AUC 0.520 [0.490, 0.550]",
    })  # fmt: skip


def held(*attacks: str) -> list[Control]:
    """Every control that the policy requires, run and held."""
    twins = [control(attack, kind=kind) for attack in attacks for kind in ("positive", "negative")]
    return [*twins, control("raw", kind="blind", of="")]


def judged(arms: list[Judged], controls: list[Control], text: str = tiny.POLICY, limit: float = 0.6) -> Check:
    (row,) = rows(arms, controls, text, limit)
    return row


def rows(
    arms: list[Judged], controls: list[Control], text: str = tiny.POLICY, limit: float = 0.6
) -> tuple[Check, ...]:
    return judge_all(load_policy(text.replace("0.99", str(limit))), arms, controls)


def test_within_the_limit_with_a_proven_attack_passes() -> None:
    row = judged([arm(evidence(LOSS))], held(LOSS))
    assert (row.verdict, row.arm, row.setting, row.attack, row.observer) == (
        "PASS", "fedavg", "s", LOSS, "server"
    )  # fmt: skip
    assert "left out" not in row.message


def test_a_pass_without_any_positive_control_is_none() -> None:
    row = judged([arm(evidence(LOSS))], [c for c in held(LOSS) if c.kind != "positive"])
    assert (row.verdict, row.reason_code) == ("INCONCLUSIVE", "instrument_invalid")
    assert row.message.startswith("no positive control was run")


@pytest.mark.parametrize(
    ("kind", "message"),
    [
        ("negative", "no negative control was run that shows loss threshold at chance"),
        ("blind", "no blind control was run that shows members and non-members alike before training; AUC"),
    ],
)
def test_a_pass_without_a_required_control_is_none(kind: str, message: str) -> None:
    """Missing is not the same as held; a policy that calls the control optional does without."""
    present = [c for c in held(LOSS) if c.kind != kind]
    row = judged([arm(evidence(LOSS))], present)
    assert (row.verdict, row.reason_code) == ("INCONCLUSIVE", "instrument_invalid")
    assert row.message.startswith(message)
    assert judged([arm(evidence(LOSS, 2.0))], present).verdict == "FAIL"
    text = tiny.POLICY.replace("0.6}}", f"0.6}}, {kind}: optional}}")
    assert judged([arm(evidence(LOSS))], present, text).verdict == "PASS"


def test_every_attack_that_counts_needs_its_negative_control() -> None:
    """One positive control is enough: the others can only make a PASS harder."""
    arms = [arm(evidence(LOSS), evidence(ONLINE))]
    assert judged(arms, [*held(LOSS), control(ONLINE, kind="negative")]).verdict == "PASS"
    row = judged(arms, [*held(LOSS), control(ONLINE)])
    assert row.reason_code == "instrument_invalid"
    assert row.message.startswith("no negative control was run that shows LiRA online at chance")


@pytest.mark.parametrize("change", [{"setting": "t"}, {"observer": "client"}, {"arm": "fedprox"}])
def test_a_negative_control_from_elsewhere_proves_nothing(change: dict[str, str]) -> None:
    moved = [c.model_copy(update=change) if c.kind == "negative" else c for c in held(LOSS)]
    assert judged([arm(evidence(LOSS))], moved).reason_code == "instrument_invalid"


def test_a_blind_control_of_another_setting_proves_nothing() -> None:
    moved = [c.model_copy(update={"setting": "t"}) if c.kind == "blind" else c for c in held(LOSS)]
    assert judged([arm(evidence(LOSS))], moved).reason_code == "instrument_invalid"


def test_a_leak_that_was_found_needs_no_positive_control() -> None:
    assert judged([arm(evidence(LOSS, 2.0))], []).verdict == "FAIL"


def test_a_control_of_another_setting_or_observer_proves_nothing() -> None:
    elsewhere = control(LOSS).model_copy(update={"setting": "t"})
    other = control(LOSS).model_copy(update={"observer": "client"})
    rest = [c for c in held(LOSS) if c.kind != "positive"]
    assert judged([arm(evidence(LOSS))], [*rest, elsewhere, other]).reason_code == "instrument_invalid"


@pytest.mark.parametrize(("kind", "of"), [("positive", "twin"), ("negative", "fedavg"), ("negative", "twin")])
def test_an_attack_whose_control_failed_is_left_out_and_named(kind: str, of: str) -> None:
    """What it would have found counts neither way."""
    controls = [*held(LOSS, ONLINE), control(ONLINE, False, kind, of)]
    row = judged([arm(evidence(LOSS), evidence(ONLINE, 2.0))], controls)
    assert (row.verdict, row.attack) == ("PASS", LOSS)
    assert row.message.endswith(
        f"; LiRA online left out: its {kind} control failed (AUC 0.520 [0.490, 0.550])"
    )


def test_a_decoy_control_of_another_arm_counts_for_that_arm_alone() -> None:
    controls = [*held(LOSS), control(LOSS, False, "negative", "fedprox")]
    arms = [arm(evidence(LOSS)), arm(evidence(LOSS), id="fedprox")]
    assert [r.verdict for r in rows(arms, controls)] == ["PASS", "INCONCLUSIVE"]


def test_without_any_valid_attack_the_instrument_is_invalid() -> None:
    controls = [control(LOSS, False), control(ONLINE, False)]
    row = judged([arm(evidence(LOSS, 2.0), evidence(ONLINE, 2.0))], controls)
    assert (row.verdict, row.reason_code) == ("INCONCLUSIVE", "instrument_invalid")
    assert "loss threshold left out: " in row.message
    assert "; LiRA online left out: " in row.message


def test_members_that_differ_from_the_start_make_every_attack_invalid() -> None:
    row = judged([arm(evidence(LOSS))], [*held(LOSS), control("raw", False, "blind", "")])
    assert row.reason_code == "instrument_invalid"
    assert "members and non-members differ before any training" in row.message


@pytest.mark.parametrize("kind", ["negative", "blind"])
def test_a_control_that_the_policy_calls_optional_takes_nothing_away(kind: str) -> None:
    text = tiny.POLICY.replace("0.6}}", f"0.6}}, {kind}: optional}}")
    controls = [*(c for c in held(LOSS) if c.kind != kind), control(LOSS, False, kind)]
    assert judged([arm(evidence(LOSS))], controls, text).verdict == "PASS"


def test_one_crash_is_an_error_for_the_rows_that_count_that_attack() -> None:
    arms = [arm(evidence(LOSS), evidence(RMIA, crashed="ValueError: no"))]
    row = judged(arms, held(LOSS))
    assert (row.verdict, row.reason_code, row.message) == ("ERROR", "crashed", "RMIA: ValueError: no")
    text = tiny.POLICY.replace("    rationale", "    attack: loss threshold\n    rationale")
    assert judged(arms, held(LOSS), text).verdict == "PASS"


def test_every_arm_and_setting_has_its_row_in_the_order_of_the_policy() -> None:
    arms = [arm(evidence(LOSS)), arm(evidence(LOSS), setting="t"), arm(evidence(LOSS, 2.0), id="leaky")]
    found = rows(arms, held(LOSS), tiny.POLICY + EPSILON)
    assert [(r.id, r.setting, r.arm) for r in found[:3]] == [
        ("AUC-SERVER", "s", "fedavg"), ("AUC-SERVER", "t", "fedavg"), ("AUC-SERVER", "s", "leaky"),
    ]  # fmt: skip
    assert found[3].id == "EPSILON"


def test_an_arm_that_releases_no_such_artefact_has_no_row_if_another_does() -> None:
    text = tiny.POLICY.replace("observer: server", "observer: outsider with synthetic")
    arms = [arm(evidence(LOSS)), arm(evidence("nearest neighbour", observer=SYNTHETIC), id="feddgm")]
    assert [r.arm for r in rows(arms, [], text)] == ["feddgm"]


@pytest.mark.parametrize(
    ("old", "new", "message"),
    [
        ("observer: server", "observer: client", "nothing was seen by 'client' on these arms"),
        ("observer: server", "observer: outsider with sythetic", "nothing was seen by 'outsider with sythe"),
        ("observer:", "arms: fedagv\n    observer:", "no arm 'fedagv' (there is fedavg)"),
        ("observer:", "settings: t\n    observer:", "no setting 't' (there is s)"),
    ],
)
def test_a_rule_that_matches_nothing_has_a_row_that_says_so(old: str, new: str, message: str) -> None:
    row = judged([arm(evidence(LOSS))], held(LOSS), tiny.POLICY.replace(old, new))
    assert (row.verdict, row.reason_code, row.blocking) == ("INCONCLUSIVE", "nothing_evaluated", True)
    assert (row.setting, row.arm, row.estimate) == ("", "", None)
    assert row.message.startswith(message)
    assert overall([row]).exit_code == 5


def test_a_name_that_matches_nothing_blocks_beside_one_that_does() -> None:
    text = tiny.POLICY.replace("observer:", "arms: [fedavg, fedagv]\n    observer:")
    found = rows([arm(evidence(LOSS))], held(LOSS), text)
    assert [r.verdict for r in found] == ["PASS", "INCONCLUSIVE"]
    assert overall(found).exit_code == 3


def test_a_rule_on_claims_where_nobody_claims_says_so() -> None:
    found = rows([arm(evidence(LOSS))], held(LOSS), tiny.POLICY + EPSILON)
    assert found[1].message == "no audited arm makes a differential-privacy claim"
    claiming = rows([arm(evidence(LOSS), claims=(CLAIM,))], held(LOSS), tiny.POLICY + EPSILON)
    assert (claiming[1].verdict, claiming[1].arm) == ("PASS", "fedavg")
    over = rows(
        [arm(evidence(LOSS), claims=(replace(CLAIM, epsilon=9.0),))], held(LOSS), tiny.POLICY + EPSILON
    )
    assert over[1].verdict == "FAIL"


def test_a_claim_is_judged_for_the_unit_that_the_policy_is_about() -> None:
    text = (tiny.POLICY + EPSILON).replace("privacy_unit: record", "privacy_unit: client")
    found = rows([arm(evidence(LOSS), claims=(CLAIM,))], held(LOSS), text)
    assert (found[1].verdict, found[1].reason_code) == ("INCONCLUSIVE", "nothing_evaluated")
    assert found[1].message == "the claim protects one record, the policy asks for one client"


def test_accuracy_needs_no_attack_and_no_control() -> None:
    text = tiny.POLICY.replace("metric: auc\n    observer: server", "metric: accuracy").replace("<=", ">=")
    assert judged([arm()], [], text).verdict == "PASS"


def test_an_arm_that_declared_a_claim_and_lost_it_does_not_pass_by_silence() -> None:
    lost = replace(arm(evidence(LOSS), id="b"), declares=True)
    found = rows([arm(evidence(LOSS), claims=(CLAIM,)), lost], held(LOSS), tiny.POLICY + EPSILON)
    by_arm = {c.arm: (c.verdict, c.reason_code) for c in found if c.id == found[-1].id}
    assert by_arm["b"] == ("INCONCLUSIVE", "nothing_evaluated")


def test_a_rule_that_names_an_arm_says_where_it_was_not_run() -> None:
    text = tiny.POLICY + EPSILON.replace("arms: claiming", "arms: [a, b]")
    here = [
        arm(evidence(LOSS), id=i, setting=s, claims=(CLAIM,)) for i, s in (("a", "s"), ("a", "t"), ("b", "s"))
    ]
    found = [c for c in rows(here, held(LOSS), text) if c.reason_code == "nothing_evaluated"]
    assert [(c.setting, c.arm, c.message) for c in found] == [
        ("t", "b", "this arm was not run in this setting")
    ]


def test_what_an_observer_holds_and_no_attack_reads_is_not_passed() -> None:
    unread = replace(arm(id="votes"), unread=("server",))
    found = {c.arm: c for c in rows([arm(evidence(LOSS)), unread], held(LOSS)) if c.observer == "server"}
    assert (found["votes"].verdict, found["votes"].reason_code) == ("INCONCLUSIVE", "nothing_evaluated")
    assert "that no attack of this version reads" in found["votes"].message


LABELS = """\
  - id: LABELS
    title: Labels
    metric: label_inference
    observer: server
    limit: {op: "<=", value: 0.8}
    rationale: because
"""
SHARES = Inquiry("label inference", LabelInference(), SERVER, "client update", "labels")


def examined(shift: float, inquiry: Inquiry = SHARES, crashed: str = "") -> Examined:
    scores, included = Design(shift).draw(np.random.default_rng(2), 8, 200)
    measure = None if crashed else partial(federated_auc, scores, included)
    return Examined(inquiry, measure, crashed=crashed)


def asked(found: Examined, controls: list[Control], blocking: bool = True) -> Check:
    with_labels = replace(arm(evidence(LOSS)), examined=(found,))
    (row,) = (
        r for r in rows([with_labels], [*held(LOSS), *controls], tiny.POLICY + LABELS) if r.id == "LABELS"
    )
    return row


def test_inferred_labels_are_limited_by_their_interval() -> None:
    proven = [control(SHARES.name)]
    assert asked(examined(0.2), proven).verdict == "PASS"
    over = asked(examined(3.0), proven)
    assert (over.verdict, over.attack) == ("FAIL", SHARES.name)
    assert over.meaning.startswith("How often this observer ranks a label")


def test_a_pass_on_inferred_labels_needs_its_positive_control_and_no_other() -> None:
    unproven = asked(examined(0.2), [])
    assert (unproven.verdict, unproven.reason_code) == ("INCONCLUSIVE", "instrument_invalid")
    failed = asked(examined(0.2), [control(SHARES.name, passed=False)])
    assert failed.reason_code == "instrument_invalid"


def test_a_crash_of_an_inquiry_is_an_error() -> None:
    row = asked(examined(0.0, crashed="ValueError: x"), [])
    assert (row.verdict, row.reason_code) == ("ERROR", "crashed")


def test_what_a_protocol_discloses_is_no_inference() -> None:
    told = asked(examined(3.0, replace(SHARES, disclosed=True)), [])
    assert (told.verdict, told.reason_code) == ("INCONCLUSIVE", "nothing_evaluated")


@pytest.mark.parametrize(
    ("metric", "inquiry", "words"),
    [
        (
            "property_inference",
            Inquiry("loss test", PropertyLossTest(), SERVER, "client update", "property"),
            "How much of the differences between clients",
        ),
        (
            "attribute_inference",
            Inquiry("hidden label", AttributeInference("update"), SERVER, "client update", "attribute"),
            "How much oftener this observer fills in",
        ),
    ],
)
def test_shares_and_hidden_details_are_limited_by_their_intervals(
    metric: str, inquiry: Inquiry, words: str
) -> None:
    rng = np.random.default_rng(4)
    truth, included = rng.random((8, 12)), rng.random((8, 200)) < 0.5

    def measured(much: bool) -> Examined:
        noise = 0.01 if much else 1.0
        known = included if much else rng.random((8, 200)) < 0.5
        measures = {
            "property_inference": partial(
                r_squared, truth + noise * rng.normal(size=truth.shape), np.full((8, 12), 0.5), truth
            ),
            "attribute_inference": partial(attribute_advantage, known.astype(float), included),
        }
        return Examined(inquiry, measures[metric], chance=0.0)

    def judged(found: Examined, controls: list[Control]) -> Check:
        rule = LABELS.replace("label_inference", metric).replace("0.8", "0.3")
        where = replace(arm(evidence(LOSS)), examined=(found,))
        (row,) = (r for r in rows([where], [*held(LOSS), *controls], tiny.POLICY + rule) if r.id == "LABELS")
        return row

    proven = [control(inquiry.name)]
    assert judged(measured(much=False), proven).verdict == "PASS"
    assert judged(measured(much=False), []).reason_code == "instrument_invalid"
    over = judged(measured(much=True), [])
    assert (over.verdict, over.attack) == ("FAIL", inquiry.name)
    assert over.meaning.startswith(words)
    other = judged(replace(measured(much=True), inquiry=SHARES), proven)
    assert other.reason_code == "nothing_evaluated"


def test_rebuilt_records_are_no_inferred_labels() -> None:
    records = asked(examined(3.0, replace(SHARES, sought="records")), [])
    assert records.reason_code == "nothing_evaluated"


RECORDS = LABELS.replace("LABELS", "RECORDS").replace("label_inference", "identification")


@pytest.mark.parametrize(("shift", "verdict"), [(0.2, "PASS"), (3.0, "FAIL"), (1.25, "INCONCLUSIVE")])
def test_identified_records_are_limited_by_their_interval(shift: float, verdict: str) -> None:
    records = replace(SHARES, name="analytic inversion", sought="records")
    with_records = replace(arm(evidence(LOSS)), examined=(examined(shift, records),))
    given = rows([with_records], [*held(LOSS), control(records.name)], tiny.POLICY + RECORDS)
    (row,) = (r for r in given if r.id == "RECORDS")
    assert row.verdict == verdict
    assert row.meaning.startswith("Share of the records that this observer rebuilds")
