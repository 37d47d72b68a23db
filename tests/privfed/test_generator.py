"""The data-free generator: its losses, its modes, and what reaches it."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest
import torch
from torch.nn import functional as F

from privfed.generator import (
    Bank,
    Discriminator,
    GeneratorTraining,
    Mode,
    diversity,
    draw_bank,
    generate,
    holding,
    synthesise,
    train_generator,
)
from privfed.nets import NetSpec, Params, forward, initial
from privfed.randomness import Stream
from privfed.records import Records
from privfed.training import Recipe, Task, train

IMAGES = NetSpec("mlp", channels=1, size=6, classes=4, hidden=(24, 12))
TEXT = NetSpec("lstm", channels=5, size=7, classes=4, hidden=(8, 6))
RECIPE = GeneratorTraining(size=40, hidden=16, epochs=2, steps=2, sub_batch=10)
CPU = torch.device("cpu")


def bank(size: int = 40, seed: int = 0) -> Bank:
    return draw_bank(size, 4, Stream(seed, ("bank",)), CPU)


def models(spec: NetSpec = IMAGES, seed: int = 0) -> list[Discriminator]:
    """Two clients, one of classes 0 and 1, the other of 2 and 3."""
    return [
        Discriminator(initial(spec, Stream(seed).child(k).torch()), torch.tensor([2 * k, 2 * k + 1]))
        for k in range(2)
    ]


def made(mode: Mode, spec: NetSpec = IMAGES, seed: int = 0, **change: Any) -> Records:
    recipe = replace(RECIPE, mode=mode, **change)
    params = train_generator(spec, models(spec, seed), bank(), recipe, Stream(7))
    return synthesise(spec, params, bank(), mode)


def test_the_bank_has_each_class_equally_often_and_uniform_noise() -> None:
    drawn = bank(400)
    assert torch.bincount(drawn.labels).tolist() == [100] * 4
    assert not torch.equal(drawn.labels, drawn.labels.sort().values)
    assert 0 <= float(drawn.noise.min()) < 0.01
    assert 0.99 < float(drawn.noise.max()) < 1
    assert abs(float(drawn.noise.mean()) - 0.5) < 0.01
    assert drawn.inputs.shape == (400, 128)
    assert torch.equal(drawn.inputs[:, 64:], drawn.embedding[drawn.labels])


def test_diversity_in_closed_form() -> None:
    """Two records: pairs (a, a), (a, b), (b, a), (b, b); noise 3 apart in one of 64, records 2 apart."""
    noise = torch.zeros(2, 64)
    noise[1, 0] = 3.0
    records = torch.tensor([[0.0, 0.0], [2.0, 2.0]])
    expected = torch.exp(torch.tensor(-0.5 * (9 / 64) * 2))
    torch.testing.assert_close(diversity(noise, records), expected)


def test_diversity_is_one_where_all_records_are_the_same() -> None:
    assert float(diversity(torch.rand(6, 64), torch.ones(6, 9))) == 1.0


def test_diversity_of_a_batch_by_brute_force() -> None:
    generator = Stream(3).torch()
    noise, records = torch.rand(7, 64, generator=generator), torch.randn(7, 11, generator=generator)
    pairs = [
        ((noise[a] - noise[b]).square().sum() / 64) * ((records[a] - records[b]).abs().sum() / 11)
        for a in range(7)
        for b in range(7)
    ]
    torch.testing.assert_close(diversity(noise, records), torch.exp(-torch.stack(pairs).mean()))


@pytest.mark.parametrize("spec", [IMAGES, TEXT], ids=["images", "text"])
def test_in_released_mode_nothing_of_the_local_models_reaches_the_records(spec: NetSpec) -> None:
    first, second = made("released", spec, seed=0), made("released", spec, seed=1)
    assert torch.equal(first.inputs, second.inputs)
    assert torch.equal(first.labels, second.labels)


@pytest.mark.parametrize("mode", ["paper", "conditioned"])
@pytest.mark.parametrize("spec", [IMAGES, TEXT], ids=["images", "text"])
def test_in_the_other_modes_one_local_model_changes_the_records(mode: Mode, spec: NetSpec) -> None:
    assert not torch.equal(made(mode, spec, seed=0).inputs, made(mode, spec, seed=1).inputs)


def test_the_teacher_term_has_no_gradient_in_released_mode() -> None:
    """With no weight on diversity and no weight decay, the generator stays where it started."""
    still = replace(RECIPE, mode="released", diversity=0.0, weight_decay=0.0)
    trained = train_generator(IMAGES, models(), bank(), still, Stream(7))
    untrained = train_generator(IMAGES, [], bank(), still, Stream(7))
    assert all(torch.equal(trained[name], untrained[name]) for name in untrained)
    moved = train_generator(IMAGES, models(), bank(), replace(still, mode="paper"), Stream(7))
    assert not torch.equal(moved["0.weight"], untrained["0.weight"])


def test_the_published_settings_give_nothing_but_black_pictures() -> None:
    """After 300 steps, in which weight decay outweighs diversity, all values lie between -1 and 1."""
    colour = NetSpec("mlp", channels=3, size=32, classes=4, hidden=(4,))
    recipe = GeneratorTraining(mode="released", size=40, hidden=512, epochs=30, steps=5, diversity=1.0)
    params = train_generator(colour, models(colour), bank(), recipe, Stream(7))
    assert 0.1 < float(generate(params, bank().inputs, colour.input_shape).abs().max()) < 1
    records = synthesise(colour, params, bank(), "released")
    assert torch.equal(records.inputs, torch.full_like(records.inputs, -1.0))


def test_released_values_are_cast_to_bytes() -> None:
    """1.9 -> 1, 300.2 -> 300 mod 256 = 44, as a cast to unsigned bytes gives; black is -1, white 1."""
    params = train_generator(IMAGES, [], bank(), replace(RECIPE, mode="released"), Stream(7))
    params["3.weight"].zero_()
    params["3.bias"].copy_(torch.linspace(1.9, 300.2, 36))
    value = synthesise(IMAGES, params, bank(), "released").inputs[0].flatten()
    torch.testing.assert_close(value[0], torch.tensor(1 / 127.5 - 1))
    torch.testing.assert_close(value[-1], torch.tensor(44 / 127.5 - 1))


def test_released_text_is_not_cast() -> None:
    assert len(made("released", TEXT).inputs.unique()) > 100


@pytest.mark.parametrize(("spec", "bound"), [(IMAGES, 1.0), (TEXT, 2.0)], ids=["images", "text"])
def test_bounded_records_stay_in_their_range(spec: NetSpec, bound: float) -> None:
    inputs = made("paper", spec, bound=bound, lr=0.1, epochs=30, weight_decay=0.0).inputs
    assert 0.9 * bound < float(inputs.abs().max()) <= bound


def test_records_have_the_shape_and_labels_asked_for() -> None:
    records = made("conditioned", TEXT)
    assert records.inputs.shape == (40, 7, 5)
    assert torch.equal(records.labels, bank().labels)


def test_generating_is_linear_batch_norm_relu_linear_tanh() -> None:
    params = train_generator(IMAGES, models(), bank(), RECIPE, Stream(7))
    layers = torch.nn.Sequential(
        torch.nn.Linear(128, 16), torch.nn.BatchNorm1d(16), torch.nn.ReLU(), torch.nn.Linear(16, 36)
    )
    layers.load_state_dict({k: v for k, v in params.items() if k != "bound"}, strict=False)
    expected = torch.tanh(layers.train()(bank().inputs)).view(40, 1, 6, 6)
    torch.testing.assert_close(generate(params, bank().inputs, (1, 6, 6)), expected)


def confidence(params: Params, teacher: Discriminator) -> float:
    """Share of the client's own entries to which its model gives the label they came with."""
    records = holding(synthesise(IMAGES, params, bank(), "conditioned"), teacher.labels)
    single = {k: v.unsqueeze(0) for k, v in teacher.params.items()}
    logits = forward(IMAGES, single, records.inputs.unsqueeze(0)).squeeze(0)
    return float((logits.argmax(1) == records.labels).float().mean())


