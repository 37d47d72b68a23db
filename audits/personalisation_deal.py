"""Who holds which record in one federation of the personalisation benchmark: all parts are disjoint.

Images are dealt by class, as in FedRep (Collins et al., arXiv 2102.07078, section 5), whose released
code may give a client one class twice; here nobody gets one twice. Text comes with its users.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from audits.personalisation_tasks import Setting
from privfed.randomness import Stream
from privfed.records import Records, concatenate

MAX_DEALS = 10_000
"""Deals of classes before a request counts as impossible."""


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
