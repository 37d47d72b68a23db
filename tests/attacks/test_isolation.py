"""Isolation: who is sent its own model back, bit for bit, and what its uploads then say."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import torch

from attacks.ascent import Ascent
from attacks.confidence import ModelConfidence
from attacks.difficulty import DifficultyCalibrated
from attacks.interface import MembershipAttack
from attacks.isolation import IsolatedConfidence, IsolatedLoss, Isolation
from attacks.lira import Lira
from attacks.loss import LossThreshold
from defenses.secure_aggregation import SecureAggregation
from privfed.federation import run
from privfed.hooks import Hooks
from privfed.nets import initial, representation_of
from privfed.randomness import Stream
from privfed.release import CLIENTS, Release, client_name
from tests.attacks.federations import SPEC, candidates, noise, weights
from tests.attacks.malicious import PIPELINE, coins, dealt, played, turn, views, world
from tests.attacks.simulation import auc, chance_width

ATTACKS = (IsolatedLoss(), DifficultyCalibrated(IsolatedConfidence()), Lira(IsolatedConfidence()))


def same(one: Release, other: Release) -> bool:
    return one.tensors.keys() == other.tensors.keys() and all(
        torch.equal(one.tensors[k], other.tensors[k]) for k in one.tensors
    )


def test_every_client_starts_from_its_own_last_upload_bit_for_bit() -> None:
    for view in views(Isolation()):
        sent = {(r.round, r.receiver): r for r in view.select(name="surrogate")}
        uploads = {(r.round, r.sender): r for r in view.select(name="update")}
        assert (0, CLIENTS) in sent
        for t in (1, 2):
            assert (t, CLIENTS) not in sent
            for k in range(2):
                assert same(sent[t, client_name(k)], uploads[t - 1, client_name(k)])
        assert not same(uploads[0, client_name(0)], uploads[0, client_name(1)])


def test_it_is_as_if_every_client_had_trained_on_alone() -> None:
    """The models of an isolated client do not depend on who the other one is."""
    included = torch.from_numpy(coins()[:2])
    other = included.clone()
    other[:, candidates(64).clients == 1] ^= True
    for deviation, alike in ((Isolation(), True), (None, False)):
        last = []
        for held in (included, other):
            (outcome,) = run(PIPELINE, world(deviation), [dealt(held[0], 0)])
            last.append([r for r in outcome.transcript.releases if r.name == "update" and r.about == 0][-1])
        gap = max(float((last[0].tensors[k] - last[1].tensors[k]).abs().max()) for k in last[0].tensors)
        assert (gap < 1e-5) == alike


def test_only_victims_are_isolated() -> None:
    (outcome,) = run(PIPELINE, world(Isolation(victims=(1,))), [dealt(torch.from_numpy(coins()[0]), 0)])
    releases = outcome.transcript.releases
    sent = {(r.round, r.receiver): r for r in releases if r.name == "surrogate"}
    uploads = {(r.round, r.sender): r for r in releases if r.name == "update"}
    withheld = {r.round: r for r in releases if r.name == "withheld"}
    for t in (1, 2):
        assert same(sent[t, client_name(1)], uploads[t - 1, client_name(1)])
        assert same(sent[t, client_name(0)], withheld[t])


def test_where_updates_are_hidden_nobody_can_be_isolated() -> None:
    hidden = Hooks(aggregate=(SecureAggregation(minimum=2),))
    (outcome,) = run(PIPELINE, world(Isolation(), hidden), [dealt(torch.from_numpy(coins()[0]), 0)])
    sent = [r for r in outcome.transcript.releases if r.name == "surrogate"]
    assert {r.receiver for r in sent} == {CLIENTS}


def test_of_a_representation_the_own_representation_goes_back() -> None:
    honest, own = (initial(SPEC, torch.Generator().manual_seed(s)) for s in range(2))
    bare = representation_of(SPEC, honest)
    seen = [weights(own, "update", 0, 0)]
    sent = Isolation().send(turn(SPEC, bare, noise(4, 0), [0] * 4, round=1, seen=seen))
    assert sent.keys() == bare.keys()
    assert all(torch.equal(sent[k], own[k]) for k in sent)


def test_the_signal_is_the_confidence_of_the_uploads_after_the_first() -> None:
    known = candidates(64)
    for view in views(Isolation())[:2]:
        found = IsolatedConfidence().extract(view, known, Stream(0))
        whole = ModelConfidence("update").extract(view, known, Stream(0))
        assert found is not None
        assert whole is not None
        np.testing.assert_allclose(found.candidates, whole.candidates[:, 1:], atol=1e-5)
        np.testing.assert_allclose(found.population, whole.population[:, 1:], atol=1e-5)


def test_nothing_is_read_where_nobody_was_isolated() -> None:
    for deviation in (None, Ascent(gamma=0.1)):
        assert all(
            IsolatedConfidence().extract(v, candidates(64), Stream(0)) is None for v in views(deviation)
        )


@pytest.mark.parametrize("attack", ATTACKS, ids=repr)
def test_members_of_noise_are_found(attack: MembershipAttack) -> None:
    game = played(attack, Isolation())
    assert auc(game.scores(attack), game.included) > 0.9


def test_isolated_models_fit_members_better_than_averaged_ones_do() -> None:
    """The same records, rounds and training; the start alone differs. In each of eight federations."""
    isolated = played(ATTACKS[0], Isolation())
    averaged = played(LossThreshold(ModelConfidence("update")), None)
    for f, held in enumerate(coins()):
        alone, together = (g.candidates[f, held, -1].mean() for g in (isolated, averaged))
        assert alone > together


@pytest.mark.parametrize("attack", ATTACKS, ids=repr)
def test_membership_of_others_is_at_chance(attack: MembershipAttack) -> None:
    """The same signals against coins that decided nothing; 512 scores, spread of LiRA's doubled."""
    game = replace(played(attack, Isolation()), included=coins(seed=1))
    assert abs(auc(game.scores(attack), game.included) - 0.5) < 2 * chance_width(game.included)


def test_impossible_victims_are_refused() -> None:
    with pytest.raises(ValueError, match=r"expected victims >= 0, got victims=\(0, -1\)"):
        Isolation(victims=(0, -1))
