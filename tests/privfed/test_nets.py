"""Nets of every family: M models at once are each its module, and each is a representation with a head."""

from __future__ import annotations

import json
import re
from dataclasses import replace
from typing import Any, get_args

import pytest
import torch
from pydantic import TypeAdapter
from torch import nn

from privfed.architectures.lstm import Recurrent
from privfed.nets import (
    Family,
    NetSpec,
    build,
    feature_width,
    features,
    forward,
    head_names,
    head_of,
    head_spec,
    initial,
    module_of,
    parameter_shapes,
    representation_of,
)
from privfed.randomness import Stream
from privfed.training import predict
from tests.privfed.architectures.specs import (
    SPECS,
    assert_exact,
    batches,
    by_module,
    doubled,
    every_spec,
    models,
)

CONVNET = NetSpec("convnet", channels=1, size=8, classes=10, width=8, depth=2)
MLP = NetSpec("mlp", channels=1, size=8, classes=10, width=16, depth=1)
CNN = NetSpec("cnn", channels=1, size=16, classes=3, hidden=(3, 4, 6, 5))
LSTM = NetSpec("lstm", channels=3, size=4, classes=2, hidden=(5, 6))
LINEAR = NetSpec("linear", channels=1, size=1, classes=4, width=6)


def test_every_family_is_among_the_cases() -> None:
    assert {spec.family for spec in SPECS} == set(get_args(Family))


# One model and many.


@every_spec
@pytest.mark.parametrize("count", [1, 3])
def test_each_model_of_a_stack_is_its_module(spec: NetSpec, count: int) -> None:
    """In float64, where the two orders of summation differ by rounding only."""
    nets, inputs = models(spec, count), batches(spec, count, 5)
    logits = forward(spec, doubled(nets), inputs)
    assert logits.shape == (count, 5, spec.classes)
    for m, params in enumerate(nets):
        assert_exact(logits[m], by_module(spec, params, inputs[m]))


@every_spec
def test_a_model_does_not_depend_on_what_is_stacked_beside_it(spec: NetSpec) -> None:
    nets, inputs = models(spec, 3), batches(spec, 3, 4)
    together = forward(spec, doubled(nets), inputs)
    for m, net in enumerate(nets):
        alone = forward(spec, doubled([net]), inputs[m : m + 1])
        assert_exact(together[m], alone[0])


@every_spec
def test_gradients_are_those_of_the_module(spec: NetSpec) -> None:
    nets, inputs = models(spec, 2), batches(spec, 2, 4)
    params = {k: v.requires_grad_() for k, v in doubled(nets).items()}
    forward(spec, params, inputs).square().sum().backward()
    for m, net in enumerate(nets):
        module = module_of(spec, net).double()
        module(inputs[m]).square().sum().backward()
        for name, value in module.named_parameters():
            stacked = params[name].grad
            assert stacked is not None
            torch.testing.assert_close(stacked[m], value.grad, rtol=1e-9, atol=1e-9)


@every_spec
def test_no_inputs_give_no_logits(spec: NetSpec) -> None:
    params = models(spec, 2)
    assert forward(spec, doubled(params), batches(spec, 2, 0)).shape == (2, 0, spec.classes)
    assert predict(spec, params[0], torch.empty(0, *spec.input_shape)).shape == (0, spec.classes)


def test_prediction_does_not_depend_on_the_batch_size() -> None:
    (net,) = models(CONVNET, 1)
    images = batches(CONVNET, 1, 7)[0].float()
    whole = predict(CONVNET, net, images)
    assert whole.shape == (7, 10)
    # float32: another batch size may choose another kernel.
    torch.testing.assert_close(predict(CONVNET, net, images, batch=3), whole)


# A representation and a head.


@every_spec
def test_the_head_on_the_features_is_the_whole_net(spec: NetSpec) -> None:
    nets, inputs = doubled(models(spec, 2)), batches(spec, 2, 3)
    seen = features(spec, representation_of(spec, nets), inputs)
    assert seen.shape == (2, 3, feature_width(spec))
    head = dict(zip(("0.weight", "0.bias"), head_of(spec, nets).values(), strict=True))
    assert_exact(forward(head_spec(spec), head, seen), forward(spec, nets, inputs))


@every_spec
def test_features_are_what_the_modules_last_layer_reads(spec: NetSpec) -> None:
    (net,), inputs = models(spec, 1), batches(spec, 1, 3)
    *body, head = module_of(spec, net).double().children()
    assert isinstance(head, nn.Linear)
    with torch.no_grad():
        assert_exact(features(spec, doubled([net]), inputs)[0], nn.Sequential(*body)(inputs[0]))


@every_spec
def test_head_and_representation_part_the_parameters(spec: NetSpec) -> None:
    (net,) = models(spec, 1)
    head, representation = head_of(spec, net), representation_of(spec, net)
    assert head.keys().isdisjoint(representation)
    assert [*representation, *head] == list(net), "in order, the head last"
    assert tuple(head) == head_names(spec)
    assert all(net[name] is value for name, value in {**head, **representation}.items())
    shapes = [tuple(value.shape) for value in head.values()]
    assert shapes == [(spec.classes, feature_width(spec)), (spec.classes,)]
    assert list(parameter_shapes(head_spec(spec)).values()) == shapes


def test_a_head_alone_has_no_representation() -> None:
    (net,) = models(LINEAR, 1)
    assert representation_of(LINEAR, net) == {}
    assert head_spec(LINEAR) == LINEAR


# What a spec says.


