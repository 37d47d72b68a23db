"""What `privfed sweep` does: check everything first, then run, then write."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path

from rich.console import Console
from rich.markup import escape

from audits import store
from audits.command import Mistake, check_folder, machine, read_inputs, write_files
from audits.document import Document
from audits.plan_schema import Plan
from audits.sweep_knob import Knob, knob_of, label
from audits.sweep_plan import Derived, blamed, derive
from audits.watching import watched
from privfed.datasets import Dataset
from reports.frontier import Frontier, is_gap, to_json


@dataclass(frozen=True, slots=True)
class Typed:
    """A sweep as typed.

    Attributes:
        defense: its name.
        shorthands: values by the knob they were typed for; None where they were not.
        knob: "NAME=V1,V2", or None.
        options: "NAME=VALUE" each.
        arms: ids; empty for every audited arm without defences.
    """

    defense: str
    shorthands: dict[str, str | None]
    knob: str | None
    options: Sequence[str]
    arms: Sequence[str]


@dataclass(frozen=True, slots=True)
class Where:
    """Options that a sweep shares with an audit."""

    out: Path | None
    jobs: int
    seed: int | None
    device: str
    command: str


def run_sweep(plan: str, typed: Typed, where: Where) -> int:
    """Checks, runs and writes one sweep; 0 once it is written, for a frontier is no verdict."""
    console = Console(stderr=True)
    try:
        knob = knob_of(typed.defense, typed.shorthands, typed.knob, typed.options)
    except ValueError as error:
        raise Mistake(str(error)) from error
    device, workers = machine(where.out, where.jobs, where.seed, where.device)
    ready, rules, dataset = read_inputs(plan, None, where.seed)
    seed = ready.plan.seed if where.seed is None else where.seed
    with console.status("Checking every point, and finding the noise that each needs"):
        derived = _derived(plan, ready.document, knob, typed.arms)
        _check(derived, dataset, seed)
    folder = where.out or _folder(derived, seed)
    check_folder(folder, "--out")
    console.print(announced(derived), highlight=False, markup=False)
    from audits.audit import Request
    from audits.sweep import sweep

    root = store.default_root()
    request = Request(derived.ready, rules, dataset, seed, workers, root, device, where.command)
    frontier = watched(console, workers, partial(sweep, request, derived))
    _tell(console, frontier, write(frontier, folder))
    return 0


def write(frontier: Frontier, folder: Path) -> list[Path]:
    """Writes frontier.json, frontier.html and frontier.md; returns their paths."""
    from reports import frontier_page

    check_folder(folder, "the frontier")
    # The figures come first: whatever a renderer does, what was measured is on disk.
    content = {
        "frontier.json": partial(to_json, frontier),
        "frontier.html": partial(frontier_page.render, frontier),
        "frontier.md": partial(frontier_page.as_markdown, frontier),
    }
    return write_files(folder, content)


def announced(derived: Derived) -> str:
    """How large the sweep is, in words, before anything runs."""
    plan, values = derived.ready.plan, ", ".join(label(v) for v in derived.knob.values)
    each = len(derived.knob.values) + 1
    beside = len(derived.ready.arms) - each * len(derived.swept)
    return (
        f"{derived.knob.defense} with {derived.knob.name} = {values} and undefended: {each} points for "
        f"{', '.join(derived.swept)}, and {beside} baselines and controls; {plan.federations} federations "
        f"each, in {len(plan.settings)} setting{'' if len(plan.settings) == 1 else 's'}"
    )


def _derived(plan: str, document: Document[Plan], knob: Knob, arms: Sequence[str]) -> Derived:
    try:
        return derive(document, knob, arms)
    except ValueError as error:
        raise Mistake(f"{plan}: {error}") from error


def _check(derived: Derived, dataset: Dataset, seed: int) -> None:
    """What the data or the number of clients make impossible."""
    from audits.feasibility import check

    try:
        check(derived.ready, dataset, seed)
    except ValueError as error:
        text = blamed(str(error), derived.ready.plan, derived.knob, derived.variants)
        raise Mistake(f"{derived.source.source}: {text}") from error


def _folder(derived: Derived, seed: int) -> Path:
    short = store.digest([derived.ready.document.sha256, seed])[:8]
    return Path("runs") / f"sweep-{derived.ready.plan.id}-{derived.knob.defense}-{short}"


def _tell(console: Console, frontier: Frontier, paths: Sequence[Path]) -> None:
    gaps = [p for p in frontier.points if is_gap(p)]
    failed = sum(not c.passed for c in frontier.controls)
    points = len(frontier.points)
    text = f"\n[bold]{points - len(gaps)} of {points} points[/] measured"
    if failed:
        text += f"; {failed} of {len(frontier.controls)} controls failed"
    console.print(text, highlight=False)
    for gap in gaps:
        place = f"{gap.arm} in {gap.setting}, {gap.value}, {gap.observer}"
        console.print(f"[yellow]gap:[/] {escape(place)}: {escape(gap.reason)}", highlight=False)
    for path in paths:
        print(path)
