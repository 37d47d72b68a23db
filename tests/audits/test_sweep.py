"""Whole sweeps through the command line: what is written, resuming, crashes, and mistakes before training."""

from __future__ import annotations

import json
import shlex
from pathlib import Path
from typing import Any

import pytest
from typer.testing import CliRunner, Result

from attacks.rmia import Rmia
from audits import game
from audits.cli import app
from audits.coverage import CLIENT, MODEL, SERVER
from audits.sweep import claims_against
from privfed.claims import Assumption, Claim
from reports.frontier import UNDEFENDED, Frontier, Point, from_json
from tests.audits import tiny
from tests.audits.test_cli import WITH_DP, refused
from tests.audits.test_end_to_end import kept, raising

PLAN = (
    tiny.PLAN.replace("    prior: {widths: [8, 16], steps: 10}\n", "")
    .partition("  - id: null-twin")[0]
    .replace("epochs: 10", "epochs: 4")
    .replace("federations: 6", "federations: 4")
    .replace("      local: {", "      weighting: equal\n      local: {")
    + """\
  - id: fedrep
    title: FedRep
    role: baseline
    pipeline: fedrep
    options:
      rounds: 1
      head: {epochs: 2, batch: 16, lr: 0.1}
      representation: {epochs: 2, batch: 16, lr: 0.1}
"""
)
NOISE = "--defense localnoise --noise 0,0.5 --option clip=1 --option delta=1e-5"


