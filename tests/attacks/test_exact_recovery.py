"""Exact recovery of whole batches, and what says that there was none."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from attacks.exact_recovery import ExactRecovery, chosen, drawn, factors
from privfed.nets import NetSpec, head_names
from privfed.training import Recipe
from tests.attacks.updates import MLP, STREAM, digits, known, one_round, psnr, trained, view, without_head


@pytest.mark.parametrize("batch", [1, 3, 5])
def test_a_batch_comes_back_exactly_with_its_labels(batch: int) -> None:
    clients = [digits(20, batch, torch.float64)]
    made = ExactRecovery().reconstruct(trained(MLP, clients), known(), STREAM)
    assert made is not None
    assert len(made.records) == batch
    assert min(psnr(made, clients)) > 120  # an error of 1e-6 on pixels that span 2
    assert sorted(made.records.labels.tolist()) == sorted(clients[0].labels.tolist())
    assert made.stopped_early
    assert (made.objective <= 0.01).all()


def test_single_precision_and_several_steps_of_a_lone_record_are_no_obstacle() -> None:
    clients = [digits(k, 1) for k in range(3)]
    made = ExactRecovery().reconstruct(trained(MLP, clients, 5), known(), STREAM)
    assert made is not None
    assert made.clients.tolist() == [0, 1, 2]
    assert min(psnr(made, clients)) > 90


def test_the_columns_are_found_among_all_factorisations() -> None:
    rng = np.random.default_rng(0)
    pushes = torch.from_numpy(rng.normal(size=(40, 4)) * (rng.random((40, 4)) < 0.5))
    records = torch.from_numpy(rng.normal(size=(4, 9)))
    left, right = factors(pushes @ records, 6)
    assert left.shape == (40, 4)
    torch.testing.assert_close(left @ right, pushes @ records)
    columns = chosen(left, drawn(left, 400, torch.Generator().manual_seed(0)), 1e-6)
    found = torch.nn.functional.normalize((left @ columns.T).T)
    true = torch.nn.functional.normalize(pushes.T)
    torch.testing.assert_close((found @ true.T).abs().amax(1), torch.ones(4).double())
    assert (found @ true.T).abs().argmax(1).unique().numel() == 4


def test_no_rank_shows_in_noise_or_in_a_batch_above_the_limit() -> None:
    noise = torch.randn(40, 20, generator=torch.Generator().manual_seed(0)).double()
    assert factors(noise, 8)[0].shape == (40, 0)
    clients = [digits(0, 6, torch.float64)]
    made = ExactRecovery(records=4).reconstruct(trained(MLP, clients), known(), STREAM)
    assert made is not None
    assert len(made.records) == 0
    assert made.work == 0


def test_a_search_that_fails_spends_its_budget_and_says_so() -> None:
    """Two batches an epoch over many steps: activations change, so that no zeros are left to find."""
    clients = [digits(0, 6, torch.float64)]
    seen = view(MLP, one_round(MLP, clients, Recipe(20, 2, 0.5)))
    made = ExactRecovery(trials=700).reconstruct(seen, known(), STREAM)
    assert made is not None
    assert made.work == 700
    assert not made.stopped_early
    assert (made.objective > 0.01).any()


def test_a_representation_without_head_is_enough() -> None:
    clients = [digits(20, 3, torch.float64)]
    headless = [without_head(r, head_names(MLP)) for r in trained(MLP, clients).releases]
    made = ExactRecovery().reconstruct(view(MLP, headless), known(), STREAM)
    assert made is not None
    assert min(psnr(made, clients)) > 120
    assert made.records.labels.tolist() == [-1] * 3


def test_nothing_without_updates_or_a_first_layer_with_relu() -> None:
    convnet, linear = NetSpec("convnet", 1, 8, 10, width=4, depth=1), NetSpec("linear", 1, 1, 3, width=4)
    assert ExactRecovery().reconstruct(view(MLP, ()), known(), STREAM) is None
    assert ExactRecovery().reconstruct(trained(convnet, [digits(0, 1)]), known(), STREAM) is None
    assert ExactRecovery().reconstruct(view(linear, ()), known(), STREAM) is None


@pytest.mark.parametrize("name", ["records", "rounds", "trials"])
def test_knobs_that_make_no_sense_are_refused(name: str) -> None:
    with pytest.raises(ValueError, match=f"expected {name} > 0, got {name}=0"):
        ExactRecovery(**{name: 0})
    with pytest.raises(ValueError, match="expected tolerance >= 0, got tolerance=-1"):
        ExactRecovery(tolerance=-1)
