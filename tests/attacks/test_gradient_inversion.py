"""Gradient inversion: DLG, iDLG and Inverting Gradients, on nets small enough to know the answer."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest
import torch
from torch import Tensor
from torch.nn import functional as F

from attacks._descent import Budget, Variables, minimise
from attacks._inversion import mismatch, replayed, total_variation
from attacks._updates import Lanes
from attacks.gradient_inversion import GradientInversion, initial, inverted
from attacks.interface import Reconstruction
from privfed.nets import NetSpec, Params, head_names
from privfed.records import Records
from privfed.release import View
from tests.attacks.updates import MLP, STREAM, digits, known, psnr, trained, unlabelled, view, without_head

LOGISTIC = NetSpec("linear", 1, 1, classes=4, width=12)
LSTM = NetSpec("lstm", channels=3, size=4, classes=2, hidden=(16, 12))
DLG = GradientInversion(
    objective="squared", optimiser="lbfgs", labels="joint", tv=0.0, lr=1.0, budget=Budget(30, 5, 1e-9, 10)
)


def attack(knobs: GradientInversion, seen: View) -> Reconstruction:
    made = knobs.reconstruct(seen, known(), STREAM)
    assert made is not None
    return made


def features(label: int, seed: int) -> Records:
    generator = torch.Generator().manual_seed(seed)
    return Records(torch.randn(1, 12, generator=generator).double(), torch.tensor([label]))


def lenet(params: Params, inputs: Tensor) -> Tensor:
    """Two convolutions with sigmoids and a linear head, one lane at a time."""

    def one(p: Params, x: Tensor) -> Tensor:
        x = torch.sigmoid(F.conv2d(x, p["0.weight"], p["0.bias"], stride=2, padding=1))
        x = torch.sigmoid(F.conv2d(x, p["1.weight"], p["1.bias"], padding=1))
        return F.linear(x.flatten(1), p["2.weight"], p["2.bias"])

    return torch.func.vmap(one)(params, inputs)


def lenet_gradient() -> tuple[Lanes, Records]:
    record = digits(3, 1, torch.float64)
    generator = torch.Generator().manual_seed(1)
    shapes = {"0.weight": (12, 1, 3, 3), "0.bias": (12,), "1.weight": (12, 12, 3, 3), "1.bias": (12,)}
    shapes |= {"2.weight": (10, 192), "2.bias": (10,)}
    start = {k: (torch.rand(1, *s, generator=generator).double() - 0.5) for k, s in shapes.items()}
    one = Lanes(lenet, start, start, record.labels.view(1, 1), 10)
    moved = replayed(one, [(record.inputs.unsqueeze(0), one.targets())], 0.1)
    return replace(one, trained={k: start[k] - moved[k].detach() for k in start}), record


@pytest.mark.parametrize("labels", ["joint", "recovered"])
def test_deep_leakage_finds_the_record_of_a_sigmoid_net_in_one_of_five_restarts(labels: str) -> None:
    """Zhu et al. and Zhao et al.: batch 1, mean squared error below 1e-3."""
    one, record = lenet_gradient()
    errors = []
    for restart in range(5):
        start = initial(one, (1, 8, 8), labels == "joint", STREAM.child(restart))
        found = inverted(DLG, one, start)
        errors.append(float((found.variables[0] - record.inputs).square().mean()))
        if errors[-1] < 1e-3:
            break
    assert min(errors) < 1e-3


def test_deep_leakage_finds_record_and_label_of_logistic_regression() -> None:
    clients = [features(label, label) for label in (0, 3)]
    made = attack(DLG, trained(LOGISTIC, clients))
    assert made.records.labels.tolist() == [0, 3]
    assert float((made.records.inputs - torch.cat([c.inputs for c in clients])).square().mean()) < 1e-3
    assert (made.objective < 1e-6).all()


def test_a_lone_label_is_recovered_exactly_whatever_comes_of_the_record() -> None:
    clients = [digits(k, 1) for k in range(8)]
    made = attack(GradientInversion(budget=Budget(iterations=1)), trained(MLP, clients, 5))
    assert made.records.labels.tolist() == [int(c.labels) for c in clients]


@pytest.mark.parametrize("steps", [1, 5])
def test_inverting_gradients_finds_lone_records_through_one_step_and_several(steps: int) -> None:
    clients = [digits(k, 1) for k in range(2)]
    made = attack(GradientInversion(local_steps=steps), trained(MLP, clients, steps))
    assert min(psnr(made, clients)) > 25
    assert (made.objective < 0.01).all()
    assert made.records.inputs.abs().max() <= 1


def test_two_records_are_found_together() -> None:
    clients = [digits(2 * k, 2) for k in range(2)]
    made = attack(GradientInversion(records=2), trained(MLP, clients))
    assert made.clients.tolist() == [0, 0, 1, 1]
    assert min(psnr(made, clients)) > 20


def test_an_update_of_other_records_gives_other_records() -> None:
    """The null case: what is rebuilt depends on the client, not on the attack."""
    clients, others = [digits(0, 1)], [digits(40, 1)]
    made = attack(GradientInversion(), trained(MLP, others))
    assert psnr(made, others)[0] > 25
    assert psnr(made, clients)[0] < 20


def test_sentences_are_inverted_in_embedding_space_without_a_box() -> None:
    generator = torch.Generator().manual_seed(2)
    text = Records(2 * torch.randn(1, 4, 3, generator=generator), torch.tensor([1]))
    knobs = GradientInversion(optimiser="adam", budget=Budget(400, 2))
    population = Records(torch.zeros(0, 4, 3), torch.zeros(0, dtype=torch.int64))
    made = knobs.reconstruct(trained(LSTM, [text]), replace(known(), population=population), STREAM)
    assert made is not None
    assert made.records.inputs.shape == (1, 4, 3)
    assert made.records.labels.tolist() == [1]
    assert made.objective[0] < 0.02


def test_labels_are_optimised_where_neither_a_head_nor_a_record_tells_them() -> None:
    sent = trained(MLP, [digits(0, 1)]).releases
    seen = view(MLP, (without_head(sent[0], head_names(MLP)), sent[1]))
    recovered, joint = (
        GradientInversion(labels=labels, budget=Budget(iterations=5)).reconstruct(seen, unlabelled(), STREAM)
        for labels in ("recovered", "joint")
    )
    assert recovered is not None
    assert joint is not None
    assert torch.equal(recovered.records.inputs, joint.records.inputs)
    assert torch.equal(recovered.records.labels, joint.records.labels)


def test_lanes_do_not_influence_one_another() -> None:
    clients = [digits(k, 1) for k in range(3)]
    knobs = GradientInversion(budget=Budget(iterations=40))
    together = attack(knobs, trained(MLP, clients))
    alone = attack(knobs, trained(MLP, clients[:1]))
    assert together.objective[0] == pytest.approx(alone.objective[0], rel=1e-3)


def test_the_same_stream_gives_the_same_records() -> None:
    seen, knobs = trained(MLP, [digits(0, 2)]), GradientInversion(records=2, budget=Budget(20, 2))
    first, second = (attack(knobs, seen) for _ in range(2))
    torch.testing.assert_close(first.records.inputs, second.records.inputs, rtol=0, atol=0)


def quadratic(values: list[float], budget: Budget) -> Any:
    one = lenet_gradient()[0].take(torch.zeros(len(values), dtype=torch.int64))

    def loss(at: Lanes, now: Variables) -> Tensor:
        return now[0].square()

    return minimise(one, (torch.tensor(values),), loss, budget, 0.1)


def test_a_lane_ends_below_the_tolerance_and_work_counts_its_steps_only() -> None:
    done = quadratic([0.0, 1.0], Budget(iterations=50, tolerance=1e-3))
    assert float(done.objective[0]) == 0
    assert done.work < 51
    assert done.stopped
    assert not quadratic([0.0, 9.0], Budget(iterations=5, tolerance=1e-3)).stopped
    assert quadratic([9.0], Budget(iterations=5)).work == 5


def test_a_lane_without_progress_gives_up() -> None:
    one = lenet_gradient()[0]

    def flat(at: Lanes, now: Variables) -> Tensor:
        return 1.0 + 0 * now[0]

    found = minimise(one, (torch.ones(1),), flat, Budget(iterations=100, patience=7), 0.1)
    assert found.stopped
    assert found.work == 8


def test_the_objectives_are_what_they_say() -> None:
    one, _ = lenet_gradient()
    moved = {k: one.start[k] - one.trained[k] for k in one.start}
    assert float(mismatch(one, moved, "cosine")) == pytest.approx(0, abs=1e-12)
    assert float(mismatch(one, {k: -5 * v for k, v in moved.items()}, "cosine")) == pytest.approx(2)
    assert float(mismatch(one, moved, "squared")) == 0
    assert float(mismatch(one, {k: 0 * v for k, v in moved.items()}, "squared")) == pytest.approx(1)
    assert float(mismatch(one, {k: 3 * v for k, v in moved.items()}, "squared")) == pytest.approx(4)


def test_layers_may_weigh_more_towards_the_head() -> None:
    one, _ = lenet_gradient()
    moved = {k: one.start[k] - one.trained[k] for k in one.start}
    first, last = ({**moved, k: 0 * moved[k]} for k in ("0.weight", "2.weight"))
    equal = [float(mismatch(one, m, "squared")) for m in (first, last)]
    more = [float(mismatch(one, m, "squared", "increasing")) for m in (first, last)]
    assert more[0] < equal[0]
    assert more[1] / more[0] > equal[1] / equal[0]


def test_entries_that_were_withheld_are_left_out_if_asked() -> None:
    one, _ = lenet_gradient()
    moved = {k: one.start[k] - one.trained[k] for k in one.start}
    hidden = one.trained["2.weight"].clone()
    hidden[:, :5] = one.start["2.weight"][:, :5]
    sparse = replace(one, trained={**one.trained, "2.weight": hidden})
    assert float(mismatch(sparse, moved, "squared")) > 0.1
    assert float(mismatch(sparse, moved, "squared", masked=True)) == pytest.approx(0, abs=1e-12)
    frozen = replace(one, trained={**one.trained, "2.weight": one.start["2.weight"]})
    assert float(mismatch(frozen, moved, "squared")) == pytest.approx(0, abs=1e-12)


def test_the_total_variation_of_a_step_and_of_text() -> None:
    images = torch.zeros(1, 1, 1, 2, 2)
    images[..., 1, :] = 1.0
    assert float(total_variation(images)) == 1.0
    assert float(total_variation(torch.randn(1, 2, 4, 3))) == 0


def test_nothing_without_updates_movement_or_heads() -> None:
    knobs = GradientInversion()
    assert knobs.reconstruct(view(MLP, ()), known(), STREAM) is None
    assert knobs.reconstruct(trained(MLP, [digits(0, 1)], 0), known(), STREAM) is None
    headless = [without_head(r, head_names(MLP)) for r in trained(MLP, [digits(0, 1)]).releases]
    assert knobs.reconstruct(view(MLP, headless), known(), STREAM) is None


@pytest.mark.parametrize("name", ["objective", "optimiser", "labels"])
def test_alternatives_that_there_are_none_of_are_refused(name: str) -> None:
    with pytest.raises(ValueError, match=f"expected {name} to be one of .*, got {name}='x'"):
        GradientInversion(**{name: "x"})  # type: ignore[arg-type]


def test_numbers_that_make_no_sense_are_refused() -> None:
    for name in ("records", "rounds", "lr", "local_lr", "local_steps"):
        with pytest.raises(ValueError, match=f"expected {name} > 0, got {name}=0"):
            GradientInversion(**{name: 0})  # type: ignore[arg-type]
    with pytest.raises(ValueError, match="expected tv >= 0, got tv=-1"):
        GradientInversion(tv=-1)
    for name in ("iterations", "restarts", "patience"):
        with pytest.raises(ValueError, match=f"expected {name} >= 1, got {name}=0"):
            Budget(**{name: 0})
    with pytest.raises(ValueError, match="expected tolerance >= 0, got tolerance=-1"):
        Budget(tolerance=-1)
