"""A representation with the attacker's own head: which head, on which records, and out of sample."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
import pytest
import torch
from sklearn.linear_model import LogisticRegression
from sklearn.preprocessing import StandardScaler

from attacks._heads import fitted_head
from attacks._signals import logit_confidence
from attacks.confidence import ModelConfidence
from attacks.interface import Candidates, Signals
from attacks.representation import RepresentationConfidence
from privfed.nets import NetSpec, Params, initial, representation_of
from privfed.randomness import Stream
from privfed.records import Records
from privfed.release import Observer, Transcript, View
from privfed.training import represent
from tests.attacks.federations import (
    SPEC,
    candidates,
    extract,
    federations,
    noise,
    personal,
    server_view,
    weights,
    without_heads,
)
from tests.attacks.simulation import auc

STREAM = Stream(0)
UNLABELLED = -1


def shared(seed: int) -> Params:
    return representation_of(SPEC, initial(SPEC, torch.Generator().manual_seed(seed)))


def known(public: bool, n: int = 12, z: int = 40) -> Candidates:
    """With a public shard of the task's labels, or one that has none of them."""
    found = candidates(n, z)
    if public:
        return found
    return replace(found, public=Records(found.public.inputs, torch.full((60,), UNLABELLED)))


def features(of: Records, seed: int = 1) -> np.ndarray[Any, np.dtype[np.float64]]:
    return represent(SPEC, shared(seed), of.inputs).double().numpy()


def expected(fit: Records, asked: Records) -> np.ndarray[Any, np.dtype[np.float64]]:
    """Confidence by scikit-learn's own scaler and decision function."""
    scaler = StandardScaler().fit(features(fit))
    model = LogisticRegression(max_iter=1000).fit(scaler.transform(features(fit)), fit.labels.numpy())
    logits = torch.from_numpy(model.decision_function(scaler.transform(features(asked))))
    return logit_confidence(logits, asked.labels).numpy()


def headless(*seeds: int) -> View:
    return server_view(*(weights(shared(s), "surrogate", r + 1) for r, s in enumerate(seeds)))


@pytest.mark.parametrize("artefact", ["update", "personal", "surrogate", "large"])
def test_whole_models_are_read_as_they_are(artefact: Any) -> None:
    candidates_, _, views = federations(True)
    own, plain = (
        extract(o, candidates_, views[0])
        for o in (RepresentationConfidence(artefact), ModelConfidence(artefact))
    )
    np.testing.assert_array_equal(own.candidates, plain.candidates)
    np.testing.assert_array_equal(own.population, plain.population)


def test_the_head_is_fitted_on_the_public_shard_where_that_has_the_tasks_labels() -> None:
    about = known(public=True)
    signals = extract(RepresentationConfidence(), about, headless(1))
    assert signals.candidates.shape == (12, 1)
    np.testing.assert_allclose(
        signals.candidates[:, 0], expected(about.public, about.records), rtol=1e-3, atol=1e-3
    )
    np.testing.assert_allclose(
        signals.population[:, 0, 0], expected(about.public, about.population), rtol=1e-3, atol=1e-3
    )


def test_public_records_without_a_label_of_the_task_are_left_out() -> None:
    about = known(public=True)
    labels = torch.where(torch.arange(60) < 40, about.public.labels, UNLABELLED)
    some = replace(about, public=Records(about.public.inputs, labels))
    fewer = replace(about, public=about.public.take(torch.arange(40)))
    first, second = (extract(RepresentationConfidence(), c, headless(1)) for c in (some, fewer))
    np.testing.assert_array_equal(first.candidates, second.candidates)


def halves(population: Records) -> tuple[torch.Tensor, torch.Tensor]:
    order = torch.argsort(population.labels, stable=True)
    return order[::2], order[1::2]


def test_else_it_is_fitted_on_either_half_of_the_population_for_the_other() -> None:
    about = known(public=False)
    signals = extract(RepresentationConfidence(), about, headless(1))
    one, other = halves(about.population)
    for fit, asked in ((one, other), (other, one)):
        half = about.population.take(fit)
        np.testing.assert_allclose(
            signals.population[asked.numpy(), 0, 0],
            expected(half, about.population.take(asked)),
            rtol=1e-3,
            atol=1e-3,
        )
    both = [expected(about.population.take(h), about.records) for h in (one, other)]
    np.testing.assert_allclose(signals.candidates[:, 0], np.mean(both, 0), rtol=1e-3, atol=1e-3)


