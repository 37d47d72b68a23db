"""Nearest-neighbour membership: oracles, calibration, and what is refused."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from attacks import _distances
from attacks._distances import nearest
from attacks.interface import Candidates, References
from attacks.nearest import CalibratedNearest, NearestNeighbour, NearestSynthetic
from privfed.randomness import Stream
from privfed.records import Records, concatenate
from privfed.release import PUBLIC, SERVER, Observer, Release, Transcript
from tests.attacks.federations import bank, candidates, extract, images, no_references, noise, server_view
from tests.attacks.simulation import auc, chance_width

STREAM = Stream(0)


def gaussian(n: int, seed: int) -> Records:
    generator = torch.Generator().manual_seed(seed)
    return Records(torch.randn(n, 1, 6, 6, generator=generator), torch.randint(3, (n,), generator=generator))


def members_of(records: Records, seed: int = 0) -> torch.Tensor:
    return torch.rand(len(records), generator=torch.Generator().manual_seed(seed)) < 0.5


@pytest.mark.parametrize("same_label", [False, True])
def test_nearest_matches_explicit_differences(same_label: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(_distances, "_PAIRS", 40)
    a, b = gaussian(13, 0), gaussian(9, 1)
    got = nearest(a, b, same_label)
    for i in range(13):
        rivals = [j for j in range(9) if not same_label or a.labels[i] == b.labels[j]]
        distances = [float((a.inputs[i] - b.inputs[j]).norm()) for j in rivals]
        assert got[i] == pytest.approx(min(distances, default=np.nan), rel=1e-5, nan_ok=True)


def test_nearest_tells_copies_from_near_copies() -> None:
    bright = Records(torch.full((1, 3, 32, 32), 0.9), torch.zeros(1, dtype=torch.int64))
    near = Records(bright.inputs + 1e-6, bright.labels)
    assert nearest(bright, bright)[0] == pytest.approx(0, abs=1e-5)
    assert nearest(bright, near)[0] == pytest.approx(
        float((near.inputs - bright.inputs).double().norm()), rel=0.05
    )


def test_no_rival_is_unknown() -> None:
    a, b = gaussian(4, 0), gaussian(3, 1)
    assert np.isnan(nearest(a, b.take(torch.zeros(0, dtype=torch.int64)))).all()
    only = Records(b.inputs, torch.full((3,), 2))
    np.testing.assert_array_equal(np.isnan(nearest(a, only, same_label=True)), (a.labels != 2).numpy())


def test_rounds_are_pooled() -> None:
    known = candidates(10, 4)
    first, second = noise(5, 7), noise(5, 8)
    both = extract(NearestSynthetic(), known, server_view(images(first, 0), images(second, 1)))
    each = [extract(NearestSynthetic(), known, server_view(images(s))).candidates for s in (first, second)]
    assert both.candidates.shape == (10, 1)
    assert both.population.shape == (4, 1, 1)
    np.testing.assert_allclose(both.candidates, np.maximum(*each))


def test_what_a_server_makes_for_itself_is_pooled_over_rounds_and_nobody_elses() -> None:
    known = candidates(10, 4)
    first, second = noise(5, 7), noise(5, 8)
    transcript = Transcript((bank(first, 0), bank(second, 1)))
    observe = NearestSynthetic("bank")
    held = extract(observe, known, transcript.view(Observer("server")))
    pool = concatenate([first, second])
    np.testing.assert_allclose(held.candidates[:, 0], -nearest(known.records, pool))
    np.testing.assert_allclose(held.population[:, 0, 0], -nearest(known.population, pool))
    for observer in (Observer("client", 0), Observer("outsider")):
        assert observe.extract(transcript.view(observer), known, STREAM) is None


def test_oracle_noisy_copies_of_members_are_found() -> None:
    records = gaussian(400, 0)
    inside = members_of(records)
    copies = Records(
        records.inputs[inside] + 0.01 * torch.randn_like(records.inputs[inside]), records.labels[inside]
    )
    known = Candidates(records, torch.zeros(400, dtype=torch.int64), gaussian(5, 1), gaussian(5, 2))
    for same_label in (False, True):
        signals = extract(NearestSynthetic(same_label=same_label), known, server_view(images(copies)))
        scores = NearestNeighbour().score(signals, no_references(signals))
        assert auc(scores, inside.numpy()) > 0.999


def test_oracle_independent_images_are_at_chance() -> None:
    """2,000 records against 500 images of the same distribution; 99.9 % band of random membership."""
    records = gaussian(2000, 0)
    inside = members_of(records).numpy()
    known = Candidates(records, torch.zeros(2000, dtype=torch.int64), gaussian(5, 1), gaussian(5, 2))
    signals = extract(NearestSynthetic(), known, server_view(images(gaussian(500, 3))))
    scores = NearestNeighbour().score(signals, no_references(signals))
    assert abs(auc(scores, inside) - 0.5) < chance_width(inside) < 0.05


def test_calibration_cancels_records_that_are_close_to_everything() -> None:
    """Half the records are flat (low complexity): the raw distance ranks them first, members or not."""
    contrast = torch.where(torch.arange(200) % 2 == 0, 0.1, 1.0).view(-1, 1, 1, 1)
    base = gaussian(200, 0)
    records = Records(base.inputs * contrast, base.labels)
    known = Candidates(records, torch.zeros(200, dtype=torch.int64), gaussian(5, 1), gaussian(5, 2))
    generator = torch.Generator().manual_seed(3)
    included = torch.rand(9, 200, generator=generator) < 0.5
    read = []
    for f in range(9):
        held = records.inputs[included[f]]
        blurred = Records(
            held + 0.7 * torch.randn(held.shape, generator=generator), records.labels[included[f]]
        )
        read.append(extract(NearestSynthetic(), known, server_view(images(blurred))))
    references = References(
        np.stack([s.candidates for s in read[1:]]),
        np.stack([s.population for s in read[1:]]),
        included[1:].numpy(),
    )
    raw, calibrated = (
        auc(attack.score(read[0], references), included[0].numpy())
        for attack in (NearestNeighbour(), CalibratedNearest())
    )
    assert calibrated > raw + 0.1


def test_a_view_without_images_holds_nothing() -> None:
    empty = noise(3, 0).take(torch.zeros(0, dtype=torch.int64))
    assert NearestSynthetic().extract(server_view(), candidates(4), STREAM) is None
    assert NearestSynthetic().extract(server_view(images(empty)), candidates(4), STREAM) is None


@pytest.mark.parametrize(
    ("tensors", "message"),
    [
        (
            {"labels": torch.zeros(2)},
            r"expected tensor 'inputs' in release 'synthetic' of round 0 from server, "
            r"got tensors=\['labels'\]",
        ),
        (
            {"inputs": torch.zeros(2, 36), "labels": torch.arange(2)},
            r"expected inputs of shape \(m, c, h, w\) or \(m, tokens, dimension\), floating, in release "
            r"'synthetic' of round 0 from server, got inputs=\(2, 36\) torch.float32",
        ),
        (
            {"inputs": torch.zeros(2, 1, 6, 6, dtype=torch.uint8), "labels": torch.arange(2)},
            r"got inputs=\(2, 1, 6, 6\) torch.uint8",
        ),
        (
            {"inputs": torch.zeros(2, 1, 6, 6), "labels": torch.arange(3)},
            r"expected labels of shape \(2,\), integers, in release .* got labels=\(3,\)",
        ),
        (
            {"inputs": torch.full((2, 1, 6, 6), torch.nan), "labels": torch.arange(2)},
            r"expected finite inputs in release 'synthetic' of round 0 from server, got inputs with NaN",
        ),
        (
            {"inputs": torch.zeros(2, 3, 6, 6), "labels": torch.arange(2)},
            r"expected inputs of shape \(1, 6, 6\), got inputs=\(3, 6, 6\)",
        ),
        (
            {"inputs": torch.zeros(2, 6, 6), "labels": torch.arange(2)},
            r"expected inputs of shape \(1, 6, 6\), got inputs=\(6, 6\)",
        ),
    ],
)
def test_malformed_images_are_refused_in_one_line(tensors: dict[str, torch.Tensor], message: str) -> None:
    view = server_view(Release(0, SERVER, PUBLIC, "synthetic", "synthetic", tensors))
    with pytest.raises(ValueError, match=message) as caught:
        NearestSynthetic().extract(view, candidates(4), STREAM)
    assert "\n" not in str(caught.value)
