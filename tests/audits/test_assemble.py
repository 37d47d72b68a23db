"""The record: a full matrix, what was left out and why, claims, sizes, and words that hold for any run."""

from __future__ import annotations

from itertools import product
from pathlib import Path

import pytest
from typer.testing import CliRunner

from audits.absence import HONEST
from audits.assemble import PUBLIC_ARM
from audits.cli import app
from audits.coverage import NOT_IN_SUITE, OBSERVERS, UNTESTED, inquiries, left_out, probes
from reports.record import Cell, Record, from_json, to_json
from tests.audits import tiny
from tests.audits.test_plan import NOISY

CLAIMING = NOISY.replace("options: {", "options: {delta: 1.0e-3, ")
DP_ARM = """\
  - id: fedavg-dp
    title: FedAvg with DP-SGD
    pipeline: fedavg
    options: {rounds: 6, fraction: 0.5, local: {epochs: 1, batch: 16, lr: 0.1}}
"""
"""One of two clients a round: no client trains in all six."""


@pytest.fixture(scope="module")
def record(tmp_path_factory: pytest.TempPathFactory) -> Record:
    """FedAvg without and with DP-SGD, and a positive twin."""
    folder = tmp_path_factory.mktemp("assemble")
    text = tiny.PLAN.partition("  - id: null-twin")[0] + DP_ARM + CLAIMING
    arguments = ["audit", str(tiny.write(folder, text)), "--out", str(folder / "out"), "--jobs", "1"]
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("reports.html.render", lambda record: "")
        patch.setattr("reports.markdown.render", lambda record: "")
        done = CliRunner().invoke(app, arguments, env={"PRIVFED_CACHE": str(folder / "cache")})
    assert done.exit_code in (0, 1, 3), done.output
    return from_json(Path(folder / "out" / "record.json").read_text(encoding="utf-8"))


def cells(record: Record, status: str) -> list[Cell]:
    return [c for c in record.cells if c.status == status]


def test_every_attack_by_every_observer_on_every_arm_has_its_cell(record: Record) -> None:
    """Controls vouch for the instrument; they are no part of what was audited."""
    expected = [(arm, p.name, p.observer.label) for arm, p in product(("fedavg", "fedavg-dp"), probes())]
    found = [(c.arm, c.attack, c.observer) for c in record.cells if c.status != "not tested"]
    assert sorted(found) == sorted(expected)
    gaps = {p.name for p, reason in left_out() if reason == NOT_IN_SUITE}
    assert {c.attack for c in cells(record, "not tested")} == {name for name, _ in UNTESTED} | gaps


def test_a_cell_without_figures_says_why(record: Record) -> None:
    for cell in record.cells:
        assert (cell.status == "run") == (cell.auc is not None) == (not cell.reason)
    absent = cells(record, "not applicable")
    generated = ("synthetic images", "generated bank", "generators of the rounds", "released generator")
    missing = (*generated, "sum of the updates", "personal model", "distilled records of each client")
    assert {c.reason for c in absent} == {HONEST, *(f"this arm has no {m}" for m in missing)}


def test_a_cell_that_was_run_has_its_curve_and_its_configuration(record: Record) -> None:
    for cell in cells(record, "run"):
        assert bool(cell.roc) != cell.baseline
        assert len(cell.tprs) == 3
        assert cell.auc_canaries is not None
        assert cell.configuration.endswith(")")
        assert cell.taxonomy


def test_what_asks_for_the_data_themselves_has_its_row_on_every_arm(record: Record) -> None:
    made = {(q.arm, q.attack) for q in record.inquiries if q.status in ("run", "not applicable")}
    assert made == set(product(("fedavg", "fedavg-dp"), (q.name for q in inquiries())))
    inferred = [q for q in record.inquiries if q.attack == "label inference" and q.arm == "fedavg"]
    assert [q.status for q in inferred] == ["run"]
    assert inferred[0].asked == 4
    assert any(c.attack == "label inference" and c.kind == "positive" for c in record.controls)


def test_shares_and_hidden_details_are_asked_of_every_federation(record: Record) -> None:
    rows = {(q.attack, q.observer): q for q in record.inquiries if q.arm == "fedavg"}
    shares = rows["property loss test", "server"]
    hidden = rows["attribute inference of the label", "outsider with large"]
    assert [(q.sought, q.status, q.chance, q.asked) for q in (shares, hidden)] == [
        ("property", "run", 0.0, 6),
        ("attribute", "run", 0.0, 6),
    ]
    assert set(shares.baselines) == {"mean share of other clients"}
    assert {"accuracy on members", "advantage on canaries"} <= set(hidden.details)
    assert [t.id for t in shares.taxonomy] == ["NISTAML.034"]
    assert "NISTAML.032" in {t.id for t in hidden.taxonomy}
    assert rows["property of what was distilled", "server"].status == "not applicable"
    for attack in ("property inference", "attribute inference of a quadrant"):
        assert rows[attack, "server"].reason == NOT_IN_SUITE
    vouching = {c.attack for c in record.controls if c.kind == "positive"}
    assert {shares.attack, hidden.attack, "property of what was distilled"} <= vouching


