"""Many games of a pipeline that leaks nothing: small nets trained on public records alone."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import numpy as np
import torch

from attacks.interface import Candidates
from audits.coverage import MODEL, Probe, probes
from audits.evidence import Evidence, gather
from audits.game import Played, read_key
from audits.setting import Setting
from privfed.datasets import load
from privfed.nets import NetSpec, Params, initial
from privfed.pipelines.interface import World
from privfed.randomness import Stream
from privfed.release import PUBLIC, SERVER, Release, Transcript
from privfed.splits import SplitPlan, make_split
from privfed.training import Recipe, Task, train

SPEC = NetSpec("mlp", 1, 8, 10, width=16, depth=1)
RECIPE = Recipe(epochs=10, batch=8, lr=0.1)
TRAINED_ON = 40
POPULATION = 50


def model_probes() -> tuple[Probe, ...]:
    """Every attack of the outsider who holds the released model."""
    return tuple(p for p in probes() if p.observer == MODEL and not p.baseline)


def null_settings(seeds: Sequence[int], n: int, clients: int = 1) -> list[Setting]:
    """One setting a seed: its own candidates, population and public shard, drawn from the digits."""
    records = load("digits").records
    plan = SplitPlan(clients, n, public=200, population=POPULATION, test=1)
    settings = []
    for seed in seeds:
        stream = Stream(seed, ("null",))
        split = make_split(records.labels, plan, stream.child("split"))
        parts = split.records(records)
        candidates = Candidates(parts.candidates, split.owners, parts.population, parts.public)
        world = World(SPEC, SPEC, parts.public, public_labelled=True)
        canaries = torch.zeros(n, dtype=torch.bool)
        settings.append(
            Setting("null", candidates, canaries, parts.test, clients, world, stream, str(seed), 0.0)
        )
    return settings


def null_evidence(settings: Sequence[Setting], federations: int) -> Iterator[tuple[Setting, list[Evidence]]]:
    """What the attacks find in models that no candidate reached; models of all settings train stacked."""
    tasks = [_task(s, f) for s in settings for f in range(federations)]
    models = train(tasks, "stacked")
    for i, setting in enumerate(settings):
        game = _played(setting, models[i * federations : (i + 1) * federations])
        yield setting, [gather(p, game, setting) for p in model_probes()]


def played(setting: Setting, federations: int) -> Played:
    """One such game."""
    return _played(setting, train([_task(setting, f) for f in range(federations)], "stacked"))


def _task(setting: Setting, federation: int) -> Task:
    stream = setting.stream.child("federation", federation)
    public = setting.world.public
    chosen = torch.randperm(len(public), generator=stream.child("records").torch())[:TRAINED_ON]
    return Task(SPEC, initial(SPEC, stream.torch()), public.take(chosen), RECIPE, stream.child("train"))


def _played(setting: Setting, models: Sequence[Params]) -> Played:
    included = np.stack([setting.members(f).numpy() for f in range(len(models))])
    signals = {}
    for probe in model_probes():
        read = [
            probe.attack.observation.extract(_transcript(m).view(MODEL), setting.candidates, setting.stream)
            for m in models
        ]
        signals[read_key(probe)] = tuple(s for s in read if s is not None)
    return Played(included, dict(signals), {}, ())


def _transcript(model: Params) -> Transcript:
    return Transcript((Release(1, SERVER, PUBLIC, "weights", "large", model),), {"large": SPEC})
