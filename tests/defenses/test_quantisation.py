"""Quantisation: so many magnitudes a tensor, no bias, and no more variance than QSGD's bound."""

from __future__ import annotations

import math

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from scipy.stats import norm

from defenses.quantisation import Quantisation
from privfed.nets import Params
from privfed.randomness import Stream
from tests.defenses.updates import ENTRIES, SHAPES, any_update, flat, params, plus, zeros

DRAWS = 2_000


def sent(bits: int, change: Params, seed: int = 0) -> Params:
    return Quantisation(bits).uplink(zeros(), change, Stream(seed)).value


@given(any_update(), st.integers(1, 8), st.integers(0, 99))
def test_every_entry_is_one_of_the_magnitudes_next_to_it_with_its_sign(
    change: Params, bits: int, seed: int
) -> None:
    steps = 2**bits - 1
    found = sent(bits, change, seed)
    for name, t in change.items():
        exact, length = t.double(), float(t.double().norm())
        if not 0 < length < 1e38:
            continue
        level = found[name].double().abs() / length * steps
        slack = 1e-5 * level.clamp(min=1) + 1e-38 * steps / length
        assert ((level - level.round()).abs() <= slack).all()
        assert ((level - exact.abs() / length * steps).abs() < 1 + slack).all()
        assert (found[name] * t >= 0).all()


def test_by_hand_one_bit_sends_nothing_or_the_norm() -> None:
    change = zeros()
    change["a.bias"] = torch.tensor([3.0, -4.0, 0.0, 0.0])
    values = {round(float(v), 4) for seed in range(60) for v in sent(1, change, seed)["a.bias"]}
    assert values == {0.0, 5.0, -5.0}
    assert not flat({k: t for k, t in sent(1, change).items() if k != "a.bias"}).any()


@pytest.mark.parametrize("bits", [1, 2, 4])
def test_its_mean_is_the_update(bits: int) -> None:
    change = params(5)
    found = torch.stack([flat(sent(bits, change, seed)) for seed in range(DRAWS)]).double()
    error = (found.mean(0) - flat(change)).abs() / (found.std(0) / math.sqrt(DRAWS)).clamp_min(1e-9)
    assert float(error.max()) < norm.isf(1e-6 / (2 * ENTRIES))


@pytest.mark.parametrize("bits", [1, 2, 4])
def test_its_squared_length_grows_by_no_more_than_the_bound(bits: int) -> None:
    change, steps = params(5), 2**bits - 1
    runs = [sent(bits, change, seed) for seed in range(500)]
    for name, shape in SHAPES.items():
        n = math.prod(shape)
        bound = 1 + min(n / steps**2, math.sqrt(n) / steps)
        grown = torch.tensor([float(r[name].double().square().sum()) for r in runs])
        share = grown / float(change[name].double().square().sum())
        error = float(share.std()) / math.sqrt(len(runs))
        assert 1 - 5 * error <= float(share.mean()) <= bound + 5 * error
    longest = max(float(flat(r).norm()) for r in runs)
    assert longest > float(flat(change).norm()), "which is why it may not follow a clip"
    assert not getattr(Quantisation(bits), "keeps_norm", False)


def test_many_bits_lose_little_and_few_lose_much() -> None:
    start = params(1)
    after = plus(start, params(2))
    error = [
        float((flat(Quantisation(b).uplink(start, after, Stream(0)).value) - flat(after)).norm())
        for b in (1, 4, 8, 16)
    ]
    assert error == sorted(error, reverse=True)
    assert error[-1] < 1e-3


def test_what_one_tensor_holds_does_not_change_the_coins_of_another() -> None:
    first = params(5)
    for other in (torch.zeros(4, 3), torch.full((4, 3), math.inf)):
        second = {**first, "a.weight": other}
        assert torch.equal(sent(2, first)["b.weight"], sent(2, second)["b.weight"])


@given(any_update(broken=True))
def test_a_tensor_without_a_norm_goes_as_it_is(change: Params) -> None:
    found = sent(3, change)
    for name, t in change.items():
        if not t.isfinite().all():
            assert torch.equal(found[name].nan_to_num(), t.nan_to_num())


def test_it_earns_no_claim() -> None:
    assert Quantisation(4).uplink(zeros(), params(1), Stream(0)).charges == ()


@pytest.mark.parametrize("bits", [0, 17, -1])
def test_bits_outside_their_range_are_refused(bits: int) -> None:
    with pytest.raises(ValueError, match=f"expected bits from 1 to 16, got bits={bits}"):
        Quantisation(bits)
