"""The command line: `privfed audit`, `privfed sweep`, `privfed report`, `privfed list`, `privfed epsilon`.

Nothing heavy is imported before a command needs it, so that help and mistakes answer at once.
"""

from __future__ import annotations

import json
import shlex
import sys
from enum import StrEnum
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

if TYPE_CHECKING:
    from reports.record import Record

USAGE = 2
ERROR = 4

app = typer.Typer(
    name="privfed",
    help="Audit what a federated pipeline that shares generated knowledge gives away.",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
)


class Device(StrEnum):
    """Where to compute."""

    auto = "auto"
    cpu = "cpu"
    cuda = "cuda"


class Kind(StrEnum):
    """What can be listed."""

    attacks = "attacks"
    inquiries = "inquiries"
    deviations = "deviations"
    defenses = "defenses"
    pipelines = "pipelines"
    datasets = "datasets"
    plans = "plans"


class Runs(StrEnum):
    """How the number of tuning runs was fixed."""

    fixed = "fixed"
    geometric = "geometric"
    poisson = "poisson"


class Relation(StrEnum):
    """How neighbouring data sets differ."""

    add_or_remove_one = "add_or_remove_one"
    replace_one = "replace_one"


class Evidence(StrEnum):
    """What of the records an audit may show."""

    withheld = "withheld"
    full = "full"


@app.command()
def audit(
    plan: Annotated[str, typer.Argument(help="A packaged plan by name, or a plan file.")] = "digits",
    policy: Annotated[
        str | None, typer.Option(help="A packaged policy by name, or a policy file [default: the plan's].")
    ] = None,
    out: Annotated[
        Path | None, typer.Option(help="Folder for the record and the reports [default: runs/PLAN-DIGEST].")
    ] = None,
    jobs: Annotated[int, typer.Option(help="Parallel workers; 0 = one a core.")] = 0,
    seed: Annotated[int | None, typer.Option(help="Root of all randomness [default: the plan's].")] = None,
    device: Annotated[Device, typer.Option(help="Where to compute.")] = Device.auto,
    evidence: Annotated[
        Evidence,
        typer.Option(
            help="Whether the reports show rebuilt and private images: full makes them CONFIDENTIAL."
        ),
    ] = Evidence.withheld,
) -> None:
    """Run an audit and write its record and reports.

    Exit codes: 0 pass, 1 policy violated, 2 usage, 3 inconclusive, 4 error, 5 nothing evaluated.
    """
    from audits.command import run_audit

    command = shlex.join(["privfed", *sys.argv[1:]])
    run = partial(
        run_audit,
        plan,
        policy,
        out,
        jobs,
        seed,
        device.value,
        command,
        "full" if evidence is Evidence.full else "withheld",
    )
    raise typer.Exit(_guarded(run, USAGE))


@app.command()
def sweep(
    plan: Annotated[str, typer.Argument(help="A packaged plan by name, or a plan file.")],
    defense: Annotated[str, typer.Option(help="The defence to turn, for example dp_sgd.")],
    epsilon: Annotated[str | None, typer.Option(help="Values, for example 1,2,4,8,inf.")] = None,
    noise: Annotated[str | None, typer.Option(help="Values of noise_multiplier.")] = None,
    keep: Annotated[str | None, typer.Option(help="Values of keep.")] = None,
    knob: Annotated[str | None, typer.Option(help="Any other: NAME=V1,V2,...")] = None,
    option: Annotated[
        list[str] | None,
        typer.Option(help="NAME=VALUE beside the knob [default: as the plan's first use has it]."),
    ] = None,
    arm: Annotated[
        list[str] | None, typer.Option(help="An audited arm [default: every one without defences].")
    ] = None,
    out: Annotated[
        Path | None, typer.Option(help="Folder for the frontier [default: runs/sweep-PLAN-DEFENSE-DIGEST].")
    ] = None,
    jobs: Annotated[int, typer.Option(help="Parallel workers; 0 = one a core.")] = 0,
    seed: Annotated[int | None, typer.Option(help="Root of all randomness [default: the plan's].")] = None,
    device: Annotated[Device, typer.Option(help="Where to compute.")] = Device.auto,
) -> None:
    """Turn one knob of one defence, and write leakage against accuracy along the way.

    Exit codes: 0 written, 2 usage, 4 error. A frontier is no verdict.
    """
    from audits.sweep_command import Typed, Where, run_sweep

    shorthands = {"epsilon": epsilon, "noise": noise, "keep": keep}
    typed = Typed(defense, shorthands, knob, option or (), arm or ())
    where = Where(out, jobs, seed, device.value, shlex.join(["privfed", *sys.argv[1:]]))
    raise typer.Exit(_guarded(lambda: run_sweep(plan, typed, where), USAGE))


