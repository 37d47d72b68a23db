"""The baseline without access."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from attacks.class_mean import ClassMean, ClassMeanDistance
from attacks.interface import Candidates
from privfed.randomness import Stream
from privfed.records import Records
from tests.attacks.federations import candidates, extract, no_references, noise, server_view
from tests.attacks.simulation import auc, chance_width

STREAM = Stream(0)


def test_distance_is_to_the_mean_of_the_class_in_shard_and_population() -> None:
    known = candidates(12, 9)
    signals = extract(ClassMeanDistance(), known, server_view())
    pool = torch.cat([known.public.inputs, known.population.inputs])
    labels = torch.cat([known.public.labels, known.population.labels])
    for i in range(12):
        mean = pool[labels == known.records.labels[i]].mean(0)
        expected = -float((known.records.inputs[i] - mean).norm())
        assert signals.candidates[i, 0] == pytest.approx(expected, rel=1e-5)
    assert signals.population.shape == (9, 1, 1)


def test_a_class_missing_from_the_shard_comes_from_the_population_and_else_is_unknown() -> None:
    def of(label: int, n: int = 3) -> Records:
        return Records(noise(n, label).inputs, torch.full((n,), label))

    records = Records(noise(2, 9).inputs, torch.tensor([1, 2]))
    known = Candidates(records, torch.zeros(2, dtype=torch.int64), of(1), of(0))
    signals = extract(ClassMeanDistance(), known, server_view())
    assert signals.candidates[0, 0] == pytest.approx(
        -float((records.inputs[0] - known.population.inputs.mean(0)).norm()), rel=1e-5
    )
    assert np.isnan(signals.candidates[1, 0])


def test_without_public_records_there_is_nothing_to_read() -> None:
    none = noise(0, 0)
    known = Candidates(noise(4, 1), torch.zeros(4, dtype=torch.int64), none, none)
    assert ClassMeanDistance().extract(server_view(), known, STREAM) is None


def test_members_of_the_same_distribution_are_at_chance() -> None:
    """2,000 records, membership by coin; 99.9 % band of random membership."""
    known = candidates(2000, 200)
    signals = extract(ClassMeanDistance(), known, server_view())
    inside = torch.rand(2000, generator=torch.Generator().manual_seed(4)).numpy() < 0.5
    scores = ClassMean().score(signals, no_references(signals))
    assert abs(auc(scores, inside) - 0.5) < chance_width(inside) < 0.05


def test_it_sees_a_shift_between_members_and_non_members() -> None:
    known = candidates(400, 100)
    inside = np.arange(400) < 200
    shifted = known.records.inputs.clone()
    shifted[200:] += 0.5
    moved = Candidates(Records(shifted, known.records.labels), known.clients, known.population, known.public)
    signals = extract(ClassMeanDistance(), moved, server_view())
    assert auc(ClassMean().score(signals, no_references(signals)), inside) > 0.9
