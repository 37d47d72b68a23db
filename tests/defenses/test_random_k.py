"""Random-k: so many entries by chance, and on average the update itself where they are scaled up."""

from __future__ import annotations

import math

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from scipy.stats import chi2, norm

from defenses._sparse import count
from defenses.random_k import RandomK
from privfed.nets import Params
from privfed.randomness import Stream
from tests.defenses.updates import ENTRIES, any_update, flat, length, params, plus, unflat, zeros

DRAWS = 2_000


def sent(defense: RandomK, change: Params, seed: int = 0) -> torch.Tensor:
    return flat(defense.uplink(zeros(), change, Stream(seed)).value)


@pytest.mark.parametrize("rescale", [False, True])
def test_it_sends_so_many_entries_exactly(rescale: bool) -> None:
    ones = unflat(torch.ones(ENTRIES))
    for keep in (0.01, 0.3, 0.5, 1.0):
        found = sent(RandomK(keep, rescale), ones)
        k = count(keep, ENTRIES)
        assert int((found != 0).sum()) == k
        assert torch.allclose(found[found != 0], torch.tensor(ENTRIES / k if rescale else 1.0))


@given(any_update(), st.floats(0.01, 1.0), st.integers(0, 99))
def test_without_rescaling_it_never_makes_an_update_longer(change: Params, keep: float, seed: int) -> None:
    value = RandomK(keep, rescale=False).uplink(zeros(), change, Stream(seed)).value
    assert length(value) <= length(change) * (1 + 1e-12)


def test_with_rescaling_it_can_and_says_so() -> None:
    one = torch.zeros(ENTRIES)
    one[0] = 1.0
    longest = max(float(sent(RandomK(0.25), unflat(one), seed).norm()) for seed in range(40))
    assert longest == pytest.approx(4.0)
    assert not RandomK(0.25).keeps_norm
    assert RandomK(0.25, rescale=False).keeps_norm


def test_every_entry_has_the_same_chance() -> None:
    """Counts of a hypergeometric choice, Pearson's statistic with its covariance; false alarm 1e-6."""
    ones, keep = unflat(torch.ones(ENTRIES)), 0.25
    times = sum(sent(RandomK(keep, rescale=False), ones, seed) for seed in range(DRAWS))
    assert isinstance(times, torch.Tensor)
    expected = DRAWS * keep
    # Choosing k of n makes entries negatively correlated: the variance of a sum over all is zero.
    scale = (ENTRIES - 1) / (ENTRIES * (1 - keep))
    statistic = float(((times.double() - expected) ** 2).sum() / expected * scale)
    assert chi2.ppf(5e-7, ENTRIES - 1) < statistic < chi2.isf(5e-7, ENTRIES - 1)


def test_scaled_up_its_mean_is_the_update() -> None:
    change = params(5)
    found = torch.stack([sent(RandomK(0.3), change, seed) for seed in range(DRAWS)]).double()
    error = (found.mean(0) - flat(change)) / (found.std(0) / math.sqrt(DRAWS))
    assert float(error.abs().max()) < norm.isf(1e-6 / (2 * ENTRIES))
    plain = torch.stack([sent(RandomK(0.3, rescale=False), change, seed) for seed in range(DRAWS)]).double()
    biased = (plain.mean(0) - flat(change)) / (plain.std(0) / math.sqrt(DRAWS))
    assert float(biased.abs().max()) > 20, "and the check would see that it is not"


def test_what_is_not_sent_stays_to_the_bit_and_all_of_it_is_the_update() -> None:
    start = params(1)
    after = plus(start, params(2))
    for rescale in (False, True):
        value = flat(RandomK(0.5, rescale).uplink(start, after, Stream(0)).value)
        assert int((value == flat(start)).sum()) == ENTRIES // 2
        assert torch.equal(flat(RandomK(1.0, rescale).uplink(start, after, Stream(0)).value), flat(after))


def test_another_stream_chooses_other_entries_and_none_earns_a_claim() -> None:
    ones = unflat(torch.ones(ENTRIES))
    assert not torch.equal(sent(RandomK(0.3), ones, 0), sent(RandomK(0.3), ones, 1))
    assert RandomK(0.3).uplink(zeros(), ones, Stream(0)).charges == ()


@pytest.mark.parametrize("keep", [0.0, 1.5, math.nan])
def test_a_share_outside_its_range_is_refused(keep: float) -> None:
    with pytest.raises(ValueError, match=rf"expected keep in \(0, 1\], got keep={keep}"):
        RandomK(keep)
