"""What attacks take for a client's start where a malicious server sent it a model of its own."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from attacks._gradients import sites
from attacks._head_movements import head_movements
from attacks._models import released
from attacks._releases import start_of, to_one
from attacks._sent_alone import legs
from attacks._updates import movements
from attacks.confidence import ModelConfidence
from privfed.nets import Params, initial, representation_of
from privfed.randomness import Stream
from privfed.release import AGGREGATOR, SERVER, Release, View, client_name
from tests.attacks.federations import SPEC, candidates, server_view, weights

SENT, UPDATE = "surrogate", "update"


def model(seed: int) -> Params:
    return initial(SPEC, torch.Generator().manual_seed(seed))


def alone(params: Params, client: int, round: int = 0) -> Release:
    return Release(round, SERVER, client_name(client), "weights", SENT, params)


def deviated() -> View:
    """Client 0 is sent model 1 and client 1 model 2; nobody gets model 0; then all get model 3."""
    return server_view(
        Release(0, SERVER, SERVER, "weights", "withheld", model(0)),
        alone(model(1), 0),
        alone(model(2), 1),
        weights(model(11), UPDATE, 0, 0),
        weights(model(12), UPDATE, 0, 1),
        weights(model(3), SENT, 1),
        weights(model(13), UPDATE, 1, 0),
    )


def equal(one: Params, other: Params) -> bool:
    return one.keys() == other.keys() and all(torch.equal(one[k], other[k]) for k in one)


def test_a_client_starts_from_what_it_alone_was_sent() -> None:
    view = deviated()
    sent = view.select(name=SENT)
    found = [start_of(u, sent) for u in view.select(name=UPDATE)]
    assert [f is not None and f.receiver for f in found] == ["client:0", "client:1", "clients"]
    assert [to_one(r) for r in sent] == [True, True, False]
    assert start_of(weights(model(9), UPDATE, 7, 0), sent) is None
    assert start_of(weights(model(9), UPDATE, 0, 2), sent) is None


def test_a_later_broadcast_of_the_same_round_counts_and_whose_an_update_is_must_be_known() -> None:
    twice = (weights(model(1), SENT), weights(model(2), SENT))
    assert start_of(weights(model(3), UPDATE, 0, 0), twice) is twice[1]
    sum_ = Release(0, AGGREGATOR, SERVER, "weights", UPDATE, model(0))
    with pytest.raises(ValueError, match="expected the client that release 'update' of round 0"):
        start_of(sum_, twice)


def test_movements_and_gradients_are_taken_from_there() -> None:
    starts = [model(s) for s in (1, 2, 3)]
    moved = movements(deviated(), rounds=2)
    assert moved is not None
    of = {(m.client, m.round): m.start for m in moved[1]}
    heads = head_movements(deviated())
    assert heads is not None
    of_heads = {(m.client, m.round): m.start for m in heads[1]}
    places = sites(deviated())
    assert places is not None
    of_sites = {(s.clients[0], s.round): s.model for s in places[1]}
    assert [s.clients for s in places[1]] == [(0,), (0,), (1,)]
    for found in (of, of_heads, of_sites):
        for at, start in zip(((0, 0), (1, 0), (0, 1)), starts, strict=True):
            assert equal(found[at], start)


def test_what_one_client_was_sent_is_no_broadcast() -> None:
    found = released(deviated(), "surrogate")
    assert found is not None
    assert [r.round for r in found[1]] == [1]
    everything = ModelConfidence("surrogate").extract(deviated(), candidates(8), Stream(0))
    assert everything is not None
    assert everything.candidates.shape == (8, 1)


def test_legs_are_of_clients_that_were_sent_something_alone() -> None:
    found = legs(deviated())
    assert found is not None
    assert [(leg.returned.about, leg.returned.round) for leg in found[1]] == [(0, 0), (1, 0)]
    passive = legs(deviated(), passive=True)
    assert passive is not None
    assert [(leg.returned.about, leg.returned.round) for leg in passive[1]] == [(0, 0), (1, 0), (0, 1)]
    honest = server_view(weights(model(0), SENT), weights(model(1), UPDATE, 0, 0))
    assert legs(honest) is None
    assert legs(server_view(alone(model(0), 0))) is None


def test_a_leg_without_a_head_takes_the_one_that_came_back() -> None:
    bare = representation_of(SPEC, model(0))
    view = server_view(alone(bare, 0), weights(model(1), UPDATE, 0, 0))
    found = legs(view)
    assert found is not None
    (leg,) = found[1]
    assert equal(dict(leg.sent.tensors), {**model(1), **bare})
    assert set(leg.bare) == set(bare)
    headless = server_view(alone(bare, 0), weights(representation_of(SPEC, model(1)), UPDATE, 0, 0))
    assert legs(headless) is None


def test_isolated_is_who_gets_its_own_last_upload_back() -> None:
    def isolated(*rounds: tuple[int, int]) -> list[bool]:
        releases: list[Release] = []
        for t, (sent, returned) in enumerate(rounds):
            releases += [alone(model(sent), 0, t), weights(model(returned), UPDATE, t, 0)]
        found = legs(server_view(*releases))
        assert found is not None
        return [leg.isolated for leg in found[1]]

    assert isolated((0, 1), (1, 2), (2, 3)) == [False, True, True]
    assert isolated((0, 1), (0, 2), (1, 3)) == [False, False, False]
    assert np.sum(isolated((1, 1), (1, 1))) == 1
