"""A classifier on white-box features: each feature, planted leaks, permuted labels, unknown values."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch
from torch.nn import functional as F

from attacks._gradients import Site, sites
from attacks.interface import References, Signals
from attacks.white_box import WhiteBox, WhiteBoxFeatures, features
from privfed.nets import module_of
from privfed.randomness import Stream
from tests.attacks.federations import SPEC, extract, federations, noise, server_view
from tests.attacks.movements import trained
from tests.attacks.simulation import Game, auc, bernoulli, chance_width, game


def site() -> Site:
    found = sites(trained(True)[0], "all", 1.0)
    assert found is not None
    return found[1][0]


def test_features_are_those_of_the_clients_own_model() -> None:
    records, there = noise(6, 9), site()
    module = module_of(SPEC, there.model)
    got = features(SPEC, there, records)
    assert got.shape == (6, 3 + SPEC.classes + 2)
    for i, (x, y) in enumerate(zip(records.inputs, records.labels, strict=True)):
        module.zero_grad()
        logits = module(x[None])
        F.cross_entropy(logits, y[None]).backward()
        z = logits[0].detach().double()
        rivals = z[torch.arange(SPEC.classes) != y]
        expected = [
            float(F.cross_entropy(z[None], y[None])),
            float(z[y] - rivals.logsumexp(0)),
            float(z.argmax() == y),
            *z.sort(descending=True).values.tolist(),
        ]
        for layer in ("1", "3"):
            named = dict(module.named_parameters())
            squares = [named[f"{layer}.{n}"].grad for n in ("weight", "bias")]
            expected.append(0.5 * np.log(sum(float((g**2).sum()) for g in squares if g is not None)))
        np.testing.assert_allclose(got[i], expected, rtol=1e-4, atol=1e-4)


def test_a_round_has_as_many_queries_as_features() -> None:
    known, _, _ = federations(True)
    read = extract(WhiteBoxFeatures(), known, trained(True)[0])
    rounds, each = 3, 3 + SPEC.classes + 2 + 2 + 2
    assert read.candidates.shape == (len(known.records), rounds * each)
    assert read.population.shape == (len(known.population), rounds * each, 2)
    assert np.isfinite(read.candidates).all()
    few = extract(WhiteBoxFeatures((), ()), known, trained(True)[0])
    assert few.candidates.shape[1] == rounds * (each - 4)
    assert WhiteBoxFeatures().extract(server_view(), known, Stream(0)) is None


def shifted(shifts: tuple[float, ...], federations: int = 9, n: int = 300) -> Game:
    """Several features, of which each moves by its own shift in members."""
    g = game(21, federations, n=n, queries=len(shifts))
    g.candidates[...] += np.array(shifts) * g.included[..., None]
    return g


@pytest.mark.parametrize("calibrated", [True, False])
def test_a_planted_leak_is_found_in_whichever_feature_and_direction(calibrated: bool) -> None:
    attack = WhiteBox(calibrated=calibrated)
    g = shifted((0.0, -2.0, 0.0))
    found = auc(g.scores(attack), g.included)
    assert found > (0.88 if calibrated else 0.7)
    several = shifted((1.0, -2.0, 1.0))
    assert auc(several.scores(attack), several.included) > found


def test_calibration_takes_off_what_makes_records_differ() -> None:
    g = shifted((1.0,))
    plain, calibrated = (auc(g.scores(WhiteBox(calibrated=c)), g.included) for c in (False, True))
    assert calibrated > plain + 0.05


@pytest.mark.parametrize("calibrated", [True, False])
def test_permuted_labels_are_at_chance(calibrated: bool) -> None:
    """The features leak, but what the classifier is told of membership has nothing to do with it."""
    g = shifted((2.0, -2.0), n=600)
    permuted = bernoulli(np.random.default_rng(5), *g.included.shape)
    redrawn = Game(g.candidates, g.population, permuted, g.clients)
    found = auc(redrawn.scores(WhiteBox(calibrated=calibrated)), permuted)
    # Scores of one record in several federations are not independent: twice the width of those that are.
    assert abs(found - 0.5) < 2 * chance_width(permuted)


def test_calibration_leaves_the_reference_at_hand_out() -> None:
    """With one record, three references and a single one outside, that one has nothing to be held against."""
    values = np.array([[[1.0], [5.0]], [[2.0], [6.0]], [[3.0], [8.0]]])
    included = np.array([[True, False], [False, True], [False, False]])
    references = References(values, np.zeros((3, 1, 1, 1)), included)
    target = Signals(np.array([[4.0], [7.0]]), np.zeros((1, 1, 1)), np.zeros(2, dtype=np.int64))
    by_hand = np.array([[1 - 2.5, 5 - 8.0], [2 - 3.0, 6 - 6.5], [3 - 2.0, 8 - 5.0]])
    asked = np.array([4 - 2.5, 7 - 6.5])
    plain = References(by_hand[..., None], references.population, included)
    expected = WhiteBox(calibrated=False).score(
        Signals(asked[:, None], target.population, target.clients), plain
    )
    np.testing.assert_allclose(WhiteBox().score(target, references), expected)


def test_unknown_features_count_as_average_and_unknown_records_stay_unknown() -> None:
    g = shifted((2.0, 0.0), n=200)
    target, references = g.target(0), g.references(np.arange(1, 9))
    whole = WhiteBox().score(target, references)
    holed = target.candidates.copy()
    holed[0, 1], holed[1] = np.nan, np.nan
    scores = WhiteBox().score(Signals(holed, target.population, target.clients), references)
    assert np.isnan(scores[1])
    assert np.isfinite(scores[0])
    np.testing.assert_array_equal(scores[2:], whole[2:])
    lost = references.candidates.copy()
    lost[:, :, 1] = np.nan
    blind = WhiteBox().score(target, References(lost, references.population, references.included))
    assert auc(blind, g.included[0]) > 0.8


def test_references_that_agree_on_everybody_teach_nothing() -> None:
    g = shifted((2.0,), n=20)
    references = g.references(np.arange(1, 9))
    everybody = References(references.candidates, references.population, np.ones_like(references.included))
    assert np.isnan(WhiteBox(calibrated=False).score(g.target(0), everybody)).all()


def test_at_most_so_many_references_are_trained_on() -> None:
    g = shifted((2.0,), n=100)
    target, references = g.target(0), g.references(np.arange(1, 9))
    ends = g.references(np.array([1, 8]))
    some = WhiteBox(calibrated=False, most=2).score(target, references)
    np.testing.assert_allclose(some, WhiteBox(calibrated=False).score(target, ends))


@pytest.mark.parametrize(
    ("field", "value", "message"),
    [
        ("most", 0, "expected most >= 1, got most=0"),
        ("strength", 0.0, "expected strength > 0, got strength=0.0"),
    ],
)
def test_bad_knobs_are_refused(field: str, value: Any, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        WhiteBox(**{field: value})
    with pytest.raises(ValueError, match=r"expected at in \[0, 1\], got at=2.0"):
        WhiteBoxFeatures(places=(2.0,))
    with pytest.raises(
        ValueError, match="expected part to be one of all, head, representation, got part='x'"
    ):
        WhiteBoxFeatures(likelihoods=("x",))  # type: ignore[arg-type]
