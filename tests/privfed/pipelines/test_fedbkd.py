"""FedBKD against the checks of its published description, and against FedRep."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest
import torch

from privfed.federation import Federation, Outcome, Progress, run
from privfed.generator import GeneratorTraining, Mode
from privfed.nets import head_names, head_of, representation_of
from privfed.pipelines._bidirectional import Distillation, Exchange, to_locals
from privfed.pipelines.fedbkd import FedBKD
from privfed.pipelines.fedrep import FedRep
from privfed.pipelines.interface import ServerState
from privfed.randomness import Stream
from privfed.records import Records
from privfed.release import Observer
from privfed.training import Recipe
from tests.privfed.pipelines.worlds import (
    SURROGATE,
    equal,
    federation,
    named,
    noise,
    same,
    updates,
    world,
)

RECIPE = Recipe(epochs=2, batch=5, lr=0.1, momentum=0.5, weight_decay=1e-2, decay_biases=False)
GENERATOR = GeneratorTraining(size=24, hidden=8, epochs=1, steps=2, sub_batch=8)
DISTILLATION = Distillation(to_local=replace(RECIPE, lr=0.5))
PIPELINE = FedBKD(3, RECIPE, replace(RECIPE, epochs=1), GENERATOR, DISTILLATION)
SERVER = Observer("server")


def outcome(pipeline: FedBKD = PIPELINE, of: Federation | None = None) -> Outcome:
    (found,) = run(pipeline, world(), [of or federation(0)])
    return found


def fedrep() -> FedRep:
    return FedRep(3, RECIPE, replace(RECIPE, epochs=1), share_heads=True)


def no_distillation() -> Distillation:
    return Distillation(to_local=replace(RECIPE, epochs=0), iterations=0)


def test_without_generator_it_is_fedrep_to_the_bit() -> None:
    (other,) = run(fedrep(), world(), [federation(0)])
    mine = outcome(replace(PIPELINE, generator=None))
    assert same(mine, other)
    assert all(equal(a, b) for a, b in zip(mine.personal, other.personal, strict=True))


def test_without_distillation_its_models_are_fedreps_to_the_bit() -> None:
    (other,) = run(fedrep(), world(), [federation(0)])
    mine = outcome(replace(PIPELINE, distillation=no_distillation()))
    assert equal(mine.large, other.large)
    for a, b in zip(mine.personal, other.personal, strict=True):
        assert equal(head_of(SURROGATE, a), head_of(SURROGATE, b))
        # FedRep's representation is the mean of three equal ones: the same up to rounding.
        torch.testing.assert_close(representation_of(SURROGATE, a), representation_of(SURROGATE, b))


@pytest.mark.parametrize("side", ["server", "client"])
def test_distillation_leaves_heads_bit_identical(side: Any) -> None:
    with_, without = (
        outcome(replace(PIPELINE, rounds=1, side=side, distillation=d))
        for d in (DISTILLATION, no_distillation())
    )
    for a, b in zip(with_.personal, without.personal, strict=True):
        assert equal(head_of(SURROGATE, a), head_of(SURROGATE, b))
        assert not equal(representation_of(SURROGATE, a), representation_of(SURROGATE, b))


def model(seed: int) -> dict[str, torch.Tensor]:
    return PIPELINE.init(world(), [Stream(seed)])[0].surrogate


def order(found: Outcome, round: int) -> list[int]:
    (generator,) = [r for r in found.transcript.view(SERVER).select("generator") if "order" in r.tensors][
        round : round + 1
    ]
    return list(generator.tensors["order"].tolist())


def test_clients_are_visited_in_a_random_order_that_is_recorded() -> None:
    orders = [order(outcome(of=federation(s)), t) for s in range(3) for t in range(3)]
    assert all(sorted(o) == [0, 1, 2] for o in orders)
    assert len({tuple(o) for o in orders}) > 2


def test_the_global_model_depends_on_the_order_and_the_local_ones_do_not(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """The generator is left out of it: all clients hold all classes, and it reads no local model."""
    clients = tuple(Records(noise(8, k).inputs, torch.arange(8) % 4) for k in range(3))
    mine = Federation(clients, Stream(5))
    two = replace(PIPELINE, rounds=2, generator=replace(GENERATOR, mode="released"))
    looped = world(engine="looped")
    (forwards,) = run(two, looped, [mine])
    drawn = torch.randperm

    def reversed_order(n: int, **knobs: Any) -> torch.Tensor:
        return drawn(n, **knobs).flip(0) if n == 3 else drawn(n, **knobs)

    monkeypatch.setattr(torch, "randperm", reversed_order)
    (backwards,) = run(two, looped, [mine])
    assert order(forwards, 0) == order(backwards, 0)[::-1]
    first, second = (dict(named(o, "surrogate")[1].tensors) for o in (forwards, backwards))
    assert not equal(first, second)
    for client in range(3):
        ours, theirs = (o.transcript.releases for o in (forwards, backwards))
        mine_, other = (
            next(dict(r.tensors) for r in found if r.name == "personal" and r.about == client)
            for found in (ours, theirs)
        )
        assert equal(mine_, other)


def test_every_artefact_is_a_release_with_its_true_receiver() -> None:
    found = outcome(replace(PIPELINE, rounds=2, weighting="records")).transcript.releases
    rows = {(r.name, r.kind, r.sender.split(":")[0], r.receiver.split(":")[0]) for r in found}
    assert rows == {
        ("surrogate", "weights", "server", "clients"),
        ("update", "weights", "client", "server"),
        ("labels", "label_set", "client", "server"),
        ("count", "counts", "client", "server"),
        ("generator", "generator", "server", "server"),
        ("bank", "synthetic", "server", "server"),
        ("personal", "weights", "server", "client"),
        ("large", "weights", "server", "public"),
        ("synthetic", "synthetic", "server", "public"),
        ("generator", "generator", "server", "public"),
    }
    assert all(r.receiver == f"client:{r.about}" for r in found if r.name == "personal")


def test_at_the_client_neither_labels_nor_records_nor_generators_leave_it() -> None:
    pipeline = replace(PIPELINE, side="client", share_heads=False)
    found = outcome(pipeline).transcript.releases
    assert {r.name for r in found} == {"surrogate", "update", "large"}
    head = set(head_names(SURROGATE))
    assert all(not head & r.tensors.keys() for r in found if r.name != "large")
    assert pipeline.outside_claim == ("set of labels of each client, which chooses what it distils at home",)
    assert replace(pipeline, generator=None).outside_claim == ()


def test_at_the_client_the_upload_is_the_taught_copy_and_not_the_local_model() -> None:
    """Without distillation to the global side, the broadcast representation comes back unchanged."""
    silent = replace(PIPELINE, side="client", rounds=1, distillation=replace(DISTILLATION, iterations=0))
    found = outcome(silent)
    start = dict(named(found, "surrogate")[0].tensors)
    assert all(equal(representation_of(SURROGATE, dict(u.tensors)), start) for u in updates(found))


def test_at_the_client_the_model_distilled_last_is_used_only_right_after() -> None:
    seen: list[Progress] = []
    some = replace(PIPELINE, side="client", fraction=0.34)
    run(some, world(), [federation(0)], seen.append)
    first = seen[0]
    (taking_part,) = [k for k, kept in enumerate(first.kept[0]) if "round" in kept]
    state, kept = first.states[0], first.kept[0][taking_part]
    own = some.personal(world(), state, taking_part, kept)
    assert not equal(representation_of(SURROGATE, own), some.shared(world(), state))
    later = some.personal(world(), replace(state, round=2), taking_part, kept)
    assert equal(representation_of(SURROGATE, later), some.shared(world(), state))
    assert equal(head_of(SURROGATE, later), head_of(SURROGATE, own))


def test_selected_clients_use_the_distilled_model_and_others_the_broadcast_one() -> None:
    seen: list[Progress] = []
    some = replace(PIPELINE, fraction=0.34)
    run(some, world(), [federation(0)], seen.append)
    state, kept = seen[0].states[0], seen[0].kept[0]
    (delivery,) = [r for r in state.kept if r.name == "personal"]
    for k, own in enumerate(kept):
        used = some.personal(world(), state, k, own)
        if k == delivery.about:
            assert equal(used, dict(delivery.tensors))
        else:
            assert equal(representation_of(SURROGATE, used), some.shared(world(), state))


def test_in_the_last_round_representations_move_by_distillation_alone() -> None:
    found = outcome(replace(PIPELINE, rounds=1, distillation=no_distillation()))
    start = dict(named(found, "surrogate")[0].tensors)
    assert all(equal(representation_of(SURROGATE, m), start) for m in found.personal)
    assert len([r for r in found.transcript.releases if r.name == "personal"]) == 3


def labelled(*classes: int) -> Records:
    return noise(6, 3, classes)


@pytest.mark.parametrize("side", ["server", "client"])
def test_a_client_with_one_class_or_one_record_works(side: Any) -> None:
    clients = (labelled(0), labelled(2).take(torch.tensor([0])), labelled(0, 1, 2, 3))
    found = outcome(replace(PIPELINE, side=side), Federation(clients, Stream(5)))
    assert all(t.isfinite().all() for m in found.personal for t in m.values())
    if side == "server":
        assert named(found, "labels")[0].tensors["labels"].tolist() == [0]


def test_a_client_learns_from_records_of_its_own_classes_only(monkeypatch: pytest.MonkeyPatch) -> None:
    read: list[Exchange] = []

    def note(of: Any, how: Any, exchanges: list[Exchange]) -> Any:
        read.extend(exchanges)
        return to_locals(of, how, exchanges)

    monkeypatch.setattr("privfed.pipelines.fedbkd.to_locals", note)
    clients = (labelled(0, 1), labelled(2), labelled(1, 3))
    one = replace(PIPELINE, rounds=1)
    found = outcome(one, Federation(clients, Stream(5)))
    held = {k: set(clients[k].labels.tolist()) for k in range(3)}
    assert [set(e.records.labels.tolist()) for e in read] == [held[k] for k in order(found, 0)]
    read.clear()
    outcome(replace(one, distillation=replace(DISTILLATION, covering="all")), Federation(clients, Stream(5)))
    assert all(set(e.records.labels.tolist()) == {0, 1, 2, 3} for e in read)


def test_the_bank_is_the_same_in_every_round_and_the_generator_is_not() -> None:
    first, second, third = [r for r in named(outcome(), "generator") if r.receiver == "server"]
    for name in ("bank.noise", "bank.embedding", "bank.labels"):
        assert torch.equal(first.tensors[name], second.tensors[name])
        assert torch.equal(first.tensors[name], third.tensors[name])
    assert not torch.equal(first.tensors["0.weight"], second.tensors["0.weight"])


@pytest.mark.parametrize(("mode", "reads"), [("released", False), ("paper", True), ("conditioned", True)])
def test_whether_synthetic_records_depend_on_the_clients_records(mode: Mode, reads: bool) -> None:
    """Other records of the same labels: in released mode the bank stays the same to the bit."""
    pipeline = replace(PIPELINE, generator=replace(GENERATOR, mode=mode))
    mine = federation(0)
    others = tuple(Records(-c.inputs, c.labels) for c in mine.clients)
    first, second = outcome(pipeline, mine), outcome(pipeline, Federation(others, mine.stream))
    assert not equal(dict(updates(first)[0].tensors), dict(updates(second)[0].tensors))
    for a, b in zip(named(first, "bank"), named(second, "bank"), strict=True):
        assert torch.equal(a.tensors["inputs"], b.tensors["inputs"]) is not reads


def test_published_are_the_last_generator_and_its_records() -> None:
    found = outcome()
    (synthetic,) = named(found, "synthetic")
    assert torch.equal(synthetic.tensors["inputs"], named(found, "bank")[-1].tensors["inputs"])
    held, published = named(found, "generator")[-2:]
    assert (held.receiver, published.receiver) == ("server", "public")
    assert published.tensors.keys() == held.tensors.keys() - {"order"}


def test_the_planted_leak_uploads_records_and_gives_them_back() -> None:
    planted = replace(PIPELINE, planted=True, generator=replace(GENERATOR, size=80, hidden=64))
    found = outcome(planted)
    records = torch.cat([c.inputs for c in federation(0).clients]).flatten(1)
    made = named(found, "synthetic")[0].tensors["inputs"].flatten(1)
    assert float(torch.cdist(records, made).amin(1).max()) < 0.5 * float(
        torch.cdist(records, records).fill_diagonal_(torch.inf).min()
    )
    assert "raw records of the clients" in planted.outside_claim


def test_disclosures_outside_a_claim() -> None:
    assert PIPELINE.outside_claim == ("set of labels of each client",)
    counted = replace(PIPELINE, weighting="records")
    assert counted.outside_claim == ("set of labels of each client", "number of records of each client")
    assert replace(PIPELINE, generator=None).outside_claim == ()


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"side": "edge"}, "expected side to be one of server, client, got side='edge'"),
        (
            {"global_head": "best"},
            "expected global_head to be one of averaged, holders, synthetic, federated,",
        ),
        ({"share_heads": False}, "expected share_heads with side 'server', got share_heads=False"),
        (
            {"side": "client", "global_head": "holders"},
            "expected a generator and side 'server' for that head, got global_head='holders'",
        ),
        ({"planted": True, "generator": None}, "expected a generator and side 'server' for a planted leak"),
        ({"rounds": 0}, "expected rounds >= 1, got rounds=0"),
    ],
)
def test_options_that_do_not_fit(change: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        replace(PIPELINE, **change)


def test_a_state_without_synthetic_records_publishes_the_model_alone() -> None:
    state = ServerState(3, model(0))
    ((only,),) = PIPELINE.publish(world(), [state])
    assert only.name == "large"
