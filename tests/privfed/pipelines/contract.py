"""The pipelines that the contract tests walk: whatever the catalogue finds, and options worth a row."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from functools import lru_cache
from typing import Any

import pytest

from audits.catalogue import names
from privfed.federation import Federation, Outcome, Progress, run
from privfed.hooks import Hooks
from privfed.nets import Params, initial, representation_of
from privfed.pipelines.fedavg import FedAvg
from privfed.pipelines.fedavg_fine_tuned import FedAvgFineTuned
from privfed.pipelines.fedbkd import FedBKD
from privfed.pipelines.feddgm import FedDGM
from privfed.pipelines.fedrep import FedRep
from privfed.pipelines.interface import Asking, ClientJob, Personalised, Pipeline, World, broadcast
from privfed.pipelines.local_only import LocalOnly
from privfed.pipelines.twin import Twin
from privfed.randomness import Stream
from privfed.release import Release
from tests.privfed.pipelines.worlds import SIZES, SURROGATE, equal, federation, same, small, world

CLASSES = names("pipelines")
OPTIONS: list[Pipeline] = [
    FedAvg(weighting="equal"),
    FedAvgFineTuned(part="whole"),
    FedBKD(side="client", share_heads=False),
    FedBKD(exchange="logits"),
    FedDGM(label_mode="held", accumulate=True),
    FedDGM(initial="real"),
    FedDGM(target="aggregate"),
    FedRep(share_heads=True, weighting="records"),
    Twin(trained_on="public"),
]
"""Constructed as a user would; they are cut down like the defaults."""

CONFIGURED: list[Pipeline] = [small(p) for p in (*(cls() for cls in CLASSES.values()), *OPTIONS)]
NAMES = list(initial(SURROGATE, Stream(0).torch()))


def label(pipeline: Pipeline) -> str:
    """The class, and what distinguishes an option from the defaults."""
    plain = small(type(pipeline)())
    changed = [
        f"{f.name}={getattr(pipeline, f.name)}"
        for f in dataclasses.fields(pipeline)  # type: ignore[arg-type]
        if getattr(pipeline, f.name) != getattr(plain, f.name)
    ]
    return ",".join((type(pipeline).__name__, *changed))


every_class = pytest.mark.parametrize("cls", CLASSES.values(), ids=list(CLASSES))
every_pipeline = pytest.mark.parametrize("pipeline", CONFIGURED, ids=label)
every_training = pytest.mark.parametrize(
    "pipeline", [p for p in CONFIGURED if not isinstance(p, Asking)], ids=label
)
every_partial = pytest.mark.parametrize(
    "pipeline",
    [p for p in CONFIGURED if any(f.name == "fraction" for f in dataclasses.fields(p))],  # type: ignore[arg-type]
    ids=label,
)
every_personal = pytest.mark.parametrize(
    "pipeline", [p for p in CONFIGURED if isinstance(p, Personalised)], ids=label
)


def talks(pipeline: Pipeline, round: int) -> bool:
    """Whether clients send anything in that round."""
    if isinstance(pipeline, FedAvgFineTuned):
        return round < pipeline.rounds - 1
    return not isinstance(pipeline, LocalOnly)


def talking_rounds(pipeline: Pipeline) -> list[int]:
    return [r for r in range(pipeline.rounds) if talks(pipeline, r)]


def share(pipeline: Pipeline, round: int) -> float:
    return pipeline.share(round) if isinstance(pipeline, Personalised) else pipeline.fraction


def sent_names(pipeline: Pipeline) -> list[str]:
    """Parameters in an update: all of the model, or its representation where heads stay at home."""
    whole = dict(zip(NAMES, initial(SURROGATE, Stream(0).torch()).values(), strict=True))
    return list(whole if getattr(pipeline, "share_heads", True) else representation_of(SURROGATE, whole))


def hands_over_records(pipeline: Pipeline) -> bool:
    """Whether clients say that records themselves leave them."""
    return any(said.startswith("raw") for said in pipeline.outside_claim)


def like(reference: Params, params: Params) -> Params:
    """Those of `params` that the reference has too."""
    return {k: v for k, v in params.items() if k in reference}


@dataclass
class Played:
    """One federation, with what its clients kept and sent after every round."""

    outcome: Outcome
    progress: list[Progress] = field(default_factory=list)

    @property
    def kept(self) -> tuple[Params, ...]:
        """What each client keeps at the end."""
        return self.progress[-1].kept[0]


def watched(pipeline: Pipeline, of: Federation, here: World | None = None) -> Played:
    progress: list[Progress] = []
    (outcome,) = run(pipeline, here or world(), [of], progress.append)
    return Played(outcome, progress)


def play(
    pipeline: Pipeline, seed: int = 0, sizes: Sequence[int] = SIZES, hooks: Hooks | None = None
) -> Outcome:
    (outcome,) = run(pipeline, world(hooks=hooks or Hooks()), [federation(seed, sizes)])
    return outcome


def played(pipeline: Pipeline) -> Outcome:
    return _played(CONFIGURED.index(pipeline))


@lru_cache(maxsize=len(CONFIGURED))
def _played(index: int) -> Outcome:
    return play(CONFIGURED[index])


def identical(first: Outcome, second: Outcome) -> bool:
    """Whether everything released and every client's own model is equal to the bit."""
    models = zip(first.personal, second.personal, strict=True)
    return same(first, second) and all(equal(a, b) for a, b in models)


def jobs(pipeline: Pipeline, of: Federation) -> list[ClientJob]:
    """What every client is asked in the first round."""
    (state,) = pipeline.init(world(), [of.stream.child("init")])
    start = dict(broadcast(pipeline, world(), state).tensors)
    kept = pipeline.enrol(world(), state) if isinstance(pipeline, Personalised) else {}
    return [
        ClientJob(k, 0, start, records, of.stream.child("client", k, 0), dict(kept))
        for k, records in enumerate(of.clients)
    ]


def senders(outcome: Outcome, round: int) -> set[int | None]:
    return {r.about for r in sent_by_clients(outcome) if r.round == round}


def sent_by_clients(outcome: Outcome) -> list[Release]:
    return [r for r in outcome.transcript.releases if r.sender.startswith("client")]


def changed(pipeline: Pipeline, **change: Any) -> Pipeline:
    return replace(pipeline, **change)  # type: ignore[type-var]