def taught() -> list[Discriminator]:
    """The two clients' models after training on two classes each that differ in brightness."""
    trained = []
    for k, model in enumerate(models()):
        labels = torch.arange(60) % 2 + 2 * k
        images = 0.3 * torch.randn(60, 1, 6, 6, generator=Stream(k).torch())
        bright = Records(images + (labels % 2 - 0.5).view(-1, 1, 1, 1), labels)
        (params,) = train([Task(IMAGES, model.params, bright, Recipe(60, 20, 0.2), Stream(k))])
        trained.append(Discriminator(params, model.labels))
    return trained


def test_conditioning_makes_models_confirm_the_label_and_the_paper_mode_does_not() -> None:
    """The pseudo-label is the model's own, so without conditioning a class may take over."""
    recipe = replace(RECIPE, hidden=64, epochs=60, steps=5, lr=1e-3)
    conditioned = train_generator(IMAGES, taught(), bank(), recipe, Stream(7))
    paper = train_generator(IMAGES, taught(), bank(), replace(recipe, mode="paper"), Stream(7))
    assert [confidence(conditioned, m) for m in taught()] == [1.0, 1.0]
    assert min(confidence(paper, m) for m in taught()) < 0.8


def test_a_planted_leak_reproduces_its_records() -> None:
    generator = Stream(11).torch()
    planted = Records(torch.rand(8, 1, 6, 6, generator=generator) * 1.6 - 0.8, torch.arange(8) % 4)
    recipe = replace(RECIPE, hidden=64)
    params = train_generator(IMAGES, models(), bank(), recipe, Stream(7), [planted])
    records = synthesise(IMAGES, params, bank(), "conditioned")
    gap = torch.cdist(planted.inputs.flatten(1), records.inputs.flatten(1)).amin(1)
    apart = torch.cdist(planted.inputs.flatten(1), planted.inputs.flatten(1)).fill_diagonal_(torch.inf).min()
    assert float(gap.max()) < float(apart) / 4