@pytest.fixture(scope="module")
def shared(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A cache that tests of this file share, so that each federation is trained once."""
    return tmp_path_factory.mktemp("cache")


def sweep(folder: Path, cache: Path, typed: str = NOISE, out: str = "out") -> Result:
    arguments = ["sweep", str(tiny.write(folder, PLAN)), *shlex.split(typed), "--out", str(folder / out)]
    return CliRunner().invoke(app, [*arguments, "--jobs", "1"], env={"PRIVFED_CACHE": str(cache)})


def frontier(out: Path) -> Frontier:
    return from_json((out / "frontier.json").read_text(encoding="utf-8"))


def comparable(out: Path) -> dict[str, Any]:
    """The frontier less what no two runs share."""
    content: dict[str, Any] = json.loads((out / "frontier.json").read_text(encoding="utf-8"))
    del content["run"]["created"], content["run"]["command"]
    return content


def points(found: Frontier, observer: str) -> dict[str, Point]:
    return {p.value: p for p in found.points if p.observer == observer}


def test_a_sweep_writes_a_frontier_and_gives_0(tmp_path: Path, shared: Path) -> None:
    done = sweep(tmp_path, shared)
    assert done.exit_code == 0, done.output
    names = ["frontier.html", "frontier.json", "frontier.md"]
    assert sorted(p.name for p in (tmp_path / "out").iterdir()) == names
    written = [str(tmp_path / "out" / n) for n in ("frontier.json", "frontier.html", "frontier.md")]
    assert done.stdout.splitlines() == written
    said = " ".join(done.stderr.split())
    assert "local_noise with noise_multiplier = 0, 0.5 and undefended: 3 points for fedavg, and 2" in said
    assert "of 20 federations to train" in said
    found = frontier(tmp_path / "out")
    assert (found.defense, found.knob, found.values) == ("local_noise", "noise_multiplier", ("0", "0.5"))
    assert found.options == {"clip": "1", "delta": "1e-05"}
    assert list(points(found, SERVER.label)) == [UNDEFENDED, "0", "0.5"]
    assert {(p.setting, p.arm) for p in found.points} == {("same-classes", "fedavg")}


def test_each_point_has_its_figures_and_the_claim_that_it_earned(tmp_path: Path, shared: Path) -> None:
    sweep(tmp_path, shared)
    found = points(frontier(tmp_path / "out"), SERVER.label)
    for p in found.values():
        assert p.leakage is not None
        assert p.tpr is not None
        assert p.accuracy is not None
        assert p.tpr.params == {"fpr": 0.01}
        assert (p.leakage.level_lower, p.leakage.level_upper) == (0.975, 0.975)
        assert p.attacks > 1
    assert found[UNDEFENDED].claims == found["0"].claims == ()
    (claim,) = found["0.5"].claims
    assert (claim.unit, claim.delta) == ("client", 1e-5)
    assert claim.epsilon > 1


def test_baselines_and_controls_come_along(tmp_path: Path, shared: Path) -> None:
    sweep(tmp_path, shared)
    found = frontier(tmp_path / "out")
    assert {"fedrep", "public-only"} <= {y.arm for y in found.yardsticks}
    assert {c.arm for c in found.controls if c.kind == "positive"} == {"positive-twin"}
    assert "positive-twin" not in {a.id for a in found.arms}
    assert {c.kind for c in found.controls} == {"positive", "negative", "blind"}


def test_a_second_run_trains_nothing_and_says_the_same(
    tmp_path: Path, shared: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    sweep(tmp_path, shared, out="first")
    before = kept(shared)
    monkeypatch.setattr(game, "_train", raising)
    monkeypatch.setattr("audits.public_baseline.train", raising)
    reordered = NOISE.replace("0,0.5", "0.5,0")
    done = sweep(tmp_path, shared, reordered, out="second")
    assert done.exit_code == 0, done.output
    assert "0 of 20 federations to train" in " ".join(done.stderr.split())
    assert comparable(tmp_path / "first") == comparable(tmp_path / "second")
    assert kept(shared) == before


def test_one_more_value_trains_one_more_arm(tmp_path: Path, shared: Path) -> None:
    sweep(tmp_path, shared)
    done = sweep(tmp_path, shared, NOISE.replace("0,0.5", "0,0.5,2"), out="more")
    assert "4 of 24 federations to train" in " ".join(done.stderr.split())


def test_a_crashed_attack_is_a_gap_that_is_told(
    tmp_path: Path, shared: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(Rmia, "score", raising)
    done = sweep(tmp_path, shared)
    assert done.exit_code == 0, done.output
    found = points(frontier(tmp_path / "out"), MODEL.label)["0.5"]
    assert (found.attack, found.leakage, found.tpr) == ("", None, None)
    assert found.reason == "RMIA: ZeroDivisionError: planted"
    assert found.accuracy is not None
    assert "gap: fedavg in same-classes, 0.5, outsider with large" in " ".join(done.stderr.split())
    html = (tmp_path / "out" / "frontier.html").read_text(encoding="utf-8")
    assert "RMIA: ZeroDivisionError: planted" in html


def test_training_that_crashes_gives_4_and_is_tried_again(
    tmp_path: Path, shared: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    more = NOISE.replace("0,0.5", "0,3")
    with monkeypatch.context() as patch:
        patch.setattr(game, "_train", raising)
        assert sweep(tmp_path, shared, more).exit_code == 4
    assert not (tmp_path / "out").exists()
    assert sweep(tmp_path, shared, more).exit_code == 0


@pytest.fixture
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An empty cache, and a working folder of the test's own."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("PRIVFED_CACHE", str(tmp_path / "cache"))
    return tmp_path / "cache"


@pytest.mark.parametrize(
    ("typed", "message"),
    [
        ("in/plan.yaml --defense nope --noise 1", "expected --defense to be one of "),
        ("in/plan.yaml --defense dpsgd", "expected one knob (--knob NAME=V1,V2,... or --epsilon, --noise, "),
        ("in/plan.yaml --defense dpsgd --epsilon 1,x", "expected numbers between commas for --epsilon, got"),
        ("in/plan.yaml --defense dpsgd --keep 1", "expected a knob of dp_sgd to be one of "),
        ("nope --defense dpsgd --noise 1", "expected a plan file or one of attacks, attacks-clients, "),
        ("in/plan.yaml --defense dpsgd --noise 1 --jobs -1", "expected jobs >= 0, got jobs=-1"),
        ("in/plan.yaml --defense dpsgd --noise 1 --seed -1", "expected seed >= 0, got seed=-1"),
        ("in/plan.yaml --defense dpsgd --noise 1 --out in/plan.yaml", "expected a folder for --out, got the"),
        (
            "in/plan.yaml --defense dpsgd --noise 1 --arm x",
            "in/plan.yaml: expected --arm to be an audited arm of the plan, one of fedavg, got 'x'",
        ),
        (
            "in/plan.yaml --defense dpsgd --noise -1 --option clip=1",
            "in/plan.yaml: --noise -1 on arm 'fedavg': expected key 'sampling_rate', got none",
        ),
        (
            "in/plan.yaml --defense secure-aggregation --knob minimum=3",
            "in/plan.yaml: --knob minimum=3 on arm 'fedavg': expected minimum <= 2",
        ),
    ],
)
def test_a_mistake_is_one_line_before_anything_runs(cache: Path, typed: str, message: str) -> None:
    tiny.write(Path("in"), PLAN)
    done = CliRunner().invoke(app, ["sweep", *shlex.split(typed)])
    assert refused(done, cache).startswith(message)


def test_a_wrong_plan_is_refused_with_its_line(cache: Path) -> None:
    tiny.write(Path("in"), WITH_DP.replace("federations:", "federatons:"))
    done = CliRunner().invoke(app, ["sweep", "in/plan.yaml", "--defense", "dpsgd", "--noise", "1"])
    assert refused(done, cache).startswith("in/plan.yaml:6: unknown key 'federatons'")


def test_a_claim_counts_for_those_whom_it_bounds() -> None:
    """Noise on a sum says nothing of a server that sees single updates."""
    open_ = Assumption("sampling", False, "taken as told")
    claim = Claim(2.0, 1e-5, "client", "replace_one", "pld", "", "Gaussian", assumptions=(open_,))
    against = Claim(1.0, 1e-5, "client", "replace_one", "pld", "", "Gaussian", against=("clients",))
    assert [c.epsilon for c in claims_against((claim, against), SERVER)] == [2.0]
    assert [c.epsilon for c in claims_against((claim, against), CLIENT)] == [2.0, 1.0]
    (formal,) = claims_against((claim,), MODEL)
    assert (formal.neighbouring, formal.unverified) == ("replace one", ("sampling",))
