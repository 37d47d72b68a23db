"""Heads of the global model that no client uses."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest
import torch

from privfed.nets import head_names, head_of, representation_of
from privfed.pipelines._global_head import fitted_head, holders_head, remember
from privfed.pipelines._personal import fit_heads
from privfed.pipelines.fedbkd import FedBKD
from privfed.randomness import Stream
from privfed.records import Records
from privfed.release import Release
from privfed.training import represent
from tests.privfed.pipelines.test_fedbkd import PIPELINE, RECIPE, model, outcome
from tests.privfed.pipelines.worlds import SURROGATE, equal, named, noise


def heads(*held: tuple[int, ...]) -> dict[str, torch.Tensor]:
    """A server's memory of one client a label set; every entry of client k's head is k + 1."""
    weight, bias = head_names(SURROGATE)
    memory: dict[str, torch.Tensor] = {}
    for k, labels in enumerate(held):
        whole = {n: torch.full_like(t, k + 1.0) for n, t in model(0).items() if n in (weight, bias)}
        sent = Release(0, f"client:{k}", "server", "weights", "update", whole, k)
        names = {"labels": torch.tensor(labels)}
        told = Release(0, f"client:{k}", "server", "label_set", "labels", names, k)
        memory = remember(SURROGATE, memory, [sent, told])
    return memory


def test_a_row_of_the_holders_head_is_the_mean_over_those_who_hold_the_class() -> None:
    weight, bias = head_names(SURROGATE)
    fallback = {n: torch.zeros_like(t) for n, t in head_of(SURROGATE, model(0)).items()}
    head = holders_head(SURROGATE, heads((0, 1), (1, 2)), fallback)
    assert head[bias].tolist() == [1.0, 1.5, 2.0, 0.0]
    assert head[weight].unique(dim=1).flatten().tolist() == [1.0, 1.5, 2.0, 0.0]


def test_a_client_that_comes_back_replaces_its_head() -> None:
    first = heads((0,))
    again = remember(SURROGATE, first, [])
    assert equal(first, again)
    _, bias = head_names(SURROGATE)
    newer = {n: 5 * torch.ones_like(t) for n, t in head_of(SURROGATE, model(0)).items()}
    update = Release(1, "client:0", "server", "weights", "update", newer, 0)
    head = holders_head(SURROGATE, remember(SURROGATE, first, [update]), head_of(SURROGATE, model(0)))
    assert float(head[bias][0]) == 5.0


@pytest.mark.parametrize("kind", ["holders", "synthetic"])
def test_another_global_head_changes_the_delivered_head_and_no_clients_model(kind: Any) -> None:
    published, other = outcome(), outcome(replace(PIPELINE, global_head=kind))
    assert all(equal(a, b) for a, b in zip(published.personal, other.personal, strict=True))
    assert equal(representation_of(SURROGATE, published.large), representation_of(SURROGATE, other.large))
    assert not equal(head_of(SURROGATE, published.large), head_of(SURROGATE, other.large))


def test_a_head_fitted_on_synthetic_records_learns_their_labels() -> None:
    records = Records(noise(40, 0).inputs, torch.arange(40) % 4)
    head = fitted_head(SURROGATE, model(0), records, replace(RECIPE, epochs=150), Stream(0))
    weight, bias = (head[n] for n in head_names(SURROGATE))
    logits = represent(SURROGATE, model(0), records.inputs) @ weight.T + bias
    assert float((logits.argmax(1) == records.labels).float().mean()) > 0.8


def federated(**change: Any) -> FedBKD:
    return replace(PIPELINE, global_head="federated", **change)


@pytest.mark.parametrize("side", ["server", "client"])
def test_a_federated_head_changes_no_clients_model_either(side: Any) -> None:
    published, other = outcome(replace(PIPELINE, side=side)), outcome(federated(side=side))
    assert all(equal(a, b) for a, b in zip(published.personal, other.personal, strict=True))
    assert not equal(head_of(SURROGATE, published.large), head_of(SURROGATE, other.large))


def test_a_federated_head_is_the_mean_of_what_clients_sent() -> None:
    found = outcome(federated(side="client", share_heads=False))
    weight, _ = head_names(SURROGATE)
    sent = [r.tensors[weight] for r in named(found, "head") if r.round == 2]
    torch.testing.assert_close(found.large[weight], torch.stack(sent).mean(0))
    assert all(weight not in r.tensors for r in named(found, "update"))


def test_a_copy_of_the_head_starts_from_the_broadcast_one_on_the_clients_own_representation(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    seen: list[Any] = []

    def note(of: Any, recipe: Any, fits: Any) -> Any:
        seen.extend(fits)
        return fit_heads(of, recipe, fits)

    monkeypatch.setattr("privfed.pipelines._global_head.fit_heads", note)
    found = outcome(federated(rounds=1, generator=None))
    start = dict(named(found, "surrogate")[0].tensors)
    assert all(equal(head_of(SURROGATE, f.start), head_of(SURROGATE, start)) for f in seen)
    sent = [dict(u.tensors) for u in named(found, "update")]
    assert all(
        equal(representation_of(SURROGATE, f.start), representation_of(SURROGATE, u))
        for f, u in zip(seen, sent, strict=True)
    )


def test_a_federated_head_counts_as_one_more_training_a_round() -> None:
    assert (PIPELINE.trainings, federated().trainings) == (5, 8)
