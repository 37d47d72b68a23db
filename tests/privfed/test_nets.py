"""Reference nets: the stacked function is the module, model by model, and sizes are as published."""

from __future__ import annotations

import json
from dataclasses import replace
from typing import Any

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor, nn

from privfed.architectures.convnet import LARGEST_POOL_MATRIX
from privfed.nets import NetSpec, Params, build, forward, initial, module_of
from privfed.randomness import Stream
from privfed.training import predict, stack

CONVNET = NetSpec("convnet", channels=1, size=8, classes=10, width=8, depth=2)
MLP = NetSpec("mlp", channels=1, size=8, classes=10, width=16, depth=1)
SPECS = [
    CONVNET,
    MLP,
    NetSpec("convnet", channels=3, size=9, classes=4, width=8, depth=3),
    NetSpec("convnet", channels=2, size=7, classes=3, width=4, depth=1, groups=2),
    NetSpec("convnet", channels=1, size=17, classes=5, width=4, depth=2),
    NetSpec("mlp", channels=3, size=5, classes=4, width=7, depth=3),
]
every_spec = pytest.mark.parametrize("spec", SPECS, ids=str)


def models(spec: NetSpec, count: int) -> list[Params]:
    return [initial(spec, Stream(m).torch()) for m in range(count)]


def batches(spec: NetSpec, count: int, n: int, seed: int = 0) -> Tensor:
    shape = (count, n, spec.channels, spec.size, spec.size)
    return torch.rand(shape, generator=Stream(seed, ("inputs",)).torch(), dtype=torch.float64) * 2 - 1


def by_module(spec: NetSpec, params: Params, images: Tensor) -> Tensor:
    module = module_of(spec, params).double()
    with torch.no_grad():
        logits: Tensor = module(images)
    return logits


def doubled(params: list[Params]) -> Params:
    return {name: value.double() for name, value in stack(params).items()}


@every_spec
def test_each_model_of_a_stack_is_its_module(spec: NetSpec) -> None:
    """In float64, where the two orders of summation differ by rounding only."""
    nets, images = models(spec, 3), batches(spec, 3, 5)
    logits = forward(spec, doubled(nets), images)
    assert logits.shape == (3, 5, spec.classes)
    for m, params in enumerate(nets):
        torch.testing.assert_close(logits[m], by_module(spec, params, images[m]), rtol=1e-10, atol=1e-10)


@given(
    size=st.integers(4, 11),
    depth=st.integers(1, 2),
    channels=st.integers(1, 3),
    width=st.sampled_from([4, 8]),
    groups=st.sampled_from([1, 2, 4]),
)
def test_any_convnet_is_its_module(size: int, depth: int, channels: int, width: int, groups: int) -> None:
    spec = NetSpec("convnet", channels, size, classes=3, width=width, depth=depth, groups=groups)
    nets, images = models(spec, 2), batches(spec, 2, 2)
    logits = forward(spec, doubled(nets), images)
    for m, params in enumerate(nets):
        torch.testing.assert_close(logits[m], by_module(spec, params, images[m]), rtol=1e-10, atol=1e-10)


