"""Trap weights: how many rows one record alone activates, exact readings, batches, and what is refused."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch

from attacks._imprint import BIAS, WEIGHT
from attacks.imprint import Imprint
from attacks.trap_weights import TrapWeights, halves, scales, trapped
from privfed.nets import NetSpec, Params
from privfed.randomness import Stream
from privfed.records import Records
from tests.attacks import crafted
from tests.attacks.crafted import SPEC, drawn, matched, public, start, trained, unseen_label

STREAM = Stream(0)


def sent(seed: int = 0, records: int = 32, spec: NetSpec = SPEC) -> Params:
    return TrapWeights(records).craft(spec, public(), start(seed, spec), Stream(seed))


def active(model: Params, own: Records) -> torch.Tensor:
    """Which record activates which row, shape (n, rows)."""
    return own.inputs.flatten(1).double() @ model[WEIGHT].double().T + model[BIAS].double() > 0


@pytest.mark.parametrize("n", [8, 32])
def test_the_share_of_rows_with_one_record_is_that_of_independent_activations(n: int) -> None:
    """(1 - 1/n)^(n - 1), over 30 clients of digits.

    Records of the same digits are not independent of each other, so the band is a tenth, not an interval.
    """
    shares = [float((active(sent(s, n), drawn(n, s)).sum(0) == 1).double().mean()) for s in range(30)]
    assert np.mean(shares) == pytest.approx((1 - 1 / n) ** (n - 1), abs=0.1)


def test_independent_records_match_the_closed_form_in_its_interval() -> None:
    """Pixels drawn alike and on their own, scales set on 4,000 of them; 40 clients of 16 records."""
    negative, positive = halves(200, 64, STREAM)
    generator = torch.Generator().manual_seed(0)

    def pixels(n: int) -> torch.Tensor:
        return torch.rand(n, 64, generator=generator, dtype=torch.float64) * 2 - 1

    weight = scales(pixels(4000), negative, positive, 1 / 16) * positive - negative
    shares = [float((((pixels(16) + 1) @ weight.T > 0).sum(0) == 1).double().mean()) for _ in range(40)]
    width = 3.3 * np.std(shares) / math.sqrt(40)
    assert abs(np.mean(shares) - (15 / 16) ** 15) < width


def test_scales_put_the_stated_share_of_public_records_above() -> None:
    negative, positive = halves(50, 64, STREAM)
    inputs = public().public.inputs.flatten(1).double()
    weight = scales(inputs, negative, positive, 0.1) * positive - negative
    above = ((inputs + 1) @ weight.T > 0).double().mean(0)
    assert torch.allclose(above, torch.full_like(above, 0.1), atol=0.005)


@pytest.mark.parametrize("d", [64, 9])
def test_rows_are_half_negative_half_positive_with_the_same_sizes(d: int) -> None:
    """Sizes, not signed draws: with signs in them the two halves would outweigh each other by turns."""
    negative, positive = halves(20, d, STREAM)
    assert ((negative > 0).sum(1) == d // 2).all()
    assert ((positive > 0).sum(1) == d // 2).all()
    assert not ((negative > 0) & (positive > 0)).any()
    assert torch.allclose(negative.sort(1).values, positive.sort(1).values)
    assert (negative >= 0).all()


def test_the_published_scale_is_one_for_all_rows() -> None:
    model = TrapWeights(scale=0.9, gain=1.0).craft(SPEC, public(), start(), STREAM)
    weight = model[WEIGHT]
    up, down = weight.clamp_min(0).sum(1), (-weight).clamp_min(0).sum(1)
    assert torch.allclose(up, 0.9 * down, rtol=1e-4)
    assert trapped(SPEC, model)


@pytest.mark.parametrize("steps", [1, 5, 20])
def test_a_record_alone_on_a_row_is_read_exactly_after_any_number_of_steps(steps: int) -> None:
    own, model = unseen_label(32, seed=1), sent()
    on = active(model, own)
    caught = (on & (on.sum(0) == 1)).any(1)
    assert caught.sum() >= 12
    apart = matched(TrapWeights().recover(SPEC, model, trained(model, own, steps)).inputs, own)
    assert (apart[caught] < 1e-5).all()


def test_rows_go_on_reading_batch_after_batch() -> None:
    own, model = unseen_label(64, seed=4), sent(records=16)
    many = matched(TrapWeights().recover(SPEC, model, trained(model, own, 1, batch=8)).inputs, own)
    trained_imprint = Imprint().craft(SPEC, public(), start(), STREAM)
    found = Imprint().recover(SPEC, trained_imprint, trained(trained_imprint, own, 1, batch=8))
    few = matched(found.inputs, own)
    assert int((many < 1e-3).sum()) > 2 * int((few < 1e-3).sum())


def test_a_record_on_several_rows_is_returned_once() -> None:
    own, model = unseen_label(8, seed=2), sent(records=8)
    found = TrapWeights(8).recover(SPEC, model, trained(model, own)).inputs.flatten(1)
    apart = torch.cdist(found, found).square() / 64 + torch.eye(len(found))
    assert apart.min() >= 1e-3
    on = active(model, own)
    assert ((on & (on.sum(0) == 1)).sum(1) > 1).any(), "some record is alone on several rows"


def test_it_reads_its_own_models_and_no_others() -> None:
    own, model = unseen_label(8, seed=3), sent(records=8)
    seen = crafted.view(crafted.sent_to(model), crafted.returned(trained(model, own)))
    made = TrapWeights().reconstruct(seen, public(), STREAM)
    assert made is not None
    assert int((matched(made.records.inputs, own) < 1e-5).sum()) >= 6
    assert (np.diff(made.objective) >= 0).all(), "those least in doubt come first"
    for other in (start(), Imprint().craft(SPEC, public(), start(), STREAM)):
        assert not trapped(SPEC, other)
        seen = crafted.view(crafted.sent_to(other), crafted.returned(trained(other, own)))
        assert TrapWeights().reconstruct(seen, public(), STREAM) is None
    seen = crafted.view(crafted.sent_to(model), crafted.returned(trained(model, own)))
    assert Imprint().reconstruct(seen, public(), STREAM) is None


def test_knobs_out_of_range_are_refused() -> None:
    with pytest.raises(ValueError, match="expected records >= 2, got records=1"):
        TrapWeights(records=1)
    with pytest.raises(ValueError, match=r"expected scale in \(0, 1\), got scale=1.0"):
        TrapWeights(scale=1.0)
    with pytest.raises(ValueError, match="expected gain > 0, got gain=0"):
        TrapWeights(gain=0)
