"""FedAvg with fine-tuning: FedAvg to the bit for everybody else, then what each client makes of it."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace

import pytest
import torch

from privfed.augmentation import Dsa
from privfed.federation import Federation, run
from privfed.nets import head_names, head_of, representation_of
from privfed.pipelines._own_models import UNCOUNTED
from privfed.pipelines.fedavg import FedAvg
from privfed.pipelines.fedavg_fine_tuned import FedAvgFineTuned, Part
from privfed.pipelines.fedprox import FedProx
from privfed.randomness import Stream
from privfed.records import Records
from privfed.training import Engine, Recipe, Task, predict, train
from tests.privfed.pipelines.contract import watched
from tests.privfed.pipelines.worlds import (
    SURROGATE,
    assert_params_close,
    double_precision,
    equal,
    federation,
    noise,
    same,
    updates,
    world,
)

LOCAL = Recipe(epochs=2, batch=4, lr=0.1, momentum=0.5)
TUNING = Recipe(epochs=3, batch=3, lr=0.05, momentum=0.5, weight_decay=1e-3)
FIVE = (4, 3, 5, 4, 3)
every_part = pytest.mark.parametrize("part", ["head", "whole"])


@pytest.fixture(autouse=True)
def _double() -> Iterator[None]:
    with double_precision():
        yield


def tuned(part: Part, rounds: int = 3, tuning: Recipe = TUNING, fraction: float = 1.0) -> FedAvgFineTuned:
    return FedAvgFineTuned(rounds=rounds, local=LOCAL, tuning=tuning, part=part, fraction=fraction)


@every_part
@pytest.mark.parametrize("engine", ["looped", "stacked"])
def test_what_is_released_is_fedavg_of_one_round_less_bit_for_bit(part: Part, engine: Engine) -> None:
    here, of = world(engine=engine), [federation(0, FIVE), federation(1, (4, 7))]
    plain = run(FedAvg(rounds=2, local=LOCAL, fraction=0.6), here, of)
    personal = run(tuned(part, rounds=3, fraction=0.6), here, of)
    for a, b in zip(plain, personal, strict=True):
        assert same(a, b)
        assert a.ledger == b.ledger
        assert equal(a.large, b.large)
        assert a.personal == ()


@every_part
def test_every_client_tunes_the_final_model_on_its_own_records(part: Part) -> None:
    """Also those that never took part before; head or whole, as training through the whole net would."""
    of = federation(0, FIVE)
    (outcome,) = run(tuned(part, fraction=0.2), world(), [of])
    assert len({u.about for u in updates(outcome)}) < 5
    frozen = tuple(representation_of(SURROGATE, outcome.large)) if part == "head" else ()
    for k, (model, records) in enumerate(zip(outcome.personal, of.clients, strict=True)):
        stream = of.stream.child("client", k, 2, "personal")
        (expected,) = train([Task(SURROGATE, outcome.large, records, TUNING, stream, frozen)])
        assert_params_close(model, expected)
        moved = [name for name, v in model.items() if not torch.equal(v, outcome.large[name])]
        assert set(moved) <= set(head_names(SURROGATE)) if part == "head" else len(moved) > 2
        assert set(head_names(SURROGATE)) <= set(moved)


@every_part
def test_until_then_all_use_the_global_model(part: Part) -> None:
    pipeline = tuned(part)
    found = watched(pipeline, federation(0))
    for progress in found.progress[:-1]:
        (state,) = progress.states
        for k, kept in enumerate(progress.kept[0]):
            assert kept == {}
            assert equal(pipeline.personal(world(), state, k, kept), state.surrogate)
    assert found.progress[-1].uploaded == ((),)
    last = set(head_of(SURROGATE, found.outcome.large)) if part == "head" else set(found.outcome.large)
    assert all(set(kept) == last for kept in found.kept)


@every_part
def test_a_tuning_of_no_epochs_leaves_the_global_model(part: Part) -> None:
    (outcome,) = run(tuned(part, tuning=replace(TUNING, epochs=0)), world(), [federation(0)])
    assert all(equal(model, outcome.large) for model in outcome.personal)


@every_part
def test_a_single_round_tunes_the_initial_model(part: Part) -> None:
    (outcome,) = run(tuned(part, rounds=1), world(), [federation(0)])
    assert [r.name for r in outcome.transcript.releases] == ["surrogate", "large"]
    assert not any(equal(model, outcome.large) for model in outcome.personal)


@every_part
def test_augmented_tuning_sees_new_images(part: Part) -> None:
    augmented = replace(TUNING, dsa=Dsa())
    plain, other = (run(tuned(part, tuning=t), world(), [federation(0)])[0] for t in (TUNING, augmented))
    assert same(plain, other)
    for a, b in zip(plain.personal, other.personal, strict=True):
        assert not equal(a, b)
        if part == "head":
            assert equal(representation_of(SURROGATE, b), representation_of(SURROGATE, other.large))


@every_part
def test_tuning_serves_clients_that_contradict_one_another(part: Part) -> None:
    """Same images, opposite labels: no global model is right on both, tuned ones are."""
    images = noise(40, 0, (0, 1))
    shifted = images.inputs * 0.1 + (images.labels - 0.5).view(-1, 1, 1, 1)
    clients = (Records(shifted, images.labels), Records(shifted, 1 - images.labels))
    here = world(surrogate=replace(SURROGATE, family="mlp", width=16))
    pipeline = FedAvgFineTuned(local=LOCAL, tuning=Recipe(epochs=40, batch=10, lr=0.3), part=part)
    (outcome,) = run(pipeline, here, [Federation(clients, Stream(0))])
    spec = here.surrogate
    for model, own in zip(outcome.personal, clients, strict=True):
        assert float((predict(spec, model, own.inputs).argmax(1) == own.labels).double().mean()) > 0.95
    shared = [
        float((predict(spec, outcome.large, c.inputs).argmax(1) == c.labels).double().mean()) for c in clients
    ]
    assert sum(shared) / 2 <= 0.5


@every_part
def test_a_proximal_weight_makes_it_fedprox_with_fine_tuning(part: Part) -> None:
    pipeline = replace(tuned(part), local=replace(LOCAL, proximal=0.5))
    (a,) = run(pipeline, world(), [federation(0)])
    (b,) = run(FedProx(rounds=2, local=LOCAL, mu=0.5), world(), [federation(0)])
    assert same(a, b)


def test_the_tuning_costs_no_epsilon_and_is_named_outside_the_claim() -> None:
    assert [FedAvgFineTuned(rounds=r).trainings for r in (1, 2, 5)] == [1, 1, 4]
    assert FedAvgFineTuned().outside_claim == (*FedAvg().outside_claim, UNCOUNTED)


def test_a_part_that_does_not_exist() -> None:
    with pytest.raises(ValueError, match=r"^expected part 'head' or 'whole', got part='body'$"):
        FedAvgFineTuned(part="body")  # type: ignore[arg-type]
