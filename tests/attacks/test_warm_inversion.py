"""Warm inversion: it starts from what was released, and the update puts back what that left out."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from attacks._descent import Budget
from attacks.interface import Reconstruction
from attacks.warm_inversion import WarmInversion, weighed
from privfed.nets import NetSpec
from privfed.records import Records
from privfed.release import SERVER, Release, View
from tests.attacks.updates import MLP, STREAM, digits, known, psnr, trained, view


def released(records: Records, client: int, round: int = 0) -> Release:
    tensors = {"inputs": records.inputs, "labels": records.labels}
    return Release(round, SERVER, SERVER, "synthetic", "client_images", tensors, client)


def blurred(records: Records, seed: int = 0) -> Records:
    noise = torch.randn(records.inputs.shape, generator=torch.Generator().manual_seed(seed))
    return Records((records.inputs + 0.5 * noise).clamp(-1, 1), records.labels)


def class_means() -> Records:
    known_records = digits(1000, 200)
    means = [known_records.inputs[known_records.labels == c].mean(0) for c in range(10)]
    return Records(torch.stack(means), torch.arange(10))


def attack(knobs: WarmInversion, seen: View) -> Reconstruction:
    made = knobs.reconstruct(seen, known(), STREAM)
    assert made is not None
    return made


def seen(clients: list[Records], sets: list[Records], steps: int = 1) -> View:
    return view(MLP, (*trained(MLP, clients, steps).releases, *(released(s, k) for k, s in enumerate(sets))))


@pytest.mark.parametrize("steps", [1, 5])
def test_what_was_released_comes_nearer_to_what_it_was_made_from(steps: int) -> None:
    clients = [digits(2 * k, 2) for k in range(3)]
    sets = [blurred(c, k) for k, c in enumerate(clients)]
    start = attack(WarmInversion(local_steps=steps, budget=Budget(1)), seen(clients, sets, steps))
    made = attack(WarmInversion(local_steps=steps), seen(clients, sets, steps))
    assert made.clients.tolist() == [0, 0, 1, 1, 2, 2]
    assert torch.equal(made.records.labels, torch.cat([s.labels for s in sets]))
    assert (made.objective < start.objective / 5).all()
    gains = np.array(psnr(made, clients)) - np.array(psnr(start, clients))
    assert gains.mean() > 3
    assert (gains > 0).all()


def test_the_clients_own_records_already_explain_its_update() -> None:
    clients = [digits(0, 3)]
    made = attack(WarmInversion(slots="equal", local_steps=1), seen(clients, clients))
    assert made.stopped_early
    assert made.work == 1
    assert (made.objective < 1e-6).all()
    assert torch.equal(made.records.inputs, clients[0].inputs)


def test_slots_of_labels_that_the_update_does_not_speak_of_are_left_out() -> None:
    """FedDGM's slots: one image of every label, of clients that hold a single record."""
    clients = [digits(k, 1) for k in (0, 3)]
    every = seen(clients, [class_means() for _ in clients])
    counted, alike = (
        attack(WarmInversion(slots=slots, local_steps=1, budget=Budget(60)), every)
        for slots in ("shares", "equal")
    )
    assert len(alike.records) == 20
    assert len(counted.records) < 15
    assert all(int(c.labels) in counted.records.labels[counted.clients == k] for k, c in enumerate(clients))
    assert (np.array(psnr(counted, clients)) > np.array(psnr(alike, clients)) + 5).all()


def test_slots_share_the_weight_of_their_label() -> None:
    labels = torch.tensor([[0, 0, 1, 2], [0, 1, -1, -1], [2, 3, -1, -1]])
    shares = torch.tensor([[0.6, 0.4, 0.001, 0.0], [np.nan, 0.0, 1.0, 0.0], [np.nan, 0.0, 0.25, 0.75]])
    found = weighed(labels, shares)
    torch.testing.assert_close(found[0], torch.tensor([0.9, 0.9, 1.2, 0.0]).double())
    assert found[1].tolist() == [1.0, 1.0, 0.0, 0.0]
    torch.testing.assert_close(found[2], torch.tensor([0.5, 1.5, 0.0, 0.0]).double())
    assert weighed(labels, None).tolist() == (labels >= 0).double().tolist()


def test_sets_of_different_sizes_are_read_side_by_side_as_if_alone() -> None:
    clients = [digits(0, 3), digits(3, 1)]
    sets = [blurred(c) for c in clients]
    knobs = WarmInversion(budget=Budget(iterations=5))
    both = attack(knobs, seen(clients, sets))
    assert both.clients.tolist() == [0, 0, 0, 1]
    sent = trained(MLP, clients).releases
    alone = attack(knobs, view(MLP, (sent[0], sent[2], released(sets[1], 1))))
    torch.testing.assert_close(both.records.inputs[3:], alone.records.inputs, rtol=1e-3, atol=1e-4)
    assert both.objective[3] == pytest.approx(alone.objective[0], rel=1e-3)


def test_clients_and_rounds_without_images_are_passed_over() -> None:
    sent = trained(MLP, [digits(0, 2), digits(2, 2)]).releases
    made = attack(WarmInversion(budget=Budget(2)), view(MLP, (*sent, released(digits(2, 2), 1))))
    assert made.clients.tolist() == [1, 1]
    late = view(MLP, (*sent, released(digits(2, 2), 1, round=1)))
    assert WarmInversion().reconstruct(late, known(), STREAM) is None


def test_features_keep_their_own_range() -> None:
    linear = NetSpec("linear", 1, 1, 3, width=4)
    own = Records(torch.full((1, 4), 3.0), torch.tensor([1]))
    # Images, or text, are what synthetic releases hold; features cannot be released so.
    assert WarmInversion().reconstruct(trained(linear, [own]), known(), STREAM) is None


def test_nothing_without_updates_or_images() -> None:
    assert WarmInversion().reconstruct(view(MLP, ()), known(), STREAM) is None
    assert WarmInversion().reconstruct(view(MLP, (released(digits(0, 1), 0),)), known(), STREAM) is None
    assert WarmInversion().reconstruct(trained(MLP, [digits(0, 1)]), known(), STREAM) is None


def test_knobs_that_make_no_sense_are_refused() -> None:
    for name in ("rounds", "local_steps", "local_lr", "lr"):
        with pytest.raises(ValueError, match=f"expected {name} > 0, got {name}=0"):
            WarmInversion(**{name: 0})  # type: ignore[arg-type]
    with pytest.raises(ValueError, match="expected tv >= 0, got tv=-1"):
        WarmInversion(tv=-1)
    with pytest.raises(ValueError, match="expected slots to be one of shares, equal, got slots='x'"):
        WarmInversion(slots="x")  # type: ignore[arg-type]
