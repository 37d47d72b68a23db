"""The methods of the personalisation benchmark by name: a factory from the task's setting to a pipeline."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any

from audits.personalisation_tasks import Setting
from privfed.generator import Mode
from privfed.pipelines._bidirectional import Covering, Distillation
from privfed.pipelines.ditto import Ditto
from privfed.pipelines.fedavg import FedAvg
from privfed.pipelines.fedbkd import FedBKD
from privfed.pipelines.fedprox import FedProx
from privfed.pipelines.fedrep import FedRep
from privfed.pipelines.interface import Pipeline
from privfed.pipelines.local_only import LocalOnly

FEDPROX_MU = 0.05
DITTO_MU = 0.75


@dataclass(frozen=True, slots=True)
class Method:
    """One row of the table.

    Attributes:
        title: in tables.
        build: the pipeline for a task; None = the initial model, not trained at all.
        tuned: whether clients are scored with heads tuned on their own records.
        federated: whether there is a global model, and anything to send.
    """

    title: str
    build: Callable[[Setting], Pipeline] | None
    tuned: bool = False
    federated: bool = True


def averaging(setting: Setting) -> FedAvg:
    """FedAvg; T rounds, as there is nothing that a last one of all clients would add."""
    return FedAvg(setting.rounds, setting.recipe(setting.averaging), "equal", setting.fraction)


def _local_only(setting: Setting) -> Pipeline:
    return LocalOnly(setting.rounds, setting.recipe(setting.own), setting.fraction)


def _fedprox(setting: Setting) -> Pipeline:
    local = setting.recipe(setting.averaging)
    return FedProx(setting.rounds, local, FEDPROX_MU, "equal", setting.fraction)


def _ditto(setting: Setting) -> Pipeline:
    local, own = setting.recipe(setting.averaging), setting.recipe(setting.own)
    return Ditto(setting.rounds, local, own, DITTO_MU, "equal", setting.fraction)


def _fedrep(setting: Setting) -> Pipeline:
    head, representation = setting.recipe(setting.head), setting.recipe(setting.representation)
    return FedRep(setting.rounds + 1, head, representation, setting.fraction, share_heads=True)


def _fedbkd(mode: Mode, covering: Covering = "held", **changed: Any) -> Callable[[Setting], Pipeline]:
    def build(setting: Setting) -> Pipeline:
        return FedBKD(
            setting.rounds + 1,
            setting.recipe(setting.head),
            setting.recipe(setting.representation),
            fraction=setting.fraction,
            generator=replace(setting.generator, mode=mode),
            distillation=Distillation(replace(setting.sgd, epochs=4, batch=20), covering=covering),
        )

    return lambda setting: replace(build(setting), **changed)  # type: ignore[type-var]


METHODS: dict[str, Method] = {
    "untrained": Method("untrained", None),
    "local-only": Method("local only", _local_only, federated=False),
    "fedavg": Method("FedAvg", averaging),
    "fedavg-ft": Method("FedAvg + fine-tuning", averaging, tuned=True),
    "fedprox": Method("FedProx", _fedprox),
    "fedprox-ft": Method("FedProx + fine-tuning", _fedprox, tuned=True),
    "ditto": Method("Ditto", _ditto),
    "fedrep": Method("FedRep", _fedrep),
    "fedbkd-released": Method("FedBKD released, server", _fedbkd("released")),
    "fedbkd-paper": Method("FedBKD paper, server", _fedbkd("paper")),
    "fedbkd": Method("FedBKD conditioned, server", _fedbkd("conditioned")),
    "fedrep-federated": Method(
        "FedRep, federated head", _fedbkd("conditioned", generator=None, global_head="federated")
    ),
    "fedbkd-all": Method("FedBKD conditioned, all classes", _fedbkd("conditioned", "all")),
    "fedbkd-holders": Method(
        "FedBKD conditioned, holders' head", _fedbkd("conditioned", global_head="holders")
    ),
    "fedbkd-synthetic": Method(
        "FedBKD conditioned, synthetic head", _fedbkd("conditioned", global_head="synthetic")
    ),
    "fedbkd-federated": Method(
        "FedBKD conditioned, federated head", _fedbkd("conditioned", global_head="federated")
    ),
    "fedbkd-released-client": Method("FedBKD released, client", _fedbkd("released", side="client")),
    "fedbkd-paper-client": Method("FedBKD paper, client", _fedbkd("paper", side="client")),
    "fedbkd-client": Method("FedBKD conditioned, client", _fedbkd("conditioned", side="client")),
}


def chosen(names: str) -> dict[str, Method]:
    """The methods of a comma-separated list, in the table's order; all where it is empty.

    Raises:
        ValueError: if a name is unknown.
    """
    asked = [n.strip() for n in names.split(",") if n.strip()]
    for name in asked:
        if name not in METHODS:
            raise ValueError(f"expected methods among {', '.join(METHODS)}, got method={name!r}")
    return {n: m for n, m in METHODS.items() if not asked or n in asked}
