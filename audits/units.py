"""Who is in or out together: a record, a client with all it holds, or a subject spread over clients.

Membership of a client (user-level) is what a hospital or a telephone's owner asks about; membership of a
subject is what a patient asks whose records lie with several hospitals (Suri et al., "Subject membership
inference attacks in federated learning", arXiv 2206.03317). The game is the same with one coin a unit, and
a unit's score is the mean of its records' scores: a set statistic, which for n records of shift mu
each reaches an AUC of Phi(mu sqrt(n / 2)) where scores are independent.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

import numpy as np
import torch
from torch import Tensor

from attacks.interface import Bools, Floats
from privfed.randomness import Stream

Kind = Literal["record", "client", "subject"]
PLURALS = {"record": "records", "client": "clients", "subject": "people"}
WORDS = {
    "record": ("a record that was used", "one that was not"),
    "client": ("a client whose records were used", "one whose records were not"),
    "subject": ("a person whose records were used", "one whose records were not"),
}


@dataclass(frozen=True, slots=True)
class Units:
    """The units of privacy that the candidates make up.

    Attributes:
        kind: what a unit is.
        of: int64, shape (n,): unit of each candidate, from 0 without gaps.
        trained: bool, shape (n,): whether a candidate is trained on when its unit is in. The others are
            fresh records of the unit, which the attacker holds and no client ever trains on.
    """

    kind: Kind
    of: Tensor
    trained: Tensor

    @property
    def count(self) -> int:
        """Number of units."""
        return int(self.of.max()) + 1 if len(self.of) else 0

    def drawn(self, stream: Stream) -> Tensor:
        """Which units are in, bool, shape (units,): independent fair coins."""
        return torch.from_numpy(stream.numpy().random(self.count) < 0.5)

    def mean(self, scores: Floats) -> Floats:
        """Mean score of each unit's attacked records: (F, n) to (F, units); NaN where none is scored.

        Fresh records are the ones attacked where there are any.
        """
        attacked = ~self.trained.numpy() if not bool(self.trained.all()) else np.ones(len(self.of), np.bool_)
        known = ~np.isnan(scores) & attacked
        belongs = np.eye(self.count)[self.of.numpy()]
        total, count = np.where(known, scores, 0.0) @ belongs, known @ belongs
        return np.where(count > 0, total / np.maximum(count, 1), np.nan)

    def expand(self, included: Bools) -> Bools:
        """Membership of units (F, units) as membership of their records (F, n)."""
        spread: Bools = included[:, self.of.numpy()]
        return spread


def by_record(candidates: int) -> Units:
    """Every candidate is a unit of its own."""
    return Units("record", torch.arange(candidates), torch.ones(candidates, dtype=torch.bool))


def make_units(kind: Kind, size: int, fresh: bool, owners: Tensor, stream: Stream) -> Units:
    """Units of the candidates.

    Args:
        kind: "client" = the records of one client; "subject" = `size` records drawn over all clients.
        size: records of a subject; a last, smaller group joins the one before it.
        fresh: whether half of each unit's records, at random, is never trained on and is what is attacked.
        owners: int64, shape (n,): client of each candidate; every client holds one.
        stream: of the draws.

    Raises:
        ValueError: when a unit would have fewer than two records and `fresh` asks for both kinds.
    """
    if kind == "record":
        return by_record(len(owners))
    of = owners.clone() if kind == "client" else _subjects(len(owners), size, stream.child("subjects"))
    trained = torch.ones(len(owners), dtype=torch.bool)
    if fresh:
        rng = stream.child("fresh").numpy()
        for unit in range(int(of.max()) + 1):
            mine = np.flatnonzero(of.numpy() == unit)
            if len(mine) < 2:
                raise ValueError(f"expected at least 2 records in each unit for fresh ones, got {len(mine)}")
            trained[torch.from_numpy(rng.permutation(mine)[: len(mine) // 2])] = False
    return Units(kind, of, trained)


def _subjects(candidates: int, size: int, stream: Stream) -> Tensor:
    count = max(1, candidates // size)
    of = np.minimum(np.arange(candidates) // size, count - 1)
    order = stream.numpy().permutation(candidates)
    found = np.empty(candidates, dtype=np.int64)
    found[order] = of
    return torch.from_numpy(found)
