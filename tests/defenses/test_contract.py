"""What every defence owes, found by walking the folder: a new file needs one example below."""

from __future__ import annotations

import importlib
import inspect
import json
import pkgutil
import re
import sys
from dataclasses import asdict, fields, is_dataclass, replace
from pathlib import Path
from typing import Any

import pytest
import torch

import defenses
from audits.catalogue import snake
from defenses.dp_fedavg import DpFedAvg
from defenses.dp_sgd import DpSgd
from defenses.label_smoothing import LabelSmoothing
from defenses.local_noise import LocalNoise
from defenses.mixup import MixUp
from defenses.model_inspection import ModelInspection
from defenses.noisy_latents import NoisyLatents
from defenses.noisy_logits import NoisyLogits
from defenses.noisy_sum import NoisySum
from defenses.quantisation import Quantisation
from defenses.random_k import RandomK
from defenses.rounded_confidences import RoundedConfidences
from defenses.secure_aggregation import SecureAggregation
from defenses.soteria import Soteria
from defenses.top_k import TopK
from privfed.answers import weights_of
from privfed.claims import Assumption, Claim
from privfed.hooks import Hooks, Spent, after, apply_local
from privfed.ledger import Ledger, claims
from privfed.nets import NetSpec, Params, initial
from privfed.randomness import Stream
from privfed.records import Records
from privfed.release import Release
from privfed.training import Recipe, Task, train

BOUNDARIES = ("adapt", "train", "uplink", "aggregate", "release")
EXAMPLES = (
    DpSgd(noise_multiplier=1.0, clip=1.0, sampling_rate=0.5, steps=3, expected_batch=4.0, lr=0.1),
    DpSgd(noise_multiplier=0.0, clip=1.0, sampling_rate=0.5, steps=3, expected_batch=4.0, lr=0.1),
    DpSgd(1.0, 1.0, 0.5, 3, 4.0, 0.1, clipping="per_layer"),
    DpSgd(1.0, 1.0, 0.5, 3, 4.0, 0.1, clipping="adaptive", count_noise=2.0),
    DpSgd(1.0, 1.0, 0.5, 3, 4.0, 0.1, clipping="ghost", largest_batch=2),
    Soteria(share=0.5),
    LocalNoise(noise_multiplier=1.0, clip=1.0),
    LocalNoise(noise_multiplier=0.0, clip=1.0),
    NoisySum(noise_multiplier=1.0),
    NoisySum(noise_multiplier=0.0),
    TopK(keep=0.1),
    RandomK(keep=0.1),
    RandomK(keep=0.1, rescale=False),
    Quantisation(bits=2),
    DpFedAvg(noise_multiplier=1.0, clip=1.0, expected_clients=3.0),
    DpFedAvg(noise_multiplier=1.0, clip=1.0, expected_clients=3.0, client_rate=0.5),
    DpFedAvg(noise_multiplier=0.0, clip=1.0, expected_clients=3.0),
    SecureAggregation(minimum=2),
    LabelSmoothing(smoothing=-0.1),
    MixUp(alpha=0.4),
    ModelInspection(),
    RoundedConfidences(decimals=2),
    NoisyLogits(deviation=0.5),
    NoisyLatents(deviation=0.5),
)
NONE_AT_ANY_SETTING = (
    Soteria,
    TopK,
    RandomK,
    Quantisation,
    SecureAggregation,
    LabelSmoothing,
    MixUp,
    ModelInspection,
    RoundedConfidences,
    NoisyLogits,
    NoisyLatents,
)
SPEC = NetSpec("mlp", channels=1, size=4, classes=3, width=6, depth=1)


def found() -> list[type]:
    modules = [
        importlib.import_module(f"defenses.{m.name}")
        for m in pkgutil.iter_modules(defenses.__path__)
        if not m.name.startswith("_")
    ]
    classes = [
        c for m in modules for _, c in inspect.getmembers(m, inspect.isclass) if c.__module__ == m.__name__
    ]
    return [c for c in classes if any(hasattr(c, boundary) for boundary in BOUNDARIES)]


def task(start: Params, stream: Stream) -> Task:
    images = torch.rand(9, 1, 4, 4, generator=torch.Generator().manual_seed(0))
    return Task(SPEC, start, Records(images, torch.arange(9) % 3), Recipe(1, 3, 0.1), stream)


def act(defense: Any, boundary: str, stream: Stream) -> Spent[Any]:
    start = initial(SPEC, torch.Generator().manual_seed(0))
    moved = {name: p + 0.1 for name, p in start.items()}
    match boundary:
        case "adapt":
            return apply_local(Hooks(tasks=(defense,)), [task(start, stream)], train)[0]
        case "train":
            return defense.train(task(start, stream))  # type: ignore[no-any-return]
        case "uplink":
            return defense.uplink(start, moved, stream)  # type: ignore[no-any-return]
        case "aggregate":
            return defense.aggregate(moved, 3, stream)  # type: ignore[no-any-return]
        case _:
            release = Release(0, "server", "public", "weights", "large", moved)
            return defense.release(release, stream)  # type: ignore[no-any-return]


