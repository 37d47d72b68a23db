"""Update inversion: gradient inversion in the simplest case, order does not matter, copies are matched."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from attacks._descent import Budget
from attacks.gradient_inversion import GradientInversion
from attacks.update_inversion import Simulate, UpdateInversion, averaged, batches, order_invariant
from privfed.nets import NetSpec
from privfed.training import Recipe
from tests.attacks.updates import MLP, STREAM, digits, known, one_round, psnr, trained, view

CONVNET = NetSpec("convnet", channels=1, size=8, classes=10, width=4, depth=1)


@pytest.mark.parametrize("spec", [MLP, CONVNET], ids=["mlp", "convnet"])
def test_one_epoch_in_one_batch_is_gradient_inversion_bit_for_bit(spec: NetSpec) -> None:
    seen, budget = trained(spec, [digits(4 * k, 4) for k in range(2)]), Budget(iterations=25, restarts=2)
    one = GradientInversion(records=4, budget=budget).reconstruct(seen, known(), STREAM)
    other = UpdateInversion(records=4, epochs=1, batch=4, budget=budget).reconstruct(seen, known(), STREAM)
    assert one is not None
    assert other is not None
    assert torch.equal(one.records.inputs, other.records.inputs)
    assert torch.equal(one.records.labels, other.records.labels)
    np.testing.assert_array_equal(one.objective, other.objective)
    assert (one.work, one.stopped_early) == (other.work, other.stopped_early)


def test_the_order_within_an_epoch_leaves_the_prior_as_it_was() -> None:
    generator = torch.Generator().manual_seed(0)
    copies = torch.randn(2, 3, 5, 1, 4, 4, generator=generator, dtype=torch.float64)
    shuffled = torch.stack([copies[:, e, torch.randperm(5, generator=generator)] for e in range(3)], 1)
    before, after = (order_invariant(c.flatten(1, 2), 3) for c in (copies, shuffled))
    assert (before > 0.01).all()
    torch.testing.assert_close(before, after)
    same = copies[:, :1].expand_as(copies)
    torch.testing.assert_close(order_invariant(same.flatten(1, 2), 3), torch.zeros(2).double())


def test_the_prior_is_the_mean_square_between_mean_records() -> None:
    copies = torch.tensor([[[0.0], [2.0], [3.0], [5.0]]])
    assert float(order_invariant(copies, 2)) == (4.0 - 1.0) ** 2


def test_every_epoch_uses_each_of_its_copies_once() -> None:
    steps = batches(5, 3, 2, STREAM)
    assert [len(s) for s in steps] == [2, 2, 1] * 3
    for epoch in range(3):
        assert sorted(torch.cat(steps[3 * epoch : 3 * epoch + 3]).tolist()) == list(
            range(5 * epoch, 5 * epoch + 5)
        )
    orders = [torch.cat(steps[3 * e : 3 * e + 3]) - 5 * e for e in range(3)]
    assert any(not torch.equal(orders[0], o) for o in orders[1:])


def test_copies_are_matched_within_their_label_and_averaged() -> None:
    first = torch.tensor([[0.0, 0.0], [1.0, 1.0], [0.05, 0.0]])
    second = first[[1, 0, 2]] + 0.1
    mean = averaged(torch.cat([first, second]).unsqueeze(0), torch.tensor([[3, 3, 7]]), 2)
    torch.testing.assert_close(mean[0], first + 0.05)


@pytest.mark.parametrize(("simulate", "least"), [("epochs", 20.0), ("surrogate", 17.0)])
def test_lone_records_are_found_through_five_epochs(simulate: Simulate, least: float) -> None:
    clients = [digits(k, 1) for k in range(2)]
    knobs = UpdateInversion(records=1, simulate=simulate, budget=Budget(iterations=250, patience=100))
    made = knobs.reconstruct(trained(MLP, clients, 5), known(), STREAM)
    assert made is not None
    assert min(psnr(made, clients)) > least
    assert made.records.labels.tolist() == [int(c.labels) for c in clients]


def test_batches_are_replayed_and_beat_blank_images() -> None:
    clients = [digits(0, 4)]
    seen = view(MLP, one_round(MLP, clients, Recipe(3, 2, 0.1)))
    made = UpdateInversion(records=4, epochs=3, batch=2).reconstruct(seen, known(), STREAM)
    assert made is not None
    assert len(made.records) == 4
    assert np.mean(psnr(made, clients)) > 15
    assert (made.objective < 0.1).all()


def test_nothing_without_updates() -> None:
    assert UpdateInversion().reconstruct(view(MLP, ()), known(), STREAM) is None


def test_knobs_that_make_no_sense_are_refused() -> None:
    for name in ("records", "rounds", "epochs", "batch", "local_lr", "lr"):
        with pytest.raises(ValueError, match=f"expected {name} > 0, got {name}=0"):
            UpdateInversion(**{name: 0})  # type: ignore[arg-type]
    for name in ("prior", "tv"):
        with pytest.raises(ValueError, match=f"expected {name} >= 0, got {name}=-1"):
            UpdateInversion(**{name: -1})  # type: ignore[arg-type]
    for name in ("simulate", "objective", "layers", "optimiser"):
        with pytest.raises(ValueError, match=f"expected {name} to be one of .*, got {name}='x'"):
            UpdateInversion(**{name: "x"})  # type: ignore[arg-type]
    with pytest.raises(
        ValueError, match="expected objective='cosine' with simulate='surrogate', got objective='squared'"
    ):
        UpdateInversion(simulate="surrogate", objective="squared")
