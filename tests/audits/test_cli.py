"""The command line as typed: every mistake is one line and exit code 2 before any training; listings."""

from __future__ import annotations

import json
import shlex
from pathlib import Path

import numpy as np
import pytest
import torch
from typer.testing import CliRunner, Result

from audits import command
from audits.cli import Kind, app
from tests.audits import tiny

DP = """\
    defenses:
      - name: dp_sgd
        options:
          epsilon: 8.0
          delta: 1.0e-5
          clip: 1.0
          sampling_rate: 0.4
          steps: 5
          expected_batch: 8.0
          lr: 0.5
"""
NOISY = DP.replace("          delta: 1.0e-5\n", "").replace("epsilon: 8.0", "noise_multiplier: 1.0")
WITH_DP = tiny.PLAN.replace("  - id: positive-twin", DP + "  - id: positive-twin")
EPSILON = "metric: {name: formal_epsilon}\n    limit"


@pytest.fixture
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An empty cache, and a working folder of the test's own."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("PRIVFED_CACHE", str(tmp_path / "cache"))
    return tmp_path / "cache"


def privfed(*arguments: str) -> Result:
    return CliRunner().invoke(app, list(arguments))


def refused(result: Result, cache: Path) -> str:
    """The one line of a usage error, which left nothing behind."""
    assert result.exit_code == 2, result.output
    assert result.stdout == ""
    (line,) = result.stderr.splitlines()
    assert line.startswith("privfed: ")
    assert not cache.exists()
    assert not Path("runs").exists()
    return line.removeprefix("privfed: ")


def changed(text: str, old: str, new: str) -> str:
    assert text.count(old) >= 1
    return text.replace(old, new, 1)


@pytest.mark.parametrize(
    ("old", "new", "message"),
    [
        ("federations:", "federatons:", ":6: unknown key 'federatons' (did you mean 'federations'?)"),
        ("federations: 6", "federations: 3", ":6: federations: expected a number in [4, 4096], got 3"),
        ("rounds: 1", "round: 1", ":27: arms[0].options: unknown key 'round' (did you mean 'rounds'?)"),
        ("lr: 0.1", "lrr: 0.1", ":28: arms[0].options.local: unknown key 'lrr' (did you mean 'lr'?)"),
        ("test: 40", "tests: 40", ":20: settings[0].split: unknown key 'tests' (did you mean 'test'?)"),
        ("prior: {w", "prior: {latents: 3, w", ":21: settings[0].prior: unknown key 'latents'"),
        ("rounds: 1", "rounds: 0", ":27: arms[0].options.rounds: expected rounds >= 1, got rounds=0"),
        ("lr: 0.1", "lr: -1", ":28: arms[0].options.local.lr: expected lr > 0, got lr=-1.0"),
        ("rounds: 1", "rounds: x", ":27: arms[0].options.rounds: expected a whole number, got 'x'"),
        ("members", "nobody", ":33: arms[1].options.trained_on: expected one of 'members' or 'public'"),
        ("clients: 2", "clients: 81", ":16: settings[0].split.clients: expected at most one client per"),
        ("clients: 2", "clients: 0", ":16: settings[0].split.clients: expected clients >= 1, got clients=0"),
        ("canaries: 16", "canaries: 81", ":7: canaries: expected fewer canaries than candidates (80 in"),
        ("canaries: 16", "canaries: 80", ":7: canaries: expected fewer canaries than candidates (80 in"),
        ("canaries: 16", "canaries: -1", ":7: canaries: expected a number >= 0, got -1"),
        ("public: 100", "public: 0", ": setting same-classes: expected public >= 2"),
        ("candidates: 80", "candidates: 5000", ": setting same-classes: expected candidates + population"),
        ("mlp, width: 16", "convnet, width: 9", ": setting same-classes: nets.surrogate: expected width"),
        ("width: 16", "width: 0", ":10: nets.surrogate.width: expected a number >= 1, got 0"),
        ("[8, 16]", "[8, 8, 8, 8, 8]", ": setting same-classes: expected images whose size a prior of 5"),
        ("[8, 16]", "[7]", ":21: settings[0].prior.widths: expected prior widths that are multiples of 8"),
        ("fedavg\n    opt", "fedsgd\n    opt", ":25: arms[0].pipeline: expected pipelines to be one of"),
        ("id: null-twin", "id: fedavg", ":34: arms[2].id: expected distinct ids, got id='fedavg' twice"),
        ("schema: privfed-plan/1", "schema: privfed-plan/9", ":1: schema: expected one of 'privfed-plan/1'"),
        ("federations: 6", "federations: [", ":8: expected valid YAML: "),
    ],
)  # fmt: skip
def test_a_wrong_plan_is_refused_with_its_line(cache: Path, old: str, new: str, message: str) -> None:
    plan = tiny.write(Path("in"), changed(tiny.PLAN, old, new))
    assert refused(privfed("audit", str(plan)), cache).startswith(f"{plan}{message}")


