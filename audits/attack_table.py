"""Every attack by every observer on the three pipelines: `python -m audits.attack_table`.

Federations and what was read of them are kept, so that a run that was cut short goes on where it was.
"""

from __future__ import annotations

import argparse
import dataclasses
import shlex
import sys
import time
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from functools import partial
from pathlib import Path

from rich.console import Console

from audits.attack_rows import comparison, inferred, rows, summary
from audits.finding import Finding
from audits.plan import ReadyPlan
from audits.store import default_root
from audits.units import PLURALS

PLANS = ("attacks", "attacks-fashion", "attacks-clients", "attacks-subjects")
QUICK_FEDERATIONS = 4
LEVEL = 0.95


@dataclass(frozen=True, slots=True)
class Played:
    """One plan as played.

    Attributes:
        ready: the plan, with as many federations as were run.
        findings: of every arm.
        seconds: processor seconds of all trainings, whenever they were done.
        wall: seconds that this run took.
    """

    ready: ReadyPlan
    findings: tuple[Finding, ...]
    seconds: float
    wall: float


def main(arguments: Sequence[str] | None = None, root: Path | None = None) -> int:
    """Plays what is not kept, prints the tables or writes them."""
    given = _parser().parse_args(arguments)
    names = given.plans or (PLANS[:1] if given.quick else PLANS)
    console = Console(stderr=True)
    played = [_played(name, given, root or default_root(), console) for name in names]
    words = list(sys.argv[1:] if arguments is None else arguments)
    text = page(played, words)
    if given.out is None:
        print(text)
    else:
        given.out.write_text(text, encoding="utf-8")
    return 0


def page(played: Sequence[Played], words: Sequence[str]) -> str:
    """The tables of all plans as a Markdown page; `words` are the command's."""
    command = f"make benchmark-attacks ARGS={shlex.quote(shlex.join(words))}"
    parts = [
        "# Every attack by every observer",
        f"`{command}`, {datetime.now(UTC):%Y-%m-%d}.",
        LEGEND,
        *(part for p in played for part in _section(p)),
    ]
    return "\n\n".join(parts) + "\n"


LEGEND = """\
Federations, what attacks read of them and scores are kept, so that the command may be cut short and run
again; the minutes below are those of a last run. From nothing, all four plans took between one and two hours
on two cores: 24 CPU minutes of training, the rest reading and scoring.

**AUC** over the candidates that are not canaries; **canaries**: AUC over those with a label made wrong on
purpose; **TPR** at a false-positive rate of 1 % and of 0.1 %, over all federations (`audits/pooled_tpr.py`).
In brackets one-sided bounds at 95 %, with a variance for scores that depend on record and federation.
"–": nothing to read, or not resolved. The positive twin memorises and publishes its records: an attack that
does not find those has not shown what it can find; where it was left out for its cost, no such column
stands. The places at which the white box and the gradient cosine
read a model, and what the white box reads beside, were chosen by looking at ten federations of the
digits; nothing was chosen on Fashion-MNIST. Yardsticks are no attacks on what was shared: they say what the
class means of the members, or of public records, would give away."""


def _section(played: Played) -> list[str]:
    plan = played.ready.plan
    found = [f"## {plan.title}"]
    for setting in dict.fromkeys(f.setting.id for f in played.findings):
        mine = [f for f in played.findings if f.setting.id == setting]
        units = mine[0].setting.privacy_units
        canaries = int(mine[0].setting.canaries.sum())
        beside = f" and {canaries} canaries" if canaries else ""
        found += [
            f"{plan.federations} federations an arm, each in turn the target and all others its references; "
            f"{units.count - canaries} {PLURALS[units.kind]}{beside}, in or out by a fair coin. "
            f"Training took {played.seconds / 60:.1f} CPU min; this run, with what was kept, "
            f"{played.wall / 60:.1f} min." + _left_out(plan.leave_out),
            "### The strongest attack of each observer, and the simplest",
            comparison(mine, LEVEL),
            *(f"### {title}\n\n{table}" for title, table in rows(mine, LEVEL)),
            "### Labels of clients, and the client that holds a record",
            inferred(mine, LEVEL),
            "### Does leakage fall along the way?",
            summary(mine, LEVEL),
        ]
    return found


def _left_out(names: Sequence[str]) -> str:
    return f" Left out by the plan: {', '.join(names)}." if names else ""


def _played(name: str, given: argparse.Namespace, root: Path, console: Console) -> Played:
    from audits.audit import Request, measure
    from audits.command import read_inputs
    from audits.watching import watched

    start = time.monotonic()
    ready, rules, dataset = read_inputs(name, None, None)
    federations = QUICK_FEDERATIONS if given.quick else given.federations or ready.plan.federations
    plan = ready.plan.model_copy(update={"federations": federations})
    # What never saw a record shows nothing in a table of attacks: it is for verdicts.
    shown = tuple(a for a in ready.arms if getattr(a.pipeline, "trained_on", "") != "public")
    if name in given.without_control:
        shown = tuple(a for a in shown if a.role != "control")
    ready = dataclasses.replace(ready, plan=plan, arms=shown)
    request = Request(ready, rules, dataset, plan.seed, given.jobs, root, "cpu", "")
    _, findings = watched(
        console, given.jobs, partial(measure, request, decoys=False, sought=("labels", "source"))
    )
    seconds = sum(k.seconds for f in findings for k in f.played.kept)
    return Played(ready, tuple(findings), seconds, time.monotonic() - start)


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="python -m audits.attack_table", description=(__doc__ or "").splitlines()[0]
    )
    add = parser.add_argument
    add("plans", nargs="*", help=f"packaged plans or files; {' and '.join(PLANS)} if left out")
    add("--federations", type=int, help="of each arm, in place of the plan's own")
    add("--jobs", type=int, default=2, help="processes side by side (default 2)")
    add("--without-control", action="append", default=[], metavar="PLAN", help="leave its positive twin out")
    add("--quick", action="store_true", help=f"a smoke test: {QUICK_FEDERATIONS} federations of the digits")
    add("--out", type=Path, metavar="FILE", help="write the tables as Markdown instead of printing them")
    return parser


if __name__ == "__main__":
    sys.exit(main())
