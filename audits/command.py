"""What the commands do: check everything first, then run, then write."""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, TypeVar

from pydantic import ValidationError
from rich.console import Console
from rich.markup import escape

from audits import catalogue, store
from audits.document import Document, DocumentError
from audits.plan import ReadyPlan, packaged, read_plan, titles
from audits.policy import SOUGHT, Policy, lint, load_policy, packaged_policies, packaged_policy
from audits.watching import watched
from reports.record import Record, from_json, to_json

if TYPE_CHECKING:
    from audits.audit import Evidences, Request
    from privfed.datasets import Dataset

T = TypeVar("T")

LARGEST_RECORD = 64 * 2**20


class Mistake(ValueError):
    """Something the user can put right; its text is one line."""


def run_audit(
    plan: str,
    policy: str | None,
    out: Path | None,
    jobs: int,
    seed: int | None,
    device: str,
    command: str,
    evidence: Evidences = "withheld",
) -> int:
    """Checks, runs and writes one audit; returns the exit code of its verdict."""
    console = Console(stderr=True)
    from audits.audit import Request

    where, workers = machine(out, jobs, seed, device)
    ready, rules, dataset = read_inputs(plan, policy, seed)
    root = ready.plan.seed if seed is None else seed
    folder = out or Path("runs") / f"{ready.plan.id}-{_short(ready, rules, root)}"
    check_folder(folder, "--out")
    for warning in lint(rules.value, _units(ready)):
        console.print(f"[yellow]policy:[/] {escape(warning)}", highlight=False)
    request = Request(ready, rules, dataset, root, workers, store.default_root(), where, command, evidence)
    record = _run(console, request)
    paths = write(record, folder)
    _tell(console, record, paths)
    return record.summary.exit_code


def machine(out: Path | None, jobs: int, seed: int | None, device: str) -> tuple[str, int]:
    """Device and number of workers; refuses what this machine does not have or may not be written to."""
    where = _device(device)
    workers = _workers(jobs) if where == "cpu" else 1
    if seed is not None and seed < 0:
        raise Mistake(f"expected seed >= 0, got seed={seed}")
    if out is not None:
        check_folder(out, "--out")
    check_folder(store.default_root(), "the cache")
    return where, workers


def run_report(run: Path) -> int:
    """Renders the reports of a stored record again."""
    folder = run.parent if run.name == "record.json" else run
    record = read_record(folder / "record.json")
    paths = write(record, folder)
    _tell(Console(stderr=True), record, paths)
    return 0


def read_record(path: Path) -> Record:
    """A record from disk; a damaged one is refused in one line."""
    try:
        if path.stat().st_size > LARGEST_RECORD:
            raise Mistake(f"expected a record under {LARGEST_RECORD >> 20} MB, got {path}")
        return from_json(path.read_text(encoding="utf-8"))
    except (OSError, UnicodeDecodeError) as error:
        cause = error.strerror if isinstance(error, OSError) else "not UTF-8 text"
        raise Mistake(f"expected a run folder with a readable record.json, got {path}: {cause}") from error
    except ValidationError as error:
        first = error.errors()[0]
        where = ".".join(str(part) for part in first["loc"]) or "the file"
        raise Mistake(f"expected a whole record, got {path} damaged at {where}: {first['msg']}") from error


def write(record: Record, folder: Path) -> list[Path]:
    """Writes record.json, report.html and report.md; returns their paths."""
    from reports import html, markdown

    check_folder(folder, "the reports")
    # The record comes first: whatever a renderer does, what was measured is on disk.
    content: dict[str, Callable[[Record], str]] = {
        "record.json": to_json,
        "report.html": html.render,
        "report.md": markdown.render,
    }
    return write_files(folder, {name: partial(render, record) for name, render in content.items()})


def write_files(folder: Path, content: Mapping[str, Callable[[], str]]) -> list[Path]:
    """Writes files one after the other, each whole or not at all; returns their paths."""
    folder.mkdir(parents=True, exist_ok=True)
    for name, text in content.items():
        part = folder / f"{name}.part"
        part.write_text(text(), encoding="utf-8")
        part.replace(folder / name)
    return [folder / name for name in content]


def listing(kind: str) -> dict[str, str]:
    """Names and one-line descriptions of one kind of thing."""
    if kind == "datasets":
        from privfed.datasets import SOURCES

        return {s.name: s.description for s in SOURCES}
    if kind == "plans":
        return titles()
    return {name: catalogue.summary(cls) for name, cls in sorted(catalogue.names(kind).items())}