@pytest.mark.parametrize(
    ("spec", "shape", "width"),
    [
        (CONVNET, (1, 8, 8), 8 * 2 * 2),
        (replace(MLP, channels=3), (3, 8, 8), 16),
        (CNN, (1, 16, 16), 5),
        (LSTM, (4, 3), 6),
        (LINEAR, (6,), 6),
    ],
    ids=["convnet", "mlp", "cnn", "tokens by dimension", "features"],
)
def test_shapes_of_one_record_and_of_its_features(spec: NetSpec, shape: tuple[int, ...], width: int) -> None:
    assert spec.input_shape == shape
    assert feature_width(spec) == width


@every_spec
def test_shapes_are_those_of_the_parameters(spec: NetSpec) -> None:
    (net,) = models(spec, 1)
    assert parameter_shapes(spec) == {name: tuple(value.shape) for name, value in net.items()}
    assert list(parameter_shapes(spec)) == list(net)


def test_shapes_of_a_net_that_no_memory_holds() -> None:
    """Ten to the eighteenth weights, which a description from outside may well ask for."""
    vast = NetSpec("mlp", channels=1, size=1, classes=2, width=10**9, depth=2)
    assert parameter_shapes(vast)["3.weight"] == (10**9, 10**9)


@every_spec
def test_a_spec_is_plain_values(spec: NetSpec) -> None:
    """As manifests of transcripts write and read it."""
    text = json.dumps(spec.to_json())
    assert TypeAdapter(NetSpec).validate_json(text) == spec


# Weights.


@every_spec
def test_weights_come_from_the_generator_alone(spec: NetSpec) -> None:
    torch.manual_seed(0)
    first = initial(spec, Stream(3).torch())
    torch.manual_seed(1)
    second, other = initial(spec, Stream(3).torch()), initial(spec, Stream(4).torch())
    assert all(torch.equal(first[k], second[k]) for k in first)
    assert any(not torch.equal(first[k], other[k]) for k in first)
    before = torch.get_rng_state()
    module_of(spec, first)
    assert torch.equal(torch.get_rng_state(), before), "the global generator is nobody's"


@every_spec
def test_weights_follow_pytorchs_default_distributions(spec: NetSpec) -> None:
    """Uniform within one over the root of the fan-in, which for a recurrent cell is its units."""
    layers = [
        m for m in build(spec, Stream(0).torch()).modules() if next(m.parameters(False), None) is not None
    ]
    for layer in layers:
        if isinstance(layer, nn.GroupNorm):
            continue
        weight = layer.weight_hh if isinstance(layer, Recurrent) else layer.weight
        assert isinstance(weight, torch.Tensor)
        bound = weight[0].numel() ** -0.5
        drawn = torch.cat([p.flatten() for p in layer.parameters()])
        assert drawn.abs().max() <= bound
        assert drawn.abs().max() > 0.8 * bound, "at least 24 draws: missed once in 200 layers"


@every_spec
def test_a_module_carries_a_copy(spec: NetSpec) -> None:
    (net,) = models(spec, 1)
    module = module_of(spec, net)
    name, value = next(iter(module.named_parameters()))
    with torch.no_grad():
        value.add_(1)
    assert not torch.equal(net[name], value)
    assert all(not v.requires_grad for v in net.values())


# Refusals.


@pytest.mark.parametrize(
    ("spec", "change", "message"),
    [
        (
            CONVNET,
            {"family": "resnet"},
            "expected family to be one of convnet, mlp, cnn, lstm, linear, got family='resnet'",
        ),
        *((CONVNET, {k: 0}, f"expected {k} >= 1, got {k}=0") for k in ("channels", "size", "classes")),
        *((LINEAR, {k: -1}, f"expected {k} >= 1, got {k}=-1") for k in ("width", "depth", "groups")),
        (CONVNET, {"depth": 4}, "expected depth <= log2(size=8), got depth=4"),
        (CONVNET, {"width": 6}, "expected width divisible by groups=4, got width=6"),
        (CNN, {"hidden": (1, 2, 3)}, "expected 4 hidden sizes for family 'cnn', got hidden=(1, 2, 3)"),
        (CNN, {"hidden": ()}, "expected 4 hidden sizes for family 'cnn', got hidden=()"),
        (LSTM, {"hidden": (4,)}, "expected 2 hidden sizes for family 'lstm', got hidden=(4,)"),
        (CONVNET, {"hidden": (4,)}, "expected no hidden sizes for family 'convnet', got hidden=(4,)"),
        (LINEAR, {"hidden": (4,)}, "expected no hidden sizes for family 'linear', got hidden=(4,)"),
        (MLP, {"hidden": (4, 0)}, "expected hidden sizes >= 1, got hidden=(4, 0)"),
        (LSTM, {"hidden": (-1, 4)}, "expected hidden sizes >= 1, got hidden=(-1, 4)"),
        (CNN, {"size": 15}, "expected images of at least 16 pixels a side for a cnn, got size=15"),
    ],
)
def test_an_architecture_that_cannot_be_built(spec: NetSpec, change: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=f"^{re.escape(message)}$"):
        replace(spec, **change)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"1.bias": None}, "expected 1.bias of shape (16,), got 1.bias=None"),
        ({"1.bias": torch.zeros(2)}, "expected 1.bias of shape (16,), got 1.bias=(2,)"),
        ({"extra": torch.zeros(2)}, "expected extra of shape None, got extra=(2,)"),
    ],
    ids=["missing", "shape", "extra"],
)
def test_weights_of_another_architecture(change: dict[str, torch.Tensor | None], message: str) -> None:
    net = {name: v for name, v in {**models(MLP, 1)[0], **change}.items() if v is not None}
    with pytest.raises(ValueError, match=f"^{re.escape(message)}$"):
        module_of(MLP, net)
