"""Black-box samples of a generator: how many, of which labels, and what they give away."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
import pytest
import torch

from attacks._distances import nearest
from attacks.generator_samples import GeneratorSamples
from attacks.interface import Candidates, Floats
from privfed.randomness import Stream
from privfed.records import Records
from privfed.release import View
from tests.attacks.federations import candidates, extract, noise, server_view
from tests.attacks.generators import affine, plateaus, released
from tests.attacks.simulation import auc

STREAM = Stream(0)


def closeness(view: View, records: Records, **knobs: Any) -> Floats:
    known = Candidates(records, torch.zeros(len(records), dtype=torch.int64), noise(3, 8), noise(3, 9))
    return extract(GeneratorSamples(**knobs), known, view).candidates[:, 0]


def test_a_generator_of_one_record_is_at_its_distance() -> None:
    centre = noise(1, 0)
    params = affine(torch.zeros(36, 64), centre.inputs.flatten(), 5, 20, seed=1)
    known = candidates(12, 5)
    found = extract(GeneratorSamples(samples=2), known, server_view(*released(params, 1)))
    np.testing.assert_allclose(found.candidates[:, 0], -nearest(known.records, centre), atol=1e-5)
    np.testing.assert_allclose(found.population[:, 0, 0], -nearest(known.population, centre), atol=1e-5)


def test_samples_are_fresh_and_of_every_label() -> None:
    """One coordinate of the record is the first number of the noise: 100 samples a label fill [0, 1]."""
    matrix = torch.zeros(36, 64)
    matrix[0, 0] = 1.0
    params = affine(matrix, torch.zeros(36), 5, 20, seed=1)
    inputs = torch.zeros(200, 36)
    inputs[:, 0] = torch.linspace(0, 1, 200)
    records = Records(inputs.view(-1, 1, 6, 6), torch.arange(200) % 5)
    view = server_view(*released(params, 1))
    same = closeness(view, records, samples=100, same_label=True)
    pooled = closeness(view, records, samples=100)
    assert (-same).max() < 0.1
    assert (pooled >= same).all()
    # Mean distance to the nearest of m uniform numbers is about 1 / 2m.
    assert (-pooled).mean() == pytest.approx(1 / 1000, rel=0.5)
    assert (-same).mean() == pytest.approx(1 / 200, rel=0.5)


def test_more_samples_and_generators_come_closer() -> None:
    first, second = (plateaus(noise(20, s), 5, seed=s) for s in (0, 1))
    records = Records(
        torch.cat([noise(20, s).inputs for s in (0, 1)]), torch.cat([noise(20, s).labels for s in (0, 1)])
    )
    view = server_view(*released(first, 1), *released(second, 2))
    both, one = (closeness(view, records, newest=n) for n in (2, 1))
    np.testing.assert_allclose(both, np.zeros(40), atol=2e-3)
    assert (one[20:] > -2e-3).all()
    assert (one[:20] < -1).all()


def test_a_generator_that_memorised_gives_its_members_away() -> None:
    records = noise(60, 5)
    inside = torch.rand(60, generator=torch.Generator().manual_seed(6)) < 0.5
    view = server_view(*released(plateaus(records.take(inside), 5, seed=0), 1))
    assert auc(closeness(view, records), inside.numpy()) == 1.0


def test_the_stream_decides_what_is_drawn() -> None:
    matrix = torch.randn(36, 64, generator=torch.Generator().manual_seed(0))
    view = server_view(*released(affine(matrix, torch.zeros(36), 5, 20, seed=1), 1))
    observe, known = GeneratorSamples(samples=5), candidates(8, 4)
    read = [observe.extract(view, known, s) for s in (STREAM, STREAM, STREAM.child("b"))]
    first, second, other = (s.candidates for s in read if s is not None)
    np.testing.assert_array_equal(first, second)
    assert (first != other).any()


def test_records_that_no_such_generator_makes_are_refused() -> None:
    view = server_view(*released(plateaus(noise(4, 0), 5, seed=0), 1))
    with pytest.raises(ValueError, match="expected a generator of records of 64 values, got a generator of"):
        closeness(view, Records(torch.zeros(2, 1, 8, 8), torch.zeros(2, dtype=torch.int64)))


@pytest.mark.parametrize("knobs", [{"samples": 0}, {"newest": 0}])
def test_bad_knobs_are_refused(knobs: dict[str, Any]) -> None:
    (name,) = knobs
    with pytest.raises(ValueError, match=f"expected {name} >= 1, got {name}=0"):
        replace(GeneratorSamples(), **knobs)
