"""What every attack that asks for the data themselves keeps, found by walking the package."""

from __future__ import annotations

import dataclasses
import inspect
from typing import Any

import numpy as np
import pytest
import torch

from attacks.interface import (
    AttributeAttack,
    Floats,
    Inference,
    Known,
    PropertyAttack,
    Reconstruction,
    ReconstructionAttack,
)
from privfed.nets import NetSpec, initial
from privfed.randomness import Stream
from privfed.records import Records
from privfed.release import CLIENTS, PUBLIC, SERVER, Observer, Release, Transcript, View, client_name
from privfed.training import Recipe, Task, train
from tests.attacks.test_contract import discovered

REBUILDS: list[type[ReconstructionAttack]] = list(discovered("reconstruct"))
INFERS: list[type[PropertyAttack]] = list(discovered("infer"))
GUESSES: list[type[AttributeAttack]] = list(discovered("guess"))
EVERY: list[type[Any]] = [*REBUILDS, *INFERS, *GUESSES]
SPEC = NetSpec("mlp", channels=1, size=4, classes=3, width=8, depth=1)
CHEAP = {
    "iterations": 3, "restarts": 1, "steps": 3, "records": 2, "samples": 8, "starts": 2, "fitting": 3
}  # fmt: skip
"""Small budgets, for the knobs of that name that an attack has."""

every_class = pytest.mark.parametrize("attack", EVERY, ids=lambda c: c.__name__)


def made(attack: type[Any]) -> Any:
    """The attack with a small budget where it has one."""
    names = {f.name: f for f in dataclasses.fields(attack)}
    default = attack()
    fields: dict[str, Any] = {
        name: value
        for name, value in CHEAP.items()
        if name in names and isinstance(getattr(default, name), int) and getattr(default, name) > value
    }
    budget = getattr(default, "budget", None)
    if budget is not None:
        fields["budget"] = dataclasses.replace(budget, iterations=CHEAP["iterations"], restarts=1)
    return dataclasses.replace(default, **fields)


def noise(n: int, seed: int) -> Records:
    generator = torch.Generator().manual_seed(seed)
    images = torch.rand(n, 1, 4, 4, generator=generator) * 2 - 1
    return Records(images, torch.arange(n) % SPEC.classes)


def known() -> Known:
    return Known(noise(30, 1), noise(12, 2))


def view(*releases: Release) -> View:
    return Transcript(releases, {"surrogate": SPEC, "large": SPEC}).view(Observer("server"))


def federation() -> View:
    """Two clients, one round of FedAvg, and what is published: a model and a set."""
    start = initial(SPEC, torch.Generator().manual_seed(0))
    streams = [Stream(5).child(k) for k in range(2)]
    recipe = Recipe(epochs=1, batch=4, lr=0.1)
    trained = train([Task(SPEC, start, noise(4, 10 + k), recipe, streams[k]) for k in range(2)])
    updates = [Release(0, client_name(k), SERVER, "weights", "update", p, k) for k, p in enumerate(trained)]
    large = Release(1, SERVER, PUBLIC, "weights", "large", trained[0])
    made = {"inputs": noise(6, 20).inputs, "labels": noise(6, 20).labels}
    synthetic = Release(1, SERVER, PUBLIC, "synthetic", "synthetic", made)
    return view(Release(0, SERVER, CLIENTS, "weights", "surrogate", start), *updates, large, synthetic)


def asked(attack: Any, seen: View, seed: int) -> Reconstruction | Inference | Floats | None:
    if hasattr(attack, "reconstruct"):
        rebuilt: Reconstruction | None = attack.reconstruct(seen, known(), Stream(seed))
        return rebuilt
    if isinstance(attack, AttributeAttack):
        return attack.guess(seen, noise(5, 30), torch.arange(5) % 2, known(), Stream(seed))
    inferred: Inference | None = attack.infer(seen, known(), Stream(seed))
    return inferred


def test_the_walk_finds_them() -> None:
    assert {"AnalyticInversion", "ReleasedRecords", "MiFace", "Imprint"} <= {c.__name__ for c in REBUILDS}
    assert {"LabelInference", "PropertyInference"} <= {c.__name__ for c in INFERS}
    assert {"AttributeInference"} <= {c.__name__ for c in GUESSES}


@every_class
def test_it_is_a_frozen_documented_value_with_defaults(attack: type[Any]) -> None:
    default = attack()
    assert default == attack()
    assert hash(default) == hash(attack())
    assert "0x" not in repr(default)
    for field in dataclasses.fields(default):
        with pytest.raises(dataclasses.FrozenInstanceError):
            setattr(default, field.name, None)
    assert (attack.__doc__ or "").splitlines()[0].endswith(".")
    module = inspect.getmodule(attack)
    assert module is not None
    assert module.__doc__


@every_class
def test_there_is_nothing_to_say_of_a_view_without_releases(attack: type[Any]) -> None:
    assert asked(made(attack), view(), 0) is None


@every_class
def test_the_same_seed_gives_the_same_answer_of_the_stated_form(attack: type[Any]) -> None:
    first, second = (asked(made(attack), federation(), 3) for _ in range(2))
    if first is None or second is None:
        assert first is second
        return
    if isinstance(first, Inference):
        assert isinstance(second, Inference)
        assert first.values.ndim == 2
        np.testing.assert_array_equal(first.values, second.values)
        return
    if isinstance(first, np.ndarray):
        assert first.shape == (5, attack().attribute.values(SPEC.classes))
        np.testing.assert_array_equal(first, second)
        return
    assert isinstance(second, Reconstruction)
    m = len(first.records)
    assert first.records.inputs.shape == (m, *SPEC.input_shape)
    assert first.clients.shape == (m,)
    assert first.objective.shape == (m,)
    assert first.work >= 0
    assert torch.equal(first.records.inputs, second.records.inputs)
    assert torch.equal(first.records.labels, second.records.labels)
    np.testing.assert_array_equal(first.objective, second.objective)


@pytest.mark.parametrize("attack", GUESSES, ids=lambda c: c.__name__)
def test_what_is_hidden_is_not_read(attack: type[AttributeAttack]) -> None:
    guesser, records = made(attack), noise(5, 30)
    scores = [
        guesser.guess(federation(), r, torch.arange(5) % 2, known(), Stream(3))
        for r in (records, *(guesser.attribute.completed(records, v, known().population) for v in (0, 1)))
    ]
    assert scores[0] is not None
    for other in scores[1:]:
        np.testing.assert_array_equal(scores[0], other)
