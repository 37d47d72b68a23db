"""Spaces that records are compared in: what they are made of, and that federations share them."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch

from attacks import _features
from attacks._features import digest, feature_map, in_space, net_features
from attacks.interface import Candidates
from privfed.records import Records
from tests.attacks.federations import candidates
from tests.attacks.latents import identity_prior


def blobs(n: int, seed: int, size: int = 8) -> Records:
    """Three classes that differ in which row is bright."""
    generator = torch.Generator().manual_seed(seed)
    labels = torch.arange(n) % 3
    inputs = 0.3 * torch.randn(n, 1, size, size, generator=generator)
    inputs[torch.arange(n), 0, 2 * labels] += 1
    return Records(inputs, labels)


def known(public: Records) -> Candidates:
    return Candidates(blobs(6, 1), torch.zeros(6, dtype=torch.int64), blobs(5, 2), public)


def test_pixels_are_the_flat_inputs() -> None:
    into = feature_map("pixels", candidates(4))
    assert into is not None
    torch.testing.assert_close(
        into(candidates(4).records.inputs).float(), candidates(4).records.inputs.flatten(1)
    )


def test_all_principal_components_keep_distances() -> None:
    public = candidates(4).public
    into = feature_map("pca", candidates(4))
    assert into is not None
    made = in_space(public, into).inputs
    assert made.shape == (60, 36)
    apart = public.inputs.flatten(1).double().unsqueeze(0) - public.inputs.flatten(1).double().unsqueeze(1)
    torch.testing.assert_close((made.unsqueeze(0) - made.unsqueeze(1)).norm(dim=2), apart.norm(dim=2))


def test_the_prior_gives_its_latents() -> None:
    public = blobs(30, 0)
    prior = identity_prior(Records(public.inputs.clamp(-1, 1), public.labels))
    into = feature_map("prior", replace(known(public), prior=prior))
    assert into is not None
    inputs = blobs(4, 3).inputs.clamp(-0.5, 0.5)
    torch.testing.assert_close(into(inputs), (inputs * 0.999).atanh().flatten(1).double())


def test_features_tell_classes_apart_better_than_pixels_do() -> None:
    """Share of the variance of unseen records that lies between classes."""
    records = blobs(90, 4)

    def between(space: _features.Space) -> float:
        into = feature_map(space, known(blobs(60, 0)))
        assert into is not None
        x = in_space(records, into).inputs.double()
        means = torch.stack([x[records.labels == c].mean(0) for c in range(3)])[records.labels]
        return float((means - x.mean(0)).square().sum() / (x - x.mean(0)).square().sum())

    assert between("net") > between("pixels") + 0.2


def test_one_shard_is_trained_on_once_and_another_gives_other_features() -> None:
    _features._trained.cache_clear()
    inputs = blobs(4, 3).inputs
    first, again, other = (net_features(blobs(60, s)) for s in (0, 0, 9))
    assert first is not None
    assert again is not None
    assert other is not None
    assert torch.equal(first(inputs), again(inputs))
    assert not torch.allclose(first(inputs), other(inputs))
    assert _features._trained.cache_info().misses == 2


def test_sentences_and_small_images_have_features() -> None:
    text = Records(torch.randn(70, 3, 4, generator=torch.Generator().manual_seed(0)), torch.arange(70) % 2)
    for records in (text, blobs(20, 0, size=6), candidates(4).public):
        into = net_features(records)
        assert into is not None
        made = in_space(records, into).inputs
        assert made.shape[0] == len(records)
        assert made.ndim == 2
        assert bool(torch.isfinite(made).all())


def test_without_what_it_is_made_from_there_is_no_space() -> None:
    one = Records(blobs(9, 0).inputs, torch.zeros(9, dtype=torch.int64))
    tokens = Records(torch.zeros(9, 4, dtype=torch.int64), torch.arange(9) % 2)
    none = one.take(torch.zeros(0, dtype=torch.int64))
    assert net_features(one) is None
    assert net_features(tokens) is None
    assert net_features(none) is None
    assert feature_map("prior", known(one)) is None
    assert feature_map("pca", known(none)) is None


def test_the_digest_tells_content_shape_and_type() -> None:
    zeros = torch.zeros(2, 3)
    texts = [digest(zeros), digest(zeros + 1), digest(zeros.T), digest(zeros.double()), digest(zeros, zeros)]
    assert len(set(texts)) == 5
    assert digest(torch.zeros(2, 3)) == texts[0]


def test_unknown_spaces_are_refused() -> None:
    with pytest.raises(
        ValueError, match="expected space to be one of pixels, pca, net, prior, got space='x'"
    ):
        _features.check_space("x")
