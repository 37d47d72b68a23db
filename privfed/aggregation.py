"""The step between clients and server: one sum in place of single messages, with the defences on it.

It runs where an arm has a defence at the aggregate boundary. The server then works on one message, the
common start moved by the mean change, whatever pipeline it runs; what it would have made of single
messages it cannot. A pipeline that needs them says so by `needs_each`.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

import torch

from privfed.hooks import Hooks, Spent, apply_aggregate
from privfed.nets import Params
from privfed.randomness import Stream
from privfed.release import AGGREGATOR, SERVER, Kind, Release

AGGREGATE = "aggregate"
"""Name under which a sum of updates stands in a transcript."""


@dataclass(frozen=True, slots=True)
class Summed:
    """One round's sums.

    Attributes:
        inbox: what the server works on: one release for each name that was summed, and the rest.
        shown: the sums as the transcript holds them.
        spent: by name, what the defences on the sum spent; the value is the mean model.
    """

    inbox: tuple[Release, ...]
    shown: tuple[Release, ...]
    spent: Mapping[str, Spent[Params]]


def summed_names(pipeline: object) -> tuple[str, ...]:
    """Names of the uploads that a pipeline's server may be given as sums."""
    names: tuple[str, ...] = getattr(pipeline, "summed", ("update", "head"))
    return names


def needs_each(pipeline: object) -> str:
    """Why the pipeline's server cannot work on sums, and what can; empty when it can."""
    return str(getattr(pipeline, "needs_each", ""))


def sum_up(
    hooks: Hooks,
    names: Sequence[str],
    start: Params,
    inbox: Sequence[Release],
    clients: int,
    round: int,
    stream: Stream,
    nobody: Params | None = None,
) -> Summed:
    """The uploads of those names, each added up over the clients.

    Args:
        hooks: of the aggregate boundary.
        names: uploads to add up, each on its own.
        start: what was broadcast; an upload of something else counts from zero.
        inbox: what the clients sent.
        clients: how many took part.
        round: of the releases made.
        stream: of this federation and round.
        nobody: what an upload over no client is; the start if left out.
    """
    present = [n for n in names if any(r.name == n for r in inbox)] or list(names[:1])
    spent, shown, rest = {}, [], [r for r in inbox if r.name not in names]
    for name in present:
        sent = [r for r in inbox if r.name == name]
        origin = _origin(start, sent) if sent or nobody is None else nobody
        total = {k: sum((r.tensors[k] - o for r in sent), torch.zeros_like(o)) for k, o in origin.items()}
        added = apply_aggregate(hooks, total, clients, stream.child(name))
        share = hooks.divisor(clients)
        mean = {k: o + added.value[k] / share for k, o in origin.items()}
        spent[name] = replace(added, value=mean)
        kind = sent[0].kind if sent else "weights"
        rest.append(_of(round, kind, name, mean))
        shown.append(_of(round, kind, AGGREGATE if name == "update" else f"{AGGREGATE}_{name}", mean))
    return Summed(tuple(rest), tuple(shown), spent)


def _origin(start: Params, sent: Sequence[Release]) -> Params:
    """What each tensor of the uploads is a change of; without any upload, of all that was broadcast."""
    if not sent:
        return start
    return {k: start.get(k, torch.zeros_like(t)) for k, t in sent[0].tensors.items()}


def _of(round: int, kind: Kind, name: str, tensors: Params) -> Release:
    return Release(round, AGGREGATOR, SERVER, kind, name, tensors)
