"""Monte Carlo mass: worked out by hand, the unit of distance, both radii."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch

from attacks.interface import Candidates, Floats
from attacks.monte_carlo import MonteCarlo, MonteCarloMass
from privfed.randomness import Stream
from privfed.records import Records
from tests.attacks.federations import candidates, extract, images, no_references, noise, server_view
from tests.attacks.simulation import auc, chance_width


def line(values: list[float]) -> Records:
    return Records(torch.tensor(values).view(-1, 1, 1, 1), torch.zeros(len(values), dtype=torch.int64))


def mass(records: Records, made: Records, **knobs: Any) -> Floats:
    known = Candidates(records, torch.zeros(len(records), dtype=torch.int64), records, records)
    return extract(MonteCarloMass(**knobs), known, server_view(images(made))).candidates[:, 0]


def test_by_hand() -> None:
    """Records 0, 10, 20; set {0.5, 1, 12, 30}: nearest at 0.5, 2, 8, so the median radius is 2.

    Within 2: of 0 the distances 0.5 and 1, of 10 the distance 2, of 20 nothing.
    """
    records, made = line([0.0, 10.0, 20.0]), line([0.5, 1.0, 12.0, 30.0])
    raw = mass(records, made, relative=False)
    np.testing.assert_allclose(raw, [np.log(2) / 4, -np.log(2) / 4, 0], atol=1e-6)
    relative = mass(records, made)
    np.testing.assert_allclose(relative, [(np.log(4) + np.log(2)) / 4, 0, 0], atol=1e-6)


def test_the_published_formula_turns_round_where_distances_exceed_one() -> None:
    """Members have a copy two units away, the others nothing near: in raw units that counts against them."""
    generator = torch.Generator().manual_seed(0)
    base = 100.0 * torch.randn(60, 1, 4, 4, generator=generator)
    records = Records(base, torch.zeros(60, dtype=torch.int64))
    inside = (torch.arange(60) % 2 == 0).numpy()
    made = Records(base[::2] + 0.5, records.labels[::2])
    assert auc(mass(records, made, relative=False), inside) < 0.05
    assert auc(mass(records, made), inside) > 0.95


def test_the_quantile_radius_is_that_of_all_distances() -> None:
    """Distances 1 to 1,000: the .1 % quantile lies between the first two and lets in the first."""
    made = line([float(i) for i in range(1, 1001)])
    radius = float(np.quantile(np.arange(1, 1001), 1e-3))
    found = mass(line([0.0]), made, radius="quantile")
    np.testing.assert_allclose(found, [np.log(radius) / 1000], atol=1e-6)


@pytest.mark.parametrize("knobs", [{}, {"radius": "quantile"}, {"space": "pca"}, {"space": "net"}])
def test_copies_are_found_and_independent_samples_are_not(knobs: dict[str, Any]) -> None:
    records = noise(600, 0)
    inside = torch.rand(600, generator=torch.Generator().manual_seed(1)) < 0.5
    held = records.take(inside)
    copies = Records(held.inputs + 0.01 * noise(len(held), 8).inputs, held.labels)
    known = Candidates(records, torch.zeros(600, dtype=torch.int64), noise(50, 6), noise(80, 7))
    for made, leaks in ((copies, True), (noise(300, 5), False)):
        signals = extract(MonteCarloMass(**knobs), known, server_view(images(made)))
        found = auc(MonteCarlo().score(signals, no_references(signals)), inside.numpy())
        if leaks:
            assert found > 0.75 if "radius" in knobs else found > 0.99
        else:
            assert abs(found - 0.5) < chance_width(inside.numpy())


def test_what_is_refused_and_what_says_nothing() -> None:
    with pytest.raises(ValueError, match="expected radius to be one of median, quantile, got radius='x'"):
        MonteCarloMass(radius="x")  # type: ignore[arg-type]
    with pytest.raises(ValueError, match="expected space to be one of"):
        MonteCarloMass(space="x")  # type: ignore[arg-type]
    view = server_view(images(noise(5, 7)))
    assert MonteCarloMass(space="prior").extract(view, candidates(4), Stream(0)) is None