def read_inputs(
    plan: str, policy: str | None, seed: int | None
) -> tuple[ReadyPlan, Document[Policy], Dataset]:
    """Everything a run needs, read and checked before anything is trained."""
    from audits.feasibility import check
    from privfed.datasets import DatasetError, load

    try:
        ready = read_plan(plan)
        rules = _policy(policy or ready.plan.policy, ready)
        # Files lie beside the user's own plan; for a packaged one, where the command was typed.
        dataset = load(ready.plan.data, None if plan in packaged() else Path(plan).parent)
        _check_attacks(rules, ready, dataset)
        check(ready, dataset, ready.plan.seed if seed is None else seed)
    except (DocumentError, DatasetError) as error:
        raise Mistake(str(error)) from error
    except ValueError as error:
        raise Mistake(f"{plan}: {error}") from error
    return ready, rules, dataset


def _policy(name: str, ready: ReadyPlan) -> Document[Policy]:
    if name in packaged_policies():
        return packaged_policy(name)
    path = Path(name)
    if not path.is_file():
        path = Path(ready.document.source).parent / name
    if not path.is_file():
        known = ", ".join(packaged_policies())
        raise DocumentError(f"expected a policy file or one of {known}, got policy={name!r}")
    return load_policy(path)


def _check_attacks(rules: Document[Policy], ready: ReadyPlan, dataset: Dataset) -> None:
    """Refuses rules that name an attack their observer never runs; it could not decide anything."""
    from audits.coverage import Scope, inquiries, probes

    scope = Scope(dataset.modality, ready.plan.attacks, ready.plan.unit.kind, frozenset(ready.plan.leave_out))
    played = [("", p.observer.label, p.name) for p in probes(scope) if not p.baseline]
    played += [(q.sought, q.observer.label, q.name) for q in inquiries(scope) if not q.disclosed]
    for index, rule in enumerate(rules.value.checks):
        of_kind = [p for p in played if p[0] == SOUGHT.get(rule.metric.name, "")]
        own = {name for _, observer, name in of_kind if observer == rule.observer}
        known = own or {name for _, _, name in of_kind}
        for name in rule.attack:
            if name not in known | {"any"}:
                line = rules.line_of("checks", index, "attack")
                raise DocumentError(
                    f"{rules.source}:{line}: checks[{index}].attack: expected 'any' or attacks of "
                    f"{rule.observer!r} ({', '.join(sorted(known))}), got {name!r}"
                )


def _run(console: Console, request: Request) -> Record:
    from audits.audit import audit

    return watched(console, request.workers, partial(audit, request))


def _tell(console: Console, record: Record, paths: Sequence[Path]) -> None:
    summary = record.summary
    console.print(
        f"\n[bold]{summary.verdict}[/] against policy {escape(record.policy.id)} (exit code "
        f"{summary.exit_code}): {escape(summary.sentence)}",
        highlight=False,
    )
    for path in paths:
        print(path)


def _workers(jobs: int) -> int:
    if jobs < 0:
        raise Mistake(f"expected jobs >= 0, got jobs={jobs}")
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count()
    return jobs or cores or 1


def _device(device: str) -> str:
    """Where to compute; "auto" is the CPU, where small models are quick and records repeat bit by bit."""
    if device == "cuda":
        import torch

        if not torch.cuda.is_available():
            raise Mistake("expected a CUDA device for --device cuda, got none on this machine")
    return "cuda" if device == "cuda" else "cpu"


def check_folder(folder: Path, what: str) -> None:
    """Refuses a place that cannot be made or written into, before hours are spent on what goes there."""
    nearest = next(p for p in (folder, *folder.absolute().parents) if p.exists())
    if not nearest.is_dir():
        raise Mistake(f"expected a folder for {what}, got the file {nearest}")
    if not os.access(nearest, os.W_OK | os.X_OK):
        raise Mistake(f"expected a writable folder for {what}, got {folder}")


def _short(ready: ReadyPlan, rules: Document[Policy], seed: int) -> str:
    return store.digest([ready.document.sha256, rules.sha256, seed])[:8]


def _units(ready: ReadyPlan) -> int:
    """Privacy units per side in the smallest setting."""
    return min(s.candidates - ready.plan.canaries for s in ready.splits) // 2
