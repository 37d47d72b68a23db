"""Broadcast consistency: clients compare digests of what they were sent, and so notice models of their own.

A server that isolates a client, or moves its model towards its own candidates, has to send clients different
models where the protocol has one broadcast. Digests exchanged past the server, or written to a log that all
can read, give that away and say nothing about anybody's records. Crafted models that go to all clients
alike pass: those are for `defenses.model_inspection`. A pipeline that sends each client a personal model by
design does so under another name, which is not compared.
"""

from __future__ import annotations

import hashlib
from collections.abc import Sequence

from privfed.release import CLIENTS, SERVER, Release, View, client_name


def digests(view: View, name: str = "surrogate") -> dict[int, str]:
    """What one client would publish: by round, the SHA-256 of the models of that name it was sent.

    Args:
        view: of a client.
        name: of the broadcast.

    Raises:
        ValueError: when the view is not a client's.
    """
    if view.observer.client is None:
        raise ValueError(f"expected the view of a client, got observer={view.observer.label!r}")
    mine = {CLIENTS, client_name(view.observer.client)}
    found: dict[int, list[Release]] = {}
    for release in view.select("weights", name):
        if release.sender == SERVER and release.receiver in mine:
            found.setdefault(release.round, []).append(release)
    return {round: _digest(sent) for round, sent in found.items()}


def inconsistent_broadcast(views: Sequence[View], name: str = "surrogate") -> tuple[int, ...]:
    """Rounds in which clients were sent different models; empty = no sign of a server that deviates.

    Digests compare bits: it takes a transport that leaves weights as they are. A client that was sent
    nothing in a round has no say in it, so two must have been.

    Args:
        views: of clients, at least two for anything to be found.
        name: of the broadcast.

    Raises:
        ValueError: when a view is not a client's.
    """
    told = [digests(v, name) for v in views]
    rounds = sorted({r for one in told for r in one})
    return tuple(r for r in rounds if len({one[r] for one in told if r in one}) > 1)


def _digest(sent: Sequence[Release]) -> str:
    whole = hashlib.sha256()
    for release in sent:
        for key in sorted(release.tensors):
            tensor = release.tensors[key].detach().cpu().contiguous()
            whole.update(repr((key, str(tensor.dtype), tuple(tensor.shape))).encode())
            whole.update(tensor.numpy().tobytes())
    return whole.hexdigest()
