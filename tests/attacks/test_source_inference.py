"""Source inference: what is read of every client, and who is named."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
import pytest
import torch
from torch.nn import functional as F

from attacks import source_inference
from attacks._signals import confidence_at_probability
from attacks.confidence import ModelConfidence
from attacks.interface import Floats, Signals
from attacks.source_inference import ClientConfidence, class_prior, guess
from privfed.nets import Params, initial, module_of, representation_of
from privfed.randomness import Stream
from privfed.records import Records
from privfed.release import Release
from tests.attacks.federations import (
    CLIENT_COUNT,
    SPEC,
    candidates,
    extract,
    federations,
    noise,
    personal,
    server_view,
    weights,
)

COSINE = ClientConfidence(measure="cosine")
START = initial(SPEC, torch.Generator().manual_seed(7))


def net(seed: int) -> Params:
    return initial(SPEC, torch.Generator().manual_seed(seed))


def signals(values: list[list[float]]) -> Signals:
    array = np.array(values)
    return Signals(array, np.empty((0, array.shape[1], 1)), np.zeros(len(array), dtype=np.int64))


def step(records: Records, rate: float = 0.1) -> Params:
    """One step of gradient descent on all records, from the common start."""
    net = module_of(SPEC, START)
    F.cross_entropy(net(records.inputs), records.labels).backward()
    return {name: (p - rate * p.grad).detach() for name, p in net.named_parameters() if p.grad is not None}


def test_every_record_meets_every_clients_latest_model() -> None:
    known = candidates(9, 4)
    view = server_view(*(weights(net(10 * r + k), "update", r, k) for r, k in ((0, 0), (0, 1), (2, 1))))
    found = extract(ClientConfidence(), known, view)
    assert found.candidates.shape == (9, 2)
    assert found.population.shape == (4, 2, 1)
    own = extract(ModelConfidence("update"), known, view)
    np.testing.assert_array_equal(own.clients, known.clients.numpy())
    for client, seed in ((0, 0), (1, 21)):
        alone = extract(ModelConfidence("large"), known, server_view(weights(net(seed), "large")))
        np.testing.assert_allclose(found.candidates[:, client], alone.candidates[:, 0], atol=1e-5)
        np.testing.assert_allclose(found.population[:, client, 0], alone.population[:, 0, 0], atol=1e-5)


@pytest.mark.parametrize("measure", ["loss", "cosine"])
def test_columns_are_the_clients_with_candidates_whoever_took_part(measure: Any) -> None:
    known = candidates(6, 4)
    start = weights(START, "surrogate")
    view = server_view(start, weights(net(1), "update", 0, 1), weights(net(2), "update", 0, 5))
    found = extract(ClientConfidence(measure=measure), known, view).candidates
    assert found.shape == (6, 2)
    assert np.isnan(found[:, 0]).all()
    assert np.isfinite(found[:, 1]).all()


def test_models_of_clients_without_candidates_alone_leave_everything_unknown() -> None:
    view = server_view(weights(net(2), "update", 0, 5))
    assert np.isnan(extract(ClientConfidence(), candidates(6, 4), view).candidates).all()


def test_personal_models_are_read_as_well() -> None:
    view = server_view(*(personal(net(k), 1, k) for k in range(2)))
    found = extract(ClientConfidence("personal"), candidates(6, 4), view)
    updates = server_view(*(weights(net(k), "update", 1, k) for k in range(2)))
    np.testing.assert_array_equal(
        found.candidates, extract(ClientConfidence(), candidates(6, 4), updates).candidates
    )


@pytest.mark.parametrize("measure", ["loss", "cosine"])
def test_representations_without_heads_say_nothing(measure: Any) -> None:
    view = server_view(
        weights(representation_of(SPEC, START), "surrogate"),
        weights(representation_of(SPEC, net(1)), "update", 0, 0),
    )
    assert ClientConfidence(measure=measure).extract(view, candidates(4), Stream(0)) is None


def test_the_gradient_of_the_only_record_is_what_one_step_moved() -> None:
    known = candidates(2, 3)
    moved = [weights(step(known.records.take(torch.tensor([k]))), "update", 0, k) for k in range(2)]
    found = extract(COSINE, known, server_view(weights(START, "surrogate"), *moved)).candidates
    np.testing.assert_allclose(np.diag(found), 1.0, atol=1e-4)
    assert (np.abs(found) <= 1 + 1e-6).all()
    assert (found[[0, 1], [1, 0]] < 0.9).all()


def test_without_the_broadcast_head_the_clients_own_counts_as_not_moved() -> None:
    known = candidates(6, 3)
    trained = [step(noise(3, k)) for k in range(2)]
    moved = [weights(p, "update", 0, k) for k, p in enumerate(trained)]
    start = weights(representation_of(SPEC, START), "surrogate")
    found = extract(COSINE, known, server_view(start, *moved)).candidates
    filled = [{**p, **representation_of(SPEC, START)} for p in trained]
    for k in range(2):
        alone = server_view(weights(filled[k], "surrogate"), moved[k])
        np.testing.assert_allclose(found[:, k], extract(COSINE, known, alone).candidates[:, k], atol=1e-5)


def test_gradients_in_parts_are_the_same(monkeypatch: pytest.MonkeyPatch) -> None:
    known, view = candidates(9, 4), server_view(weights(START, "surrogate"), weights(net(1), "update", 0, 0))
    whole = extract(COSINE, known, view).candidates
    monkeypatch.setattr(source_inference, "_ELEMENTS", 2 * sum(t.numel() for t in START.values()))
    np.testing.assert_allclose(extract(COSINE, known, view).candidates, whole, atol=1e-6)


def test_a_client_that_did_not_move_is_unknown_by_cosine() -> None:
    view = server_view(
        weights(START, "surrogate"), weights(START, "update", 0, 0), weights(net(1), "update", 0, 1)
    )
    found = extract(COSINE, candidates(4), view).candidates
    np.testing.assert_array_equal(np.isnan(found), [[True, False]] * 4)


def test_the_guess_is_the_most_confident_client_known() -> None:
    found = guess(signals([[1.0, 2.0, 0.0], [np.nan, -1.0, -2.0], [np.nan] * 3, [3.0, 3.0, 1.0]]))
    np.testing.assert_array_equal(found, [1, 1, -1, 0])
    assert found.dtype == np.int64


def test_the_prior_is_weighed_against_the_probability_of_the_label() -> None:
    """0.9 x 0.2 < 0.5 x 0.8: the less confident client holds more records of the class."""
    confident = signals([list(confidence_at_probability(np.array([0.9, 0.5])))])
    assert guess(confident)[0] == 0
    assert guess(confident, np.array([[0.2, 0.8]]))[0] == 1
    assert guess(confident, np.array([[0.4, 0.6]]))[0] == 0
    assert guess(confident, np.array([[0.0, 1.0]]))[0] == 1
    assert guess(signals([[np.nan, 1.0]]), np.array([[1.0, 0.0]]))[0] == -1


def test_an_even_prior_changes_nothing() -> None:
    values = signals(np.random.default_rng(0).normal(size=(50, 4)).tolist())
    np.testing.assert_array_equal(guess(values, np.full((50, 4), 0.25)), guess(values))


def test_nobody_is_named_where_there_is_nobody() -> None:
    np.testing.assert_array_equal(guess(signals([[], []])), [-1, -1])


def test_the_class_prior_is_each_clients_share_of_the_class() -> None:
    prior = class_prior(np.array([[3, 1], [0, 0], [0, 5]]), np.array([0, 2, 1]))
    np.testing.assert_allclose(prior, [[0.75, 0.25], [0.0, 1.0], [0.5, 0.5]])


@pytest.mark.parametrize("prior", [np.ones((1, 3)), np.array([[1.0, -0.5]])])
def test_a_prior_that_does_not_fit_is_refused(prior: Floats) -> None:
    with pytest.raises(ValueError, match=r"expected a prior of shape \(1, 2\), at least 0, got prior="):
        guess(signals([[0.0, 1.0]]), prior)


def test_members_of_clients_that_memorise_are_traced_and_records_that_nobody_holds_are_not() -> None:
    """Candidates of both clients come from one distribution, so labels say nothing."""
    known, included, views = federations(True)
    foreign = replace(known, records=noise(80, 99))
    owners = known.clients.numpy()
    for of, rows in ((known, included), (foreign, np.ones_like(included))):
        right = np.stack([guess(extract(ClientConfidence(), of, v)) == owners for v in views])
        if of is known:
            assert right[rows].mean() > 0.95
        else:
            each = right.mean(0)  # the same record recurs, so records are the trials
            assert abs(each.mean() - 1 / CLIENT_COUNT) < 3.3 * each.std(ddof=1) / np.sqrt(80)


def test_one_step_on_a_few_records_is_traced_by_cosine_and_other_records_are_not() -> None:
    known = replace(candidates(40), clients=torch.arange(40) % 4)
    held = [known.records.take(known.clients == k) for k in range(4)]
    others = [noise(10, 50 + k) for k in range(4)]

    def accuracy(clients: list[Records]) -> float:
        sent: list[Release] = [weights(step(r), "update", 0, k) for k, r in enumerate(clients)]
        named = guess(extract(COSINE, known, server_view(weights(START, "surrogate"), *sent)))
        return float((named == known.clients.numpy()).mean())

    assert accuracy(held) > 0.6
    assert abs(accuracy(others) - 0.25) < 3.3 * np.sqrt(0.25 * 0.75 / 40)


@pytest.mark.parametrize(
    ("knobs", "message"),
    [
        ({"artefact": "large"}, "expected artefact to be one of update, personal, got artefact='large'"),
        ({"measure": "x"}, "expected measure to be one of loss, cosine, got measure='x'"),
        (
            {"artefact": "personal", "measure": "cosine"},
            "expected artefact 'update' for cosines, got artefact='personal'",
        ),
    ],
)
def test_knobs_that_make_no_sense_are_refused(knobs: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        ClientConfidence(**knobs)
