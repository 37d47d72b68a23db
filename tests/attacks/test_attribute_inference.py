"""Hidden attributes: planted memory is found, statistics and noise are not mistaken for it."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch

from attacks.attribute_inference import (
    AttributeInference,
    HiddenLabel,
    HiddenQuadrant,
    imputed,
    right,
)
from attacks.interface import Floats, Known
from audits.property_game import attribute_advantage
from privfed.nets import NetSpec, Params, initial, representation_of
from privfed.randomness import Stream
from privfed.records import Records
from privfed.release import CLIENTS, PUBLIC, SERVER, Observer, Release, Transcript, View, client_name
from privfed.training import predict
from tests.attacks.federations import memorise

SPEC = NetSpec("mlp", channels=1, size=6, classes=5, width=48, depth=1)
STREAM = Stream(0)


def noise(n: int, seed: int) -> Records:
    generator = torch.Generator().manual_seed(seed)
    images = torch.rand(n, 1, 6, 6, generator=generator) * 2 - 1
    return Records(images, torch.randint(5, (n,), generator=generator))


def known(seed: int = 7) -> Known:
    return Known(noise(30, seed), noise(60, seed + 1))


def large(params: Params) -> Release:
    return Release(1, SERVER, PUBLIC, "weights", "large", params)


def update(params: Params, client: int, round: int = 0) -> Release:
    return Release(round, client_name(client), SERVER, "weights", "update", params, client)


def view(*releases: Release, role: Any = "server") -> View:
    return Transcript(releases, {"surrogate": SPEC, "large": SPEC}).view(Observer(role))


def guessed(attack: AttributeInference, seen: View, records: Records, clients: torch.Tensor) -> Floats:
    found = attack.guess(seen, records, clients, known(), STREAM)
    assert found is not None
    return found


def nobody(n: int) -> torch.Tensor:
    return torch.zeros(n, dtype=torch.int64)


def test_labels_of_memorised_noise_are_known_of_members_alone() -> None:
    """Four models trained on half of 60 noise images each, labels drawn at random."""
    records = noise(60, 1)
    held = torch.rand(4, 60, generator=torch.Generator().manual_seed(2)) < 0.5
    correct = []
    for params in memorise(records, held, 0):
        scores = guessed(AttributeInference(), view(large(params)), records, nobody(60))
        correct.append(right(scores, records.labels.numpy()))
    found = attribute_advantage(np.stack(correct), held.numpy(), 0.95)
    assert found.lower is not None
    assert found.lower > 0.4
    imputation = right(imputed(HiddenLabel(), records, known(), SPEC), records.labels.numpy())
    assert imputation.mean() < 0.4  # labels are independent of the images: 0.2 is chance


def test_a_model_that_saw_none_of_them_has_no_advantage() -> None:
    """Null: 400 records, membership drawn for other models; 99.9 % band of a difference of shares."""
    records, others = noise(400, 1), noise(40, 3)
    inside = np.random.default_rng(0).random(400) < 0.5
    (params,) = memorise(others, torch.ones(1, 40, dtype=torch.bool), 0)
    correct = right(
        guessed(AttributeInference(), view(large(params)), records, nobody(400)), records.labels.numpy()
    )
    assert (
        abs(correct[inside].mean() - correct[~inside].mean()) < 3.3 * correct.std() * np.sqrt(4 / 400) < 0.15
    )


def test_scores_of_labels_are_log_probabilities_and_do_not_read_the_true_one() -> None:
    params, records = initial(SPEC, STREAM.torch()), noise(9, 1)
    scores = guessed(AttributeInference(), view(large(params)), records, nobody(9))
    expected = predict(SPEC, params, records.inputs).double().log_softmax(1)
    np.testing.assert_allclose(scores, expected, atol=1e-6)
    shifted = Records(records.inputs, (records.labels + 1) % 5)
    np.testing.assert_array_equal(
        scores, guessed(AttributeInference(), view(large(params)), shifted, nobody(9))
    )


def test_the_hidden_quadrant_is_not_read_by_attack_or_imputation() -> None:
    params, records, hidden = initial(SPEC, STREAM.torch()), noise(12, 1), HiddenQuadrant()
    changed = Records(records.inputs.clone(), records.labels)
    changed.inputs[..., 3:, 3:] = 0.9
    attack, seen = AttributeInference(attribute=hidden), view(large(params))
    np.testing.assert_array_equal(
        guessed(attack, seen, records, nobody(12)), guessed(attack, seen, changed, nobody(12))
    )
    np.testing.assert_array_equal(
        imputed(hidden, records, known(), SPEC), imputed(hidden, changed, known(), SPEC)
    )
    assert hidden.truth(changed, noise(60, 8)).tolist() == [2] * 12


def test_the_hidden_quadrant_of_memorised_images_is_found() -> None:
    """The label is the brightness of the hidden quarter: a model that learnt it gives the quarter away."""
    base = noise(90, 1)
    level = torch.arange(90) % 3
    base.inputs[..., 3:, 3:] = (level.view(-1, 1, 1, 1) - 1) * 0.8
    records = Records(base.inputs, level)
    (params,) = memorise(records, torch.ones(1, 90, dtype=torch.bool), 0)
    pool = Known(records.take(torch.zeros(0, dtype=torch.int64)), records)
    attack = AttributeInference(attribute=HiddenQuadrant())
    scores = attack.guess(view(large(params)), records, nobody(90), pool, STREAM)
    assert scores is not None
    assert right(scores, level.numpy()).mean() > 0.9


def test_quadrants_are_filled_from_the_records_own_label() -> None:
    inputs = torch.zeros(6, 1, 2, 2)
    inputs[:, 0, 1, 1] = torch.tensor([-0.9, -0.7, 0.0, 0.1, 0.5, 0.9])
    pool = Records(inputs, torch.tensor([0, 1, 0, 1, 0, 1]))
    hidden = HiddenQuadrant()
    assert hidden.truth(pool, pool).tolist() == [0, 0, 1, 1, 2, 2]
    filled = hidden.completed(Records(inputs[:3], torch.tensor([0, 1, 4])), 2, pool)
    torch.testing.assert_close(filled.inputs[:, 0, 1, 1], torch.tensor([0.5, 0.9, 0.7]))
    assert float(filled.inputs[:, 0, 0].abs().max()) == 0


def test_a_record_is_looked_up_in_the_models_of_its_own_client() -> None:
    first, second = (initial(SPEC, STREAM.child(k).torch()) for k in range(2))
    records, clients = noise(6, 1), torch.tensor([0, 0, 1, 1, 2, 2])
    seen = view(update(first, 0), update(second, 1), update(second, 0, 1))
    scores = guessed(AttributeInference("update"), seen, records, clients)
    a, b = (predict(SPEC, p, records.inputs).double().log_softmax(1).numpy() for p in (first, second))
    np.testing.assert_allclose(scores[:2], ((a + b) / 2)[:2], atol=1e-6)
    np.testing.assert_allclose(scores[2:4], b[2:4], atol=1e-6)
    assert np.isnan(scores[4:]).all()


def test_right_counts_ties_by_share_and_keeps_the_unknown() -> None:
    scores = np.array([[0.1, 0.9], [0.5, 0.5], [np.nan, 0.1]])
    np.testing.assert_array_equal(right(scores, np.array([1, 0, 1])), [1.0, 0.5, np.nan])


def test_the_imputation_learns_what_the_visible_part_says() -> None:
    records = noise(200, 1)
    told = Records(records.inputs, (records.inputs[:, 0, 0, 0] > 0).long())
    some, rest = told.take(torch.arange(100)), told.take(torch.arange(100, 200))
    chances = imputed(HiddenLabel(), rest, Known(some, some), SPEC)
    assert chances.shape == (100, 5)
    np.testing.assert_allclose(chances.sum(1), 1)
    assert right(chances, rest.labels.numpy()).mean() > 0.8
    one = Records(records.inputs, torch.zeros(200, dtype=torch.int64))
    with pytest.raises(ValueError, match=r"expected known records of at least two values, got values=\[0\]"):
        imputed(HiddenLabel(), rest, Known(one, one), SPEC)


def test_without_models_or_known_records_nothing_is_guessed() -> None:
    records, params = noise(4, 1), initial(SPEC, STREAM.torch())
    attack = AttributeInference()
    assert attack.guess(view(), records, nobody(4), known(), STREAM) is None
    bare = Release(1, SERVER, CLIENTS, "weights", "surrogate", representation_of(SPEC, params))
    assert AttributeInference("surrogate").guess(view(bare), records, nobody(4), known(), STREAM) is None
    unlabelled = Records(records.inputs, torch.full((4,), -1))
    nothing = Known(unlabelled, unlabelled)
    assert attack.guess(view(large(params)), records, nobody(4), nothing, STREAM) is None
    assert hash(attack) == hash(AttributeInference())
    with pytest.raises(ValueError, match="expected artefact to be one of"):
        AttributeInference("small")  # type: ignore[arg-type]
