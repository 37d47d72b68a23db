"""Tiny tasks of the personalisation benchmark, with models and a federation worked out by hand."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field, replace

import torch

from audits.personalisation_deal import Client, Cohort
from audits.personalisation_tasks import Setting
from privfed.generator import GeneratorTraining
from privfed.hooks import Spent
from privfed.nets import NetSpec, Params
from privfed.pipelines._local import publish_model
from privfed.pipelines.fedrep import SGD
from privfed.pipelines.interface import PERSONAL, ClientJob, ClientMessage, ServerState, World
from privfed.randomness import Stream
from privfed.records import Records
from privfed.release import SERVER, Release, client_name

SPEC = NetSpec("mlp", channels=1, size=2, classes=4, hidden=(4,))
TINY = Setting(
    "tiny",
    "Tiny",
    SPEC,
    clients=4,
    newcomers=2,
    held=2,
    train=8,
    test=4,
    probe=3,
    fraction=0.5,
    rounds=2,
    sgd=replace(SGD, batch=2),
    head=1,
    averaging=1,
    own=1,
    generator=GeneratorTraining(size=8, hidden=4, epochs=1, steps=1),
)
TINY_TEXT = replace(
    TINY,
    name="text",
    title="Tiny text",
    net=NetSpec("lstm", 16, 12, 2, hidden=(2, 2)),
    held=0,
    train=10,
    generator=GeneratorTraining(size=8, hidden=4, epochs=1, steps=1, bound=2.0),
)


def corners(labels: torch.Tensor) -> Records:
    """Records whose class is the one pixel that is on."""
    return Records(torch.nn.functional.one_hot(labels, 4).float().view(-1, 1, 2, 2), labels)


def perfect() -> Params:
    """Gets every record of `corners` right: its features are the pixels, and so are its logits."""
    return {
        "1.weight": torch.eye(4),
        "1.bias": torch.zeros(4),
        "3.weight": torch.eye(4),
        "3.bias": torch.zeros(4),
    }


def constant(label: int) -> Params:
    """Says `label` of every record, and has features that tell nothing."""
    bias = torch.nn.functional.one_hot(torch.tensor(label), 4).float()
    return {
        "1.weight": torch.zeros(4, 4),
        "1.bias": torch.ones(4),
        "3.weight": torch.zeros(4, 4),
        "3.bias": bias,
    }


def cohort() -> Cohort:
    """Four clients of classes 0 and 1, two of them with 2 tests and two with 6; two newcomers of 2 and 3."""
    own, new = torch.tensor([0, 0, 1, 1]), torch.tensor([2, 3, 2, 3])
    few = Client(corners(own), corners(torch.tensor([0, 1])))
    many = Client(corners(own), corners(torch.tensor([0, 0, 0, 1, 1, 1])))
    newcomer = Client(corners(new), corners(new))
    return Cohort((few, few, many, many), (newcomer, newcomer), corners(torch.arange(4).repeat(3)))


@dataclass(frozen=True, slots=True)
class Fixed:
    """A pipeline that trains nothing: every client uses `own`, the global model is `shared_model`.

    A client uploads the global model and two label numbers, and the server sends it its own model.
    """

    rounds: int = 3
    own: Params = field(default_factory=perfect)
    shared_model: Params = field(default_factory=lambda: constant(0))
    fraction: float = 0.5
    outside_claim: tuple[str, ...] = ()

    def share(self, round: int) -> float:
        return 1.0 if round == self.rounds - 1 else self.fraction

    def enrol(self, world: World, state: ServerState) -> Params:
        return {}

    def shared(self, world: World, state: ServerState) -> Params:
        return state.surrogate

    def personal(self, world: World, state: ServerState, client: int, kept: Params) -> Params:
        return self.own

    def init(self, world: World, streams: Sequence[Stream]) -> list[ServerState]:
        return [ServerState(0, self.shared_model) for _ in streams]

    def client_round(self, world: World, jobs: Sequence[ClientJob]) -> list[ClientMessage]:
        return [
            ClientMessage(
                j.client,
                (
                    Release(
                        j.round,
                        client_name(j.client),
                        SERVER,
                        "weights",
                        "update",
                        self.shared_model,
                        j.client,
                    ),
                    Release(
                        j.round,
                        client_name(j.client),
                        SERVER,
                        "label_set",
                        "labels",
                        {"labels": torch.tensor([0, 1])},
                        j.client,
                    ),
                ),
                Spent(self.shared_model, None),
            )
            for j in jobs
        ]

    def server_round(
        self,
        world: World,
        states: Sequence[ServerState],
        inboxes: Sequence[Sequence[Release]],
        streams: Sequence[Stream],
    ) -> list[ServerState]:
        return [
            replace(
                s,
                round=s.round + 1,
                kept=tuple(
                    Release(s.round, SERVER, r.sender, "weights", PERSONAL, self.own, r.about)
                    for r in inbox
                    if r.name == "update"
                ),
            )
            for s, inbox in zip(states, inboxes, strict=True)
        ]

    def publish(self, world: World, states: Sequence[ServerState]) -> list[tuple[Release, ...]]:
        return [(publish_model(s, s.surrogate),) for s in states]
