"""Units of several records: one coin each, a set statistic as their score, and fresh records."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from scipy.stats import norm

from audits.evidence import blind_auc
from audits.statistics import aucs
from audits.units import by_record, make_units
from privfed.randomness import Stream
from tests.audits.test_slices import candidates

OWNERS = torch.arange(120) % 6


@given(st.integers(1, 60), st.integers(2, 9), st.integers(0, 5))
def test_subjects_are_of_the_size_asked_and_miss_nobody(n: int, size: int, seed: int) -> None:
    units = make_units("subject", size, False, torch.zeros(n, dtype=torch.int64), Stream(seed))
    sizes = torch.bincount(units.of)
    assert units.count == max(1, n // size)
    assert int(sizes.sum()) == n
    assert n < size or (sizes[:-1] == size).all()
    assert n < size or size <= int(sizes[-1]) < 2 * size


def test_a_subject_is_spread_over_clients() -> None:
    units = make_units("subject", 8, False, OWNERS, Stream(0))
    spread = [len(set(OWNERS[units.of == u].tolist())) for u in range(units.count)]
    assert min(spread) > 1


def test_a_client_is_in_with_all_it_holds() -> None:
    units = make_units("client", 8, False, OWNERS, Stream(0))
    assert units.of.equal(OWNERS)
    drawn = units.drawn(Stream(3))
    for client in range(6):
        assert len(set(drawn[units.of][client == OWNERS].tolist())) == 1


def test_half_of_each_unit_is_fresh_and_is_what_is_attacked() -> None:
    units = make_units("client", 8, True, OWNERS, Stream(0))
    assert torch.bincount(OWNERS[units.trained]).tolist() == [10] * 6
    scores = np.where(units.trained.numpy(), 100.0, OWNERS.numpy())[np.newaxis]
    assert units.mean(scores).tolist() == [[0.0, 1.0, 2.0, 3.0, 4.0, 5.0]]


def test_records_are_units_of_their_own_with_the_coins_they_always_had() -> None:
    units = by_record(50)
    draw = Stream(1).child("inclusion", 0)
    assert units.drawn(draw).numpy().tolist() == (draw.numpy().random(50) < 0.5).tolist()
    scores = np.random.default_rng(0).normal(size=(3, 50))
    np.testing.assert_array_equal(units.mean(scores), scores)
    included = np.random.default_rng(0).random((3, 50)) < 0.5
    np.testing.assert_array_equal(units.expand(included), included)


def test_a_unit_without_a_score_has_none() -> None:
    units = make_units("client", 8, False, torch.tensor([0, 0, 1, 1]), Stream(0))
    scores = np.array([[1.0, np.nan, np.nan, np.nan]])
    np.testing.assert_array_equal(units.mean(scores), [[1.0, np.nan]])


def test_a_set_of_records_is_told_apart_as_theory_says() -> None:
    """Records shifted by mu, n independent ones of each unit: AUC = Phi(mu sqrt(n / 2))."""
    n, shift, count = 8, 0.3, 4000
    owners = torch.arange(count).repeat_interleave(n)
    units = make_units("client", n, False, owners, Stream(0))
    rng = np.random.default_rng(0)
    included = rng.random((1, count)) < 0.5
    scores = rng.normal(size=(1, count * n)) + shift * units.expand(included)
    found = float(aucs(units.mean(scores), included)[0])
    assert found == pytest.approx(norm.cdf(shift * (n / 2) ** 0.5), abs=3.3 * 0.5 / count**0.5)


def test_fresh_records_need_two_of_a_unit() -> None:
    with pytest.raises(ValueError, match=r"expected at least 2 records in each unit for fresh ones, got 1"):
        make_units("client", 8, True, torch.tensor([0, 0, 1]), Stream(0))


def test_the_blind_classifier_knows_no_unit_from_other_federations() -> None:
    known = candidates()
    units = make_units("subject", 3, False, known.clients, Stream(0))
    misses = 0
    for seed in range(12):
        included = np.random.default_rng(seed).random((10, units.count)) < 0.5
        found = blind_auc(known, np.zeros(60, dtype=np.bool_), included, 0.999, units)
        misses += not (found.lower or 0) <= 0.5 <= (found.upper or 1)
    assert misses == 0
    bright = units.mean(known.records.labels.double().numpy()[np.newaxis])[0]
    fixed = np.tile(bright > np.median(bright), (10, 1))
    caught = blind_auc(known, np.zeros(60, dtype=np.bool_), fixed, 0.95, units)
    assert (caught.lower or 0) > 0.5