@pytest.mark.parametrize(
    ("old", "new", "message"),
    [
        ("          delta: 1.0e-5\n", "", ":32: arms[0].defenses[0].options.epsilon: expected a delta"),
        ("delta: 1.0e-5", "delta: 2", ":33: arms[0].defenses[0].options.delta: expected delta in (0, 1)"),
        ("epsilon: 8.0", "epsilon: -1", ":32: arms[0].defenses[0].options.epsilon: expected epsilon > 0"),
        ("epsilon: 8.0", "epsilon: x", ":32: arms[0].defenses[0].options.epsilon: expected a number, got"),
        ("clip: 1.0", "clip: -1", ":34: arms[0].defenses[0].options.clip: expected a finite clip > 0"),
        ("clip: 1.0", "clp: 1", ":34: arms[0].defenses[0].options: unknown key 'clp' (did you mean 'clip'?)"),
        ("          clip: 1.0\n", "", ":31: arms[0].defenses[0].options: expected key 'clip', got none"),
        ("steps: 5", "steps: 5.5", ":36: arms[0].defenses[0].options.steps: expected a whole number"),
        ("name: dp_sgd", "name: dpsgd", ":30: arms[0].defenses[0].name: expected defenses to be one of"),
        (DP, NOISY + NOISY.partition("\n")[2], ":29: arms[0].defenses: expected at most one local defence"),
    ],
)  # fmt: skip
def test_a_wrong_defence_is_refused_with_its_line(
    cache: Path, monkeypatch: pytest.MonkeyPatch, old: str, new: str, message: str
) -> None:
    monkeypatch.setattr("audits.plan._calibrated", uncalibrated)
    plan = tiny.write(Path("in"), changed(WITH_DP, old, new))
    assert refused(privfed("audit", str(plan)), cache).startswith(f"{plan}{message}")


def uncalibrated(cls: type, epsilon: float, delta: float, rounds: int, options: dict[str, object]) -> object:
    """Calibration without the memory of earlier searches, which is kept in the cache."""
    from pydantic import validate_call

    return validate_call(cls.for_epsilon)(epsilon=epsilon, delta=delta, rounds=rounds, **options)  # type: ignore[attr-defined]


@pytest.mark.parametrize(
    ("old", "new", "message"),
    [
        ("observer: ", "observr: ", ":9: checks[0]: unknown key 'observr' (did you mean 'observer'?)"),
        ("value: 0.99", "value: 1.5", ":10: checks[0].limit.value: expected a number in [0, 1], got 1.5"),
        ("metric: auc\n    observer: server\n    limit", EPSILON, ":8: checks[0].metric: expected 'delta' "),
        ("observer: server", "observer: sever", ":9: checks[0].observer: expected 'server', "),
        ("rationale:", "attack: LiRA\n    rationale:", ":11: checks[0].attack: expected 'any' or attacks "),
        ("rationale:", "attack: [RMIA, generator samples]\n    rationale:", ":11: checks[0].attack: expect"),
        ("rationale:", "attack: class means of members\n    rationale:", ":11: checks[0].attack: expect"),
        ("metric: auc\n", "metric: property_inference\n    attack: RMIA\n",
         ":9: checks[0].attack: expected 'any' or attacks of 'server' (property loss test, property of"),
        ("min_lower: 0.6", "min_lower: 0.4", ":4: controls.positive.min_lower: expected a number in (0.5"),
    ],
)  # fmt: skip
def test_a_wrong_policy_is_refused_with_its_line(cache: Path, old: str, new: str, message: str) -> None:
    plan = tiny.write(Path("in"), policy=changed(tiny.POLICY, old, new))
    assert refused(privfed("audit", str(plan)), cache).startswith(f"in/policy.yaml{message}")


def broken_data(name: str) -> None:
    """Writes in/NAME.npz with the mistake that the name tells."""
    images, labels = np.zeros((300, 8, 8), dtype=np.uint8), np.arange(300) % 2
    arrays = {
        "unlabelled": {"images": images},
        "too-bright": {"images": images + 7.0, "labels": labels},
        "fewer-labels": {"images": images, "labels": labels[1:]},
        "one-class": {"images": images, "labels": labels * 0},
        "oblong": {"images": images[:, 1:], "labels": labels},
        "pickled": {"images": np.array([{}] * 300), "labels": labels},
    }
    if name == "truncated":
        Path("in/truncated.npz").write_bytes(b"PK\x03\x04 and no more")
    elif name != "absent":
        np.savez(f"in/{name}.npz", **arrays[name])  # type: ignore[arg-type]


@pytest.mark.parametrize(
    "name",
    ["absent", "truncated", "unlabelled", "too-bright", "fewer-labels", "one-class", "oblong", "pickled"],
)
def test_unreadable_data_is_refused(cache: Path, name: str) -> None:
    plan = tiny.write(Path("in"), changed(tiny.PLAN, "data: digits", f"data: npz:{name}.npz"))
    broken_data(name)
    assert refused(privfed("audit", str(plan)), cache).startswith("expected ")


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ("nope", "expected a plan file or one of attacks, attacks-clients, "),
        (
            "in/plan.yaml --policy nope",
            "expected a policy file or one of internal, public, restricted-api, got",
        ),
        ("in/plan.yaml --jobs -1", "expected jobs >= 0, got jobs=-1"),
        ("in/plan.yaml --seed -1", "expected seed >= 0, got seed=-1"),
        ("in/plan.yaml --out in/plan.yaml", "expected a folder for --out, got the file in/plan.yaml"),
        ("in/plan.yaml --out in/plan.yaml/run", "expected a folder for --out, got the file "),
    ],
)
def test_wrong_arguments_are_refused(cache: Path, arguments: str, message: str) -> None:
    tiny.write(Path("in"))
    assert refused(privfed("audit", *shlex.split(arguments)), cache).startswith(message)


