"""Analytic inversion: lone records exactly, over several steps too; softmax regression in closed form."""

from __future__ import annotations

import pytest
import torch

from attacks._first_layer import FirstLayer, class_differences
from attacks.analytic_inversion import AnalyticInversion, candidates, distinct
from attacks.interface import Reconstruction
from privfed.nets import NetSpec, head_names
from privfed.records import Records
from privfed.release import View
from privfed.training import Recipe
from tests.attacks.updates import MLP, STREAM, digits, known, one_round, psnr, trained, view, without_head

LINEAR = NetSpec("linear", 1, 1, classes=4, width=6)


def attack(seen: View, knobs: AnalyticInversion = AnalyticInversion()) -> Reconstruction:  # noqa: B008
    made = knobs.reconstruct(seen, known(), STREAM)
    assert made is not None
    return made


def error(made: Reconstruction, client: int, truth: torch.Tensor) -> float:
    mine = made.records.inputs[made.clients == client]
    return float((mine - truth).abs().flatten(1).amax(1).min())


@pytest.mark.parametrize("steps", [1, 5])
def test_a_lone_record_comes_back_exactly_with_its_label(steps: int) -> None:
    clients = [digits(k, 1, torch.float64) for k in range(4)]
    made = attack(trained(MLP, clients, steps))
    assert made.clients.tolist() == [0, 1, 2, 3]
    assert made.records.labels.tolist() == [int(c.labels) for c in clients]
    for k, own in enumerate(clients):
        assert error(made, k, own.inputs) < 1e-6
    assert (made.objective < 1e-6).all()


def test_single_precision_costs_little() -> None:
    clients = [digits(k, 1) for k in range(4)]
    made = attack(trained(MLP, clients, 5))
    assert max(error(made, k, c.inputs) for k, c in enumerate(clients)) < 1e-5
    assert made.records.inputs.dtype == torch.float32


def test_two_records_come_back_where_neurons_told_them_apart_and_agreement_says_so() -> None:
    clients = [digits(2 * k, 2, torch.float64) for k in range(4)]
    made = attack(trained(MLP, clients), AnalyticInversion(records=2))
    values = torch.tensor(psnr(made, clients))
    assert (values > 100).sum() >= 6
    exact = made.objective < 1e-6
    for k, own in enumerate(clients):
        sure = made.records.inputs[(made.clients == k) & torch.from_numpy(exact)]
        assert (torch.cdist(sure.flatten(1), own.inputs.flatten(1)).amin(1) < 1e-5).all()
    assert exact.sum() >= 6


def test_candidates_agree_where_one_record_was_alone_and_the_same_record_is_given_once() -> None:
    records = torch.tensor([[0.5, -0.5], [0.2, 0.8]], dtype=torch.float64)
    pushes = torch.tensor([[1.0, 2.0, 0.0, 0.0, 1.0, 0.0], [0.0, 0.0, 3.0, 1.0, -1.5, 0.0]]).double()
    flat, objective, at = candidates(FirstLayer(pushes.T @ records, pushes.sum(0)), (2,))
    assert at.tolist() == [0, 1, 2, 3, 4]
    torch.testing.assert_close(flat[:4], records[[0, 0, 1, 1]])
    assert (objective[:4] < 1e-9).all()
    assert objective[4] > 0.5
    order = distinct(flat, objective, 0.02, 8)
    assert len(order) == 3
    assert {tuple(r) for r in flat[order[:2]].round(decimals=9).tolist()} == {(0.5, -0.5), (0.2, 0.8)}
    assert len(distinct(flat, objective, 0.02, 1)) == 1


def softmax_regression(labels: list[int]) -> tuple[Records, View]:
    features = torch.randn(len(labels), 6, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    records = Records(features, torch.tensor(labels))
    zero = {"0.weight": torch.zeros(4, 6).double(), "0.bias": torch.zeros(4).double()}
    return records, view(LINEAR, one_round(LINEAR, [records], Recipe(1, len(labels), 0.3), zero))


def test_the_step_of_softmax_regression_is_the_closed_form() -> None:
    records, seen = softmax_regression([0, 0, 1, 3, 3, 3])
    moved = {k: seen.releases[1].tensors[k] - seen.releases[0].tensors[k] for k in ("0.weight", "0.bias")}
    sums = torch.stack([records.inputs[records.labels == c].sum(0) for c in range(4)])
    counts = torch.tensor([2.0, 1.0, 0.0, 3.0]).double()
    torch.testing.assert_close(moved["0.weight"], 0.3 / 6 * (sums - sums.sum(0) / 4))
    torch.testing.assert_close(moved["0.bias"], 0.3 / 6 * (counts - 6 / 4))
    rows = class_differences(FirstLayer(-moved["0.weight"], -moved["0.bias"]))
    torch.testing.assert_close(rows.weight, -0.3 / 6 * (sums - sums[2])[[0, 1, 3]])
    torch.testing.assert_close(rows.bias, -0.3 / 6 * (counts - counts[2])[[0, 1, 3]])


def test_softmax_regression_gives_class_means_and_the_only_record_of_a_class() -> None:
    records, seen = softmax_regression([0, 0, 1, 3, 3, 3])
    made = attack(seen)
    by_label = dict(zip(made.records.labels.tolist(), made.records.inputs, strict=True))
    assert sorted(by_label) == [0, 1, 3]
    for label, found in by_label.items():
        torch.testing.assert_close(found, records.inputs[records.labels == label].mean(0))


def test_a_lone_record_of_softmax_regression_comes_back_from_any_start() -> None:
    record = Records(torch.arange(6.0).double().unsqueeze(0), torch.tensor([2]))
    made = attack(trained(LINEAR, [record], 3))
    torch.testing.assert_close(made.records.inputs[0], record.inputs[0])


def test_a_representation_without_head_is_enough_and_leaves_the_label_open() -> None:
    clients = [digits(k, 1, torch.float64) for k in range(2)]
    headless = [without_head(r, head_names(MLP)) for r in trained(MLP, clients).releases]
    made = attack(view(MLP, headless))
    assert made.records.labels.tolist() == [-1, -1]
    assert max(error(made, k, c.inputs) for k, c in enumerate(clients)) < 1e-6


def test_nothing_without_updates_movement_or_a_linear_first_layer() -> None:
    convnet = NetSpec("convnet", 1, 8, 10, width=4, depth=1)
    knobs = AnalyticInversion()
    assert knobs.reconstruct(view(MLP, ()), known(), STREAM) is None
    assert knobs.reconstruct(trained(MLP, [digits(0, 1)], 0), known(), STREAM) is None
    assert knobs.reconstruct(trained(convnet, [digits(0, 1)]), known(), STREAM) is None


def test_a_client_that_did_not_move_is_passed_over() -> None:
    moved, resting = (trained(MLP, [digits(k, 1)] * 2, k).releases for k in (1, 0))
    made = attack(view(MLP, (*moved[:2], resting[2])))
    assert set(made.clients.tolist()) == {0}


@pytest.mark.parametrize("name", ["records", "rounds", "agreement"])
def test_knobs_that_make_no_sense_are_refused(name: str) -> None:
    with pytest.raises(ValueError, match=f"expected {name} > 0, got {name}=0"):
        AnalyticInversion(**{name: 0})