def test_a_rate_below_the_resolution_is_not_reported(record: Record) -> None:
    rates = [t for c in cells(record, "run") for t in c.tprs]
    assert {t.value is None for t in rates} == {True, False}
    for rate in rates:
        assert (rate.value is None) == bool(rate.reason) == (rate.n_out * rate.params["fpr"] < 1)


def test_the_claim_travels_with_its_arm_alone(record: Record) -> None:
    cards = {d.arm: d for d in record.dp}
    assert set(cards) == {"fedavg", "fedavg-dp"}
    assert cards["fedavg"].epsilon is None
    claiming = cards["fedavg-dp"]
    assert claiming.epsilon is not None
    assert (claiming.delta, claiming.unit) == (1e-3, "record")
    assert claiming.epsilons
    assert claiming.assumptions
    assert "number of records of each client" in claiming.outside
    bounds = [claiming.max_tpr[k] for k in ("0.0001", "0.001", "0.01", "0.1")]
    assert bounds == sorted(bounds)


def test_other_accountants_speak_of_the_same_trainings_as_the_claim(record: Record) -> None:
    """Of the client that took part most often, not of one that was there in every round."""
    (card,) = (d for d in record.dp if d.arm == "fedavg-dp")
    assert card.epsilon is not None
    named = {name.split()[-3]: value for name, value in card.epsilons.items() if "as sampled" in name}
    (own,) = (v for name, v in card.epsilons.items() if name == f"{card.accountant}, as sampled")
    assert own == pytest.approx(card.epsilon)
    assert named["RDP,"] > card.epsilon


def test_leakage_stands_against_the_accuracy_of_the_same_arm(record: Record) -> None:
    accuracy = {(u.arm, u.model): u.estimate for u in record.utility}
    assert (PUBLIC_ARM, "released model") in accuracy
    observers = {o.label for o in OBSERVERS}
    for point in record.tradeoff:
        assert point.observer in observers
        assert point.accuracy == accuracy[point.arm, "released model"]
        same = {
            c.attack: c.auc
            for c in cells(record, "run")
            if (c.arm, c.observer) == (point.arm, point.observer) and not c.baseline
        }
        highest = max(a.value or 0.0 for a in same.values() if a)
        chosen = same[point.attack]
        assert chosen is not None
        assert chosen.value == highest
        assert point.tried == len(same)
        # What was measured where the choice was not made is never above the highest of all.
        assert (point.leakage.lower or 0.0) <= (point.leakage.value or 0.0) <= highest


def test_sizes_and_subjects(record: Record) -> None:
    (setting,) = record.settings
    sizes = (setting.n_candidates, setting.n_canaries, setting.n_public, setting.n_population, setting.n_test)
    assert sizes == (80, 16, 100, 24, 40)
    assert sum(setting.clients) == 80
    assert [s.name for s in record.subjects] == [
        "FedAvg, same-classes: transcript of federation 0",
        "FedAvg with DP-SGD, same-classes: transcript of federation 0",
    ]
    assert all(len(s.sha256) == 64 and s.parameters == 1210 for s in record.subjects)


def test_controls_cover_every_attack_that_ran(record: Record) -> None:
    ran = {(c.attack, c.observer) for c in cells(record, "run") if not c.baseline}
    for kind in ("positive", "negative"):
        assert {(c.attack, c.observer) for c in record.controls if c.kind == kind} >= ran
    assert [c.setting for c in record.controls if c.kind == "blind"] == ["same-classes"]


def test_the_record_survives_its_own_text(record: Record) -> None:
    assert from_json(to_json(record)) == record


def test_limitations_never_promise_anything(record: Record) -> None:
    text = " ".join(record.limitations).lower()
    assert not [word for word in ("guarantee", "safe", "anonymous", "compliant", "secure") if word in text]
    assert len(record.limitations) >= 5


def test_the_order_of_leakage_is_checked_on_every_arm_that_is_no_control(record: Record) -> None:
    rows = {(o.arm, o.stronger, o.weaker) for o in record.leakage_order}
    assert rows == {(arm, "client updates", "released model") for arm in ("fedavg", "fedavg-dp")}


def test_every_audited_arm_is_shown_by_kind_client_and_class(record: Record) -> None:
    for arm in ("fedavg", "fedavg-dp"):
        mine = [s for s in record.slices if (s.arm, s.observer) == (arm, "server")]
        assert {s.name for s in mine if s.by == "kind"} == {
            "natural",
            "outlier decile",
            "the other nine",
            "canaries",
        }
        assert {s.name for s in mine if s.by == "client"} == {"client 0", "client 1"}
        assert {s.by for s in mine} == {"kind", "client", "class"}