def test_no_population_record_has_a_say_in_the_head_it_is_read_through() -> None:
    about = known(public=False)
    one, other = halves(about.population)
    at = int(one[3])
    inputs = about.population.inputs.clone()
    inputs[at] = -inputs[at]
    moved = replace(about, population=Records(inputs, about.population.labels))
    before, after = (
        extract(RepresentationConfidence(), c, headless(1)).population[:, 0, 0] for c in (about, moved)
    )
    rest = np.setdiff1d(one.numpy(), [at])
    np.testing.assert_allclose(before[rest], after[rest], atol=1e-5)
    assert (np.abs(before[other] - after[other]) > 1e-4).mean() > 0.9


def test_population_and_non_members_cannot_be_told_apart() -> None:
    """Both are out of sample: fitted on the whole population, its own records would stand out."""
    about = replace(known(public=False, n=300, z=100), clients=torch.zeros(300, dtype=torch.int64))
    signals = extract(RepresentationConfidence(), about, headless(1))
    both = np.concatenate([signals.population[:, 0, 0], signals.candidates[:, 0]])
    assert abs(auc(both, np.arange(400) < 100) - 0.5) < 3.3 * np.sqrt(401 / (12 * 100 * 300))
    inside = expected(about.population, about.population)
    assert auc(np.concatenate([inside, signals.candidates[:, 0]]), np.arange(400) < 100) > 0.7


def test_every_round_and_every_client_has_a_head_of_its_own() -> None:
    about = known(public=True)
    rounds = extract(RepresentationConfidence(), about, headless(1, 2))
    assert rounds.candidates.shape == (12, 2)
    for query, seed in enumerate((1, 2)):
        alone = extract(RepresentationConfidence(), about, headless(seed))
        np.testing.assert_allclose(rounds.candidates[:, query], alone.candidates[:, 0], atol=1e-5)
    uploads = server_view(*(weights(shared(k + 1), "update", 0, k) for k in range(2)))
    signals = extract(RepresentationConfidence("update"), about, uploads)
    for client in range(2):
        alone = extract(RepresentationConfidence(), about, headless(client + 1))
        mine = about.clients.numpy() == client
        np.testing.assert_allclose(signals.candidates[mine], alone.candidates[mine], atol=1e-5)
        np.testing.assert_allclose(signals.population[:, :, client], alone.population[:, :, 0], atol=1e-5)


def test_of_some_whole_models_and_some_without_heads_each_is_read_as_it_is() -> None:
    about = known(public=True)
    whole = initial(SPEC, torch.Generator().manual_seed(5))
    view = server_view(weights(shared(1), "surrogate", 1), weights(whole, "surrogate", 2))
    signals = extract(RepresentationConfidence(), about, view)
    bare = extract(RepresentationConfidence(), about, headless(1))
    plain = extract(ModelConfidence("surrogate"), about, server_view(weights(whole, "surrogate", 2)))
    np.testing.assert_allclose(signals.candidates[:, 0], bare.candidates[:, 0], atol=1e-5)
    np.testing.assert_allclose(signals.candidates[:, 1], plain.candidates[:, 0], atol=1e-5)


def test_nothing_is_said_where_nobody_could_fit_a_head() -> None:
    about = known(public=False, z=1)
    assert RepresentationConfidence().extract(headless(1), about, STREAM) is None
    one_label = replace(about, population=Records(noise(9, 0).inputs, torch.zeros(9, dtype=torch.int64)))
    assert RepresentationConfidence().extract(headless(1), one_label, STREAM) is None
    untouched = server_view(weights(shared(1), "surrogate", 0))
    assert RepresentationConfidence().extract(untouched, known(public=True), STREAM) is None
    lone = Transcript((weights(shared(1), "update", 0, 1),), {"surrogate": SPEC}).view(Observer("client", 1))
    assert RepresentationConfidence("update").extract(lone, known(public=True), STREAM) is None


