"""FedBKD (Zhao et al. 2025, arXiv 2506.20245): data-free generation and distillation both ways.

FedRep's local phases; the server averages whole models, trains a fresh generator with the frozen
local models as discriminators, and on the generated records distils the averaged representation
into each local one and each local one into the global one, by features. After the released code
(FedBKD/FedBKD); the paper's own equations could not be compared. Where the code does otherwise than
the paper says, `GeneratorTraining.mode` names the reading.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from typing import Literal, get_args

import torch

from privfed.generator import (
    Bank,
    Discriminator,
    GeneratorTraining,
    draw_bank,
    holding,
    synthesise,
    train_generator,
)
from privfed.nets import Params, head_of, representation_of
from privfed.pipelines._bidirectional import (
    Distillation,
    Exchange,
    Lesson,
    to_consensus,
    to_global,
    to_locals,
)
from privfed.pipelines._client_side import distil_at_clients, own_model
from privfed.pipelines._global_head import (
    SHARED_HEAD,
    GlobalHead,
    fitted_head,
    holders_head,
    remember,
    with_shared_heads,
)
from privfed.pipelines._local import (
    check_participation,
    initial_states,
    mean_update,
    publish_model,
    publish_synthetic,
    updates,
)
from privfed.pipelines._logits import DISCLOSED, SHARED_BANK, agreed, own_logits, shared_bank
from privfed.pipelines.fedavg import Weighting
from privfed.pipelines.fedrep import SGD, train_locally, upload
from privfed.pipelines.interface import (
    PERSONAL,
    ClientJob,
    ClientMessage,
    ServerState,
    World,
    delivered,
)
from privfed.randomness import Stream
from privfed.records import Records
from privfed.release import PUBLIC, SERVER, Kind, Release, client_name
from privfed.training import Recipe

Side = Literal["server", "client"]
Channel = Literal["features", "logits"]


@dataclass(frozen=True, slots=True)
class FedBKD:
    """Federated bidirectional knowledge distillation with a data-free generator.

    Attributes:
        rounds: communication rounds, with the last one, in which all clients fit their heads and
            receive a distilled model.
        head, representation: the two local phases.
        generator: of the synthetic records; None for none, which leaves FedRep with shared heads.
        distillation: both ways.
        side: "server" = clients upload whole models, label sets and (if weighted) counts, and the
            server generates and distils; "client" = each client generates for its own classes and
            distils; its label set and synthetic records never leave it.
        fraction: share of the clients in a round but the last.
        weighting: "equal" or "records", which discloses the number of records of each client.
        share_heads: whether heads are uploaded; without them (side "client" only) the delivered
            model has the initial head.
        global_head: of the delivered model, which no client uses: "averaged" = mean of this round's
            heads (as published); "holders" = class by class the mean over clients that hold it;
            "synthetic" = that one, trained further on the synthetic records (both side "server"
            only); "federated" = clients also train and upload a copy of the broadcast head.
        planted: the control with a leak: clients upload their records and the generator is trained
            to reproduce them.
        exchange: how the global model learns from local ones: "features" = the server reads them off the
            uploaded models (as published); "logits" = the server sends its records to all clients, who
            send back logits on them in the next round; their mean is distilled into the global model,
            head and all (side "server" only).
        temperature: of those logits. The published scripts pass 10, which no loss of theirs reads.
    """

    rounds: int = 6
    head: Recipe = SGD
    representation: Recipe = replace(SGD, epochs=1)
    generator: GeneratorTraining | None = field(default_factory=GeneratorTraining)
    distillation: Distillation = field(default_factory=Distillation)
    side: Side = "server"
    fraction: float = 1.0
    weighting: Weighting = "equal"
    share_heads: bool = True
    global_head: GlobalHead = "averaged"
    planted: bool = False
    exchange: Channel = "features"
    temperature: float = 10.0

    def __post_init__(self) -> None:
        check_participation(self.rounds, self.fraction)
        for name, choices in (("side", Side), ("global_head", GlobalHead), ("exchange", Channel)):
            if getattr(self, name) not in get_args(choices):
                known = ", ".join(get_args(choices))
                raise ValueError(f"expected {name} to be one of {known}, got {name}={getattr(self, name)!r}")
        if self.side == "server" and not self.share_heads:
            raise ValueError("expected share_heads with side 'server', got share_heads=False")
        from_records = self.global_head in ("holders", "synthetic")
        if from_records and (self.side == "client" or self.generator is None):
            raise ValueError(
                f"expected a generator and side 'server' for that head, got global_head={self.global_head!r}"
            )
        if self.planted and (self.generator is None or self.side == "client"):
            raise ValueError("expected a generator and side 'server' for a planted leak, got planted=True")
        if self.exchange == "logits" and (self.generator is None or self.side == "client"):
            raise ValueError(
                "expected a generator and side 'server' for that exchange, got exchange='logits'"
            )
        if not self.temperature > 0:
            raise ValueError(f"expected temperature > 0, got temperature={self.temperature}")

    @property
    def trainings(self) -> int:
        """Local trainings of one client over all rounds, at most.

        Two a round and one in the last; one more in each where the global head is trained too.
        """
        return 2 * self.rounds - 1 + (self.rounds if self.global_head == "federated" else 0)

    @property
    def outside_claim(self) -> tuple[str, ...]:
        """Label sets, counts and logits, which no noise on the models covers."""
        labels = ("set of labels of each client",) if self._sends_labels else ()
        if self.side == "client" and self.generator is not None:
            labels = ("set of labels of each client, which chooses what it distils at home",)
        counts = ("number of records of each client",) if self.weighting == "records" else ()
        logits = (DISCLOSED,) if self.exchange == "logits" else ()
        return (*labels, *counts, *logits, *(("raw records of the clients",) if self.planted else ()))

    @property
    def uploads(self) -> int:
        """Models that one client sends over all rounds, at most."""
        return self.rounds * (2 if self.global_head == "federated" else 1)

    @property
    def needs_each(self) -> str:
        """Why sums do not suffice: the server's teachers are single models, and shared heads the clients'."""
        if self.side == "server":
            return "its server learns from each client's model; side 'client' distils at the clients"
        shared = "the heads it shares start from each client's own; share_heads false keeps them at home"
        return shared if self.share_heads else ""

    @property
    def _sends_labels(self) -> bool:
        return self.side == "server" and self.generator is not None

    def share(self, round: int) -> float:
        """All clients in the last round."""
        return 1.0 if round == self.rounds - 1 else self.fraction

    def enrol(self, world: World, state: ServerState) -> Params:
        """The head of the common initial model."""
        return head_of(world.surrogate, state.surrogate)

    def shared(self, world: World, state: ServerState) -> Params:
        """The representation; the global head is given to clients only where they train it."""
        whole = state.surrogate
        return whole if self.global_head == "federated" else representation_of(world.surrogate, whole)

    def personal(self, world: World, state: ServerState, client: int, kept: Params) -> Params:
        """The model distilled in this round, or the representation with the client's own head."""
        representation = representation_of(world.surrogate, state.surrogate)
        if self.side == "client":
            return own_model(representation, kept, state.round)
        return delivered(state, client) or {**representation, **kept}

    def init(self, world: World, streams: Sequence[Stream]) -> list[ServerState]:
        """Random models, and the bank of noise and labels that all rounds use."""
        states = initial_states(world, streams, with_large=False)
        if self.generator is None or self.side == "client":
            return states
        size, classes, device = self.generator.size, world.surrogate.classes, world.public.inputs.device
        return [
            replace(s, memory=draw_bank(size, classes, stream.child("bank"), device).to_params())
            for s, stream in zip(states, streams, strict=True)
        ]

    def client_round(self, world: World, jobs: Sequence[ClientJob]) -> list[ClientMessage]:
        """FedRep's local phases and the upload; with `side="client"` the distillation in between."""
        trained = train_locally(world, self.head, self.representation, jobs, self.rounds)
        if self.side == "client":
            messages = distil_at_clients(
                world, self.generator, self.distillation, jobs, trained, self.share_heads, self.weighting
            )
        else:
            messages = [
                upload(world, j, spent, True, self.weighting) for j, spent in zip(jobs, trained, strict=True)
            ]
        if self.global_head == "federated":
            models = [spent.value for spent in trained]
            messages = with_shared_heads(world, self.representation, jobs, models, messages)
        return [
            replace(m, releases=m.releases + self._extras(j) + own_logits(world, j, spent.value))
            for m, j, spent in zip(messages, jobs, trained, strict=True)
        ]

    def server_round(
        self,
        world: World,
        states: Sequence[ServerState],
        inboxes: Sequence[Sequence[Release]],
        streams: Sequence[Stream],
    ) -> list[ServerState]:
        """Averages; generates and distils both ways, federation by federation, clients in drawn order."""
        averaged = [
            self._average(world, s, inbox, stream)
            for s, inbox, stream in zip(states, inboxes, streams, strict=True)
        ]
        if self.generator is None or self.side == "client":
            return averaged
        made = [
            self._generate(world, self.generator, s, inbox, stream)
            for s, inbox, stream in zip(averaged, inboxes, streams, strict=True)
        ]
        return self._distil(world, averaged, made, streams)

    def publish(self, world: World, states: Sequence[ServerState]) -> list[tuple[Release, ...]]:
        """The global model, and with a generator at the server its last state and its records."""
        return [
            (publish_model(s, s.surrogate), *(_published(s, s.synthetic) if s.synthetic is not None else ()))
            for s in states
        ]

    def _extras(self, job: ClientJob) -> tuple[Release, ...]:
        sender = client_name(job.client)
        extras: tuple[Release, ...] = ()
        if self._sends_labels:
            labels = {"labels": job.records.labels.unique()}
            extras += (Release(job.round, sender, SERVER, "label_set", "labels", labels, job.client),)
        if self.planted:
            raw = {"inputs": job.records.inputs, "labels": job.records.labels}
            extras += (Release(job.round, sender, SERVER, "synthetic", "raw_records", raw, job.client),)
        return extras

    def _average(
        self, world: World, state: ServerState, inbox: Sequence[Release], stream: Stream
    ) -> ServerState:
        mean = mean_update(inbox)
        if self.global_head == "federated":
            mean |= mean_update(inbox, SHARED_HEAD)
        return replace(state, round=state.round + 1, surrogate={**state.surrogate, **mean})

    def _generate(
        self,
        world: World,
        recipe: GeneratorTraining,
        state: ServerState,
        inbox: Sequence[Release],
        stream: Stream,
    ) -> _Generated:
        clients = _clients(inbox, stream)
        bank = Bank(state.memory["noise"], state.memory["embedding"], state.memory["labels"])
        raw = [Records(r.tensors["inputs"], r.tensors["labels"]) for r in inbox if r.name == "raw_records"]
        params = train_generator(
            world.surrogate, [c.model for c in clients], bank, recipe, stream.child("generator"), raw
        )
        records = synthesise(world.surrogate, params, bank, recipe.mode)
        memory = remember(world.surrogate, state.memory, inbox)
        sent = [r for r in state.kept if r.name == SHARED_BANK]
        return _Generated(clients, params, records, memory, agreed(sent, inbox, self.distillation.covering))

    def _distil(
        self,
        world: World,
        states: Sequence[ServerState],
        made: Sequence[_Generated],
        streams: Sequence[Stream],
    ) -> list[ServerState]:
        exchanges = [
            [
                Exchange(c.model.params, s.surrogate, self._read(g, c), stream.child("to_local", c.index))
                for c in g.clients
            ]
            for s, g, stream in zip(states, made, streams, strict=True)
        ]
        learnt = iter(to_locals(world, self.distillation, [e for es in exchanges for e in es]))
        ends = []
        for state, g, stream in zip(states, made, streams, strict=True):
            personal = [(c.index, next(learnt)) for c in g.clients]
            running = self._taught(world, state.surrogate, g)
            running = {**running, **self._global_head(world, running, g, stream)}
            round = state.round - 1
            asks = self.exchange == "logits" and round < self.rounds - 1
            told = (shared_bank(round, g.records),) if asks else ()
            kept = (*_server_side(round, g), *told, *_deliveries(round, personal))
            ends.append(replace(state, surrogate=running, synthetic=g.records, memory=g.memory, kept=kept))
        return ends

    def _taught(self, world: World, running: Params, made: _Generated) -> Params:
        """The averaged model after it learnt from the local ones."""
        spec, how = world.surrogate, self.distillation
        if self.exchange == "logits":
            lesson = made.lesson
            return running if lesson is None else to_consensus(spec, how, running, lesson, self.temperature)
        for c in made.clients:
            # The teacher is the local model as it was uploaded, not as it was just distilled.
            taught = Exchange(running, c.model.params, self._read(made, c))
            running = to_global(spec, how, running, taught)
        return running

    def _read(self, made: _Generated, client: _Client) -> Records:
        if self.distillation.covering == "all":
            return made.records
        return holding(made.records, client.model.labels)

    def _global_head(self, world: World, running: Params, made: _Generated, stream: Stream) -> Params:
        if self.global_head in ("averaged", "federated"):
            return {}
        head = holders_head(world.surrogate, made.memory, running)
        if self.global_head == "holders":
            return head
        whole = {**running, **head}
        return fitted_head(world.surrogate, whole, made.records, self.head, stream.child("global_head"))


