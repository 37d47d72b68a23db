"""How many records a second each attack scores, on one thread, training and extraction left out."""

from __future__ import annotations

import time
from collections.abc import Callable
from functools import partial
from statistics import median
from typing import NamedTuple

import numpy as np

from attacks.interface import MembershipAttack, References, Signals
from attacks.lira import Lira
from attacks.loss import LossThreshold
from attacks.nearest import CalibratedNearest
from attacks.rmia import Rmia


class ScoringRate(NamedTuple):
    """One measurement: records scored a second, against how many references, of how many records."""

    name: str
    records_per_second: float
    references: int
    records: int


def scoring_rates(
    records: int = 20_000, references: int = 64, population: int = 2_500, repeats: int = 5
) -> list[ScoringRate]:
    """Median rate of each attack on synthetic signals of one query.

    NumPy runs these operations on the calling thread only, so nothing needs pinning.
    """
    target, others = _signals(records, references, population)
    return [
        ScoringRate(
            name, records / _seconds(partial(attack.score, target, others), repeats), references, records
        )
        for name, attack in _attacks().items()
    ]


def _attacks() -> dict[str, MembershipAttack]:
    return {
        "loss threshold": LossThreshold(),
        "lira online, fixed variance": Lira(variance="fixed"),
        "lira online, variance per record": Lira(variance="per_record"),
        "lira offline, fixed variance": Lira(mode="offline", variance="fixed"),
        "rmia online": Rmia(),
        "rmia offline": Rmia(mode="offline"),
        "calibrated nearest neighbour": CalibratedNearest(),
    }


def _signals(records: int, references: int, population: int) -> tuple[Signals, References]:
    rng = np.random.default_rng(0)
    included = rng.random((references + 1, records)) < 0.5
    candidates = rng.normal(size=(references + 1, records, 1)) + included[..., np.newaxis]
    outside = rng.normal(size=(references + 1, population, 1, 1))
    target = Signals(candidates[0], outside[0], np.zeros(records, dtype=np.int64))
    return target, References(candidates[1:], outside[1:], included[1:])


def _seconds(run: Callable[[], object], repeats: int) -> float:
    times = []
    for _ in range(repeats):
        start = time.perf_counter()
        run()
        times.append(time.perf_counter() - start)
    return median(times)
