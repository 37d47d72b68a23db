"""Two ways of doing the same work, timed in turn, as a ratio that does not depend on the hour."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass
from statistics import median


@dataclass(frozen=True, slots=True)
class Ratio:
    """How many times as fast one way is as another.

    Attributes:
        topic: what was done.
        faster, slower: the two ways, in words; the ratio is slower over faster.
        ratio: median over the repeats of slower seconds over faster seconds; under 1 = it lost.
        lowest, highest: of the same repeats.
        seconds: median of the faster way.
        repeats: alternated runs of each, after one untimed run of each where that is said.
    """

    topic: str
    faster: str
    slower: str
    ratio: float
    lowest: float
    highest: float
    seconds: float
    repeats: int


def compare(
    topic: str,
    faster: tuple[str, Callable[[], object]],
    slower: tuple[str, Callable[[], object]],
    repeats: int,
    warm: bool = True,
) -> Ratio:
    """Runs both in turn, `slower` first, so that a machine that slows down hurts both.

    Args:
        topic: what is done.
        faster, slower: name and work of each way.
        repeats: timed runs of each.
        warm: whether each runs once untimed beforehand (allocation, kernel selection).
    """
    if warm:
        slower[1]()
        faster[1]()
    times = [(_seconds(slower[1]), _seconds(faster[1])) for _ in range(repeats)]
    ratios = [slow / fast for slow, fast in times]
    seconds = median(fast for _, fast in times)
    return Ratio(topic, faster[0], slower[0], median(ratios), min(ratios), max(ratios), seconds, repeats)


def _seconds(run: Callable[[], object]) -> float:
    start = time.perf_counter()
    run()
    return time.perf_counter() - start