def tensors(value: Any) -> dict[str, torch.Tensor]:
    return weights_of(value) if isinstance(value, Release) else dict(value)


def cases() -> list[Any]:
    return [
        pytest.param(example, boundary, id=f"{type(example).__name__}-{index}-{boundary}")
        for index, example in enumerate(EXAMPLES)
        for boundary in BOUNDARIES
        if hasattr(example, boundary)
    ]


@pytest.mark.parametrize("kind", found())
def test_a_defence_is_a_frozen_dataclass_with_an_example_here(kind: Any) -> None:
    assert is_dataclass(kind)
    assert vars(kind)["__dataclass_params__"].frozen
    assert any(type(example) is kind for example in EXAMPLES)


def test_every_defence_has_its_row_and_its_sentence_in_the_documentation() -> None:
    text = (Path(__file__).parents[2] / "docs" / "defences.md").read_text(encoding="utf-8")
    named = {snake(kind.__name__) for kind in found()}
    assert set(re.findall(r"^\| `(\w+)` \|", text, re.MULTILINE)) == named
    assert set(re.findall(r"^- \*\*`(\w+)`\*\*", text, re.MULTILINE)) == named


@pytest.mark.parametrize(("defense", "boundary"), cases())
def test_the_same_stream_gives_the_same_result_and_leaves_its_input_alone(
    defense: Any, boundary: str
) -> None:
    first, second = (act(defense, boundary, Stream(3)) for _ in range(2))
    assert first.checked == second.checked
    assert repr(first.event) == repr(second.event)
    for name, value in tensors(first.value).items():
        assert torch.equal(value, tensors(second.value)[name])
        assert not value.requires_grad


@pytest.mark.parametrize(("defense", "boundary"), cases())
def test_names_and_shapes_stay_as_they_are(defense: Any, boundary: str) -> None:
    shapes = {name: p.shape for name, p in initial(SPEC, torch.Generator().manual_seed(0)).items()}
    value = act(defense, boundary, Stream(3)).value
    assert {name: p.shape for name, p in tensors(value).items()} == shapes


def entered(spent: Spent[Any], boundary: str) -> Ledger:
    match boundary:
        case "aggregate":
            return Ledger().spend_on_sum([0], spent, Stream(3))
        case "release":
            return Ledger().publish(spent, Stream(3))
        case _:
            return Ledger().spend(0, spent, Stream(3))


@pytest.mark.parametrize(("defense", "boundary"), cases())
def test_a_claim_is_earned_with_verified_assumptions_or_there_is_none(defense: Any, boundary: str) -> None:
    spent = act(defense, boundary, Stream(3))
    if spent.needs:
        assert not any(c.verified for c in claims(entered(spent, boundary), 1e-5, accountant="rdp"))
    elsewhere = tuple(Assumption(name, True, "checked elsewhere") for name in spent.needs)
    spent = replace(spent, checked=spent.checked + elsewhere)
    earned = claims(entered(spent, boundary), 1e-5, accountant="rdp")
    assert len(earned) == len(spent.charges)
    for one in earned:
        assert isinstance(one, Claim)
        assert one.verified
        assert len(one.assumptions) > 1
        assert json.loads(json.dumps(asdict(one)))["epsilon"] == one.epsilon, "it can be kept"


@pytest.mark.parametrize(("defense", "boundary"), cases())
def test_without_an_event_nothing_else_makes_a_claim(defense: Any, boundary: str) -> None:
    """Not what was checked, not what was said, not being done many times or beside the others."""
    spent = act(defense, boundary, Stream(3))
    if spent.charges:
        return
    talk = Spent(spent.value, None, (Assumption("noise of the stated size", True, "it is"),), ("a caveat",))
    both = after(spent, talk)
    assert both.event is None
    ledger = Ledger(hidden=True)
    for round in range(3):
        ledger = ledger.spend(0, both, Stream(round)).spend_on_sum([0], both, Stream(round))
        ledger = ledger.publish(both, Stream(round))
    assert claims(ledger, 1e-5, accountant="rdp") == ()


@pytest.mark.parametrize("kind", found())
def test_what_never_gives_a_guarantee_says_so_and_takes_no_epsilon(kind: Any) -> None:
    spent = [act(e, b.values[1], Stream(3)) for b in cases() if type(e := b.values[0]) is kind]
    silent = not any(s.charges for s in spent)
    if kind in NONE_AT_ANY_SETTING:
        assert silent
    if silent:
        said = re.search(r"no claim|no guarantee", inspect.getdoc(kind) or "")
        assert said or "no guarantee" in (sys.modules[kind.__module__].__doc__ or "")
        assert not hasattr(kind, "for_epsilon")


@pytest.mark.parametrize("example", EXAMPLES)
def test_numeric_fields_refuse_what_is_not_a_number(example: Any) -> None:
    for knob in fields(example):
        value = getattr(example, knob.name)
        if isinstance(value, float):
            with pytest.raises(ValueError, match=rf"expected .*{knob.name}.*, got {knob.name}=nan"):
                type(example)(
                    **{f.name: getattr(example, f.name) for f in fields(example)} | {knob.name: float("nan")}
                )
