"""Observation: what the head, or the representation, of a client's update alone gives away.

Personalised pipelines train the two in turn (FedRep, Collins et al. 2021, Algorithm 1; FedBKD, arXiv
2506.20245): which of them to keep at home is a choice that this observation informs. One part is taken from
the update, the other from what came before it; what the joined model says is read as in `confidence`.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Literal, get_args

from attacks._models import laid_out, released
from attacks._releases import lacks_head, owner, received, stack, start_of, weights
from attacks.confidence import confidences
from attacks.interface import Candidates, Floats, Signals
from privfed.nets import NetSpec, Params, head_of, representation_of
from privfed.randomness import Stream
from privfed.records import Records
from privfed.release import Release, View

Half = Literal["head", "representation"]


@dataclass(frozen=True, slots=True)
class PartConfidence:
    """Logit-scaled confidence of each client's model with only one part of its update, one query a round.

    Higher = more confident. "head": the client's trained head on the representation that was broadcast.
    "representation": the client's trained representation under the head that was broadcast or, where
    none was, under the one that this client uploaded before; NaN in its first round then. NaN in rounds
    in which the client sat out.

    Attributes:
        part: what is taken from the update.
    """

    part: Half = "head"

    def __post_init__(self) -> None:
        if self.part not in get_args(Half):
            raise ValueError(
                f"expected part to be one of {', '.join(get_args(Half))}, got part={self.part!r}"
            )

    def extract(self, view: View, candidates: Candidates, stream: Stream) -> Signals | None:
        """Confidences of candidates and population; None without whole updates and what came before them."""
        found = released(view, "update")
        if found is None:
            return None
        spec, updates = found
        joined = _joined(spec, view, updates, self.part)

        def read(own: tuple[Release, ...], members: Records, population: Records) -> tuple[Floats, Floats]:
            params = stack(own, spec)
            return confidences(spec, params, members), confidences(spec, params, population)

        return laid_out("update", joined, candidates, read) if joined else None


def _joined(spec: NetSpec, view: View, updates: tuple[Release, ...], part: Half) -> tuple[Release, ...]:
    """The updates with the other part as it was before; left out where that is unknown."""
    sent = received(view, "weights", "surrogate")
    heads: dict[int, Params] = {}
    joined = []
    for update in sorted(updates, key=lambda u: (u.round, owner(u))):
        start = start_of(update, sent)
        if start is None or lacks_head(update, spec):
            continue
        end = weights(update, spec)
        before = heads.get(owner(update)) if lacks_head(start, spec) else head_of(spec, dict(start.tensors))
        heads[owner(update)] = head_of(spec, end)
        if part == "head":
            joined.append(
                replace(
                    update, tensors={**representation_of(spec, dict(start.tensors)), **head_of(spec, end)}
                )
            )
        elif before is not None:
            joined.append(replace(update, tensors={**representation_of(spec, end), **before}))
    return tuple(joined)
