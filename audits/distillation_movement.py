"""How far FedBKD's distillations move models, beside the training they follow.

`python -m audits.distillation_movement` reads it all from what a federation records: uploads,
generated records, distilled models.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence
from dataclasses import asdict, dataclass, fields, replace
from statistics import mean

import torch
from joblib import Parallel, delayed

from audits.personalisation_data import SOURCES, cohort_of
from audits.personalisation_deal import Cohort
from audits.personalisation_measures import accuracy, personal_accuracy, probe_accuracy
from audits.personalisation_methods import METHODS
from audits.personalisation_table import half_width, markdown
from audits.personalisation_tasks import SETTINGS, Setting
from privfed.federation import Federation, Progress, run
from privfed.generator import holding
from privfed.nets import NetSpec, Params, head_of, representation_of
from privfed.pipelines.interface import World
from privfed.randomness import Stream
from privfed.records import Records
from privfed.training import feature_divergence, represent

WARM_UP = 5
"""Rounds left out, in which everything still moves far."""


@dataclass(frozen=True, slots=True)
class Movement:
    """One round of one federation; lengths are Euclidean, over all weights of the representation.

    Attributes:
        trained: mean length of a local representation's way in local training.
        to_local: mean length of its way in distillation from the averaged model.
        averaged: length of the global representation's way by averaging.
        to_global: length of its way in distillation from the local models.
        gap, gap_after: divergence of local from averaged features on generated records of the
            client's classes, before and after distillation, in nats.
        real_gap, real_gap_after: the same on the client's own test records.
        personal, personal_after: accuracy of the local models on the clients' own test records.
        pooled, pooled_after: G1 of the averaged model, and with the distilled representation.
        probe, probe_after: G3 of both.
    """

    trained: float
    to_local: float
    averaged: float
    to_global: float
    gap: float
    gap_after: float
    real_gap: float
    real_gap_after: float
    personal: float
    personal_after: float
    pooled: float
    pooled_after: float
    probe: float
    probe_after: float


TITLES = {
    "trained": "local training moves a representation by",
    "to_local": "distillation to local moves it by",
    "averaged": "averaging moves the global representation by",
    "to_global": "distillation to global moves it by",
    "gap": "divergence local / averaged, generated records, before (nats)",
    "gap_after": "... after",
    "real_gap": "divergence local / averaged, own test records, before (nats)",
    "real_gap_after": "... after",
    "personal": "accuracy of local models on own classes, before (%)",
    "personal_after": "... after",
    "pooled": "G1 of the averaged model, before (%)",
    "pooled_after": "... after",
    "probe": "G3 of the averaged representation, before (%)",
    "probe_after": "... after",
}


def movement(spec: NetSpec, start: Params, progress: Progress, cohort: Cohort) -> Movement:
    """What one round did, given the global model before it."""
    state = progress.states[0]
    local = {r.about: dict(r.tensors) for r in progress.uploaded[0] if r.name == "update"}
    after = {r.about: dict(r.tensors) for r in state.kept if r.name == "personal"}
    (bank,) = (r.tensors for r in state.kept if r.name == "bank")
    made = Records(bank["inputs"], bank["labels"])
    average = {k: torch.stack([m[k] for m in local.values()]).mean(0) for k in start}
    distilled = {**state.surrogate, **head_of(spec, average)}
    clients = {k: cohort.clients[k] for k in local if k is not None}
    own = {k: holding(made, c.train.labels.unique()).inputs for k, c in clients.items()}

    def gap(models: dict[int | None, Params], on: dict[int, torch.Tensor]) -> float:
        return mean(
            float(feature_divergence(represent(spec, models[k], x), represent(spec, average, x)).mean())
            for k, x in on.items()
        )

    def way(models: dict[int | None, Params], since: dict[int | None, Params]) -> float:
        return mean(distance(spec, models[k], since[k]) for k in models)

    real = {k: c.test.inputs for k, c in clients.items()}
    return Movement(
        trained=way(local, dict.fromkeys(local, start)),
        to_local=way(after, local),
        averaged=distance(spec, average, start),
        to_global=distance(spec, state.surrogate, average),
        gap=gap(local, own),
        gap_after=gap(after, own),
        real_gap=gap(local, real),
        real_gap_after=gap(after, real),
        personal=100 * personal_accuracy(spec, [local[k] for k in clients], list(clients.values())),
        personal_after=100 * personal_accuracy(spec, [after[k] for k in clients], list(clients.values())),
        pooled=100 * accuracy(spec, average, cohort.pooled),
        pooled_after=100 * accuracy(spec, distilled, cohort.pooled),
        probe=100 * probe_accuracy(spec, average, cohort),
        probe_after=100 * probe_accuracy(spec, distilled, cohort),
    )


def distance(spec: NetSpec, first: Params, second: Params) -> float:
    """Euclidean, over all weights of the representation."""
    a, b = representation_of(spec, first), representation_of(spec, second)
    return float(torch.stack([(a[k] - b[k]).square().sum() for k in a]).sum().sqrt())


def observe(setting: Setting, seed: int) -> Movement:
    """The mean round of one federation, after the first ones and before the last."""
    torch.set_num_threads(1)
    stream = Stream(seed, ("personalisation", setting.name))
    cohort = cohort_of(setting, SOURCES[setting.name], stream)
    method = METHODS["fedbkd"]
    assert method.build is not None
    pipeline = method.build(setting)
    world = World(setting.net, setting.net, cohort.probe, True, engine=setting.engine)
    before: list[Params] = []
    seen: list[Movement] = []

    def watch(progress: Progress) -> None:
        if before and WARM_UP <= progress.round < setting.rounds:
            seen.append(movement(setting.net, before[-1], progress, cohort))
        before[:] = [progress.states[0].surrogate]

    clients = tuple(c.train for c in cohort.clients)
    run(pipeline, world, [Federation(clients, stream.child("federation"))], watch)
    rows = [asdict(m) for m in seen]
    return Movement(**{f.name: mean(r[f.name] for r in rows) for f in fields(Movement)})


def table(found: Sequence[Movement]) -> str:
    """Mean over seeds and Student-t interval of every quantity, in Markdown."""
    body = []
    for name, title in TITLES.items():
        values = [float(getattr(m, name)) for m in found]
        body.append([title, f"{mean(values):.4g} ± {half_width(values):.2g}"])
    return markdown(["quantity", "mean round"], body)


def main(arguments: Sequence[str] | None = None) -> int:
    """Runs the federations and prints the table."""
    parser = argparse.ArgumentParser(
        prog="python -m audits.distillation_movement", description=(__doc__ or "").splitlines()[0]
    )
    parser.add_argument("--task", choices=("fashion", "text"), default="fashion")
    parser.add_argument("--seeds", type=int, default=5)
    parser.add_argument("--rounds", type=int, default=20)
    parser.add_argument("--jobs", type=int, default=2)
    given = parser.parse_args(arguments)
    if given.rounds <= WARM_UP:
        parser.error(f"expected rounds > {WARM_UP}, got rounds={given.rounds}")
    setting = replace(SETTINGS[given.task], rounds=given.rounds)
    found = Parallel(n_jobs=given.jobs)(delayed(observe)(setting, seed) for seed in range(given.seeds))
    print(table(list(found)))
    return 0


if __name__ == "__main__":
    sys.exit(main())
