"""Chooses the training engine of a net by a short calibration, remembered for this machine.

Stacking wins for small nets and loses for larger ones, and where the border runs depends on the
processor. The choice is kept, so that a second run on the same machine computes the same bits.
"""

from __future__ import annotations

import platform
import time
from dataclasses import asdict, dataclass, replace
from pathlib import Path

import torch

from audits.store import digest, read_json, write_json
from privfed.nets import NetSpec, initial
from privfed.randomness import Stream
from privfed.records import Records
from privfed.training import Engine, Recipe, Task, train

MODELS = 16
RECORDS = 64


@dataclass(frozen=True, slots=True)
class Calibration:
    """Seconds of each engine for the same short job, and the faster one."""

    looped: float
    stacked: float

    @property
    def engine(self) -> Engine:
        """The faster engine."""
        return "stacked" if self.stacked < self.looped else "looped"


def choose(spec: NetSpec, recipe: Recipe, root: Path) -> Calibration:
    """The calibration of this net on this machine, measured once and then remembered."""
    place = root / "engines" / f"{_key(spec, recipe)}.json"
    match read_json(place):
        case {"looped": float(looped), "stacked": float(stacked)}:
            return Calibration(looped, stacked)
    measured = measure(spec, recipe)
    place.parent.mkdir(parents=True, exist_ok=True)
    write_json(place, asdict(measured))
    return measured


def measure(spec: NetSpec, recipe: Recipe, repeats: int = 3) -> Calibration:
    """Best of `repeats` alternated runs of each engine, one thread."""
    tasks = _tasks(spec, replace(recipe, epochs=1))
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        times: dict[Engine, list[float]] = {"looped": [], "stacked": []}
        for engine in (*times, *(list(times) * repeats)):
            start = time.perf_counter()
            train(tasks, engine)
            times[engine].append(time.perf_counter() - start)
    finally:
        torch.set_num_threads(threads)
    # The first run of each engine pays for allocation and kernel selection.
    return Calibration(min(times["looped"][1:]), min(times["stacked"][1:]))


def _tasks(spec: NetSpec, recipe: Recipe) -> list[Task]:
    stream = Stream(0, ("calibration",))
    inputs = torch.zeros(RECORDS, *spec.input_shape).uniform_(-1, 1, generator=stream.torch())
    records = Records(inputs, torch.arange(RECORDS) % spec.classes)
    starts = [initial(spec, stream.child(m).torch()) for m in range(MODELS)]
    return [Task(spec, start, records, recipe, stream.child(m)) for m, start in enumerate(starts)]


def _key(spec: NetSpec, recipe: Recipe) -> str:
    machine = [platform.machine(), platform.processor(), platform.node(), torch.__version__]
    return digest([machine, spec.to_json(), recipe.batch])[:24]
