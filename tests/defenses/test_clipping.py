"""The clip that noise on updates rests on: no update gets past it, whatever it holds."""

from __future__ import annotations

import math

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from scipy.stats import chi2

from defenses._clipping import ROUNDING, change, clipped, expect, gaussian, moved, norm, within
from defenses._noise_witness import looks_like_noise
from privfed.nets import Params
from privfed.randomness import Stream
from tests.defenses.updates import any_update, flat, length, params, unflat, zeros

CLIPS = st.floats(1e-6, 1e6)


@given(any_update(broken=True), CLIPS)
def test_no_update_is_longer_than_the_clip(update: Params, clip: float) -> None:
    found = clipped(update, clip)
    assert length(found) <= clip * (1 + ROUNDING)
    assert within(found, clip).verified
    assert flat(found).isfinite().all()


@given(any_update(), CLIPS)
def test_a_short_one_passes_to_the_bit_and_a_long_one_keeps_its_direction(
    update: Params, clip: float
) -> None:
    before, after = flat(update).double(), flat(clipped(update, clip)).double()
    if before.norm() <= clip:
        assert torch.equal(before, after)
    elif clip / before.norm() > 1e-20:
        assert float(after.norm()) == pytest.approx(clip, rel=1e-4)
        assert float(before @ after) == pytest.approx(float(before.norm() * after.norm()), rel=1e-4)


@pytest.mark.parametrize("bad", [math.nan, math.inf, -math.inf])
def test_one_number_that_is_none_makes_the_whole_update_nothing(bad: float) -> None:
    update = params(0)
    update["a.bias"][2] = bad
    assert math.isinf(norm(update))
    assert not flat(clipped(update, 1.0)).any()
    assert not within(update, 1.0).verified


def test_what_overflows_in_single_precision_is_clipped_all_the_same() -> None:
    update = unflat([1e38] * 24)
    assert norm(update) == pytest.approx(1e38 * math.sqrt(24), rel=1e-6)
    assert length(clipped(update, 2.0)) == pytest.approx(2.0, rel=1e-4)


def test_a_change_counts_from_the_start_or_from_zero_and_back() -> None:
    start, after = params(1), params(2)
    known = {k: t for k, t in start.items() if k != "b.weight"}
    found = change(known, after)
    assert torch.equal(found["b.weight"], after["b.weight"])
    assert torch.equal(found["a.bias"], after["a.bias"] - start["a.bias"])
    assert torch.allclose(flat(moved(known, found)), flat(after), atol=1e-6)


def test_the_bound_is_seen_to_be_broken() -> None:
    assumption = within(unflat([1.0] * 24), 4.0)
    assert (assumption.name, assumption.verified) == ("every update clipped", False)
    assert assumption.evidence == "largest L2 norm 4.899, stated bound 4"


# Noise


LARGE: Params = {"w": torch.zeros(200, 100), "b": torch.zeros(50)}


def test_noise_has_the_stated_moments_and_differs_by_entry_and_stream() -> None:
    first, second = (flat(gaussian(LARGE, 0.7, Stream(seed))).double() for seed in (0, 1))
    n = len(first)
    for drawn in (first, second):
        assert abs(float(drawn.mean())) < 5 * 0.7 / math.sqrt(n)
        power = float((drawn / 0.7).square().sum())
        assert chi2.ppf(5e-7, n) < power < chi2.isf(5e-7, n)
        assert abs(float(((drawn / 0.7) ** 4).mean()) - 3) < 5 * math.sqrt(96 / n)
    assert abs(float(torch.corrcoef(torch.stack([first, second]))[0, 1])) < 5 / math.sqrt(n)
    assert torch.equal(first, flat(gaussian(LARGE, 0.7, Stream(0))).double())


@pytest.mark.parametrize(
    ("factor", "seen"), [(1.0, True), (0.0, False), (0.5, False), (0.9, False), (1.1, False)]
)
def test_the_witness_knows_noise_of_the_stated_size_from_other_noise(factor: float, seen: bool) -> None:
    added = gaussian(LARGE, factor * 0.7, Stream(0))
    assert looks_like_noise(added, 0.7).verified is seen


def test_the_witness_raises_no_false_alarm_on_few_numbers() -> None:
    verdicts = [looks_like_noise(gaussian(zeros(), 2.0, Stream(seed)), 2.0) for seed in range(500)]
    assert all(v.verified for v in verdicts)
    assert looks_like_noise(gaussian(zeros(), 2.0, Stream(0)), 2.0).name == "noise of the stated size"


def test_a_refusal_names_every_value() -> None:
    expect(True, "nothing", a=1)
    with pytest.raises(ValueError, match=r"^expected order, got a=1, b=two$"):
        expect(False, "order", a=1, b="two")
