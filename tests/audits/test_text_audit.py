"""A whole audit of sentences: embedded once, attacked as sentences, personal models beside shared ones."""

from __future__ import annotations

from pathlib import Path

import pytest
from typer.testing import CliRunner

from audits.absence import HONEST
from audits.cli import app
from audits.coverage import every
from reports.record import PERSONALISED, Cell, Record, from_json
from tests.audits import tiny


@pytest.fixture(scope="module")
def out(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("text")
    plan = str(tiny.write(folder, tiny.TEXT))
    arguments = ["audit", plan, "--out", str(folder / "out"), "--jobs", "1"]
    done = CliRunner().invoke(app, arguments, env={"PRIVFED_CACHE": str(folder / "cache")})
    assert done.exit_code in (0, 1, 3, 5), done.output
    return folder / "out"


@pytest.fixture(scope="module")
def record(out: Path) -> Record:
    return from_json((out / "record.json").read_text(encoding="utf-8"))


def cells(record: Record, arm: str, status: str) -> list[Cell]:
    return [c for c in record.cells if (c.arm, c.status) == (arm, status)]


def test_the_record_says_that_it_is_about_text(record: Record) -> None:
    assert (record.run.dataset, record.run.modality) == ("sentiment:12", "text")


def test_every_attack_has_its_cell_and_none_stopped(record: Record) -> None:
    expected = {(p.name, p.observer.label) for p in every("text") if p.standard or p.image_only}
    for arm in ("fedavg", "fedbkd"):
        found = [c for c in record.cells if c.arm == arm and c.status != "not tested"]
        assert {(c.attack, c.observer) for c in found} == expected
        assert cells(record, arm, "error") == []


def test_what_works_on_images_alone_is_listed_with_its_reason(record: Record) -> None:
    for arm in ("fedavg", "fedbkd"):
        (cell,) = (c for c in record.cells if (c.arm, c.attack) == (arm, "distil-and-test"))
        assert (cell.status, cell.reason) == ("not applicable", "image-only")


def test_shares_and_labels_of_sentences_are_inferred_as_those_of_images(record: Record) -> None:
    rows = [q for q in record.inquiries if q.sought in ("property", "attribute")]
    assert [q for q in rows if q.status == "error"] == []
    ran = {(q.arm, q.attack) for q in rows if q.status == "run"}
    assert {("fedavg", "property loss test"), ("fedavg", "attribute inference of the label")} <= ran
    (corner,) = {q.reason for q in rows if q.attack == "attribute inference of a quadrant"}
    assert corner == "image-only"


def test_sentences_that_were_generated_are_attacked_as_such(record: Record) -> None:
    attacks = {c.attack for c in cells(record, "fedbkd", "run") if c.observer == "outsider with synthetic"}
    assert attacks >= {"nearest neighbour", "calibrated nearest"}
    absent = {c.reason for c in cells(record, "fedavg", "not applicable")} - {"image-only", HONEST}
    generated = ("generated bank", "generators of the rounds", "released generator")
    missing = (*generated, "personal model", "sum of the updates", "distilled records of each client")
    assert absent == {f"this arm has no {m}" for m in ("synthetic sentences (embeddings)", *missing)}


def test_a_broadcast_without_a_head_is_attacked_and_has_no_accuracy(record: Record) -> None:
    assert {c.reason for c in cells(record, "fedbkd", "not applicable")} == {
        "image-only",
        "this arm has no sum of the updates",
        "this arm has no distilled records of each client",
        HONEST,
    }
    models = {(u.arm, u.model) for u in record.utility}
    assert ("fedavg", "broadcast surrogate") in models
    assert ("fedbkd", "broadcast surrogate") not in models


def test_a_model_whose_head_nobody_trained_has_no_accuracy(record: Record) -> None:
    """FedRep delivers a representation under its initial head, whose answers are no result of anything."""
    models = {(u.arm, u.model) for u in record.utility}
    assert {m for arm, m in models if arm == "fedbkd"} == {"released model", PERSONALISED}
    assert {m for arm, m in models if arm == "fedrep"} == {PERSONALISED}
    assert {t.arm for t in record.tradeoff} == {"fedavg", "fedbkd"}
    assert cells(record, "fedrep", "run")


def test_only_arms_with_personal_models_have_their_accuracy(record: Record) -> None:
    found = [u for u in record.utility if u.model == PERSONALISED]
    assert [u.arm for u in found] == ["fedbkd", "fedrep"]
    for own in (u.estimate for u in found):
        assert own.value is not None
        assert 0.3 < own.value < 1
        assert (own.n_in, own.n_federations) == (40, 4)


def test_the_twins_work_on_sentences(record: Record) -> None:
    published = [c for c in record.controls if c.observer == "outsider with synthetic"]
    planted = [c.estimate.value for c in published if c.kind == "positive" and c.estimate]
    assert len(planted) == 4
    assert all(v == 1.0 for v in planted)
    assert [c.attack for c in record.controls if c.kind == "blind" and c.passed]


def test_no_report_speaks_of_images(out: Path) -> None:
    for name in ("report.html", "report.md"):
        text = (out / name).read_text(encoding="utf-8").lower()
        assert PERSONALISED in text
        assert "(text)" in text or "(text," in text
        words = text.replace("image-only", "").replace("images only", "")
        assert "synthetic image" not in words
        assert "mean image" not in words
