"""Speed ratios of this machine, measured side by side in one run: `python -m audits.benchmark`.

Absolute seconds hold for one machine on one day, so every figure is the ratio of two ways of doing
the same work in turn. Nothing here is a test: no figure has to reach anything.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import sys
from collections.abc import Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path

import torch
from rich import box
from rich.console import Console
from rich.table import Table

from audits.benchmark_game import Scale, second_audit_ratio, worker_ratio
from audits.benchmark_ratio import Ratio
from audits.benchmark_scoring import ScoringRate, scoring_rates
from audits.benchmark_training import engine_ratios, step_ratios

PLAIN_WIDTH = 110


@dataclass(frozen=True, slots=True)
class Size:
    """How much work is timed.

    Attributes:
        models, records: trained side by side, and records of each.
        steps: optimiser steps.
        references, scored: of the attacks' scores.
        played, audited: federations of the two workers, and of the two audits.
        repeats: alternated runs of each way; whole audits run three times, or fewer if this is.
    """

    models: int = 16
    records: int = 128
    steps: int = 100
    references: int = 64
    scored: int = 20_000
    played: Scale = field(default_factory=Scale)
    audited: Scale = field(default_factory=lambda: Scale(federations=8))
    repeats: int = 5


@dataclass(frozen=True, slots=True)
class Benchmark:
    """All that was measured, and where."""

    machine: dict[str, str | int]
    ratios: list[Ratio]
    scoring: list[ScoringRate]


def measure(size: Size, workers: int = 2) -> Benchmark:
    """Every ratio and every scoring rate."""
    whole = min(size.repeats, 3)
    ratios = [
        *engine_ratios(size.models, size.records, size.repeats),
        *step_ratios(size.models, size.steps, size.repeats),
        worker_ratio(size.played, whole, workers),
        second_audit_ratio(size.audited, whole),
    ]
    scoring = scoring_rates(size.scored, size.references, repeats=size.repeats)
    return Benchmark(machine(), ratios, scoring)


def machine() -> dict[str, str | int]:
    """What the figures depend on."""
    return {
        "processor": _processor(),
        "processors available": len(os.sched_getaffinity(0))
        if sys.platform == "linux"
        else os.cpu_count() or 1,
        "torch": torch.__version__,
        "torch threads": "1 in each process",
        "python": platform.python_version(),
        "system": f"{platform.system()} {platform.machine()}",
    }


def show(benchmark: Benchmark, console: Console) -> None:
    """Prints the figures as two tables; plain characters where nobody watches."""
    for name, value in benchmark.machine.items():
        console.print(f"{name}: {value}", highlight=False)
    console.print(_ratio_table(benchmark.ratios, _box(console)))
    console.print(_scoring_table(benchmark.scoring, _box(console)))


def main(arguments: Sequence[str] | None = None, size: Size | None = None, workers: int = 2) -> None:
    """Measures, prints, and writes JSON where asked to."""
    parser = argparse.ArgumentParser(
        prog="python -m audits.benchmark", description=(__doc__ or "").splitlines()[0]
    )
    parser.add_argument("--json", type=Path, metavar="FILE", help="also write the figures to FILE")
    asked = parser.parse_args(arguments)
    benchmark = measure(size or Size(), workers)
    console = Console()
    show(benchmark, console if console.is_terminal else Console(width=PLAIN_WIDTH))
    if asked.json is not None:
        asked.json.write_text(json.dumps(_plain(benchmark), indent=1) + "\n", encoding="utf-8")


def _plain(benchmark: Benchmark) -> dict[str, object]:
    return {
        "machine": benchmark.machine,
        "ratios": [asdict(r) for r in benchmark.ratios],
        "scoring": [r._asdict() for r in benchmark.scoring],
    }


def _ratio_table(ratios: Sequence[Ratio], lines: box.Box) -> Table:
    table = Table(title="How many times as fast (median; lowest to highest)", box=lines, title_justify="left")
    for name in ("work", "this", "over this"):
        table.add_column(name, overflow="fold")
    for name in ("ratio", "range", "seconds"):
        table.add_column(name, justify="right", no_wrap=True)
    for r in ratios:
        spread = f"{r.lowest:.2f} to {r.highest:.2f}"
        table.add_row(r.topic, r.faster, r.slower, f"{r.ratio:.2f}", spread, f"{r.seconds:.3g}")
    return table


def _scoring_table(rates: Sequence[ScoringRate], lines: box.Box) -> Table:
    table = Table(title="Records scored a second, one thread", box=lines, title_justify="left")
    table.add_column("attack")
    for name in ("records a second", "references", "records"):
        table.add_column(name, justify="right")
    for r in rates:
        table.add_row(r.name, f"{r.records_per_second:,.0f}", str(r.references), f"{r.records:,}")
    return table


def _box(console: Console) -> box.Box:
    return box.SIMPLE if console.is_terminal else box.ASCII


def _processor() -> str:
    """The processor's name where the system tells it."""
    try:
        lines = Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines()
    except OSError:
        lines = []
    names = [line.split(":", 1)[1].strip() for line in lines if line.startswith("model name")]
    return names[0] if names else platform.processor() or platform.machine()


if __name__ == "__main__":
    main()