def test_a_label_that_the_attacker_never_saw_is_unknown_and_no_rival() -> None:
    about = known(public=True)
    kept = about.public.take(about.public.labels != 2)
    signals = extract(RepresentationConfidence(), replace(about, public=kept), headless(1))
    unseen = (about.records.labels == 2).numpy()
    assert unseen.any()
    np.testing.assert_array_equal(np.isnan(signals.candidates[:, 0]), unseen)


def test_of_two_labels_the_head_is_that_of_binary_regression() -> None:
    rng = np.random.default_rng(0)
    inputs, labels = rng.normal(size=(50, 3)) * [1.0, 5.0, 0.1], rng.integers(0, 2, 50)
    inputs[:, 0] += labels
    weight, bias = fitted_head(inputs, labels + 1, 4, 0.7)
    logits = torch.from_numpy(inputs).float() @ weight.T + bias
    assert torch.isneginf(logits[:, [0, 3]]).all()
    scaler = StandardScaler().fit(inputs)
    model = LogisticRegression(C=0.7, max_iter=1000).fit(scaler.transform(inputs), labels)
    np.testing.assert_allclose(
        (logits[:, 2] - logits[:, 1]).numpy(), model.decision_function(scaler.transform(inputs)), atol=1e-4
    )


def test_features_that_never_vary_do_no_harm() -> None:
    rng = np.random.default_rng(0)
    inputs, labels = rng.normal(size=(30, 2)), rng.integers(0, 3, 30)
    with_dead = np.column_stack([inputs, np.zeros(30)])
    weight, bias = fitted_head(with_dead, labels, 3, 1.0)
    plain, offset = fitted_head(inputs, labels, 3, 1.0)
    torch.testing.assert_close(weight[:, :2], plain, atol=1e-5, rtol=1e-5)
    torch.testing.assert_close(bias, offset, atol=1e-5, rtol=1e-5)
    assert not weight[:, 2].any()


def test_features_beyond_all_bounds_say_nothing() -> None:
    vast = {k: v * 1e30 for k, v in shared(1).items()}
    about = known(public=True)
    huge = replace(about, public=Records(about.public.inputs * 1e30, about.public.labels))
    signals = extract(RepresentationConfidence(), huge, server_view(weights(vast, "surrogate", 1)))
    assert np.isnan(signals.candidates).all()
    assert np.isnan(signals.population).all()


def test_damaged_weights_are_no_representation() -> None:
    part = {k: v for k, v in shared(1).items() if k != "1.bias"}
    with pytest.raises(ValueError, match=r"expected tensor '1.bias' in release 'surrogate' of round 1"):
        RepresentationConfidence().extract(
            server_view(weights(part, "surrogate", 1)), known(public=True), STREAM
        )


def test_members_that_a_representation_memorised_are_found_without_its_head() -> None:
    about, included, views = federations(True)
    signals = [extract(RepresentationConfidence("update"), about, without_heads(v)) for v in views[:4]]
    found = [auc(_last(s), i) for s, i in zip(signals, included, strict=False)]
    assert min(found) > 0.8


def _last(signals: Signals) -> np.ndarray[Any, np.dtype[np.float64]]:
    return signals.candidates[:, -1]


def test_a_client_meets_personal_models_only_of_itself() -> None:
    about = known(public=True)
    sent = (personal(initial(SPEC, torch.Generator().manual_seed(3)), 0, 0),)
    view = Transcript(sent, {"surrogate": SPEC}).view(Observer("client", 0))
    signals = extract(RepresentationConfidence("personal"), about, view)
    np.testing.assert_array_equal(np.isnan(signals.candidates[:, 0]), about.clients.numpy() != 0)


def test_one_class_leaves_nothing_to_read() -> None:
    spec: NetSpec = replace(SPEC, classes=1)
    params = representation_of(spec, initial(spec, torch.Generator().manual_seed(0)))
    view = View(Observer("server"), (weights(params, "large"),), {"large": spec})
    assert RepresentationConfidence("large").extract(view, known(public=True), STREAM) is None


@pytest.mark.parametrize(
    ("knobs", "message"),
    [
        (
            {"artefact": "x"},
            "expected artefact to be one of update, aggregate, personal, surrogate, large, got",
        ),
        ({"strength": 0.0}, "expected strength > 0, got strength=0.0"),
    ],
)
def test_bad_knobs_are_refused(knobs: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        replace(RepresentationConfidence(), **knobs)
