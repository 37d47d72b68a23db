"""Which trainings of the personalisation benchmark are missing, how long they may take, and doing them."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from statistics import mean

from joblib import Parallel, delayed

from audits.personalisation_methods import Method
from audits.personalisation_run import FOLDER, Result, Work, perform, place, recall
from audits.personalisation_tasks import Setting


@dataclass(frozen=True, slots=True)
class Asked:
    """What one command runs.

    Attributes:
        settings: the tasks.
        sources: where the data of each task come from.
        methods: by name, in the order of the table.
        seeds: trainings of each method.
        jobs: processes side by side.
        root: of the cache.
    """

    settings: tuple[Setting, ...]
    sources: Mapping[str, str]
    methods: Mapping[str, Method]
    seeds: int
    jobs: int
    root: Path


@dataclass(frozen=True, slots=True)
class Done:
    """One row's training that ended: with a result, or with the reason why there is none."""

    work: Work
    result: Result | None
    failure: str = ""

    @property
    def label(self) -> str:
        """Task, method and seed."""
        return f"{self.work.setting.name} {self.work.method} seed {self.work.seed}"


def done_and_missing(asked: Asked) -> tuple[list[Done], list[list[Work]]]:
    """What is kept, and what is to do: works that one training answers are together."""
    done: list[Done] = []
    groups: dict[Path, list[Work]] = {}
    for setting in asked.settings:
        for name, method in asked.methods.items():
            for seed in range(asked.seeds):
                work = Work(setting, asked.sources[setting.name], name, seed)
                path = place(asked.root, work, method)
                kept = recall(path)
                if kept is None:
                    groups.setdefault(path, []).append(work)
                else:
                    done.append(Done(work, kept))
    return done, list(groups.values())


def train_missing(
    asked: Asked, missing: Sequence[Sequence[Work]], ended: Callable[[Done], object]
) -> list[Done]:
    """Trains side by side; `ended` hears of each training once."""
    done = []
    together = {group[0]: group for group in missing}
    for first in _performed(asked, list(together)):
        ended(first)
        done += [replace(first, work=work) for work in together[first.work]]
    return done


def estimate(asked: Asked, missing: Sequence[Sequence[Work]]) -> float | None:
    """Seconds that the missing trainings may take, from those kept of the same tasks; None if none is.

    A method without a kept training counts as the mean of the others of its task.
    """
    known = _seconds_a_round(asked.root)
    total = 0.0
    for work, *_ in missing:
        of_task = {m: mean(s) for (task, m), s in known.items() if task == work.setting.name}
        if not of_task:
            return None
        total += of_task.get(work.method, mean(of_task.values())) * work.setting.rounds
    return total / min(asked.jobs, max(1, len(missing)))


def _seconds_a_round(root: Path) -> dict[tuple[str, str], list[float]]:
    known: dict[tuple[str, str], list[float]] = {}
    for path in (root / FOLDER).glob("*.json"):
        found = recall(path)
        if found is not None and found.rounds:
            known.setdefault((found.setting, found.method), []).append(found.seconds / found.rounds)
    return known


def _performed(asked: Asked, works: Sequence[Work]) -> Iterator[Done]:
    jobs = max(1, min(asked.jobs, len(works)))
    parallel = Parallel(n_jobs=jobs, return_as="generator_unordered")
    yield from parallel(delayed(_attempt)(asked.root, w, asked.methods[w.method]) for w in works)


def _attempt(root: Path, work: Work, method: Method) -> Done:
    """One bad method must not cost the results of the others."""
    try:
        return Done(work, perform(root, work, method))
    except Exception as error:
        return Done(work, None, f"{type(error).__name__}: {error}")
