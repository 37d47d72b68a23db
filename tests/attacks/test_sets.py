"""Who is read against which set."""

from __future__ import annotations

import numpy as np

from attacks._distances import nearest
from attacks._sets import against, against_sets
from attacks.interface import Floats
from privfed.records import Records, concatenate
from tests.attacks.federations import candidates, images, noise, server_view


def read(pool: Records, members: Records, population: Records) -> tuple[Floats, Floats]:
    return nearest(members, pool), nearest(population, pool)


def test_sets_of_nobody_are_one_pool() -> None:
    known, sets = candidates(10, 4), [noise(5, 7), noise(3, 8)]
    found = against([(None, s) for s in sets], known, read)
    assert found is not None
    np.testing.assert_allclose(found.candidates[:, 0], nearest(known.records, concatenate(sets)))
    np.testing.assert_allclose(found.population[:, 0, 0], nearest(known.population, concatenate(sets)))
    assert not found.clients.any()


def test_sets_of_clients_are_read_by_their_own() -> None:
    known, of_one, again = candidates(10, 4), noise(5, 7), noise(4, 8)
    view = server_view(images(of_one, 0, 1), images(again, 1, 1))
    found = against_sets(view, "client_images", known, read)
    assert found is not None
    mine = (known.clients == 1).numpy()
    pool = concatenate([of_one, again])
    assert np.isnan(found.candidates[~mine]).all()
    np.testing.assert_allclose(found.candidates[mine, 0], nearest(known.records, pool)[mine])
    np.testing.assert_allclose(found.population[:, 0, 1], nearest(known.population, pool))
    assert np.isnan(found.population[:, 0, 0]).all()


def test_empty_sets_are_nothing_to_read() -> None:
    empty = noise(3, 0).take(noise(3, 0).labels < 0)
    assert against([(None, empty)], candidates(4), read) is None
    assert against([], candidates(4), read) is None