def test_a_packaged_plan_looks_for_its_files_where_the_command_is_typed(cache: Path) -> None:
    """They cannot be in the installed package; beside a plan of one's own they are beside the plan."""
    line = refused(privfed("audit", "reviews"), cache)
    assert "got source='reviews' without them" in line
    Path("data").mkdir()
    for name in ("rt-polarity.neg", "rt-polarity.pos"):
        Path("data", name).write_text(f"a {name[-3:]} film\nanother {name[-3:]} film\n", encoding="utf-8")
    line = refused(privfed("audit", "reviews"), cache)
    assert line.startswith("reviews: setting same-classes: expected candidates + population")


def test_an_unknown_data_set_lists_what_there_is(cache: Path) -> None:
    plan = tiny.write(Path("in"), changed(tiny.PLAN, "data: digits", "data: dgits"))
    assert refused(privfed("audit", str(plan)), cache).startswith("expected source to be one of digits, ")


def test_cuda_is_refused_where_there_is_none(cache: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    tiny.write(Path("in"))
    line = refused(privfed("audit", "in/plan.yaml", "--device", "cuda"), cache)
    assert line == "expected a CUDA device for --device cuda, got none on this machine"


def test_a_cache_that_is_a_file_is_refused(cache: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    plan = tiny.write(Path("in"))
    monkeypatch.setenv("PRIVFED_CACHE", str(plan))
    assert refused(privfed("audit", str(plan)), cache).startswith("expected a folder for the cache, got the")


DAMAGE = {
    "absent": None,
    "empty": b"",
    "truncated": b'{"schema_version": "1.0", "title": "x", "summ',
    "other schema": b'{"schema_version": "9.0"}',
    "no record": b"[1, 2]",
    "a number too large": b'{"title": 1e999}',
    "not text": b"\xff\xfe\x00",
    "deeply nested": b"[" * 100_000,
}


@pytest.mark.parametrize("damage", sorted(DAMAGE))
def test_a_damaged_run_folder_is_refused(cache: Path, damage: str) -> None:
    content = DAMAGE[damage]
    Path("run").mkdir()
    if content is not None:
        Path("run/record.json").write_bytes(content)
    before = sorted(Path("run").iterdir())
    assert "run/record.json" in refused(privfed("report", "run"), cache)
    assert sorted(Path("run").iterdir()) == before


def test_a_huge_record_is_not_even_read(cache: Path) -> None:
    Path("run").mkdir()
    with Path("run/record.json").open("wb") as file:
        file.truncate(command.LARGEST_RECORD + 1)
    assert refused(privfed("report", "run"), cache) == "expected a record under 64 MB, got run/record.json"


def test_a_run_that_is_not_there_is_refused(cache: Path) -> None:
    assert refused(privfed("report", "nowhere"), cache).endswith("No such file or directory")


def test_what_is_listed_for_machines() -> None:
    done = privfed("list", "--json")
    assert done.exit_code == 0
    found = json.loads(done.stdout)
    assert set(found) == {k.value for k in Kind}
    assert set(found["attacks"]) >= {"lira", "rmia", "loss_threshold", "distil_and_test"}
    assert set(found["pipelines"]) >= {"fedavg", "feddgm", "twin"}
    assert set(found["datasets"]) >= {"digits", "fashion-mnist", "npz:PATH"}
    assert "dp_sgd" in found["defenses"]
    assert "digits" in found["plans"]
    assert all(isinstance(text, str) and text for entries in found.values() for text in entries.values())


@pytest.mark.parametrize("kind", [k.value for k in Kind])
def test_one_kind_is_listed_alone_in_both_forms(kind: str) -> None:
    machine = json.loads(privfed("list", kind, "--json").stdout)
    person = privfed("list", kind).stdout.splitlines()
    assert person[0] == kind
    assert [line.split("  ")[1].strip() for line in person[1:]] == list(machine)


def test_an_unforeseen_error_is_one_line_and_exit_code_4(
    cache: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def broken(*_: object) -> int:
        raise RuntimeError("first line\nsecond line")

    monkeypatch.setattr(command, "run_audit", broken)
    done = privfed("audit")
    assert (done.exit_code, done.stderr) == (4, "privfed: RuntimeError: first line second line\n")


def test_an_interrupted_run_says_how_to_go_on(cache: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def interrupted(*_: object) -> int:
        raise KeyboardInterrupt

    monkeypatch.setattr(command, "run_audit", interrupted)
    done = privfed("audit")
    assert done.exit_code == 130
    assert "run the same command again to resume" in done.stderr