@dataclass(frozen=True, slots=True)
class _Client:
    index: int
    model: Discriminator


@dataclass(frozen=True, slots=True)
class _Generated:
    """What the server made in a round: the order of the clients, generator, records, memory, logits."""

    clients: tuple[_Client, ...]
    params: Params
    records: Records
    memory: Params
    lesson: Lesson | None


def _clients(inbox: Sequence[Release], stream: Stream) -> tuple[_Client, ...]:
    """The clients of a round in a random order: the last one is freshest in the global model."""
    labels = {r.about: r.tensors["labels"] for r in inbox if r.kind == "label_set"}
    sent = updates(inbox)
    order = torch.randperm(len(sent), generator=stream.child("order").torch()).tolist()
    return tuple(
        _Client(-1 if u.about is None else u.about, Discriminator(dict(u.tensors), labels[u.about]))
        for u in (sent[i] for i in order)
    )


def _server_side(round: int, made: _Generated) -> tuple[Release, ...]:
    """What lies on the server after a round: generator with its bank and the clients' order, records."""
    order = torch.tensor([c.index for c in made.clients])
    generator = {**made.params, **_bank(made.memory), "order": order}
    return _release(round, SERVER, "generator", "generator", generator), _release(
        round, SERVER, "synthetic", "bank", {"inputs": made.records.inputs, "labels": made.records.labels}
    )


def _published(state: ServerState, records: Records) -> tuple[Release, ...]:
    generator = next(dict(r.tensors) for r in state.kept if r.name == "generator")
    generator.pop("order")
    return publish_synthetic(state, records), _release(
        state.round, PUBLIC, "generator", "generator", generator
    )


def _deliveries(round: int, personal: Sequence[tuple[int, Params]]) -> tuple[Release, ...]:
    return tuple(_release(round, client_name(k), "weights", PERSONAL, p, k) for k, p in personal)


def _bank(memory: Params) -> Params:
    return {f"bank.{name}": memory[name] for name in ("noise", "embedding", "labels")}


def _release(
    round: int, receiver: str, kind: Kind, name: str, tensors: Params, about: int | None = None
) -> Release:
    return Release(round, SERVER, receiver, kind, name, tensors, about)
