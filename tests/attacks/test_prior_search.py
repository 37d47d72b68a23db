"""Search of the prior: exact where it makes everything, at chance whoever was a member."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
import pytest
import torch

from attacks import prior_search
from attacks.interface import Candidates, Floats
from attacks.prior_search import PriorControl, PriorSearch
from privfed.prior import Prior, PriorRecipe, train_prior
from privfed.randomness import Stream
from privfed.records import Records
from tests.attacks.federations import candidates, extract, no_references, server_view
from tests.attacks.latents import identity_prior
from tests.attacks.simulation import auc, chance_width


def blobs(n: int, seed: int) -> Records:
    generator = torch.Generator().manual_seed(seed)
    labels = torch.arange(n) % 3
    inputs = -0.8 + 0.1 * torch.randn(n, 1, 8, 8, generator=generator)
    inputs[torch.arange(n), 0, 2 * labels] += 1.2
    return Records(inputs.clamp(-1, 1), labels)


PUBLIC = blobs(60, 0)
PRIOR = train_prior(PUBLIC, 3, PriorRecipe(widths=(8, 8), steps=60, batch=30), Stream(0))


def known(records: Records, prior: Prior = PRIOR) -> Candidates:
    return Candidates(records, torch.zeros(len(records), dtype=torch.int64), blobs(8, 2), PUBLIC, prior)


def searched(records: Records, **knobs: Any) -> Floats:
    return extract(PriorSearch(**knobs), known(records), server_view()).candidates[:, 0]


def test_a_prior_that_makes_every_image_leaves_nothing_but_improbability() -> None:
    known = replace(candidates(6), prior=identity_prior(candidates(6).public))
    prior, records = known.prior, known.records
    assert prior is not None
    inputs = Records(records.inputs * 0.5, records.labels)
    known = replace(known, records=inputs)
    plain = extract(PriorSearch(steps=0, improbable=0), known, server_view()).candidates[:, 0]
    np.testing.assert_allclose(plain, 0, atol=1e-5)
    weighed = extract(PriorSearch(steps=0, improbable=0.5), known, server_view()).candidates[:, 0]
    z = prior.encode(inputs.inputs).flatten(1) - prior.mean
    squared = torch.linalg.solve(prior.factor[0], z.T).T.square().mean(1)
    np.testing.assert_allclose(weighed, plain - 0.5 * squared.numpy(), rtol=1e-3)


@pytest.mark.parametrize("optimiser", ["adam", "lbfgs"])
def test_the_search_improves_on_the_encoder_and_never_loses(optimiser: str) -> None:
    records = blobs(9, 5)
    for knobs in ({}, {"feature": 0.1}):
        start = searched(records, steps=0, optimiser=optimiser, **knobs)
        found = searched(records, steps=12, optimiser=optimiser, **knobs)
        assert (found >= start).all()
        assert (found > start).mean() > 0.9


def test_features_count_when_asked_for() -> None:
    records = blobs(9, 5)
    assert (searched(records, steps=0, feature=1.0) < searched(records, steps=0)).all()


def test_members_are_at_chance_since_nothing_released_is_read() -> None:
    records = blobs(240, 6)
    inside = (torch.rand(240, generator=torch.Generator().manual_seed(1)) < 0.5).numpy()
    signals = extract(PriorSearch(steps=2), known(records), server_view())
    found = auc(PriorControl().score(signals, no_references(signals)), inside)
    assert abs(found - 0.5) < chance_width(inside)


def test_a_prior_that_has_seen_the_records_shows() -> None:
    """What the control is for: its own training records are made better than others of the same kind."""
    generator = torch.Generator().manual_seed(3)
    records = Records(torch.rand(60, 1, 8, 8, generator=generator) * 2 - 1, torch.arange(60) % 3)
    inside = (torch.arange(60) % 2 == 0).numpy()
    recipe = PriorRecipe(widths=(8, 16), steps=150, batch=30, lr=1e-2)
    prior = train_prior(records.take(torch.from_numpy(inside)), 3, recipe, Stream(0))
    signals = extract(PriorSearch(steps=0), known(records, prior), server_view())
    assert auc(signals.candidates[:, 0], inside) > 0.8


def test_one_search_serves_all_federations() -> None:
    prior_search._searched.cache_clear()
    for seed in range(3):
        PriorSearch(steps=1).extract(server_view(), known(blobs(5, 9)), Stream(seed))
    assert prior_search._searched.cache_info().misses == 2  # candidates and population


@pytest.mark.parametrize(
    ("knobs", "message"),
    [
        ({"steps": -1}, "expected steps >= 0, got steps=-1"),
        ({"feature": -1.0}, "expected feature >= 0, got feature=-1.0"),
        ({"improbable": -1.0}, "expected improbable >= 0, got improbable=-1.0"),
        ({"lr": 0.0}, "expected lr > 0, got lr=0.0"),
        ({"optimiser": "x"}, "expected optimiser to be one of adam, lbfgs, got optimiser='x'"),
    ],
)
def test_bad_knobs_are_refused(knobs: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        PriorSearch(**knobs)