def test_large_maps_are_pooled_the_same_way() -> None:
    spec = replace(CONVNET, size=19)
    assert spec.size**2 > LARGEST_POOL_MATRIX > (spec.size // 2) ** 2
    (net,), images = models(spec, 1), batches(spec, 1, 2)
    logits = forward(spec, doubled([net]), images)
    torch.testing.assert_close(logits[0], by_module(spec, net, images[0]), rtol=1e-10, atol=1e-10)


@every_spec
def test_gradients_are_those_of_the_module(spec: NetSpec) -> None:
    nets, images = models(spec, 2), batches(spec, 2, 4)
    params = {k: v.requires_grad_() for k, v in doubled(nets).items()}
    forward(spec, params, images).square().sum().backward()
    for m, net in enumerate(nets):
        module = module_of(spec, net).double()
        module(images[m]).square().sum().backward()
        for name, value in module.named_parameters():
            stacked = params[name].grad
            assert stacked is not None
            torch.testing.assert_close(stacked[m], value.grad, rtol=1e-9, atol=1e-9)


@every_spec
def test_no_images_give_no_logits(spec: NetSpec) -> None:
    params = models(spec, 2)
    assert forward(spec, doubled(params), batches(spec, 2, 0)).shape == (2, 0, spec.classes)
    nothing = torch.empty(0, spec.channels, spec.size, spec.size)
    assert predict(spec, params[0], nothing).shape == (0, spec.classes)


def test_prediction_does_not_depend_on_the_batch_size() -> None:
    (net,) = models(CONVNET, 1)
    images = batches(CONVNET, 1, 7)[0].float()
    whole = predict(CONVNET, net, images)
    assert whole.shape == (7, 10)
    # float32: another batch size may choose another kernel.
    torch.testing.assert_close(predict(CONVNET, net, images, batch=3), whole)


@pytest.mark.parametrize(
    ("spec", "count"),
    [
        # Published counts hold for 32 x 32 inputs, to which Fashion-MNIST is padded there; at its own
        # 28 x 28 the last map is 3 x 3 and the head smaller.
        (NetSpec("convnet", channels=1, size=32, classes=10, width=16, depth=3), 7_466),
        (NetSpec("convnet", channels=1, size=28, classes=10, width=16, depth=3), 6_346),
        (NetSpec("convnet", channels=3, size=32, classes=10, width=16, depth=3), 7_754),
        (NetSpec("convnet", channels=1, size=32, classes=10, width=64, depth=3), 85_130),
        (NetSpec("convnet", channels=3, size=32, classes=10, width=64, depth=3), 86_282),
        (NetSpec("convnet", channels=3, size=32, classes=10, width=128, depth=3), 320_010),
        (NetSpec("mlp", channels=1, size=28, classes=10, width=64, depth=1), 784 * 64 + 64 + 640 + 10),
    ],
)
def test_parameter_counts(spec: NetSpec, count: int) -> None:
    assert sum(v.numel() for v in models(spec, 1)[0].values()) == count


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
    """Uniform within one over the root of the fan-in; normalisation starts as the identity."""
    layers = [m for m in build(spec, Stream(0).torch()).modules() if isinstance(m, (nn.Conv2d, nn.Linear))]
    for layer in layers:
        bound = layer.weight[0].numel() ** -0.5
        assert layer.weight.abs().max() <= bound
        assert layer.weight.abs().max() > 0.8 * bound, "at least 28 draws: missed once in 500 layers"
        assert layer.bias is None or layer.bias.abs().max() <= bound
    norms = [m for m in build(spec, Stream(0).torch()).modules() if isinstance(m, nn.GroupNorm)]
    assert all((m.weight == 1).all() and (m.bias == 0).all() for m in norms)


@every_spec
def test_a_module_carries_a_copy(spec: NetSpec) -> None:
    (net,) = models(spec, 1)
    module = module_of(spec, net)
    name, value = next(iter(module.named_parameters()))
    with torch.no_grad():
        value.add_(1)
    assert not torch.equal(net[name], value)
    assert all(not v.requires_grad for v in net.values())


def test_a_spec_is_plain_values() -> None:
    assert NetSpec(**json.loads(json.dumps(CONVNET.to_json()))) == CONVNET


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"family": "resnet"}, "expected family 'convnet' or 'mlp', got family='resnet'"),
        ({"channels": 0}, "expected channels >= 1, got channels=0"),
        ({"classes": -1}, "expected classes >= 1, got classes=-1"),
        ({"depth": 4}, r"expected depth <= log2\(size=8\), got depth=4"),
        ({"width": 6}, "expected width divisible by groups=4, got width=6"),
    ],
)
def test_an_architecture_that_cannot_be_built(change: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        replace(CONVNET, **change)


@pytest.mark.parametrize("change", ["missing", "extra", "shape"])
def test_weights_of_another_architecture(change: str) -> None:
    net = dict(models(MLP, 1)[0])
    if change == "missing":
        del net["1.bias"]
    else:
        net["extra" if change == "extra" else "1.bias"] = torch.zeros(2)
    name = "extra" if change == "extra" else "1.bias"
    with pytest.raises(ValueError, match=rf"expected {name} of shape .*, got {name}="):
        module_of(MLP, net)
