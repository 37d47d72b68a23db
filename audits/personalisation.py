"""Personalised federated learning side by side: `python -m audits.personalisation`.

Every training is kept, so that a run that was cut short goes on where it was, and a new method
trains nothing but itself.
"""

from __future__ import annotations

import argparse
import shlex
import sys
from collections.abc import Sequence
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path

from rich import box
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn
from rich.table import Table

from audits.personalisation_data import SOURCES, packed
from audits.personalisation_methods import METHODS, chosen
from audits.personalisation_run import Result, Work
from audits.personalisation_table import COLUMNS, caption, headline, legend, markdown, rows
from audits.personalisation_tasks import SETTINGS, Setting
from audits.personalisation_works import Asked, Done, done_and_missing, estimate, train_missing
from audits.store import default_root

PLAIN_WIDTH = 240
QUICK_METHODS = "untrained,local-only,fedavg,fedavg-ft,fedrep,fedbkd"
QUICK_ROUNDS = 3
QUICK_SEEDS = 2


def main(arguments: Sequence[str] | None = None, root: Path | None = None) -> int:
    """Trains what is missing, prints the tables, writes them where asked to; 1 if a training failed."""
    parser = _parser()
    given = parser.parse_args(arguments)
    try:
        asked = _asked(given, root or default_root())
    except ValueError as error:
        parser.error(str(error))
    console = Console() if sys.stdout.isatty() else Console(width=PLAIN_WIDTH)
    done, missing = done_and_missing(asked)
    console.print(_plan(asked, missing), highlight=False)
    done += _watched(asked, missing, console)
    for setting in asked.settings:
        console.print(_table(setting, asked, done, console))
    if given.out is not None:
        words = list(sys.argv[1:] if arguments is None else arguments)
        given.out.write_text(page(asked, done, words), encoding="utf-8")
    failures = [d for d in done if d.result is None]
    for d in failures:
        console.print(f"failed: {d.label}: {d.failure}", markup=False, highlight=False)
    return 1 if failures else 0


def page(asked: Asked, done: Sequence[Done], words: Sequence[str]) -> str:
    """The tables of all tasks as a Markdown page; `words` are the command's."""
    command = f"make benchmark-personalisation ARGS={shlex.quote(shlex.join(words))}"
    parts = [
        "# Personalised federated learning, side by side",
        f"`{command}`, {datetime.now(UTC):%Y-%m-%d}.",
        legend(),
    ]
    for setting in asked.settings:
        body = rows(by_method(setting, done), asked.methods)
        if body:
            header = ["method", *(c.title for c in COLUMNS)]
            parts += [f"## {setting.title}", caption(setting, asked.seeds), markdown(header, body)]
    return "\n\n".join(parts) + "\n"


def by_method(setting: Setting, done: Sequence[Done]) -> dict[str, list[Result]]:
    """Results of one task by method, in the order of the seeds; methods with a failure are left out."""
    mine = [d for d in done if d.work.setting == setting]
    failed = {d.work.method for d in mine if d.result is None}
    found: dict[str, list[Result]] = {}
    for d in sorted(mine, key=lambda d: d.work.seed):
        if d.result is not None and d.work.method not in failed:
            found.setdefault(d.work.method, []).append(d.result)
    return found


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="python -m audits.personalisation", description=(__doc__ or "").splitlines()[0]
    )
    add = parser.add_argument
    add("--task", default="", help=f"of {', '.join(SETTINGS)}, with commas; all if left out")
    add("--methods", default="", help=f"of {', '.join(METHODS)}, with commas; all if left out")
    add("--seeds", type=int, default=5, help="trainings of each method (default 5)")
    add("--rounds", type=int, help="T, in place of each task's own")
    add("--jobs", type=int, default=2, help="processes side by side (default 2)")
    add("--cifar", default="cifar10", metavar="SOURCE", help="cifar10, or image-folder:PATH of its images")
    add("--quick", action="store_true", help="a smoke test: T=3, two seeds, few methods")
    add("--out", type=Path, metavar="FILE", help="also write the tables as Markdown")
    return parser


def _asked(given: argparse.Namespace, root: Path) -> Asked:
    tasks = [t.strip() for t in given.task.split(",") if t.strip()] or list(SETTINGS)
    for task in tasks:
        if task not in SETTINGS:
            raise ValueError(f"expected tasks among {', '.join(SETTINGS)}, got task={task!r}")
    for name in ("seeds", "jobs"):
        if getattr(given, name) < 1:
            raise ValueError(f"expected {name} >= 1, got {name}={getattr(given, name)}")
    rounds = QUICK_ROUNDS if given.quick and given.rounds is None else given.rounds
    named = {**SOURCES, "cifar": given.cifar}
    return Asked(
        tuple(_setting(task, rounds, named[task]) for task in tasks),
        {task: packed(named[task], root) for task in tasks},
        chosen(given.methods or (QUICK_METHODS if given.quick else "")),
        min(QUICK_SEEDS, given.seeds) if given.quick else given.seeds,
        given.jobs,
        root,
    )


def _setting(task: str, rounds: int | None, source: str) -> Setting:
    setting = SETTINGS[task]
    if source.startswith("image-folder:"):
        # Such folders hold the images as JPEG: figures on them are not those of the originals.
        setting = replace(setting, title=f"{setting.title} (JPEG)")
    return setting if rounds is None else replace(setting, rounds=rounds)


def _plan(asked: Asked, missing: Sequence[Sequence[Work]]) -> str:
    if not missing:
        return "Every training is kept; nothing to do."
    seconds = estimate(asked, missing)
    known = "no estimate before the first ends" if seconds is None else f"about {seconds / 60:.1f} min"
    return f"{len(missing)} trainings to do, {asked.jobs} at a time: {known}."


def _watched(asked: Asked, missing: Sequence[Sequence[Work]], console: Console) -> list[Done]:
    watched = console.is_terminal
    parts = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn())
    with Progress(*parts, console=console, disable=not watched) as progress:
        bar = progress.add_task("training", total=len(missing))

        def ended(one: Done) -> None:
            progress.update(bar, advance=1, description=one.label)
            if not watched:
                outcome = f"{one.result.seconds:.0f} CPU s" if one.result else one.failure
                console.print(f"{one.label}: {outcome}", markup=False, highlight=False)

        return train_missing(asked, missing, ended)


def _table(setting: Setting, asked: Asked, done: Sequence[Done], console: Console) -> Table:
    lines = box.SIMPLE if console.is_terminal else box.ASCII
    table = Table(title=headline(setting, asked.seeds), box=lines, title_justify="left")
    table.add_column("method", no_wrap=True)
    for column in COLUMNS:
        table.add_column(column.title, justify="right")
    for row in rows(by_method(setting, done), asked.methods):
        table.add_row(*row)
    return table


if __name__ == "__main__":
    sys.exit(main())
