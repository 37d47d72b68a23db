"""What an attack is: an observation of one view, and a score that compares it with references.

The work is split where the cost is. `Observation.extract` runs once per federation, beside its
training, and may be slow; `MembershipAttack.score` is arithmetic on the numbers extracted, so every
federation can serve as the target with all others as its references. Attacks that read the same
thing share one extraction.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Protocol, runtime_checkable

import numpy as np
import torch
from numpy.typing import NDArray

from privfed.randomness import Stream
from privfed.records import Records
from privfed.release import View

if TYPE_CHECKING:
    from privfed.prior import Prior

Floats = NDArray[np.float64]
Bools = NDArray[np.bool_]


@dataclass(frozen=True, slots=True)
class Candidates:
    """Records under test, and a population known to be outside.

    Attributes:
        records: the n candidates.
        clients: int64, shape (n,): whose member each candidate may be.
        population: non-members of the same distribution (never candidates).
        public: the public shard, known to everybody.
        prior: generative prior made from the public shard, known to everybody; None when there is none.
    """

    records: Records
    clients: torch.Tensor
    population: Records
    public: Records
    prior: Prior | None = None


@dataclass(frozen=True, slots=True)
class Signals:
    """What one view says of each record; direction as the observation defines it.

    Attributes:
        candidates: shape (n, queries). NaN where the view says nothing of a record.
        population: shape (z, queries, clients): each population record against each client's
            artefact; clients is 1 when the artefact does not belong to one client.
        clients: int64, shape (n,): column of `population` that belongs to each candidate.
    """

    candidates: Floats
    population: Floats
    clients: NDArray[np.int64]


@dataclass(frozen=True, slots=True)
class References:
    """Signals of federations whose membership the attacker chose (its shadow federations).

    Attributes:
        candidates: shape (references, n, queries).
        population: shape (references, z, queries, clients).
        included: shape (references, n): whether candidate i was a member in reference r.
    """

    candidates: Floats
    population: Floats
    included: Bools


@runtime_checkable
class Observation(Protocol):
    """Turns a view into numbers about each record; a frozen value, its fields are its knobs.

    What was read is kept under its repr, which therefore names every knob, and no address in memory.
    """

    def extract(self, view: View, candidates: Candidates, stream: Stream) -> Signals | None:
        """The signals of this view, or None when the view holds nothing to read."""
        ...


class MembershipAttack(Protocol):
    """Scores candidates for membership; a frozen value, its fields are its knobs."""

    @property
    def observation(self) -> Observation:
        """What the attack reads."""
        ...

    def score(self, target: Signals, references: References) -> Floats:
        """Scores of shape (n,): higher = more likely a member of the target federation."""
        ...


@dataclass(frozen=True, slots=True)
class Known:
    """What an attacker knows who asks for the data themselves, beside its view.

    Attributes:
        public: the public shard, known to everybody.
        population: records of the private distribution that no client holds.
        prior: generative prior made from the public shard; None when there is none.
    """

    public: Records
    population: Records
    prior: Prior | None = None


@dataclass(frozen=True, slots=True)
class Reconstruction:
    """Records an attack believes some client holds.

    Attributes:
        records: m reconstructions with the labels the attack gave them; m may be 0.
        clients: int64, shape (m,): whose they are, -1 where the attack cannot say.
        objective: shape (m,): what the attack itself minimised, at the end; lower = a better fit to what
            was seen. Never a distance to the truth, which no attack is handed.
        work: steps, restarts and queries spent, all added up.
        stopped_early: whether the rule of the attack ended it before its budget was spent.
    """

    records: Records
    clients: torch.Tensor
    objective: Floats
    work: int
    stopped_early: bool


@runtime_checkable
class ReconstructionAttack(Protocol):
    """Rebuilds private records from a view; a frozen value, its fields are its knobs and its budget."""

    def reconstruct(self, view: View, known: Known, stream: Stream) -> Reconstruction | None:
        """What came out, or None when the view holds nothing to invert."""
        ...


@dataclass(frozen=True, slots=True)
class Inference:
    """What an attack infers of each client; NaN where it cannot say.

    Attributes:
        values: shape (clients, k): k numbers of each client, as the attack defines them.
    """

    values: Floats


@runtime_checkable
class PropertyAttack(Protocol):
    """Infers labels, shares or attributes of clients' data; a frozen value, its fields are its knobs."""

    def infer(self, view: View, known: Known, stream: Stream) -> Inference | None:
        """One row a client, of a width that does not depend on the federation; None with nothing to read."""
        ...


class Attribute(Protocol):
    """Something about a record that is hidden while all else is known; a frozen value."""

    def truth(self, records: Records, known: Records) -> torch.Tensor:
        """Value of each record, int64, shape (n,), from 0; `known` fixes where values begin and end."""
        ...

    def visible(self, records: Records, classes: int) -> torch.Tensor:
        """All else, flat, shape (n, d): must not depend on the hidden value."""
        ...

    def completed(self, records: Records, value: int, known: Records) -> Records:
        """The records with the attribute set to `value`, whatever it was."""
        ...

    def values(self, classes: int) -> int:
        """How many values there are."""
        ...


@runtime_checkable
class AttributeAttack(Protocol):
    """Fills in what is hidden of known records; a frozen value, its fields are its knobs."""

    @property
    def attribute(self) -> Attribute:
        """What is hidden."""
        ...

    def guess(
        self, view: View, records: Records, clients: torch.Tensor, known: Known, stream: Stream
    ) -> Floats | None:
        """A score of each value for each record, shape (n, values), higher = more likely, NaN where unknown.

        `clients` says whose each record may be, int64, shape (n,). None when the view holds nothing to ask.
        """
        ...
