"""One training of one method on one seed, measured; kept on disk under what made it."""

from __future__ import annotations

import ast
import time
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from functools import cache
from pathlib import Path

import torch

from audits.personalisation_data import cohort_of, fingerprint
from audits.personalisation_deal import Cohort
from audits.personalisation_measures import (
    newcomer_accuracy,
    personal_accuracy,
    pooled_accuracy,
    probe_accuracy,
    with_tuned_heads,
)
from audits.personalisation_meter import Reading, metered
from audits.personalisation_methods import Method, averaging
from audits.personalisation_tasks import Setting
from audits.store import digest, read_json, source_digest, write_json
from privfed.federation import Federation, Progress, personal_models, run
from privfed.nets import Params, head_of, initial
from privfed.pipelines.interface import Personalised, Pipeline, World
from privfed.randomness import Stream

FOLDER = "personalisation"
RECENT = 10
"""Rounds before the last one that the reported mean is over."""
TUNING = 10
"""Epochs of a head tuned for evaluation."""
MEASURING = ("deal", "data", "measures", "meter", "run")
ROOT = Path(__file__).resolve().parent.parent


@dataclass(frozen=True, slots=True)
class Work:
    """One training.

    Attributes:
        setting: the task.
        source: where its data come from.
        method: name in the table.
        seed: of everything random.
    """

    setting: Setting
    source: str
    method: str
    seed: int


@dataclass(frozen=True, slots=True)
class Result:
    """What one training of one method gave; accuracies are shares, None where there is nothing to score.

    Attributes:
        setting, method, seed: what was run.
        recent: personal accuracy, mean over the last ten rounds before the final one.
        final: personal accuracy at the end.
        tuned_recent, tuned_final: the same with heads tuned by every client; of methods whose
            clients have no model of their own.
        pooled, pooled_final: G1, before and after the final round.
        newcomers: G2. probe: G3.
        up, down: bytes of one client in one round.
        client_seconds, server_seconds: processor time of one client's turn, at its side and at the
            server's.
        ratio: client_seconds over FedAvg's, timed in the same process.
        by_round: personal accuracy after each round.
        rounds: T.
        seconds: processor time of all.
    """

    setting: str
    method: str
    seed: int
    recent: float | None = None
    final: float | None = None
    tuned_recent: float | None = None
    tuned_final: float | None = None
    pooled: float | None = None
    pooled_final: float | None = None
    newcomers: float | None = None
    probe: float | None = None
    up: float | None = None
    down: float | None = None
    client_seconds: float | None = None
    server_seconds: float | None = None
    ratio: float | None = None
    by_round: tuple[float, ...] = ()
    rounds: int = 0
    seconds: float = 0.0


def place(root: Path, work: Work, method: Method) -> Path:
    """The file of one result, named by the digest of all that made it."""
    pipeline = method.build(work.setting) if method.build else None
    setting = {k: v for k, v in asdict(work.setting).items() if k not in ("title", "generator")}
    made = {
        "setting": setting,
        "data": fingerprint(work.setting, work.source, _stream(work)),
        "pipeline": repr(pipeline),
        "seed": work.seed,
        "source": source_digest(*_sources(type(pipeline).__module__)),
        "torch": torch.__version__,
    }
    return root / FOLDER / f"{digest(made)[:32]}.json"


def recall(path: Path) -> Result | None:
    """The result kept there, or None."""
    found = read_json(path)
    if found is None:
        return None
    return Result(**{**found, "by_round": tuple(found["by_round"])})


def perform(root: Path, work: Work, method: Method) -> Result:
    """The result kept, or else that of a training, which is then kept."""
    path = place(root, work, method)
    kept = recall(path)
    if kept is not None:
        return kept
    torch.set_num_threads(1)
    pipeline = method.build(work.setting) if method.build else None
    result = measure(work, pipeline, cohort_of(work.setting, work.source, _stream(work)), method.federated)
    path.parent.mkdir(parents=True, exist_ok=True)
    write_json(path, asdict(result))
    return result