@app.command()
def report(
    run: Annotated[Path, typer.Argument(help="A run folder, or its record.json.")],
) -> None:
    """Write the reports of a finished run again, from its record alone; nothing is trained."""
    from audits.command import run_report

    raise typer.Exit(_guarded(lambda: run_report(run), USAGE))


@app.command(name="list")
def list_(
    kind: Annotated[Kind | None, typer.Argument(help="What to list [default: everything].")] = None,
    as_json: Annotated[bool, typer.Option("--json", help="For machines.")] = False,
) -> None:
    """List attacks, what a malicious server may send, defences, pipelines, data sets and plans."""
    from audits.command import listing

    found = {k.value: listing(k.value) for k in ([kind] if kind else Kind)}
    if as_json:
        typer.echo(json.dumps(found[kind.value] if kind else found, indent=1))
        return
    for name, entries in found.items():
        typer.echo(name)
        width = max((len(e) for e in entries), default=0)
        for entry, description in entries.items():
            typer.echo(f"  {entry:<{width}}  {description}")


@app.command()
def epsilon(
    rate: Annotated[float, typer.Option(help="Chance that a step draws a given record.")],
    steps: Annotated[int, typer.Option(help="Noisy steps of one run.")],
    delta: Annotated[float, typer.Option(help="Failure probability.")],
    noise: Annotated[
        float | None, typer.Option(help="Noise multiplier: standard deviation over the clipping norm.")
    ] = None,
    target: Annotated[
        float | None, typer.Option("--epsilon", help="Instead of --noise: find the least noise for it.")
    ] = None,
    runs: Annotated[
        int | None, typer.Option(help="Runs to choose hyper-parameters; a mean if their number is random.")
    ] = None,
    stopping: Annotated[
        Runs | None, typer.Option(help="How the number of runs was fixed [default: fixed].")
    ] = None,
    neighbouring: Annotated[
        Relation, typer.Option(help="How neighbouring data sets differ.")
    ] = Relation.add_or_remove_one,
    as_json: Annotated[bool, typer.Option("--json", help="For machines.")] = False,
) -> None:
    """Say what noise costs and what it leaves to any attack, or which noise an epsilon asks for; no run."""
    from audits.epsilon_command import Question, run_epsilon

    question = Question(
        noise, target, rate, steps, delta, runs, stopping.value if stopping else None, neighbouring.value
    )
    raise typer.Exit(_guarded(lambda: run_epsilon(question, as_json), USAGE))


def _guarded(action: object, code: int) -> int:
    """Runs a command; a mistake of the user becomes one line on standard error."""
    try:
        return int(action())  # type: ignore[operator]
    except KeyboardInterrupt:
        typer.echo("privfed: interrupted; run the same command again to resume", err=True)
        return 130
    except Exception as error:
        from audits.command import Mistake

        if isinstance(error, Mistake):
            typer.echo(f"privfed: {_one_line(error)}", err=True)
            return code
        typer.echo(f"privfed: {type(error).__name__}: {_one_line(error)}", err=True)
        return ERROR


def _one_line(error: Exception) -> str:
    return " ".join(str(error).split())


def main() -> None:
    """Entry point of the console script."""
    app()


__all__ = ["Record", "main"]
