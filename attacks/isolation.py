"""Isolation: the server sends a client its own model back, which then fits that client's records alone.

Source: Nasr, Shokri and Houmansadr, "Comprehensive privacy analysis of deep learning" (arXiv 1812.00910),
section III-C, "isolating attack": a participant that never sees the average overfits to its own records,
and what averaging would have blurred stays in its uploads.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from attacks import _signals
from attacks._references import over_queries
from attacks._sent_alone import laid_out, legs, rounds_of
from attacks.interface import Candidates, Floats, Observation, References, Signals
from privfed.nets import Params
from privfed.randomness import Stream
from privfed.release import View

if TYPE_CHECKING:
    from privfed.deviation import Turn


@dataclass(frozen=True, slots=True)
class Isolation:
    """Sends each victim its own last upload in place of the broadcast.

    A client starts from the broadcast until it has uploaded once; where the server sees sums only, always.

    Attributes:
        victims: clients that are isolated; all of them where empty.
    """

    victims: tuple[int, ...] = ()

    def __post_init__(self) -> None:
        if any(k < 0 for k in self.victims):
            raise ValueError(f"expected victims >= 0, got victims={self.victims}")

    def send(self, turn: Turn) -> Params:
        """The client's last upload, as much of it as is broadcast; the broadcast where there is none."""
        own = turn.last_upload()
        if own is None or (self.victims and turn.client not in self.victims):
            return turn.honest
        return {name: own.get(name, t) for name, t in turn.honest.items()}


@dataclass(frozen=True, slots=True)
class IsolatedConfidence:
    """Logit-scaled confidence of the models that isolated clients return, one query a round.

    Higher = more confident; population records against every client. NaN for a client that was not isolated
    in that round.
    """

    def extract(self, view: View, candidates: Candidates, stream: Stream) -> Signals | None:
        """Confidences of candidates and population; None where no client was sent its own model back."""
        found = legs(view)
        if found is None:
            return None
        spec, every = found
        alone = tuple(leg for leg in every if leg.isolated)
        if not alone:
            return None
        later = rounds_of(view)[1:]  # nobody can be isolated before it has uploaded
        return laid_out(spec, alone, later, candidates, lambda sent, returned: returned)


@dataclass(frozen=True, slots=True)
class IsolatedLoss:
    """Score each record by minus its loss under the isolated models of its client, without references.

    Attributes:
        observation: models whose loss is read; any logit-scaled confidence.
    """

    observation: Observation = field(default_factory=IsolatedConfidence)

    def score(self, target: Signals, references: References) -> Floats:
        """Minus the mean cross-entropy (nats) over the known rounds, shape (n,)."""
        return -over_queries(_signals.loss(target.candidates))
