"""What a waiting person is told: counts before the work, bars while it goes on."""

from __future__ import annotations

import io
import time
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from rich.console import Console

from audits import watching
from audits.watching import cost, watched


@dataclass
class Task:
    """A job of four federations, two of them untrained, that has so many readings left at each look."""

    left: Iterator[int] = field(default_factory=lambda: iter(()))
    last: int = 6
    folders: tuple[Path, ...] = tuple(map(Path, "abcd"))
    setting: Any = field(default_factory=lambda: SimpleNamespace(clients=3))
    arm: Any = field(default_factory=lambda: SimpleNamespace(pipeline=SimpleNamespace(rounds=5)))

    def missing(self) -> int:
        return 2

    def unread(self) -> int:
        self.last = next(self.left, self.last)
        return self.last


def test_the_cost_is_told_in_federations_trainings_and_readings(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PRIVFED_CACHE", "/kept")
    jobs: list[Any] = [Task(), Task()]
    assert cost(jobs, 2) == (
        "4 of 8 federations to train (60 client trainings), 2 workers; 4 found in /kept; "
        "12 readings for attacks to make"
    )


def shown(terminal: bool, monkeypatch: pytest.MonkeyPatch) -> str:
    monkeypatch.setattr(watching, "LOOK_EVERY", 0.01)
    text = io.StringIO()
    jobs: list[Any] = [Task(left=iter([1000, 1000, 1000, 600]), last=600)]

    def work(steps: Any) -> str:
        steps.preparing()
        advance = steps.playing(jobs)
        deadline = time.monotonic() + 20
        while terminal and "400/1000" not in text.getvalue():
            assert time.monotonic() < deadline
            time.sleep(0.01)
        advance(4)
        steps.judging()
        return "done"

    assert watched(Console(file=text, force_terminal=terminal, width=160), 2, work) == "done"
    return text.getvalue()


def test_readings_move_their_bar_while_a_job_still_runs(monkeypatch: pytest.MonkeyPatch) -> None:
    text = shown(True, monkeypatch)
    assert "Reading what observers saw" in text
    assert "Attacking and judging" in text
    assert "1000/1000" in text


def test_without_a_terminal_there_is_no_such_bar(monkeypatch: pytest.MonkeyPatch) -> None:
    text = shown(False, monkeypatch)
    assert "Reading what observers saw" not in text
    assert "Attacking and judging" in text


def test_a_crash_passes_through_and_ends_the_watching(monkeypatch: pytest.MonkeyPatch) -> None:
    def work(steps: Any) -> None:
        steps.playing([Task()])
        raise RuntimeError("stop")

    with pytest.raises(RuntimeError, match="stop"):
        watched(Console(file=io.StringIO(), force_terminal=True), 1, work)
