"""FedBKD with logits in place of features: what is sent, what is learnt of it, what it is outside of."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest
import torch
from torch.nn import functional as F

from privfed.federation import Federation, Outcome, run
from privfed.nets import Params, initial, module_of
from privfed.pipelines._bidirectional import Distillation, Lesson, to_consensus
from privfed.pipelines._logits import DISCLOSED, agreed
from privfed.pipelines.fedbkd import FedBKD
from privfed.pipelines.fedrep import FedRep
from privfed.randomness import Stream
from privfed.records import Records
from privfed.release import Observer, Release
from privfed.training import Recipe, predict
from tests.privfed.pipelines.test_fedbkd import DISTILLATION, PIPELINE, RECIPE
from tests.privfed.pipelines.worlds import SURROGATE, equal, federation, named, noise, same, updates, world

LOGITS = replace(PIPELINE, exchange="logits")


def outcome(pipeline: FedBKD | FedRep = LOGITS, of: Federation | None = None) -> Outcome:
    (found,) = run(pipeline, world(), [of or federation(0)])
    return found


def net(seed: int) -> Params:
    return initial(SURROGATE, Stream(seed).torch())


def test_the_default_sends_no_logits_and_its_temperature_acts_on_nothing() -> None:
    assert FedBKD().exchange == "features"
    plain = outcome(PIPELINE)
    assert same(plain, outcome(replace(PIPELINE, temperature=3.0)))
    assert not named(plain, "logits")
    assert not named(plain, "shared_bank")


def test_records_go_to_all_clients_and_logits_on_them_come_back_in_the_next_round() -> None:
    found = outcome()
    banks, sent = named(found, "shared_bank"), named(found, "logits")
    assert [(r.round, r.receiver) for r in banks] == [(0, "clients"), (1, "clients")]
    for shared, own in zip(banks, named(found, "bank"), strict=False):
        assert equal(dict(shared.tensors), dict(own.tensors))
    assert sorted((r.round, r.about) for r in sent) == [(t, k) for t in (1, 2) for k in range(3)]
    assert {(r.kind, r.receiver) for r in sent} == {("logits", "server")}
    for r in sent:
        (model,) = [u for u in updates(found) if (u.round, u.about) == (r.round, r.about)]
        inputs = banks[r.round - 1].tensors["inputs"]
        given = predict(SURROGATE, dict(model.tensors), inputs)
        torch.testing.assert_close(r.tensors["logits"], given)


def test_logits_are_seen_by_the_server_alone() -> None:
    transcript = outcome().transcript
    assert len(transcript.view(Observer("server")).select("logits")) == 6
    assert not transcript.view(Observer("outsider")).select("logits")
    other = transcript.view(Observer("client", 1)).select("logits")
    assert {r.about for r in other} == {1}
    assert len(transcript.view(Observer("client", 1)).select("synthetic", "shared_bank")) == 2


def test_a_client_that_sat_out_sends_none() -> None:
    found = outcome(replace(LOGITS, fraction=0.34))
    assert [(r.round, r.about) for r in named(found, "logits")] == [
        (u.round, u.about) for u in updates(found) if u.round > 0
    ]


def test_before_there_are_records_the_global_model_is_the_average() -> None:
    (other,) = run(FedRep(3, RECIPE, replace(RECIPE, epochs=1), share_heads=True), world(), [federation(0)])
    mine = outcome()
    assert equal(dict(named(mine, "surrogate")[1].tensors), dict(named(other, "surrogate")[1].tensors))
    assert not equal(dict(named(mine, "surrogate")[2].tensors), dict(named(other, "surrogate")[2].tensors))


def test_the_temperature_acts() -> None:
    assert not equal(outcome().large, outcome(replace(LOGITS, temperature=1.0)).large)


def test_one_step_of_distillation_is_that_of_the_formula() -> None:
    """T^2 KL(teacher || student) at temperature T, the means of batches of 5 added up, by PyTorch."""
    how = Distillation(to_local=Recipe(epochs=1, batch=5, lr=0.3), iterations=1)
    records, temperature, start = noise(10, 1), 4.0, net(0)
    taught = predict(SURROGATE, net(1), records.inputs)
    module = module_of(SURROGATE, start)
    student, teacher = (z.div(temperature).log_softmax(1) for z in (module(records.inputs), taught.detach()))
    loss = F.kl_div(student, teacher, reduction="none", log_target=True).sum(1)
    (temperature**2 * (loss[:5].mean() + loss[5:].mean())).backward()
    found = to_consensus(SURROGATE, how, start, Lesson(records.inputs, taught), temperature)
    assert found.keys() == start.keys()
    for name, p in module.named_parameters():
        assert p.grad is not None
        torch.testing.assert_close(found[name], start[name] - 0.3 * p.grad, rtol=1e-4, atol=1e-6)


def test_a_student_of_itself_stays_where_it_is() -> None:
    how = Distillation(to_local=Recipe(epochs=1, batch=5, lr=0.3))
    inputs = noise(10, 1).inputs
    found = to_consensus(SURROGATE, how, net(0), Lesson(inputs, predict(SURROGATE, net(0), inputs)), 2.0)
    for name, t in net(0).items():
        torch.testing.assert_close(found[name], t, atol=1e-5, rtol=1e-5)


@pytest.mark.parametrize(("iterations", "count"), [(0, 4), (3, 0)])
def test_without_steps_or_records_nothing_moves(iterations: int, count: int) -> None:
    lesson = Lesson(noise(count, 1).inputs, torch.zeros(count, 4))
    how = replace(DISTILLATION, iterations=iterations)
    assert equal(to_consensus(SURROGATE, how, net(0), lesson, 1.0), net(0))


def given(client: int, logits: list[list[float]], held: list[int]) -> list[Release]:
    sender = f"client:{client}"
    return [
        Release(1, sender, "server", "logits", "logits", {"logits": torch.tensor(logits)}, client),
        Release(1, sender, "server", "label_set", "labels", {"labels": torch.tensor(held)}, client),
    ]


def bank(labels: list[int]) -> list[Release]:
    tensors = {"inputs": torch.arange(len(labels)).float(), "labels": torch.tensor(labels)}
    return [Release(0, "server", "clients", "synthetic", "shared_bank", tensors)]


def test_the_mean_is_over_clients_that_hold_the_class_and_leaves_out_what_nobody_holds() -> None:
    inbox = given(0, [[2.0], [4.0], [6.0]], [0]) + given(1, [[8.0], [10.0], [12.0]], [0, 1])
    lesson = agreed(bank([0, 1, 2]), inbox, "held")
    assert lesson is not None
    assert lesson.inputs.tolist() == [0, 1]
    assert lesson.logits.tolist() == [[5.0], [10.0]]
    whole = agreed(bank([0, 1, 2]), inbox, "all")
    assert whole is not None
    assert whole.logits.tolist() == [[5.0], [7.0], [9.0]]


def test_without_records_or_logits_nothing_is_agreed() -> None:
    assert agreed([], given(0, [[1.0]], [0]), "held") is None
    assert agreed(bank([0]), [], "all") is None


def test_logits_tell_of_records_and_are_named_outside_the_claim() -> None:
    mine = federation(0)
    others = Federation(tuple(Records(-c.inputs, c.labels) for c in mine.clients), mine.stream)
    released = replace(LOGITS, generator=replace(LOGITS.generator, mode="released"))  # type: ignore[type-var]
    first, second = (outcome(released, f) for f in (mine, others))
    assert torch.equal(named(first, "bank")[0].tensors["inputs"], named(second, "bank")[0].tensors["inputs"])
    assert not torch.equal(
        named(first, "logits")[0].tensors["logits"], named(second, "logits")[0].tensors["logits"]
    )
    assert DISCLOSED in LOGITS.outside_claim
    assert DISCLOSED not in PIPELINE.outside_claim


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"exchange": "x"}, "expected exchange to be one of features, logits, got exchange='x'"),
        (
            {"exchange": "logits", "generator": None},
            "expected a generator and side 'server' for that exchange",
        ),
        (
            {"exchange": "logits", "side": "client"},
            "expected a generator and side 'server' for that exchange",
        ),
        ({"temperature": 0.0}, "expected temperature > 0, got temperature=0.0"),
    ],
)
def test_options_that_do_not_fit(change: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        replace(PIPELINE, **change)
