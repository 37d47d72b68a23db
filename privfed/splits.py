"""Who may see which record: public shard, clients' candidates, population, test; disjoint by construction.

All parts of one kind of record are consecutive cuts of one stratified random order, so no index can
fall into two of them. Where clients are users, the order is one a user.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Literal, get_args

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from privfed.partition import Iid, Partition, Users, known, partition
from privfed.randomness import Stream
from privfed.records import Records
from privfed.strata import stratified
from privfed.user_splits import draw_from_users

Regime = Literal["same-classes", "other-classes"]
NO_LABEL = -1
"""Label of public records that belong to no private class; every loss refuses it."""


@dataclass(frozen=True, slots=True)
class SplitPlan:
    """What a split should look like; sizes in records.

    Attributes:
        clients: number of clients.
        candidates: records that may be in or out of a federation, all clients together.
        public: public shard, which trains the generative prior.
        population: non-members of the candidates' distribution that attacks may know.
        test: for accuracy only.
        regime: "same-classes" draws the public shard from all classes, which are all private;
            "other-classes" draws it only from classes outside `private_classes`, so that nothing
            about the private classes is public.
        private_classes: of the private task, in the order of its new labels ("other-classes" only).
        partition: how the candidates are owned by clients. With `Users`, clients are the users with the
            most records, population and test are records of the same users, and the public shard
            is of other users.
    """

    clients: int
    candidates: int
    public: int
    population: int
    test: int
    regime: Regime = "same-classes"
    private_classes: tuple[int, ...] = ()
    partition: Partition = field(default_factory=Iid)

    def __post_init__(self) -> None:
        for name in ("clients", "candidates", "public", "population", "test"):
            least = 1 if name in ("clients", "candidates") else 0
            if getattr(self, name) < least:
                raise ValueError(f"expected {name} >= {least}, got {name}={getattr(self, name)}")
        if self.clients > self.candidates:
            raise ValueError(
                f"expected at most one client per candidate ({self.candidates}), got clients={self.clients}"
            )
        if self.regime not in get_args(Regime):
            raise ValueError(
                f"expected regime to be one of {', '.join(get_args(Regime))}, got regime={self.regime!r}"
            )
        if (self.regime == "other-classes") != bool(self.private_classes):
            raise ValueError(
                "expected private_classes with regime 'other-classes' only, "
                f"got regime={self.regime!r} and private_classes={self.private_classes}"
            )


@dataclass(frozen=True, slots=True)
class SplitRecords:
    """The four sets as records, with labels of the private task.

    Public records carry `NO_LABEL` in the regime "other-classes".
    """

    public: Records
    candidates: Records
    population: Records
    test: Records


@dataclass(frozen=True, slots=True)
class Split:
    """Indices into one data set, int64 and pairwise disjoint.

    Attributes:
        public, candidates, population, test: indices, shape (size,).
        owners: client of each candidate, shape (candidates,).
        private_classes: labels of the data set that the private task has, in the order of its new
            labels 0..P-1.
        regime: where the public shard comes from.
        users: user that each client is, ascending; empty unless clients are users.
    """

    public: Tensor
    candidates: Tensor
    population: Tensor
    test: Tensor
    owners: Tensor
    private_classes: tuple[int, ...]
    regime: Regime
    users: tuple[int, ...] = ()

    @property
    def classes(self) -> int:
        """Number of classes of the private task."""
        return len(self.private_classes)

    def records(self, source: Records) -> SplitRecords:
        """The four sets, taken from the data set this split was made for, labels re-indexed."""
        new = torch.full((int(source.labels.max()) + 1,), NO_LABEL)
        new[list(self.private_classes)] = torch.arange(self.classes)

        def part(index: Tensor) -> Records:
            return Records(source.inputs[index], new[source.labels[index]])

        return SplitRecords(part(self.public), part(self.candidates), part(self.population), part(self.test))


@dataclass(frozen=True, slots=True)
class Canaries:
    """Candidates' labels after some were made wrong on purpose.

    Attributes:
        labels: int64, shape (candidates,).
        mask: which candidates are canaries, bool, shape (candidates,).
    """

    labels: Tensor
    mask: Tensor


def make_split(labels: Tensor, plan: SplitPlan, stream: Stream, users: Tensor | None = None) -> Split:
    """A random split, stratified by class, and by user where clients are users.

    Every part has its share of each class up to rounding.

    Args:
        labels: of the whole data set, int64 in 0..C-1, shape (n,).
        plan: sizes and regime.
        stream: randomness of the draw and of the partition among clients.
        users: user of each record, int64, shape (n,), as `Dataset.users`; only the partition `Users`
            reads it.

    Raises:
        ValueError: if the data set cannot fill the plan.
    """
    private = plan.private_classes or tuple(range(int(labels.max()) + 1))
    _check_classes(labels, private)
    if isinstance(plan.partition, Users):
        return _split_by_user(labels, known(users, labels), plan, private, stream)
    draw = stream.child("draw")
    sizes = {"candidates": plan.candidates, "population": plan.population, "test": plan.test}
    if plan.regime == "same-classes":
        candidates, population, test, public = _cut(labels, private, draw, **sizes, public=plan.public)
    else:
        candidates, population, test = _cut(labels, private, draw, **sizes)
        (public,) = _cut(labels, _outside(labels, private), stream.child("public"), public=plan.public)
    owners = _owners(labels[candidates], plan, stream.child("partition"))
    return Split(public, candidates, population, test, owners, private, plan.regime)


def with_canaries(labels: Tensor, owners: Tensor, classes: int, count: int, stream: Stream) -> Canaries:
    """Mislabels `count` candidates, spread over the clients as evenly as their sizes allow.

    Args:
        labels: of the candidates, in 0..classes-1, shape (candidates,).
        owners: client of each candidate, shape (candidates,).
        classes: of the private task.
        count: canaries; the wrong label of each is uniform over the other classes.
        stream: randomness of choice and labels.

    Raises:
        ValueError: if there are fewer candidates than canaries, or fewer than two classes.
    """
    if not 0 <= count <= len(labels):
        raise ValueError(f"expected 0 <= count <= {len(labels)} candidates, got count={count}")
    if classes < 2:
        raise ValueError(f"expected classes >= 2 for a wrong label, got classes={classes}")
    rng = stream.numpy()
    chosen = _spread(owners.numpy(), rng)[:count]
    wrong = labels.clone()
    wrong[chosen] = (labels[chosen] + torch.from_numpy(rng.integers(1, classes, count))) % classes
    mask = torch.zeros(len(labels), dtype=torch.bool)
    mask[chosen] = True
    return Canaries(wrong, mask)


def _split_by_user(
    labels: Tensor, users: Tensor, plan: SplitPlan, private: tuple[int, ...], stream: Stream
) -> Split:
    drawn = draw_from_users(
        labels,
        users,
        private,
        plan.clients,
        stream.child("draw"),
        candidates=plan.candidates,
        population=plan.population,
        test=plan.test,
    )
    candidates, population, test = drawn.parts
    owners = _owners(labels[candidates], plan, stream.child("partition"), users[candidates])
    public = _public_of(drawn.others, labels, plan, private, stream.child("public"))
    return Split(public, candidates, population, test, owners, private, plan.regime, drawn.users)


def _public_of(
    others: Tensor, labels: Tensor, plan: SplitPlan, private: tuple[int, ...], stream: Stream
) -> Tensor:
    """The public shard out of the records of users who are no clients."""
    classes = private if plan.regime == "same-classes" else _outside(labels, private)
    order = torch.from_numpy(stratified(labels[others].numpy(), classes, stream.numpy()))
    if plan.public > len(order):
        raise ValueError(
            f"expected public <= {len(order)}, the records of classes {classes} of users who are no clients "
            f"(lower public or clients), got public={plan.public}"
        )
    return others[order[: plan.public]]


def _check_classes(labels: Tensor, private: tuple[int, ...]) -> None:
    found = set(labels.unique().tolist())
    if len(set(private)) != len(private) or not set(private) <= found:
        raise ValueError(
            f"expected distinct private_classes out of the data set's {len(found)}, "
            f"got private_classes={private}"
        )
    if len(private) < 2:
        raise ValueError(f"expected at least two private_classes, got private_classes={private}")


def _outside(labels: Tensor, private: tuple[int, ...]) -> tuple[int, ...]:
    outside = tuple(c for c in range(int(labels.max()) + 1) if c not in private)
    if not outside:
        raise ValueError(
            f"expected a class outside of private_classes for the public shard, got private_classes={private}"
        )
    return outside


def _cut(labels: Tensor, classes: tuple[int, ...], stream: Stream, **sizes: int) -> tuple[Tensor, ...]:
    """Consecutive cuts of a stratified order of the records of `classes`, one a size."""
    order = torch.from_numpy(stratified(labels.numpy(), classes, stream.numpy()))
    total = sum(sizes.values())
    if total > len(order):
        raise ValueError(
            f"expected {' + '.join(sizes)} <= {len(order)}, the records of classes {classes}, "
            f"got {', '.join(f'{k}={v}' for k, v in sizes.items())}"
        )
    return tuple(torch.split(order[:total], list(sizes.values())))


def _owners(labels: Tensor, plan: SplitPlan, stream: Stream, users: Tensor | None = None) -> Tensor:
    owners = torch.empty(len(labels), dtype=torch.int64)
    for client, part in enumerate(partition(labels, plan.clients, plan.partition, stream, users)):
        owners[part] = client
    return owners


def _spread(owners: NDArray[np.int64], rng: np.random.Generator) -> NDArray[np.int64]:
    """Candidates in dealing order: one of each client, then a second of each, at random within."""
    order = rng.permutation(len(owners))
    rank = np.empty(len(owners), dtype=np.int64)
    for client in np.unique(owners):
        mine = order[owners[order] == client]
        rank[mine] = np.arange(len(mine))
    return order[np.argsort(rank[order], kind="stable")]
