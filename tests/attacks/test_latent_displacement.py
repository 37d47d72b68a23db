"""Latents: a record's own latent is at distance 0 and first; independent ones say nothing."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
import pytest
import torch

from attacks.interface import Candidates
from attacks.latent_displacement import LatentDisplacement, LatentNearest
from privfed.prior import Prior
from privfed.randomness import Stream
from privfed.records import Records
from privfed.release import SERVER, Release
from tests.attacks.federations import candidates, extract, images, noise, server_view
from tests.attacks.latents import identity_prior, latents
from tests.attacks.simulation import auc, chance_width

PRIOR = identity_prior(noise(200, 50), conditional=True)
BOTH = pytest.mark.parametrize(
    "observation", [LatentNearest(), LatentDisplacement()], ids=["nearest", "moved"]
)


def known(records: Records, prior: Prior = PRIOR) -> Candidates:
    nobody = torch.zeros(len(records), dtype=torch.int64)
    return Candidates(records, nobody, noise(40, 51), noise(9, 52), prior)


def told(values: torch.Tensor, labels: torch.Tensor, client: int = 0) -> Any:
    made = Records(torch.zeros(len(values), 1, 6, 6), labels)
    return server_view(latents(values, 0, client), images(made, 0, client))


@BOTH
def test_an_image_that_the_prior_makes_of_a_released_latent_ranks_first(observation: Any) -> None:
    records = noise(60, 0)
    held = records.take(torch.arange(8))
    view = told(PRIOR.encode(held.inputs), held.labels)
    found = extract(observation, known(records), view).candidates[:, 0]
    assert set(np.argsort(-found)[:8]) == set(range(8))
    top = 0.0 if isinstance(observation, LatentNearest) else 1.0
    np.testing.assert_allclose(found[:8], top, atol=1e-4)
    assert (found[8:] < top - 0.1).all()


def test_the_metric_is_mahalanobis_under_the_covariance_of_the_records_class() -> None:
    records, values = noise(12, 0), PRIOR.encode(noise(5, 1).inputs)
    found = extract(LatentNearest(), known(records), told(values, torch.arange(5))).candidates[:, 0]
    for i in range(12):
        factor = PRIOR.factor[records.labels[i]].double()
        gap = (PRIOR.encode(records.inputs[i : i + 1]) - values).flatten(1).double()
        squared = torch.einsum("ni,ij,nj->n", gap, torch.linalg.inv(factor @ factor.T), gap)
        assert found[i] == pytest.approx(-float(squared.min().sqrt()), rel=1e-5)
    plain = extract(LatentNearest(metric="euclidean"), known(records), told(values, torch.arange(5)))
    gaps = torch.cdist(PRIOR.encode(records.inputs).flatten(1), values.flatten(1))
    np.testing.assert_allclose(plain.candidates[:, 0], -gaps.amin(1).numpy(), rtol=1e-4)


def test_moving_towards_a_record_by_any_length_has_cosine_one() -> None:
    records = noise(4, 0)
    centre = PRIOR.mean[records.labels].view(4, 1, 6, 6)
    values = centre + 0.2 * (PRIOR.encode(records.inputs) - centre)
    for metric in ("prior", "euclidean"):
        observation = LatentDisplacement(metric=metric)
        found = extract(observation, known(records), told(values, records.labels)).candidates[:, 0]
        np.testing.assert_allclose(found, 1, atol=1e-5)
    back = extract(
        LatentDisplacement(same_label=True),
        known(records.take(torch.tensor([0]))),
        told(2 * centre[:1] - values[:1], records.labels[:1]),
    ).candidates[:, 0]
    np.testing.assert_allclose(back, -1, atol=1e-5)


@BOTH
def test_latents_of_the_prior_alone_are_at_chance_and_those_of_members_are_not(observation: Any) -> None:
    records = noise(500, 3)
    inside = torch.rand(500, generator=torch.Generator().manual_seed(1)) < 0.5
    held, labels = records.take(inside), torch.arange(100) % 5
    own = PRIOR.encode(held.inputs) + 0.05 * noise(len(held), 8).inputs
    drawn = PRIOR.sample(labels, torch.Generator().manual_seed(2))
    leaky, free = (
        auc(extract(observation, known(records), v).candidates[:, 0], inside.numpy())
        for v in (told(own, held.labels), told(drawn, labels))
    )
    assert leaky > 0.99
    assert abs(free - 0.5) < chance_width(inside.numpy())


@BOTH
def test_labels_that_have_no_latent_are_unknown_if_labels_count(observation: Any) -> None:
    records = noise(30, 0)
    values, labels = PRIOR.encode(noise(6, 1).inputs), torch.tensor([0, 1, 3, 4, 0, 1])
    strict = replace(observation, same_label=True)
    found = extract(strict, known(records), told(values, labels)).candidates[:, 0]
    np.testing.assert_array_equal(np.isnan(found), (records.labels == 2).numpy())
    # Without the images that tell the labels all latents are compared.
    untold = extract(strict, known(records), server_view(latents(values, 0, 0))).candidates
    np.testing.assert_array_equal(
        untold, extract(observation, known(records), told(values, labels)).candidates
    )


@BOTH
def test_latents_belong_to_clients_and_those_of_the_sum_to_nobody(observation: Any) -> None:
    both, values = replace(candidates(8, 5), prior=PRIOR), PRIOR.encode(noise(6, 1).inputs)
    own = extract(observation, both, told(values, torch.arange(6) % 5, client=1))
    np.testing.assert_array_equal(np.isnan(own.candidates[:, 0]), (both.clients == 0).numpy())
    assert own.population.shape == (5, 1, 2)
    shared = extract(
        replace(observation, artefact="latents", images="bank"), both, server_view(latents(values, 0, None))
    )
    assert np.isfinite(shared.candidates).all()


@BOTH
def test_what_says_nothing_and_what_is_refused(observation: Any) -> None:
    view = server_view(latents(torch.zeros(3, 1, 6, 6), 0, 0))
    assert observation.extract(view, candidates(4), Stream(0)) is None
    for bad in (torch.zeros(3, 2, 6, 6), torch.full((3, 1, 6, 6), torch.nan), torch.zeros(3, 36)):
        with pytest.raises(
            ValueError, match=r"expected finite latents of shape \(m, 1, 6, 6\) in release 'client"
        ):
            extract(observation, known(noise(4, 0)), server_view(latents(bad, 0, 0)))
    empty = Release(0, SERVER, SERVER, "latents", "client_latents", {}, 0)
    with pytest.raises(ValueError, match=r"got latents=\(0,\)"):
        extract(observation, known(noise(4, 0)), server_view(empty))
    with pytest.raises(ValueError, match="expected metric to be one of prior, euclidean, got metric='x'"):
        replace(observation, metric="x")