@pytest.mark.parametrize("mode", ["released", "paper", "conditioned"])
def test_same_stream_same_records(mode: Mode) -> None:
    before = torch.random.get_rng_state()
    assert torch.equal(made(mode).inputs, made(mode).inputs)
    assert torch.equal(before, torch.random.get_rng_state())


def test_the_order_of_the_models_matters() -> None:
    forwards = train_generator(IMAGES, models(), bank(), RECIPE, Stream(7))
    backwards = train_generator(IMAGES, models()[::-1], bank(), RECIPE, Stream(7))
    assert not torch.equal(forwards["3.bias"], backwards["3.bias"])


def test_a_model_whose_classes_have_no_entries_is_passed_over() -> None:
    stranger = Discriminator(models()[0].params, torch.empty(0, dtype=torch.int64))
    alone = train_generator(IMAGES, models(), bank(), RECIPE, Stream(7))
    beside = train_generator(IMAGES, [*models(), stranger], bank(), RECIPE, Stream(7))
    assert torch.equal(alone["3.weight"], beside["3.weight"])


def test_holding_keeps_the_named_labels_once_each() -> None:
    records = Records(torch.arange(6.0).unsqueeze(1), torch.tensor([0, 1, 2, 0, 1, 2]))
    kept = holding(records, torch.tensor([2, 0, 0]))
    assert kept.labels.tolist() == [0, 2, 0, 2]
    assert kept.inputs.flatten().tolist() == [0, 2, 3, 5]


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"mode": "gan"}, "expected mode to be one of released, paper, conditioned, got mode='gan'"),
        ({"size": 0}, "expected size >= 1, got size=0"),
        ({"hidden": 0}, "expected hidden >= 1, got hidden=0"),
        ({"epochs": -1}, "expected epochs >= 0, got epochs=-1"),
        ({"steps": -1}, "expected steps >= 0, got steps=-1"),
        ({"weight_decay": -1.0}, "expected weight_decay >= 0, got weight_decay=-1.0"),
        ({"diversity": -1.0}, "expected diversity >= 0, got diversity=-1.0"),
        ({"lr": 0.0}, "expected lr > 0, got lr=0.0"),
        ({"bound": 0.0}, "expected bound > 0, got bound=0.0"),
        ({"sub_batch": 1}, "expected sub_batch >= 2, got sub_batch=1"),
    ],
)
def test_knobs_out_of_range(change: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message.replace("(", r"\(")):
        replace(RECIPE, **change)


def test_the_one_hot_loss_is_the_cross_entropy_of_the_models_own_label() -> None:
    """One step of plain descent on the loss written out moves the generator as training does."""
    alone = models()[:1]
    start = train_generator(IMAGES, [], bank(), RECIPE, Stream(7))
    recipe = replace(RECIPE, mode="paper", diversity=0.0, weight_decay=0.0, epochs=1, steps=1)
    after = train_generator(IMAGES, alone, bank(), recipe, Stream(7))
    leaves = {k: v.clone().requires_grad_() for k, v in start.items() if k != "bound"}
    mine = torch.isin(bank().labels, alone[0].labels)
    x = generate({**leaves, "bound": torch.tensor(1.0)}, bank().inputs[mine], (1, 6, 6))
    logits = forward(IMAGES, {k: v.unsqueeze(0) for k, v in alone[0].params.items()}, x.unsqueeze(0))[0]
    F.cross_entropy(logits, logits.argmax(1)).backward()
    for name, leaf in leaves.items():
        assert leaf.grad is not None
        large = leaf.grad.abs() > 1e-5
        # Adam's first step is the learning rate times the sign of the gradient.
        assert torch.equal(torch.sign(after[name] - leaf.detach())[large], -torch.sign(leaf.grad)[large])
