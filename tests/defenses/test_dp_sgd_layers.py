"""What DP-SGD makes of layers: those that mix records, those of this project, and a head by itself."""

from __future__ import annotations

from typing import get_args

import pytest
import torch
from torch import Tensor, nn

from defenses import _dp_witness, dp_sgd
from defenses._dp_witness import separate
from defenses.dp_sgd import DpSgd
from privfed.claims import Assumption
from privfed.hooks import Spent
from privfed.nets import Family, NetSpec, Params, head_names, head_of, head_spec, initial, module_of
from privfed.randomness import Stream
from privfed.records import Records
from privfed.training import Recipe, Task, represent
from tests.privfed.architectures.specs import SPECS, every_spec

MLP = NetSpec("mlp", channels=1, size=4, classes=3, hidden=(6, 5))
NOISY = DpSgd(noise_multiplier=1.0, clip=1.0, sampling_rate=0.5, steps=6, expected_batch=5.0, lr=0.5)
APART = "no layer mixes records"


class Centred(nn.Module):
    """A layer without parameters that takes the batch's mean off."""

    def forward(self, x: Tensor) -> Tensor:
        return x - x.mean(0)


class Running(nn.Module):
    """Every record sees the records before it, and none after it."""

    def forward(self, x: Tensor) -> Tensor:
        return x.cumsum(0)


MIXING = [Centred(), Running(), nn.BatchNorm1d(6, affine=False, track_running_stats=False)]
every_mixing_layer = pytest.mark.parametrize("layer", MIXING, ids=lambda m: type(m).__name__)


def task(spec: NetSpec, n: int = 9, frozen: tuple[str, ...] = ()) -> Task:
    generator = Stream(n, ("records",)).torch()
    inputs = torch.randn(n, *spec.input_shape, generator=generator)
    labels = torch.randint(spec.classes, (n,), generator=generator)
    start = initial(spec, Stream(1).torch())
    return Task(spec, start, Records(inputs, labels), Recipe(1, 10, 0.1), Stream(2), frozen)


def mixed(layer: nn.Module) -> nn.Module:
    """The same names of parameters as MLP's, with a layer in the place of the first ReLU."""
    return nn.Sequential(nn.Flatten(), nn.Linear(16, 6), layer, nn.Linear(6, 5), nn.ReLU(), nn.Linear(5, 3))


def failed(spent: Spent[Params]) -> set[str]:
    return {a.name for a in spent.checked if not a.verified}


# Layers that mix records.


@pytest.mark.parametrize("frozen", [(), ("1.weight", "1.bias")], ids=["trained", "frozen"])
def test_batch_norm_is_refused_frozen_or_not(
    frozen: tuple[str, ...], monkeypatch: pytest.MonkeyPatch
) -> None:
    with_norm = nn.Sequential(nn.Flatten(), nn.BatchNorm1d(16), nn.Linear(16, 3))
    monkeypatch.setattr(dp_sgd, "module_of", lambda spec, params: with_norm)
    with pytest.raises(ValueError, match=r"^expected a net whose layers keep records apart, got spec="):
        NOISY.train(task(MLP, frozen=frozen))


@every_mixing_layer
def test_a_mixing_layer_that_opacus_lets_pass_is_seen(
    layer: nn.Module, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(dp_sgd, "module_of", lambda spec, params: mixed(layer))
    spent = NOISY.train(task(MLP))
    assert failed(spent) == {APART}
    assert "an output has a gradient in another record" in {a.name: a.evidence for a in spent.checked}[APART]


def test_weights_that_are_not_numbers_prove_nothing() -> None:
    module = mixed(nn.ReLU())
    assert separate(module, MLP.input_shape).verified
    with torch.no_grad():
        next(module.parameters()).fill_(torch.nan)
    assert not separate(module, MLP.input_shape).verified


def test_every_family_is_among_the_cases() -> None:
    assert {s.family for s in SPECS} == set(get_args(Family))


@every_spec
def test_nets_of_this_project_keep_records_apart(spec: NetSpec) -> None:
    module = module_of(spec, initial(spec, Stream(0).torch())).train()
    found = separate(module, spec.input_shape)
    kinds = ", ".join(sorted({type(m).__name__ for m in module.modules() if list(m.parameters(False))}))
    text = (
        f"Opacus accepts every layer: {kinds}; on made-up records no output has a gradient in another record"
    )
    assert found == Assumption(APART, True, text)
    assert all(p.grad is None for p in module.parameters())


@pytest.mark.parametrize("frozen", [(), head_names(MLP)], ids=["whole", "without the head"])
def test_looking_leaves_the_training_as_it_is(
    frozen: tuple[str, ...], monkeypatch: pytest.MonkeyPatch
) -> None:
    looked = NOISY.train(task(MLP, frozen=frozen)).value
    monkeypatch.setattr(_dp_witness, "_keeps_apart", lambda module, shape: True)
    plain = NOISY.train(task(MLP, frozen=frozen)).value
    assert all(torch.equal(looked[k], plain[k]) for k in plain)


# A head by itself.


@pytest.mark.parametrize(
    "spec", [s for s in SPECS if s.family != "linear"], ids=lambda s: f"{s.family}-{s.size}"
)
def test_a_head_on_features_trains_as_the_net_with_a_frozen_representation(spec: NetSpec) -> None:
    """Same stream: the same records in each step and the same noise, on the same clipped sums."""
    head = head_names(spec)
    whole = task(spec, frozen=tuple(k for k in task(spec).start if k not in head))
    features = represent(spec, whole.start, whole.records.inputs)
    start = dict(zip(("0.weight", "0.bias"), head_of(spec, whole.start).values(), strict=True))
    alone = Task(head_spec(spec), start, Records(features, whole.records.labels), whole.recipe, whole.stream)
    a, b = NOISY.train(whole), NOISY.train(alone)
    for mine, theirs in zip(head_of(spec, a.value).values(), b.value.values(), strict=True):
        torch.testing.assert_close(mine, theirs, rtol=1e-4, atol=1e-5)
    assert repr(a.event) == repr(b.event)
    assert not failed(a) | failed(b)
