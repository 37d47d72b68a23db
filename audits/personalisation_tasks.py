"""What the personalisation benchmark trains on: settings of three tasks, and who holds which record.

Sizes and schedules after the small configurations in which FedBKD's released code was piloted:
two classes a client dealt as in FedRep (Collins et al., arXiv 2102.07078, section 5), for text users
with a concept of their own.
"""

from __future__ import annotations

from dataclasses import dataclass, field, replace

import torch
from torch import Tensor

from privfed.generator import GeneratorTraining
from privfed.nets import NetSpec
from privfed.pipelines.fedrep import SGD
from privfed.randomness import Stream
from privfed.records import Records, concatenate
from privfed.training import Engine, Recipe

MAX_DEALS = 10_000
"""Deals of classes before a request counts as impossible."""


@dataclass(frozen=True, slots=True)
class Setting:
    """One task with the schedule that all its methods share.

    Attributes:
        name, title: in commands, and in tables.
        net: what clients train.
        clients, newcomers: those who train, and those who only come when training is over.
        held: classes a client holds; 0 where the data bring their own clients.
        train, test: records of one client.
        probe: records of each class for the linear probe.
        fraction: share of the clients in a round.
        rounds: communication rounds (T); a last one, of all clients, may follow.
        sgd: the optimiser of every local training, with the batch size; its epochs do not count.
        head, representation: local epochs of methods that share a representation.
        averaging: local epochs of methods that share the whole model.
        own: local epochs of models that clients train for themselves.
        generator: FedBKD's.
        engine: the faster one for this net.
    """

    name: str
    title: str
    net: NetSpec
    clients: int = 20
    newcomers: int = 5
    held: int = 2
    train: int = 288
    test: int = 96
    probe: int = 100
    fraction: float = 0.25
    rounds: int = 40
    sgd: Recipe = SGD
    head: int = 10
    representation: int = 1
    averaging: int = 5
    own: int = 5
    generator: GeneratorTraining = field(default_factory=GeneratorTraining)
    engine: Engine = "looped"

    def __post_init__(self) -> None:
        for name in ("clients", "newcomers", "train", "test", "probe", "rounds"):
            if getattr(self, name) < 1:
                raise ValueError(f"expected {name} >= 1, got {name}={getattr(self, name)}")

    @property
    def origin(self) -> str:
        """Where the records of the linear probe come from."""
        return "records that no client owns" if self.held else "training records of the new clients"

    def recipe(self, epochs: int) -> Recipe:
        """The task's optimiser for that many epochs."""
        return replace(self.sgd, epochs=epochs)


SETTINGS: dict[str, Setting] = {
    s.name: s
    for s in (
        Setting("fashion", "Fashion-MNIST", NetSpec("mlp", 1, 28, 10, hidden=(512, 256, 64))),
        Setting(
            "cifar",
            "CIFAR-10",
            NetSpec("cnn", 3, 32, 10, hidden=(16, 32, 120, 64)),
            train=300,
            test=100,
            averaging=1,
            generator=GeneratorTraining(size=200, hidden=128, epochs=3, steps=3, sub_batch=32, diversity=1.0),
        ),
        Setting(
            "text",
            "Generated sentiment",
            NetSpec("lstm", 16, 12, 2, hidden=(32, 10)),
            clients=32,
            newcomers=8,
            held=0,
            train=60,
            test=60,
            probe=200,
            sgd=replace(SGD, lr=0.1),
            head=5,
            representation=5,
            averaging=10,
            own=10,
            generator=GeneratorTraining(size=80, hidden=128, lr=1e-3, weight_decay=1e-4, bound=2.0),
            engine="stacked",
        ),
    )
}


@dataclass(frozen=True, slots=True)
class Client:
    """One client's records."""

    train: Records
    test: Records


@dataclass(frozen=True, slots=True)
class Cohort:
    """Who holds which record in one federation; all parts are disjoint.

    Attributes:
        clients: those who train.
        newcomers: those who come when training is over.
        probe: equally many records of each class, for the linear probe.
    """

    clients: tuple[Client, ...]
    newcomers: tuple[Client, ...]
    probe: Records

    @property
    def pooled(self) -> Records:
        """Test records of all clients, newcomers among them."""
        return concatenate([c.test for c in (*self.clients, *self.newcomers)])


