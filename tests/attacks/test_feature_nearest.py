"""Nearest in features: pixels give the plain distance, a repainted copy is found where pixels lose it."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from attacks.feature_nearest import FeatureNearest
from attacks.interface import Candidates
from attacks.nearest import NearestNeighbour, NearestSynthetic
from privfed.randomness import Stream
from privfed.records import Records
from tests.attacks.federations import candidates, extract, images, no_references, noise, server_view
from tests.attacks.simulation import auc, chance_width


def test_in_pixels_it_is_the_plain_distance() -> None:
    known, view = candidates(20, 6), server_view(images(noise(9, 5)))
    for same_label in (False, True):
        plain, here = (
            extract(o, known, view)
            for o in (
                NearestSynthetic(same_label=same_label),
                FeatureNearest(space="pixels", same_label=same_label),
            )
        )
        np.testing.assert_allclose(here.candidates, plain.candidates)
        np.testing.assert_allclose(here.population, plain.population)


@pytest.mark.parametrize("leaky", [True, False])
def test_near_copies_are_found_and_independent_images_are_not(leaky: bool) -> None:
    records = noise(600, 3)
    inside = torch.rand(600, generator=torch.Generator().manual_seed(1)) < 0.5
    held = records.take(inside)
    made = Records(held.inputs + 0.01 * noise(len(held), 8).inputs, held.labels) if leaky else noise(300, 9)
    known = Candidates(records, torch.zeros(600, dtype=torch.int64), noise(9, 4), noise(80, 5))
    signals = extract(FeatureNearest(), known, server_view(images(made)))
    found = auc(NearestNeighbour().score(signals, no_references(signals)), inside.numpy())
    assert found > 0.99 if leaky else abs(found - 0.5) < chance_width(inside.numpy())


def test_clients_sets_are_read_by_their_own_candidates() -> None:
    known = candidates(10, 4)
    signals = extract(FeatureNearest("client_images"), known, server_view(images(noise(5, 7), 0, 0)))
    np.testing.assert_array_equal(np.isnan(signals.candidates[:, 0]), (known.clients == 1).numpy())
    assert signals.population.shape == (4, 1, 2)


def test_nothing_without_images_or_the_space() -> None:
    assert FeatureNearest().extract(server_view(), candidates(4), Stream(0)) is None
    view = server_view(images(noise(5, 7)))
    assert FeatureNearest(space="prior").extract(view, candidates(4), Stream(0)) is None
    with pytest.raises(ValueError, match="expected space to be one of"):
        FeatureNearest(space="x")  # type: ignore[arg-type]
