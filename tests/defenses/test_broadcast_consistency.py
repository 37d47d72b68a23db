"""Clients who compare what they were sent notice a server that sends them different models."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch

from defenses.broadcast_consistency import digests, inconsistent_broadcast
from privfed.deviation import MaliciousServer, Targets, Turn
from privfed.federation import run
from privfed.nets import Params
from privfed.release import Observer, Release, Transcript, View
from tests.privfed.echo import NOTHING, WORLD, Echo, federation


class Favours:
    """Sends one client something of its own in round 1."""

    def __init__(self, client: int | None) -> None:
        self.client = client

    def send(self, turn: Turn) -> Params:
        if turn.round != 1 or self.client not in (turn.client, None):
            return turn.honest
        return {k: t + 1 for k, t in turn.honest.items()}


def views(deviation: Favours | None, fraction: float = 1.0) -> list[View]:
    targets = Targets(NOTHING, torch.empty(0, dtype=torch.int64))
    server = None if deviation is None else MaliciousServer(deviation, targets)
    pipeline = Echo(rounds=3, fraction=fraction)
    (outcome,) = run(pipeline, replace(WORLD, deviation=server), [federation(0, 3)])
    return [outcome.transcript.view(Observer("client", k)) for k in range(3)]


def test_an_honest_server_is_never_accused() -> None:
    assert inconsistent_broadcast(views(None)) == ()
    assert inconsistent_broadcast(views(None, fraction=0.4)) == ()
    assert [sorted(digests(v)) for v in views(None)] == [[0, 1, 2, 3]] * 3


def test_the_round_is_named_in_which_one_client_was_sent_something_else() -> None:
    found = views(Favours(client=2))
    assert inconsistent_broadcast(found) == (1,)
    assert inconsistent_broadcast(found[:2]) == (), "the victim is not among those who compare"
    assert inconsistent_broadcast(found[2:]) == ()


def test_one_model_that_is_sent_to_each_client_alone_is_no_sign() -> None:
    assert inconsistent_broadcast(views(Favours(client=None))) == ()


def test_a_single_bit_a_name_or_a_type_is_seen() -> None:
    def shown(client: int, tensors: Params) -> View:
        sent = Release(0, "server", "clients", "weights", "surrogate", tensors)
        return Transcript((sent,)).view(Observer("client", client))

    one = torch.tensor([1.0])
    others = ({"w": torch.nextafter(one, 2 * one)}, {"v": one}, {"w": one.double()}, {"w": one[:, None]})
    assert inconsistent_broadcast([shown(0, {"w": one}), shown(1, {"w": one.clone()})]) == ()
    for other in others:
        assert inconsistent_broadcast([shown(0, {"w": one}), shown(1, other)]) == (0,)


def test_a_view_of_anybody_else_is_refused() -> None:
    server = Transcript(()).view(Observer("server"))
    with pytest.raises(ValueError, match="expected the view of a client, got observer='server'"):
        inconsistent_broadcast([server])
