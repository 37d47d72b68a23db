"""How fast an audit is as a whole: two workers over one, and a second audit over the first."""

from __future__ import annotations

import tempfile
from dataclasses import dataclass
from itertools import count
from pathlib import Path

from audits.audit import Request, Steps, audit
from audits.benchmark_ratio import Ratio, compare
from audits.benchmark_training import one_thread
from audits.game import LOCK_STEP, Job, jobs_of, play
from audits.plan import ReadyPlan, read_plan
from audits.policy import packaged_policy
from audits.setting import Setting, prepare
from privfed.datasets import Dataset, load

PLAN = """\
schema: privfed-plan/1
id: benchmark
title: What the benchmark plays
data: digits
seed: 0
federations: {federations}
nets:
  surrogate: {{family: convnet, width: 8, depth: 2}}
  large: {{family: convnet, width: 16, depth: 2}}
settings:
  - id: same-classes
    title: Public shard of the same classes
    split: {{clients: 4, candidates: 200, public: 300, population: 60, test: 100}}
    prior: {{widths: [8, 16], steps: {steps}}}
arms:
  - id: feddgm
    title: FedDGM
    pipeline: feddgm
    options:
      rounds: 1
      ipc: 2
      local: {{epochs: {epochs}, batch: 16, lr: 0.1}}
      surrogate_training: {{epochs: {epochs}, batch: 32, lr: 0.01, momentum: 0.9}}
      large_training: {{epochs: {epochs}, batch: 32, lr: 0.01, momentum: 0.9}}
      matching: {{iterations: {epochs}, steps: 5}}
  - id: positive-twin
    title: Positive twin
    role: control
    pipeline: twin
    options: {{trained_on: members, memorising: {{epochs: {epochs}, batch: 32, lr: 0.1}}}}
"""


@dataclass(frozen=True, slots=True)
class Scale:
    """How much is played: federations, and epochs of every training and matching iterations."""

    federations: int = 16
    epochs: int = 6
    prior_steps: int = 100


def worker_ratio(scale: Scale, repeats: int = 3, workers: int = 2) -> Ratio:
    """The same federations by several processes over one, each into an empty store.

    Processes are started by an untimed run, as they stay for the whole of a longer audit.
    """
    with tempfile.TemporaryDirectory() as name:
        root = Path(name)
        ready, dataset = _read(scale, root)
        setting = prepare(ready, 0, dataset, ready.plan.seed, root)
        empty = count()

        def playing(processes: int) -> None:
            play(_jobs(ready, setting, root / f"store-{next(empty)}"), processes, lambda done: None)

        one, several = "1 worker", f"{workers} workers"
        (found,) = compare(
            f"play {scale.federations} federations, {LOCK_STEP} in lock step",
            {one: lambda: playing(1), several: lambda: playing(workers)},
            [(several, one)],
            repeats,
        )
    return found


def second_audit_ratio(scale: Scale, repeats: int = 3) -> Ratio:
    """The same audit again over the first, which also trains the prior; each first into an empty store."""
    with tempfile.TemporaryDirectory() as name:
        root = Path(name)
        ready, dataset = _read(scale, root)
        stores: list[Path] = []

        def auditing(store: Path) -> None:
            policy = packaged_policy(ready.plan.policy)
            request = Request(ready, policy, dataset, ready.plan.seed, 1, store, "cpu", "benchmark")
            audit(request, Steps(lambda: None, lambda jobs: lambda done: None, lambda: None))

        def first() -> None:
            stores.append(root / f"store-{len(stores)}")
            auditing(stores[-1])

        with one_thread():
            (found,) = compare(
                f"audit {scale.federations} federations",
                {"first audit": first, "second audit": lambda: auditing(stores[-1])},
                [("second audit", "first audit")],
                repeats,
                warm=False,
            )
    return found


def _read(scale: Scale, folder: Path) -> tuple[ReadyPlan, Dataset]:
    text = PLAN.format(federations=scale.federations, epochs=scale.epochs, steps=scale.prior_steps)
    (folder / "plan.yaml").write_text(text, encoding="utf-8")
    ready = read_plan(str(folder / "plan.yaml"))
    return ready, load(ready.plan.data, folder)


def _jobs(ready: ReadyPlan, setting: Setting, root: Path) -> tuple[Job, ...]:
    return jobs_of(setting, ready.arms[0], ready.plan.federations, (), root)
