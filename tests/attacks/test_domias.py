"""DOMIAS: the closed form on Gaussians, and what the reference set cancels."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch
from scipy.stats import spearmanr

from attacks.domias import DensityRatio, Domias
from attacks.interface import Candidates
from attacks.nearest import NearestNeighbour, NearestSynthetic
from privfed.randomness import Stream
from privfed.records import Records
from tests.attacks.federations import candidates, extract, images, no_references, noise, server_view
from tests.attacks.simulation import auc, chance_width


def line(values: Any) -> Records:
    x = torch.as_tensor(values, dtype=torch.float32)
    return Records(x.view(-1, 1, 1, 1), torch.zeros(len(x), dtype=torch.int64))


def played(records: Records, population: Records, made: Records, **knobs: Any) -> Any:
    known = Candidates(records, torch.zeros(len(records), dtype=torch.int64), population, population)
    return extract(DensityRatio(**knobs), known, server_view(images(made)))


@pytest.mark.parametrize("reference", ["population", "public"])
def test_the_density_ratio_of_two_gaussians(reference: str) -> None:
    """S ~ N(1, 1), R ~ N(0, 1): the log ratio is x - 1/2; each estimated log density has variance 1 / k."""
    rng, m, k = np.random.default_rng(0), 4000, 100
    x = np.linspace(-1.0, 2.0, 60)
    made, population = line(rng.normal(1, 1, m)), line(rng.normal(0, 1, m))
    found = played(line(x), population, made, reference=reference, k=k, k_reference=k).candidates[:, 0]
    assert spearmanr(found, x - 0.5).statistic > 0.98
    assert np.abs(found - (x - 0.5)).max() < 4 * np.sqrt(2 / k)


def test_two_by_two_by_hand() -> None:
    """S = {0, 3}, R = {1, 5, 9}: at 1.5, k = 1 and 2: log(1/2) - log(2/3) + log(3.5 / 1.5)."""
    found = played(line([1.5]), line([1.0, 5.0, 9.0]), line([0.0, 3.0]), k=1, k_reference=2)
    assert found.candidates[0, 0] == pytest.approx(np.log(1 / 2) - np.log(2 / 3) + np.log(3.5 / 1.5))
    # 1 is not its own neighbour: of the two others the second lies 8 away.
    assert found.population[0, 0, 0] == pytest.approx(np.log(1 / 2) - np.log(2 / 2) + np.log(8 / 1))


def test_the_population_is_scored_as_candidates_like_it_are() -> None:
    """Leaving itself out leaves no trace: non-members and population have the same distribution."""
    records, population = noise(400, 0), noise(400, 1)
    found = played(records, population, noise(300, 2))
    both = np.concatenate([found.candidates[:, 0], found.population[:, 0, 0]])
    first = np.arange(800) < 400
    assert abs(auc(both, first) - 0.5) < chance_width(first)


def test_a_record_that_is_close_to_everything_is_not_called_a_member() -> None:
    """Half of the records are flat. Raw distance ranks them first, the ratio does not and finds more."""
    generator = torch.Generator().manual_seed(0)

    def drawn(n: int) -> Records:
        contrast = torch.where(torch.arange(n) % 2 == 0, 0.1, 1.0).view(-1, 1, 1, 1)
        return Records(
            torch.randn(n, 1, 6, 6, generator=generator) * contrast, torch.zeros(n, dtype=torch.int64)
        )

    records, population = drawn(400), drawn(400)
    inside = torch.rand(400, generator=generator) < 0.5
    held = records.inputs[inside]
    scale = held.flatten(1).std(1).view(-1, 1, 1, 1)
    made = Records(held + scale * torch.randn(held.shape, generator=generator), records.labels[inside])
    flat = (torch.arange(400) % 2 == 0).numpy()
    known = Candidates(records, torch.zeros(400, dtype=torch.int64), population, population)
    view = server_view(images(made))
    raw = extract(NearestSynthetic(), known, view)
    ratio = extract(DensityRatio(k_reference=1), known, view)
    free = ~inside.numpy()
    by_raw, by_ratio = (
        a.score(s, no_references(s)) for a, s in ((NearestNeighbour(), raw), (Domias(), ratio))
    )
    assert auc(by_raw[free], flat[free]) > 0.99  # flat non-members rank first
    assert auc(by_ratio[free], flat[free]) < 0.8
    assert auc(by_ratio, inside.numpy()) > auc(by_raw, inside.numpy()) + 0.1


@pytest.mark.parametrize("space", ["pixels", "net", "pca"])
def test_copies_are_found_and_independent_samples_are_not(space: str) -> None:
    records = noise(600, 0)
    inside = torch.rand(600, generator=torch.Generator().manual_seed(1)) < 0.5
    held = records.take(inside)
    copies = Records(held.inputs + 0.01 * noise(len(held), 8).inputs, held.labels)
    for made, leaks in ((copies, True), (noise(300, 5), False)):
        signals = played(records, noise(300, 6), made, space=space)
        found = auc(Domias().score(signals, no_references(signals)), inside.numpy())
        assert found > 0.99 if leaks else abs(found - 0.5) < chance_width(inside.numpy())


def test_exact_copies_stay_finite_and_rank_first() -> None:
    records = noise(30, 0)
    found = played(records, noise(40, 1), records.take(torch.arange(5))).candidates[:, 0]
    assert np.isfinite(found).all()
    assert set(np.argsort(-found)[:5]) == set(range(5))


def test_too_few_neighbours_of_a_label_are_unknown() -> None:
    records, made = noise(40, 0), noise(30, 1)
    made = made.take(made.labels != 2)
    found = played(records, noise(60, 2), made, same_label=True, k=2).candidates[:, 0]
    np.testing.assert_array_equal(np.isnan(found), (records.labels == 2).numpy())


@pytest.mark.parametrize(
    ("knobs", "message"),
    [
        ({"k": 0}, "expected k >= 1, got k=0"),
        ({"k_reference": 0}, "expected k_reference >= 1, got k_reference=0"),
        ({"reference": "x"}, "expected reference to be one of public, population, got reference='x'"),
        ({"space": "x"}, "expected space to be one of"),
    ],
)
def test_bad_knobs_are_refused(knobs: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        DensityRatio(**knobs)


def test_nothing_without_the_space() -> None:
    view = server_view(images(noise(5, 7)))
    assert DensityRatio(space="prior").extract(view, candidates(4), Stream(0)) is None
