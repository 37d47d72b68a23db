"""Documentation that runs: the commands and the Python of README.md and CONTRIBUTING.md.

A command must be in `COMMANDS`, with the way in which it is kept true; one that is not fails here.
"""

from __future__ import annotations

import re
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Literal

import pytest

from reports.record import Check, Limit, Policy, Record, Run, Summary, to_json

ROOT = Path(__file__).resolve().parent.parent
PAGES = ("README.md", "CONTRIBUTING.md")
Kept = Literal["ci", "dry", "spelling"]

# ci: .ci/run has the same line, or a make target that stands for it.
# dry: `make --dry-run` knows the target; what it runs is tested elsewhere or takes long.
# spelling: the command line accepts the command with --help appended, so each option exists; the
#   behaviour is tested in tests/audits.
COMMANDS: dict[str, Kept] = {
    "make audit": "ci",
    "make test": "ci",
    "make help": "ci",
    "make check": "dry",
    "make benchmark": "dry",
    ". .venv/bin/activate": "ci",
    "privfed audit --out runs/review": "ci",
    "privfed report runs/review": "ci",
    "privfed list attacks": "ci",
    "privfed list --json": "ci",
    "privfed audit --policy policy.yaml --out runs/review": "spelling",
    "privfed epsilon --noise 1.0 --rate 0.01 --steps 1000 --delta 1e-5": "ci",
    "privfed sweep digits --defense dp_sgd --epsilon 1,2,4,8,inf --arm feddgm": "spelling",
    "privfed audit plan.yaml --policy policy.yaml --out runs/gate --jobs 2 --seed 1": "spelling",
}


def blocks(page: str, language: str) -> list[str]:
    """Contents of the fenced blocks of that language, in order."""
    text = (ROOT / page).read_text(encoding="utf-8")
    return re.findall(rf"^```{language}\n(.*?)^```$", text, re.MULTILINE | re.DOTALL)


def commands(page: str) -> list[str]:
    """Commands in `sh` and `console` blocks of a page; a console line of output has no prompt."""
    plain = [line for block in blocks(page, "sh") for line in block.splitlines()]
    console = [line for block in blocks(page, "console") for line in block.splitlines()]
    typed = plain + [line.removeprefix("$ ") for line in console if line.startswith("$ ")]
    return [line.strip() for line in typed if line.strip() and not line.startswith("#")]


@pytest.mark.parametrize("page", PAGES)
def test_every_command_is_kept_true_somewhere(page: str) -> None:
    assert sorted(set(commands(page)) - COMMANDS.keys()) == []


def test_no_command_is_kept_that_nobody_reads() -> None:
    assert sorted(COMMANDS.keys() - {c for page in PAGES for c in commands(page)}) == []


@pytest.mark.parametrize("command", [c for c, kept in COMMANDS.items() if kept == "ci"])
def test_ci_runs_the_command(command: str) -> None:
    lines = (ROOT / ".ci" / "run").read_text(encoding="utf-8").splitlines()
    assert any(re.fullmatch(rf"(step )?{re.escape(command)}( ARGS=.*)?( \|\| .*)?", line) for line in lines)


@pytest.mark.parametrize("command", [c for c in COMMANDS if c.startswith("privfed ")])
def test_command_line_knows_every_option(command: str) -> None:
    """An unknown option is refused before --help is looked at, so this runs nothing."""
    code = "import sys; from audits.cli import main; sys.exit(main())"
    done = subprocess.run(
        [sys.executable, "-c", code, *command.split()[1:], "--help"],
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr


@pytest.mark.skipif(shutil.which("make") is None, reason="make is not installed")
@pytest.mark.parametrize("command", [c for c in COMMANDS if c.startswith("make ")])
def test_make_knows_the_target(command: str) -> None:
    done = subprocess.run(
        [*command.split(), "--dry-run"], cwd=ROOT, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr


@pytest.mark.skipif(shutil.which("make") is None, reason="make is not installed")
def test_make_explains_every_target() -> None:
    text = (ROOT / "Makefile").read_text(encoding="utf-8")
    phony = next(line for line in text.splitlines() if line.startswith(".PHONY:")).split()[1:]
    shown = subprocess.run(["make"], cwd=ROOT, capture_output=True, text=True, check=True).stdout
    assert [t for t in phony if not re.search(rf"^  make {t} +\S", shown, re.MULTILINE)] == []


def test_links_lead_somewhere() -> None:
    pages = [*PAGES, *(str(p.relative_to(ROOT)) for p in sorted((ROOT / "docs").rglob("*.md")))]
    dead = []
    for page in pages:
        text = (ROOT / page).read_text(encoding="utf-8")
        for target in re.findall(r"\]\((?!https?://)([^)#]*)(?:#[^)]*)?\)", text):
            if target and not ((ROOT / page).parent / target).exists():
                dead.append(f"{page} -> {target}")
    assert dead == []


def test_release_example_prints_what_the_page_says(capsys: pytest.CaptureFixture[str]) -> None:
    example = next(b for b in blocks("README.md", "python") if "privfed.release" in b)
    exec(compile(example, "README.md", "exec"), {})
    assert capsys.readouterr().out == blocks("README.md", "text")[0]


def test_record_example_reads_a_record(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    run = tmp_path / "runs" / "review"
    run.mkdir(parents=True)
    (run / "record.json").write_text(to_json(small_record()), encoding="utf-8")
    monkeypatch.chdir(tmp_path)
    example = next(b for b in blocks("README.md", "python") if "reports.record" in b)
    exec(compile(example, "README.md", "exec"), {})
    assert capsys.readouterr().out == "PASS All is well.\nPASS MIA-AUC-1 within the limit\n"


def small_record() -> Record:
    """A record with one check and nothing else."""
    check = Check(
        id="MIA-AUC-1", title="AUC", rationale="", blocking=True, setting="a", arm="b", attack="c",
        observer="server", estimate=None, limit=Limit(op="<=", value=0.6), verdict="PASS",
        reason_code="within_limit", message="within the limit",
    )  # fmt: skip
    run = Run(
        id="0", created="2026-01-01T00:00:00Z", tool_version="0", command="", seed=0, plan="", plan_sha256="",
        dataset="", dataset_sha256="", federations=0, python="", platform="", device="cpu", packages={},
        determinism="bitwise",
    )  # fmt: skip
    return Record(
        title="", summary=Summary(verdict="PASS", exit_code=0, counts={}, sentence="All is well."), run=run,
        policy=Policy(id="", sha256=""), subjects=(), settings=(), arms=(), checks=(check,), cells=(),
        controls=(), utility=(), tradeoff=(), dp=(), limitations=(),
    )  # fmt: skip
