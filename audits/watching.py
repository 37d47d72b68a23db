"""What a person sees who waits: what is left to do, and how far it has come.

Federations are counted as their jobs end; what attacks read, which may take longer than training, as it is
kept, by looking at the store from time to time.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import TYPE_CHECKING, TypeVar

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

from audits import store

if TYPE_CHECKING:
    from audits.audit import Steps
    from audits.game import Job

T = TypeVar("T")
LOOK_EVERY = 2.0
"""Seconds between two looks at the store."""


def watched(console: Console, workers: int, work: Callable[[Steps], T]) -> T:
    """Does what takes long under progress bars that say what it costs.

    Args:
        console: to write to; without a terminal no bar moves, and nobody looks at the store.
        workers: processes, for the words.
        work: is handed what to call at each step.
    """
    from audits.audit import Steps

    columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn())
    ended, looking = threading.Event(), list[threading.Thread]()
    with Progress(*columns, console=console) as progress, _setting(ended):
        bar = progress.add_task("Preparing", total=None)

        def preparing() -> None:
            progress.update(bar, description="Training or recalling the priors")

        def playing(jobs: Sequence[Job]) -> Callable[[int], None]:
            busy = [j for j in jobs if j.missing() or j.unread()]
            open_ = sum(len(j.folders) for j in busy)
            progress.console.print(cost(jobs, workers), highlight=False, markup=False)
            progress.update(bar, description="Playing federations", total=open_ or 1, completed=not open_)
            if busy and console.is_terminal:
                looking.append(_follow(progress, busy, ended))
            return lambda done: progress.advance(bar, done)

        def judging() -> None:
            ended.set()
            for thread in looking:
                thread.join()
            progress.update(bar, description="Attacking and judging")

        return work(Steps(preparing, playing, judging))


def cost(jobs: Sequence[Job], workers: int) -> str:
    """What is left to do, in words."""
    missing = sum(j.missing() for j in jobs)
    total = sum(len(j.folders) for j in jobs)
    clients = sum(j.missing() * j.setting.clients * j.arm.pipeline.rounds for j in jobs)
    known = f"{missing} of {total} federations to train ({clients} client trainings), {workers} workers"
    reused = f"; {total - missing} found in {store.default_root()}" if missing < total else ""
    return f"{known}{reused}; {sum(j.unread() for j in jobs):,} readings for attacks to make"


def _follow(progress: Progress, jobs: Sequence[Job], ended: threading.Event) -> threading.Thread:
    """A bar of its own for what attacks read, moved by a thread that only looks."""
    everything = sum(j.unread() for j in jobs)
    bar = progress.add_task("Reading what observers saw", total=everything)

    def look() -> None:
        while not ended.wait(LOOK_EVERY):
            progress.update(bar, completed=everything - sum(j.unread() for j in jobs))
        progress.update(bar, completed=everything)

    thread = threading.Thread(target=look, daemon=True)
    thread.start()
    return thread


@contextmanager
def _setting(event: threading.Event) -> Iterator[None]:
    """Sets it in the end, whatever happens."""
    try:
        yield
    finally:
        event.set()
