"""Which runs of the reconstruction benchmark are missing, how long they may take, and doing them."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from statistics import mean

from joblib import Parallel, delayed

from audits.reconstruction_cases import Case
from audits.reconstruction_run import FOLDER, Result, Work, name_of, perform, place, recall


@dataclass(frozen=True, slots=True)
class Asked:
    """What one command runs.

    Attributes:
        sources: where data come from, with how many seeds of each case.
        titles: of the sources, for the reader.
        cases: rows.
        clients: of one federation.
        jobs: processes side by side.
        root: of the cache.
    """

    sources: dict[str, int]
    titles: dict[str, str]
    cases: tuple[Case, ...]
    clients: int
    jobs: int
    root: Path


@dataclass(frozen=True, slots=True)
class Done:
    """One run that ended: with a result, or with the reason why there is none."""

    work: Work
    result: Result | None
    failure: str = ""

    @property
    def label(self) -> str:
        """Data, net, attack, size and seed."""
        case = self.work.case
        data = self.work.source.partition(":")[0]
        size = f"{case.records} records, {case.steps} steps, {case.defence}"
        return f"{data} {case.pipeline} {case.net} {case.attack} ({size}) seed {self.work.seed}"


def done_and_missing(asked: Asked) -> tuple[list[Done], list[Work]]:
    """What is kept, and what is to do: all cases under the first seed before any under the second."""
    done: list[Done] = []
    missing: list[Work] = []
    for source, seeds in asked.sources.items():
        for seed in range(seeds):
            for case in asked.cases:
                work = Work(source, case, seed, asked.clients)
                kept = recall(place(asked.root, work))
                if kept is None:
                    missing.append(work)
                else:
                    done.append(Done(work, kept))
    return done, missing


def run_missing(asked: Asked, missing: Sequence[Work], ended: Callable[[Done], object]) -> list[Done]:
    """Runs side by side; `ended` hears of each once, in the order in which they end."""
    done = []
    for one in _performed(asked, missing):
        ended(one)
        done.append(one)
    return done


def estimate(asked: Asked, missing: Sequence[Work]) -> float | None:
    """Seconds that the missing runs may take, from those kept of the same data; None if there are none.

    A case without a kept run counts as the mean of those of its axis, or of all if there are none.
    """
    known = _seconds(asked.root)
    axes = {name_of(case): case.axis for case in asked.cases}
    total = 0.0
    for work in missing:
        of_source = {name: mean(s) for (source, name), s in known.items() if source == work.source}
        if not of_source:
            return None
        alike = [s for name, s in of_source.items() if axes.get(name) == work.case.axis]
        total += of_source.get(name_of(work.case), mean(alike or of_source.values()))
    return total / min(asked.jobs, max(1, len(missing)))


def _seconds(root: Path) -> dict[tuple[str, str], list[float]]:
    known: dict[tuple[str, str], list[float]] = {}
    for path in (root / FOLDER).glob("*.json"):
        found = recall(path)
        if found is not None:
            known.setdefault((found.source, found.case), []).append(found.total)
    return known


def _performed(asked: Asked, works: Sequence[Work]) -> Iterator[Done]:
    jobs = max(1, min(asked.jobs, len(works)))
    parallel = Parallel(n_jobs=jobs, return_as="generator_unordered")
    yield from parallel(delayed(_attempt)(asked.root, work) for work in works)


def _attempt(root: Path, work: Work) -> Done:
    """One bad case must not cost the results of the others."""
    try:
        return Done(work, perform(root, work))
    except Exception as error:
        return Done(work, None, f"{type(error).__name__}: {error}")
