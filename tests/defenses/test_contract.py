"""What every defence owes, found by walking the folder: a new file needs one example below."""

from __future__ import annotations

import importlib
import inspect
import pkgutil
from dataclasses import fields, is_dataclass
from typing import Any

import pytest
import torch

import defenses
from defenses.dp_sgd import DpSgd
from privfed.claims import Claim
from privfed.hooks import Spent
from privfed.ledger import Ledger, claim
from privfed.nets import NetSpec, initial
from privfed.randomness import Stream
from privfed.records import Records
from privfed.release import Release
from privfed.training import Recipe, Task

BOUNDARIES = ("train", "uplink", "aggregate", "release")
EXAMPLES = (
    DpSgd(noise_multiplier=1.0, clip=1.0, sampling_rate=0.5, steps=3, expected_batch=4.0, lr=0.1),
    DpSgd(noise_multiplier=0.0, clip=1.0, sampling_rate=0.5, steps=3, expected_batch=4.0, lr=0.1),
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


def act(defense: Any, boundary: str, stream: Stream) -> Spent[Any]:
    start = initial(SPEC, torch.Generator().manual_seed(0))
    moved = {name: p + 0.1 for name, p in start.items()}
    match boundary:
        case "train":
            data = Records(
                torch.rand(9, 1, 4, 4, generator=torch.Generator().manual_seed(0)), torch.arange(9) % 3
            )
            return defense.train(Task(SPEC, start, data, Recipe(1, 3, 0.1), stream))  # type: ignore[no-any-return]
        case "uplink":
            return defense.uplink(start, moved, stream)  # type: ignore[no-any-return]
        case "aggregate":
            return defense.aggregate(moved, 3, stream)  # type: ignore[no-any-return]
        case _:
            release = Release(0, "server", "public", "weights", "large", moved)
            return defense.release(release, stream)  # type: ignore[no-any-return]


def tensors(value: Any) -> dict[str, torch.Tensor]:
    return dict(value.tensors if isinstance(value, Release) else value)


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


@pytest.mark.parametrize(("defense", "boundary"), cases())
def test_a_claim_is_earned_with_verified_assumptions_or_there_is_none(defense: Any, boundary: str) -> None:
    spent = act(defense, boundary, Stream(3))
    earned = claim(Ledger().spend(0, spent, Stream(3)), 1e-5, accountant="rdp")
    assert (earned is None) == (spent.event is None)
    assert earned is None or (isinstance(earned, Claim) and earned.verified and len(earned.assumptions) > 1)


@pytest.mark.parametrize("example", EXAMPLES)
def test_numeric_fields_refuse_what_is_not_a_number(example: Any) -> None:
    for knob in fields(example):
        value = getattr(example, knob.name)
        if isinstance(value, float):
            with pytest.raises(ValueError, match=rf"expected .*{knob.name}.*, got {knob.name}=nan"):
                type(example)(
                    **{f.name: getattr(example, f.name) for f in fields(example)} | {knob.name: float("nan")}
                )
