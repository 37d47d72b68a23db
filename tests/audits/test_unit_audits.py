"""Audits of clients and of subjects: one coin a unit, from the plan to the record."""

from __future__ import annotations

from pathlib import Path

import pytest
from typer.testing import CliRunner

from audits.cli import app
from audits.coverage import KNOWN_TO_SERVER
from reports.record import Record, from_json
from tests.audits import tiny


def plan(unit: str) -> str:
    """The tiny plan with more clients, no canaries, and that unit."""
    text = tiny.PLAN.replace("canaries: 16", f"canaries: 0\nunit: {unit}")
    return text.replace("clients: 2", "clients: 8").replace("candidates: 80", "candidates: 96")


def audit(folder: Path, text: str) -> Record:
    policy = tiny.POLICY.replace("observer: server", "observer: outsider with large")
    arguments = ["audit", str(tiny.write(folder, text, policy)), "--out", str(folder / "out"), "--jobs", "1"]
    done = CliRunner().invoke(app, arguments, env={"PRIVFED_CACHE": str(folder / "cache")})
    assert done.exit_code in (0, 1, 3, 5), done.output
    return from_json((folder / "out" / "record.json").read_text(encoding="utf-8"))


@pytest.fixture(scope="module")
def clients(tmp_path_factory: pytest.TempPathFactory) -> Record:
    return audit(tmp_path_factory.mktemp("clients"), plan("{kind: client}"))


def test_clients_are_counted_as_units_and_nothing_breaks_where_some_stay_away(clients: Record) -> None:
    run = [c for c in clients.cells if c.status == "run" and not c.baseline]
    assert run
    assert {c.observer for c in run} == {"client", "outsider with large"}
    # Client 0 looks at the others.
    most = {"client": 7, "outsider with large": 8}
    for cell in run:
        assert cell.auc is not None
        assert cell.auc.n_in <= most[cell.observer]
        assert cell.auc_canaries is None
    assert clients.run.units == "client"
    assert clients.slices == ()


def test_the_server_is_not_asked_what_it_knows(clients: Record) -> None:
    asked = {c.reason for c in clients.cells if c.observer == "server" and c.status == "not applicable"}
    assert asked == {KNOWN_TO_SERVER}


def test_a_check_speaks_of_the_unit(clients: Record) -> None:
    (check,) = {c.meaning for c in clients.checks if c.arm == "fedavg"}
    assert check.startswith("How often this observer tells a client whose records were used from one whose")


def test_a_planted_client_is_found(clients: Record) -> None:
    planted = [c for c in clients.controls if c.kind == "positive" and c.observer == "outsider with large"]
    found = {c.attack: c.estimate.value for c in planted if c.estimate is not None}
    assert (found["loss threshold"] or 0) > 0.95


def test_subjects_are_scored_by_all_their_fresh_records(tmp_path: Path) -> None:
    record = audit(tmp_path, plan("{kind: subject, size: 8, fresh: true}"))
    server = [c for c in record.cells if c.observer == "server" and c.status == "run" and not c.baseline]
    assert server
    for cell in server:
        assert cell.auc is not None
        assert cell.auc.n_in <= 12


def test_canaries_are_single_records(tmp_path: Path) -> None:
    text = tiny.PLAN.replace("canaries: 16", "canaries: 16\nunit: {kind: client}")
    done = CliRunner().invoke(app, ["audit", str(tiny.write(tmp_path, text))])
    assert done.exit_code == 2
    assert "expected no canaries with unit 'client', got canaries=16" in done.output.replace("\n", " ")


def test_a_record_has_no_fresh_records(tmp_path: Path) -> None:
    text = tiny.PLAN.replace("canaries: 16", "canaries: 16\nunit: {fresh: true}")
    done = CliRunner().invoke(app, ["audit", str(tiny.write(tmp_path, text))])
    assert done.exit_code == 2
    assert "expected fresh records of clients or subjects only" in done.output.replace("\n", " ")
