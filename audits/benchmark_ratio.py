"""Ways of doing the same work, timed in turn, as ratios that do not depend on the hour."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping, Sequence
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
        repeats: timed runs of each.
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
    ways: Mapping[str, Callable[[], object]],
    pairs: Sequence[tuple[str, str]],
    repeats: int,
    warm: bool = True,
) -> list[Ratio]:
    """Runs all ways in turn, so that a machine that slows down hurts all of them.

    Args:
        topic: what is done.
        ways: the work by name, in the order in which it runs.
        pairs: which way is compared with which: (faster, slower).
        repeats: timed runs of each.
        warm: whether each runs once untimed beforehand (allocation, kernel selection).
    """
    if warm:
        for way in ways.values():
            way()
    times = [{name: _seconds(way) for name, way in ways.items()} for _ in range(repeats)]
    return [_ratio(topic, pair, times) for pair in pairs]


def _ratio(topic: str, pair: tuple[str, str], times: Sequence[Mapping[str, float]]) -> Ratio:
    faster, slower = pair
    ratios = [t[slower] / t[faster] for t in times]
    seconds = median(t[faster] for t in times)
    return Ratio(topic, faster, slower, median(ratios), min(ratios), max(ratios), seconds, len(times))


def _seconds(run: Callable[[], object]) -> float:
    start = time.perf_counter()
    run()
    return time.perf_counter() - start
