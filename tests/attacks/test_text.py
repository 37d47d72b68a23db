"""Sentences, embedded as (tokens, dimension): every attack that has no need of images reads them."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from attacks._signals import logit_confidence
from attacks.class_mean import ClassMeanDistance
from attacks.confidence import ModelConfidence
from attacks.distil_and_test import DistilledNearest
from attacks.generator_samples import GeneratorSamples
from attacks.generator_search import GeneratorSearch
from attacks.interface import Candidates, Observation
from attacks.nearest import NearestSynthetic
from attacks.representation import RepresentationConfidence
from privfed.nets import NetSpec, Params, initial, module_of, representation_of
from privfed.randomness import Stream
from privfed.records import Records
from privfed.release import Observer, Transcript, View
from tests.attacks.federations import bank, extract, images, personal, weights
from tests.attacks.generators import plateaus, released

SPEC = NetSpec("lstm", channels=4, size=6, classes=2, hidden=(8, 5))
STREAM = Stream(0)


def sentences(n: int, seed: int) -> Records:
    generator = torch.Generator().manual_seed(seed)
    inputs = torch.randn(n, SPEC.size, SPEC.channels, generator=generator)
    return Records(inputs, torch.randint(2, (n,), generator=generator))


def net(seed: int) -> Params:
    return initial(SPEC, torch.Generator().manual_seed(seed))


KNOWN = Candidates(sentences(20, 0), torch.arange(20) % 2, sentences(12, 1), sentences(30, 2))
MEMBERS = KNOWN.records.take(torch.arange(10))
VIEW = Transcript(
    (
        weights(net(0), "surrogate", 0),
        *(weights(net(k + 1), "update", 0, k) for k in range(2)),
        *(personal(net(k + 3), 0, k) for k in range(2)),
        weights(representation_of(SPEC, net(5)), "surrogate", 1),
        weights(net(6), "large", 1),
        bank(MEMBERS, 0),
        images(MEMBERS, 0, 0),
        images(MEMBERS),
        *released(plateaus(MEMBERS, 2, seed=7), 1),
    ),
    {"surrogate": SPEC, "large": SPEC},
).view(Observer("server"))
OBSERVATIONS: list[Observation] = [
    *(ModelConfidence(a) for a in ("update", "personal", "large")),
    RepresentationConfidence(),
    NearestSynthetic(),
    NearestSynthetic("bank", same_label=True),
    DistilledNearest(),
    GeneratorSearch(),
    GeneratorSamples(),
    ClassMeanDistance(),
]


@pytest.mark.parametrize("observation", OBSERVATIONS, ids=repr)
def test_sentences_are_read(observation: Observation) -> None:
    signals = extract(observation, KNOWN, VIEW)
    assert signals.candidates.shape[0] == 20
    assert signals.population.shape[0] == 12
    mine = KNOWN.clients.numpy() == 0  # per-client sentences are those of client 0 alone
    assert np.isfinite(signals.candidates[mine]).all()
    assert np.isfinite(signals.population[:, :, 0]).all()


def test_confidence_is_that_of_the_net() -> None:
    signals = extract(ModelConfidence("large"), KNOWN, VIEW)
    with torch.no_grad():
        logits = module_of(SPEC, net(6))(KNOWN.records.inputs)
    expected = logit_confidence(logits, KNOWN.records.labels)
    np.testing.assert_allclose(signals.candidates[:, 0], expected.numpy(), atol=1e-5)


@pytest.mark.parametrize(
    "observation",
    [NearestSynthetic(), NearestSynthetic("bank"), GeneratorSearch(), GeneratorSamples()],
    ids=repr,
)
def test_sentences_that_are_given_away_are_at_distance_zero(observation: Observation) -> None:
    signals = extract(observation, KNOWN, VIEW)
    np.testing.assert_allclose(signals.candidates[:10, 0], 0, atol=5e-3)
    assert (signals.candidates[10:, 0] < -1).all()


def test_damaged_sentences_are_refused() -> None:
    other = Records(torch.zeros(3, 5, 4), torch.zeros(3, dtype=torch.int64))
    view = View(Observer("outsider"), (images(other),))
    with pytest.raises(ValueError, match=r"expected inputs of shape \(6, 4\), got inputs=\(5, 4\)"):
        NearestSynthetic().extract(view, KNOWN, STREAM)
