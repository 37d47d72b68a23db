"""Whole audits through the command line: exit codes, resuming, repeating, twins, crashes."""

from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from typer.testing import CliRunner, Result

from attacks.confidence import ModelConfidence
from attacks.lira import Lira
from attacks.rmia import Rmia
from audits import coverage, game
from audits.cli import app
from audits.coverage import MODEL, Probe
from reports.record import Cell, Check, Record, from_json
from tests.audits import tiny

ROOT = Path(__file__).resolve().parents[2]
MAIN = """
import sys, reports.html, reports.markdown
reports.html.render = reports.markdown.render = lambda record: ""
from audits.cli import main
sys.argv[0] = "privfed"
main()
"""


@pytest.fixture(autouse=True)
def _plain_reports(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> None:
    """Rendering has its own tests and takes longer than these audits; one test here keeps it."""
    if request.node.name != "test_a_passing_audit_gives_0_and_three_files":
        monkeypatch.setattr("reports.html.render", lambda record: "")
        monkeypatch.setattr("reports.markdown.render", lambda record: "")


@pytest.fixture(scope="module")
def shared(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A cache that tests of this file share, so that each federation is trained once."""
    return tmp_path_factory.mktemp("cache")


def audit(plan: Path, out: Path, cache: Path, *options: str) -> Result:
    arguments = ["audit", str(plan), "--out", str(out), "--jobs", "1", "--device", "cpu", *options]
    return CliRunner().invoke(app, arguments, env={"PRIVFED_CACHE": str(cache)})


def record(out: Path) -> Record:
    return from_json((out / "record.json").read_text(encoding="utf-8"))


def comparable(out: Path) -> dict[str, Any]:
    """The record less what no two runs share."""
    content: dict[str, Any] = json.loads((out / "record.json").read_text(encoding="utf-8"))
    del content["run"]["created"], content["run"]["command"]
    return content


def kept(cache: Path) -> dict[str, tuple[int, bytes]]:
    """Every file of every federation: when it was written, and what is in it."""
    files = [p for p in (cache / "federations").rglob("*") if p.is_file()]
    return {str(p.relative_to(cache)): (p.stat().st_mtime_ns, p.read_bytes()) for p in files}


def policy(limit: float = 0.99, **changes: str) -> str:
    text = tiny.POLICY.replace("value: 0.99", f"value: {limit}")
    for old, new in changes.items():
        text = text.replace(f"{old}: ", f"{old}: {new} #", 1)
    return text


def check(out: Path, id: str = "AUC-SERVER") -> Check:
    return next(c for c in record(out).checks if c.id == id)


def cell(out: Path, attack: str, observer: str) -> Cell:
    return next(c for c in record(out).cells if (c.attack, c.observer) == (attack, observer))


def test_a_passing_audit_gives_0_and_three_files(tmp_path: Path, shared: Path) -> None:
    done = audit(tiny.write(tmp_path), tmp_path / "out", shared)
    assert done.exit_code == 0, done.output
    assert sorted(p.name for p in (tmp_path / "out").iterdir()) == ["record.json", "report.html", "report.md"]
    assert done.stdout.splitlines()[-2:] == [str(tmp_path / "out" / n) for n in ("report.html", "report.md")]
    assert check(tmp_path / "out").verdict == "PASS"


def test_a_violated_policy_gives_1(tmp_path: Path, shared: Path) -> None:
    done = audit(tiny.write(tmp_path, policy=leaky(policy(0.6))), tmp_path / "out", shared)
    assert done.exit_code == 1, done.output
    found = check(tmp_path / "out")
    assert (found.arm, found.verdict, found.reason_code) == ("positive-twin", "FAIL", "over_limit")


def leaky(text: str) -> str:
    """The same rules on the arm that uploads and publishes what it memorised."""
    return text.replace("    observer:", "    arms: positive-twin\n    observer:")


def test_an_undecided_policy_gives_3_or_0_as_it_says(tmp_path: Path, shared: Path) -> None:
    """What leaks nothing cannot be told from a limit at chance."""
    undecided = leaky(policy(0.5)).replace("positive-twin", "null-twin")
    plan = tiny.write(tmp_path, policy=undecided)
    assert audit(plan, tmp_path / "out", shared).exit_code == 3
    assert check(tmp_path / "out").reason_code == "ci_straddles"
    tiny.write(tmp_path, policy=undecided + "decision: {on_inconclusive: warn}\n")
    assert audit(plan, tmp_path / "out", shared).exit_code == 0


def test_a_crashed_attack_gives_4_and_the_rest_is_in_the_record(
    tmp_path: Path, shared: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(Rmia, "score", raising)
    done = audit(tiny.write(tmp_path), tmp_path / "out", shared)
    assert done.exit_code == 4, done.output
    found = check(tmp_path / "out")
    assert (found.verdict, found.reason_code) == ("ERROR", "crashed")
    assert found.message == "RMIA: ZeroDivisionError: planted"
    assert cell(tmp_path / "out", "RMIA", "server").status == "error"
    assert cell(tmp_path / "out", "LiRA online", "server").status == "run"


def raising(*_: object, **__: object) -> None:
    raise ZeroDivisionError("planted")


def test_a_violation_outweighs_a_crash(tmp_path: Path, shared: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Exit code 1 before 4: what was found counts, whatever else could not be run."""
    monkeypatch.setattr(Rmia, "score", raising)
    rules = leaky(policy(0.6))
    second = rules.partition("checks:\n")[2].replace("AUC-SERVER", "LIRA-ONLY")
    plan = tiny.write(tmp_path, policy=rules + second + "    attack: LiRA online\n")
    assert audit(plan, tmp_path / "out", shared).exit_code == 1
    assert {c.verdict for c in record(tmp_path / "out").checks} >= {"FAIL", "ERROR"}


def test_a_crash_while_reading_a_view_is_tried_again_in_the_next_run(
    tmp_path: Path, shared: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    plan, cache = tiny.write(tmp_path), copied(shared, tmp_path)
    unread = sorted(cache.glob(f"federations/*/*/{signals_of('RMIA')}"))
    for path in unread:
        path.unlink()
    trained = kept(cache)
    with monkeypatch.context() as patch:
        patch.setattr(ModelConfidence, "extract", raising)
        assert audit(plan, tmp_path / "out", cache).exit_code == 4
        assert cell(tmp_path / "out", "white box", "server").status == "run"
    assert audit(plan, tmp_path / "out", cache).exit_code == 0
    assert len(unread) >= 18
    assert {k: v for k, v in kept(cache).items() if k in trained} == trained


def copied(shared: Path, folder: Path) -> Path:
    """A cache of the test's own in which the tiny plan was played."""
    audit(tiny.write(folder), folder / "before", shared)
    shutil.copytree(shared, folder / "cache")
    return folder / "cache"


def signals_of(attack: str) -> str:
    """File name of what the server's attack of that name reads."""
    (probe,) = (p for p in coverage.probes() if (p.name, p.observer) == (attack, coverage.SERVER))
    return f"signals-{game.read_key(probe)}.safetensors"


def test_a_policy_about_nothing_that_was_played_gives_5(tmp_path: Path, shared: Path) -> None:
    nothing = tiny.POLICY.replace("observer: server", "observer: outsider with larg")
    done = audit(tiny.write(tmp_path, policy=nothing), tmp_path / "out", shared)
    assert done.exit_code == 5, done.output
    assert check(tmp_path / "out").message.startswith("nothing was seen by 'outsider with larg'")


def test_training_that_crashes_loses_nothing_of_the_other_jobs(
    tmp_path: Path, shared: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """One arm of three is lost and cannot be trained again; a part of each is lost and can."""
    plan, cache = tiny.write(tmp_path), copied(shared, tmp_path)
    complete = kept(cache)
    for outcome in cache.glob("federations/*/*-of-4-5/outcome.json"):
        outcome.unlink()
    monkeypatch.setattr(game, "_train", except_fedavg(game._train))
    done = audit(plan, tmp_path / "out", cache)
    assert done.exit_code == 4
    (line,) = (text for text in done.stderr.splitlines() if text.startswith("privfed: "))
    assert line.startswith("privfed: Crashed: 1 of ")
    assert line.endswith("fedavg in same-classes, federations 4-5: ZeroDivisionError: planted")
    lost = {k for k in complete if k.endswith("outcome.json")} - set(kept(cache))
    assert len(lost) == 2
    assert len({Path(k).parent.parent for k in lost}) == 1


def except_fedavg(train: Callable[[game.Job], None]) -> Callable[[game.Job], None]:
    def attempt(job: game.Job) -> None:
        if job.arm.id == "fedavg":
            raising()
        train(job)

    return attempt


def test_a_second_run_trains_nothing_and_says_the_same(
    tmp_path: Path, shared: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    plan = tiny.write(tmp_path)
    audit(plan, tmp_path / "first", shared)
    before = kept(shared)
    monkeypatch.setattr(game, "_train", raising)
    monkeypatch.setattr("audits.setting.train_prior", raising)
    monkeypatch.setattr("audits.public_baseline.train", raising)
    assert audit(plan, tmp_path / "second", shared).exit_code == 0
    assert comparable(tmp_path / "first") == comparable(tmp_path / "second")
    assert kept(shared) == before


def test_a_new_attack_on_the_same_federations_trains_nothing(
    tmp_path: Path, shared: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    plan = tiny.write(tmp_path)
    audit(plan, tmp_path / "first", shared)
    known = coverage.probes()
    new = Probe("LiRA, own variance", Lira(variance="per_record"), MODEL, "released model")
    monkeypatch.setattr("audits.audit.probes", lambda modality: (*known, new))
    monkeypatch.setattr(game, "_train", raising)
    assert audit(plan, tmp_path / "second", shared).exit_code == 0
    assert cell(tmp_path / "second", new.name, MODEL.label).status == "run"
    assert cell(tmp_path / "second", "RMIA", "server") == cell(tmp_path / "first", "RMIA", "server")


def process(plan: Path, out: Path, cache: Path, jobs: int) -> subprocess.Popen[str]:
    """An audit in processes of its own, with the command line's own start."""
    command = [sys.executable, "-c", MAIN, "audit", str(plan), "--out", str(out), "--jobs", str(jobs)]
    command += ["--device", "cpu"]
    environment = os.environ | {"PRIVFED_CACHE": str(cache), "PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1"}
    return subprocess.Popen(
        command, cwd=out.parent, env=environment, start_new_session=True, text=True,
        stdout=subprocess.DEVNULL, stderr=subprocess.PIPE,
    )  # fmt: skip


def finished(cache: Path) -> set[Path]:
    return {p.parent for p in cache.glob("federations/*/*/outcome.json")}


def test_a_killed_audit_resumes_and_the_number_of_workers_does_not_count(
    tmp_path: Path, shared: Path
) -> None:
    """Killed without warning, workers and all; the reference ran unharmed, elsewhere, with one worker."""
    plan, cache = tiny.write(tmp_path, tiny.PLAN.partition("  - id: null-twin")[0]), tmp_path / "cache"
    first = process(plan, tmp_path / "killed", cache, jobs=1)
    while not finished(cache) and first.poll() is None:
        time.sleep(0.005)
    os.killpg(first.pid, signal.SIGKILL)
    first.communicate()
    done = finished(cache)
    before = {k: v for k, v in kept(cache).items() if any((cache / k).is_relative_to(d) for d in done)}
    assert done
    second = process(plan, tmp_path / "resumed", cache, jobs=2)
    _, said = second.communicate(timeout=120)
    assert second.returncode == 0, said
    after = kept(cache)
    assert {k: after[k] for k in before} == before
    audit(plan, tmp_path / "unharmed", shared)
    assert comparable(tmp_path / "resumed") == comparable(tmp_path / "unharmed")


TWIN = """\
arms:
  - id: twin
    title: Twin
    pipeline: twin
    options: {trained_on: TRAINED_ON}
  - id: positive-twin
    title: Positive twin
    role: control
    pipeline: twin
    options: {trained_on: members}
"""


def twin(folder: Path, trained_on: str, limit: float) -> Path:
    """A plan for noise with random labels, whose only arm under audit is a twin."""
    plan = tiny.PLAN.partition("arms:\n")[0] + TWIN.replace("TRAINED_ON", trained_on)
    rules = policy(limit).replace("observer: server", "observer: outsider with large")
    path = tiny.write(folder, plan.replace("data: digits", "data: npz:noise.npz"), rules)
    tiny.noise(folder / "noise.npz")
    return path


def test_records_that_were_never_trained_on_leave_no_evidence(tmp_path: Path, shared: Path) -> None:
    done = audit(twin(tmp_path, "public", 0.6), tmp_path / "out", shared)
    assert done.exit_code in (0, 3), done.output
    assert check(tmp_path / "out").verdict in ("PASS", "INCONCLUSIVE")
    run = [c for c in record(tmp_path / "out").cells if c.status == "run" and not c.baseline]
    assert run
    for found in run:
        estimate = found.auc
        assert estimate is not None
        assert estimate.value is not None
        assert estimate.lower is not None
        assert estimate.upper is not None
        # Twice as far as a 95 % bound lies the 99.9 % one of a normal: so many attacks share the alarm.
        away = 2 * max(estimate.value - estimate.lower, estimate.upper - estimate.value)
        assert abs(estimate.value - 0.5) <= away, found.attack


def test_records_that_were_memorised_are_found(tmp_path: Path, shared: Path) -> None:
    done = audit(twin(tmp_path, "members", 0.6), tmp_path / "out", shared)
    assert done.exit_code == 1, done.output
    for observer in ("server", "outsider with large", "outsider with synthetic"):
        cells = [c for c in record(tmp_path / "out").cells if c.observer == observer]
        assert max(c.auc.value or 0.0 for c in cells if c.auc) > 0.95
