"""How often an attacker names the owner of a record, beside what class counts alone would name.

Clients with different classes are told apart by labels; only what lies beyond that is leaked by models.
Source of the attack: Hu et al. (arXiv 2109.05659); baselines are set beside it, and every class is
reported apart.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from audits.statistics import Bools, Floats, federated_mean
from reports.record import Estimate

Ints = NDArray[np.int64]
METRIC = "source_accuracy"


@dataclass(frozen=True, slots=True)
class ClassSource:
    """The finding on records of one class.

    Attributes:
        label: the class.
        accuracy: as in `SourceFinding`.
        majority, histogram: accuracies of guessing from counts of that class, as in `SourceFinding`.
    """

    label: int
    accuracy: Estimate
    majority: float
    histogram: float


@dataclass(frozen=True, slots=True)
class SourceFinding:
    """Top-1 accuracy of source inference over members; higher = more is given away.

    Attributes:
        accuracy: share of members whose owner was named, of those for which a client was named at all.
        baseline_uniform: 1 / clients.
        baseline_majority: accuracy of naming the client with the most *other* members of the record's
            class. Where clients hold about equally many it is below 1 / clients, since the owner's count
            lacks the record.
        baseline_histogram: accuracy of naming the client with the most members of the class, the record
            included: the Bayes guess of an attacker who knows how many records of each class every
            client holds, and nothing else.
        known: share of members for which a client was named.
        by_class: the same class by class, for every class that a candidate has.
    """

    accuracy: Estimate
    baseline_uniform: float
    baseline_majority: float
    baseline_histogram: float
    known: float
    by_class: tuple[ClassSource, ...]

    @property
    def baseline(self) -> float:
        """What a guess has to beat to say more than labels do: the best of the baselines."""
        return float(np.nanmax([self.baseline_uniform, self.baseline_majority, self.baseline_histogram]))

    @property
    def beyond_labels(self) -> bool:
        """Whether the whole interval lies above the best baseline."""
        return self.accuracy.lower is not None and self.accuracy.lower > self.baseline


def source_accuracy(
    guesses: Ints, owners: Ints, labels: Ints, included: Bools, clients: int, level: float = 0.95
) -> SourceFinding:
    """Guessed owners against true ones, over the members of every federation.

    Args:
        guesses: shape (F, n): a client, or -1 where none was named, which leaves the record out (and is
            told by `known`).
        owners: shape (n,): whose record each candidate is when it is a member.
        labels: shape (n,), at least 0.
        included: shape (F, n): whether the record was a member; others have no owner to be named.
        clients: how many there are.
        level: confidence of each bound, by `federated_mean`: robust to clusters by federation and by
            record.

    Raises:
        ValueError: when shapes do not fit, or guesses or owners name no client.
    """
    _check(guesses, owners, labels, included, clients)
    named = included & (guesses >= 0)
    right = np.where(named, guesses == owners, np.nan)
    lookups = [_lookup(named, included, owners, labels, clients, own) for own in (False, True)]
    classes = []
    for label in np.unique(labels):
        mine = labels == label
        estimate = federated_mean(right[:, mine], level, METRIC)
        majority, histogram = (_mean(found[:, mine]) for found in lookups)
        classes.append(ClassSource(int(label), estimate, majority, histogram))
    return SourceFinding(
        accuracy=federated_mean(right, level, METRIC),
        baseline_uniform=1 / clients,
        baseline_majority=_mean(lookups[0]),
        baseline_histogram=_mean(lookups[1]),
        known=float(named.sum() / included.sum()) if included.any() else float("nan"),
        by_class=tuple(classes),
    )


def _lookup(named: Bools, included: Bools, owners: Ints, labels: Ints, clients: int, own: bool) -> Floats:
    """Chance that a guess from counts names the owner, (F, n), ties shared out; `own` = itself counted."""
    chance = np.full(included.shape, np.nan)
    for federation, inside in enumerate(included):
        table = np.zeros((int(labels.max(initial=-1)) + 1, clients), dtype=np.int64)
        np.add.at(table, (labels[inside], owners[inside]), 1)
        at = np.flatnonzero(named[federation])
        counts = table[labels[at]]
        if not own:
            counts[np.arange(len(at)), owners[at]] -= 1
        most = counts == counts.max(1, keepdims=True)
        chance[federation, at] = most[np.arange(len(at)), owners[at]] / most.sum(1)
    return chance


def _mean(values: Floats) -> float:
    """Mean over federations of means over records, as `federated_mean` takes it; NaN without any."""
    known = values[~np.isnan(values).all(1)] if values.size else values[:0]
    return float(np.nanmean(known, axis=1).mean()) if known.size else float("nan")


def _check(guesses: Ints, owners: Ints, labels: Ints, included: Bools, clients: int) -> None:
    if included.ndim != 2 or guesses.shape != included.shape:
        raise ValueError(
            f"expected guesses and included of one shape (federations, records), "
            f"got guesses={guesses.shape}, included={included.shape}"
        )
    if owners.shape != included.shape[1:] or labels.shape != included.shape[1:]:
        raise ValueError(
            f"expected owners and labels of shape {included.shape[1:]}, "
            f"got owners={owners.shape}, labels={labels.shape}"
        )
    if included.dtype != np.bool_:
        raise ValueError(f"expected included of type bool, got included.dtype={included.dtype}")
    if owners.size and not 0 <= int(owners.min()) <= int(owners.max()) < clients:
        raise ValueError(f"expected owners from 0 to {clients - 1}, got {owners.min()} to {owners.max()}")
    if guesses.size and not -1 <= int(guesses.min()) <= int(guesses.max()) < clients:
        raise ValueError(f"expected guesses from -1 to {clients - 1}, got {guesses.min()} to {guesses.max()}")
    if labels.size and labels.min() < 0:
        raise ValueError(f"expected labels >= 0, got labels={labels.min()}")