def deal_images(setting: Setting, train: Records, test: Records, stream: Stream) -> Cohort:
    """Deals `held` classes to every client, and equally many records of each of them.

    Args:
        setting: the task.
        train: the data set's training part.
        test: its test part, where the clients' test records come from.
        stream: of the deal.

    Raises:
        ValueError: if the shards cannot be equal, or a class is too small for them.
    """
    everybody = setting.clients + setting.newcomers
    classes = deal_classes(everybody, setting.held, setting.net.classes, stream.child("classes"))
    shards = everybody * setting.held // setting.net.classes
    pieces = setting.train // setting.held, setting.test // setting.held
    if pieces[0] * setting.held != setting.train or pieces[1] * setting.held != setting.test:
        raise ValueError(
            f"expected train and test divisible by held={setting.held}, "
            f"got train={setting.train}, test={setting.test}"
        )
    learnt = _cut(train.labels, setting.net.classes, shards, pieces[0], setting.probe, stream.child("train"))
    tested = _cut(test.labels, setting.net.classes, shards, pieces[1], 0, stream.child("test"))
    given = [0] * setting.net.classes
    hands: list[Client] = []
    for own in classes:
        index = [(learnt[c][given[c]], tested[c][given[c]]) for c in own]
        for c in own:
            given[c] += 1
        hands.append(
            Client(train.take(torch.cat([i for i, _ in index])), test.take(torch.cat([i for _, i in index])))
        )
    probe = train.take(torch.cat([cuts[-1] for cuts in learnt]))
    return Cohort(tuple(hands[: setting.clients]), tuple(hands[setting.clients :]), probe)


def deal_users(setting: Setting, records: Records, users: Tensor, stream: Stream) -> Cohort:
    """Users of the data as clients: a random part of them trains, the others are new.

    Args:
        setting: the task.
        records: of all users.
        users: whose each record is, shape (n,).
        stream: of the deal.

    Raises:
        ValueError: if there are fewer users than clients, or a user has too few records.
    """
    names = users.unique()
    everybody, each = setting.clients + setting.newcomers, setting.train + setting.test
    if len(names) < everybody:
        raise ValueError(f"expected at least {everybody} users, got users={len(names)}")
    rng = stream.child("users").torch()
    hands: list[Client] = []
    for name in names[torch.randperm(len(names), generator=rng)[:everybody]]:
        index = (users == name).nonzero().flatten()
        if len(index) < each:
            raise ValueError(f"expected at least {each} records of every user, got records={len(index)}")
        index = index[torch.randperm(len(index), generator=rng)]
        hands.append(Client(records.take(index[: setting.train]), records.take(index[setting.train : each])))
    newcomers = tuple(hands[setting.clients :])
    own = concatenate([c.train for c in newcomers])
    probe = _balanced(own, setting.net.classes, setting.probe, stream.child("probe"))
    return Cohort(tuple(hands[: setting.clients]), newcomers, probe)


def deal_classes(clients: int, held: int, classes: int, stream: Stream) -> list[tuple[int, ...]]:
    """Classes of each client: every class equally often, none twice at one client.

    A shuffled pack with each class clients * held / classes times is dealt again until nobody holds
    a class twice.

    Raises:
        ValueError: if that cannot be.
    """
    if not 1 <= held <= classes or clients * held % classes:
        raise ValueError(
            f"expected 1 <= held <= classes={classes} and clients * held divisible by it, "
            f"got clients={clients}, held={held}"
        )
    pack = torch.arange(classes).repeat(clients * held // classes)
    rng = stream.torch()
    for _ in range(MAX_DEALS):
        hands = pack[torch.randperm(len(pack), generator=rng)].view(clients, held).sort(1).values
        if bool((hands.diff(dim=1) > 0).all()):
            return [tuple(hand) for hand in hands.tolist()]
    raise ValueError(f"expected a deal without repeats in {MAX_DEALS} attempts, got held={held}")


def _cut(
    labels: Tensor, classes: int, shards: int, size: int, rest: int, stream: Stream
) -> list[list[Tensor]]:
    """Of every class `shards` random disjoint index sets of `size`, and one of `rest`."""
    rng = stream.torch()
    cuts = []
    for label in range(classes):
        index = (labels == label).nonzero().flatten()
        needed = shards * size + rest
        if len(index) < needed:
            raise ValueError(
                f"expected at least {needed} records of every class, got class {label} with {len(index)}"
            )
        index = index[torch.randperm(len(index), generator=rng)[:needed]]
        cuts.append([*index[: shards * size].split(size), index[shards * size :]])
    return cuts


def _balanced(records: Records, classes: int, most: int, stream: Stream) -> Records:
    """Equally many records of each class, at most `most`."""
    counts = torch.bincount(records.labels, minlength=classes)
    size = min(most, int(counts.min()))
    cuts = _cut(records.labels, classes, 1, size, 0, stream)
    return records.take(torch.cat([c[0] for c in cuts]))