def measure(work: Work, pipeline: Pipeline | None, cohort: Cohort, federated: bool = True) -> Result:
    """Trains and measures.

    Args:
        work: what to run.
        pipeline: of the method; None measures the initial model.
        cohort: who holds which record.
        federated: whether there are a global model and messages to measure.
    """
    setting, began = work.setting, time.process_time()
    stream = _stream(work)
    world = World(setting.net, setting.net, cohort.probe, True, engine=setting.engine)
    federation = Federation(tuple(c.train for c in cohort.clients), stream.child("federation"))
    first = initial(setting.net, federation.stream.child("init", "surrogate").torch())
    if pipeline is None:
        general = _generality(setting, first, first, cohort, stream)
        pooled = pooled_accuracy(setting.net, first, cohort)
        return Result(
            setting.name,
            work.method,
            work.seed,
            pooled=pooled,
            pooled_final=pooled,
            newcomers=general[0],
            probe=general[1],
            rounds=setting.rounds,
            seconds=time.process_time() - began,
        )
    reading = Reading(setting.rounds)
    watcher = _Watcher(setting, pipeline, world, cohort, federation)
    run(metered(pipeline, reading, averaging(setting)), world, [federation], watcher)
    newcomers, probe = (
        _generality(setting, watcher.surrogate, first, cohort, stream) if federated else (None, None)
    )
    sends = federated and reading.jobs > 0
    return Result(
        setting.name,
        work.method,
        work.seed,
        recent=watcher.mean(watcher.own),
        final=watcher.own[-1],
        tuned_recent=watcher.mean(watcher.tuned) if watcher.tuned else None,
        tuned_final=watcher.tuned[-1] if watcher.tuned else None,
        pooled=watcher.pooled[0] if federated else None,
        pooled_final=watcher.pooled[-1] if federated else None,
        newcomers=newcomers,
        probe=probe,
        up=reading.per_job(reading.up) if sends else None,
        down=reading.per_job(reading.down) if sends else None,
        client_seconds=reading.per_job(reading.client_seconds),
        server_seconds=reading.per_job(reading.server_seconds) if sends else None,
        ratio=reading.ratio,
        by_round=tuple(watcher.own),
        rounds=setting.rounds,
        seconds=time.process_time() - began,
    )


class _Watcher:
    """Accuracies after every round."""

    def __init__(
        self, setting: Setting, pipeline: Pipeline, world: World, cohort: Cohort, federation: Federation
    ) -> None:
        self.setting, self.pipeline, self.world, self.cohort = setting, pipeline, world, cohort
        self.federation = federation
        self.own: list[float] = []
        self.tuned: list[float] = []
        self.pooled: list[float] = []
        self.surrogate: Params = {}

    def __call__(self, progress: Progress) -> None:
        spec, clients, state = self.setting.net, self.cohort.clients, progress.states[0]
        models = personal_models(self.pipeline, self.world, state, progress.kept[0])
        self.surrogate = state.surrogate
        self.own.append(personal_accuracy(spec, models or [state.surrogate] * len(clients), clients))
        if progress.round >= self.setting.rounds - 1:
            self.pooled.append(pooled_accuracy(spec, state.surrogate, self.cohort))
        if not isinstance(self.pipeline, Personalised) and progress.round >= self.setting.rounds - RECENT:
            streams = [
                self.federation.stream.child("client", k, progress.round + 1, "personal")
                for k in range(len(clients))
            ]
            recipe = self.setting.recipe(TUNING)
            tuned = with_tuned_heads(spec, state.surrogate, clients, recipe, streams)
            self.tuned.append(personal_accuracy(spec, tuned, clients))

    def mean(self, values: Sequence[float]) -> float:
        """Over the last ten rounds before the final one."""
        ordinary = values[: self.setting.rounds] if values is self.own else values
        recent = ordinary[-RECENT:]
        return sum(recent) / len(recent)


def _generality(
    setting: Setting, model: Params, first: Params, cohort: Cohort, stream: Stream
) -> tuple[float, float]:
    head, recipe = head_of(setting.net, first), setting.recipe(TUNING)
    newcomers = newcomer_accuracy(setting.net, model, head, cohort, recipe, stream.child("newcomers"))
    return newcomers, probe_accuracy(setting.net, model, cohort)


def _stream(work: Work) -> Stream:
    """Of the task and the seed alone, so that methods differ in nothing but themselves."""
    return Stream(work.seed, ("personalisation", work.setting.name))


@cache
def _sources(module: str) -> tuple[str, ...]:
    """Files of privfed that a pipeline's module imports, at any remove, and those that measure it.

    Not all of privfed: a new pipeline must not make the results of the others old.
    """
    measuring = [f"audits/personalisation_{name}.py" for name in MEASURING]
    found: set[str] = set()
    todo = [m for m in (module, "privfed.federation") if m.startswith("privfed.")]
    while todo:
        name = todo.pop()
        path = name.replace(".", "/") + ".py"
        if path in found or not (ROOT / path).is_file():
            continue
        found.add(path)
        todo += _imported(ROOT / path)
    return (*sorted(found), *measuring)


def _imported(path: Path) -> list[str]:
    names = []
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            names += [a.name for a in node.names]
        elif isinstance(node, ast.ImportFrom) and node.module:
            names += [node.module, *(f"{node.module}.{a.name}" for a in node.names)]
    return [n for n in names if n.startswith("privfed.")]
