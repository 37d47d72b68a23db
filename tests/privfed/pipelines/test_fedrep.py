"""FedRep: heads stay at home, cached features change nothing."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest
import torch

from privfed.federation import Progress, run
from privfed.hooks import Spent
from privfed.nets import head_names, head_of, representation_of
from privfed.pipelines import _personal
from privfed.pipelines._personal import Fit, fit_heads
from privfed.pipelines.fedrep import FedRep
from privfed.randomness import Stream
from privfed.training import Recipe, Task, train
from tests.privfed.pipelines.worlds import (
    SURROGATE,
    assert_params_close,
    double_precision,
    equal,
    federation,
    named,
    noise,
    updates,
    world,
)

RECIPE = Recipe(epochs=2, batch=5, lr=0.1, momentum=0.5, weight_decay=1e-2, decay_biases=False)
PIPELINE = FedRep(rounds=3, head=RECIPE, representation=replace(RECIPE, epochs=1))


def test_only_representations_cross_the_boundary() -> None:
    (outcome,) = run(PIPELINE, world(), [federation(0)])
    head = set(head_names(SURROGATE))
    sent = [r for r in outcome.transcript.releases if r.name in ("update", "surrogate")]
    assert len(sent) == 3 * 3 + 4
    assert all(not head & r.tensors.keys() for r in sent)
    assert all(r.tensors.keys() | head == set(outcome.large) for r in sent)


def test_shared_heads_cross_it_and_are_averaged() -> None:
    (outcome,) = run(replace(PIPELINE, share_heads=True), world(), [federation(0)])
    weight, _ = head_names(SURROGATE)
    last = [u for u in updates(outcome) if u.round == 2]
    expected = torch.stack([u.tensors[weight] for u in last]).mean(0)
    torch.testing.assert_close(outcome.large[weight], expected)


def test_without_shared_heads_the_delivered_head_is_the_initial_one() -> None:
    seen: list[Progress] = []
    (outcome,) = run(PIPELINE, world(), [federation(0)], seen.append)
    initial = PIPELINE.init(world(), [federation(0).stream.child("init")])[0].surrogate
    assert equal(head_of(SURROGATE, outcome.large), head_of(SURROGATE, initial))
    assert not equal(representation_of(SURROGATE, outcome.large), representation_of(SURROGATE, initial))


def test_heads_on_cached_features_equal_heads_trained_through_the_net() -> None:
    with double_precision():
        start = PIPELINE.init(world(), [Stream(3)])[0].surrogate
        fits = [Fit(start, noise(n, n), Stream(n)) for n in (9, 6)]
        cached = fit_heads(world(), RECIPE, fits)
        frozen = tuple(representation_of(SURROGATE, start))
        through = train([Task(SURROGATE, f.start, f.records, RECIPE, f.stream, frozen) for f in fits])
        for a, b in zip(cached, through, strict=True):
            assert_params_close(a.value, b)


def test_augmented_heads_are_trained_through_the_net(monkeypatch: pytest.MonkeyPatch) -> None:
    from privfed.augmentation import Dsa

    monkeypatch.setattr(_personal, "represent", None)
    start = PIPELINE.init(world(), [Stream(3)])[0].surrogate
    (spent,) = fit_heads(world(), replace(RECIPE, dsa=Dsa()), [Fit(start, noise(9, 9), Stream(9))])
    assert equal(representation_of(SURROGATE, spent.value), representation_of(SURROGATE, start))
    assert not equal(head_of(SURROGATE, spent.value), head_of(SURROGATE, start))


def test_the_first_phase_moves_heads_alone_and_the_second_representations_alone() -> None:
    """One round and the last: what is uploaded in the last round is the broadcast representation."""
    (outcome,) = run(replace(PIPELINE, rounds=2), world(), [federation(0)])
    second = [u for u in updates(outcome) if u.round == 1]
    broadcast = named(outcome, "surrogate")[1]
    assert all(equal(dict(u.tensors), dict(broadcast.tensors)) for u in second)
    first = [u for u in updates(outcome) if u.round == 0]
    assert all(not equal(dict(u.tensors), dict(named(outcome, "surrogate")[0].tensors)) for u in first)


def test_a_client_comes_back_to_its_own_head() -> None:
    """With no head training at all, every personal head is still the initial one."""
    still = replace(PIPELINE, rounds=1, head=replace(RECIPE, lr=1e-30))
    (outcome,) = run(still, world(), [federation(0)])
    initial = still.init(world(), [federation(0).stream.child("init")])[0].surrogate
    for model in outcome.personal:
        assert_params_close(head_of(SURROGATE, model), head_of(SURROGATE, initial))


def test_all_clients_take_part_in_the_last_round() -> None:
    (outcome,) = run(replace(PIPELINE, fraction=0.34), world(), [federation(0)])
    assert [sum(u.round == t for u in updates(outcome)) for t in range(3)] == [1, 1, 3]


def test_last_heads_get_ten_epochs_at_least(monkeypatch: pytest.MonkeyPatch) -> None:
    epochs: list[int] = []

    def note(of: Any, recipe: Recipe, fits: Any) -> Any:
        epochs.append(recipe.epochs)
        return [Spent(f.start, None) for f in fits]

    monkeypatch.setattr("privfed.pipelines.fedrep.fit_heads", note)
    run(PIPELINE, world(), [federation(0)])
    assert epochs == [2, 2, 10]


def test_a_client_is_trained_twice_a_round_and_once_in_the_last() -> None:
    assert PIPELINE.trainings == 5


def test_counts_are_disclosed_where_they_weigh() -> None:
    weighted = replace(PIPELINE, weighting="records")
    (outcome,) = run(weighted, world(), [federation(0)])
    assert [int(r.tensors["n"]) for r in named(outcome, "count")[:3]] == [8, 6, 5]
    assert weighted.outside_claim == ("number of records of each client",)
    assert PIPELINE.outside_claim == ()
