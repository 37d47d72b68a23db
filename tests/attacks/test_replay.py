"""Replay: what was trained comes out again, from what each observer holds; leaks and nulls."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch
from torch.nn import functional as F

from attacks._replay import How, replays
from attacks.confidence import ModelConfidence
from attacks.gradient_alignment import UpdateAlignment
from attacks.interface import Candidates
from attacks.loss import LossThreshold
from attacks.replay import TRAINING, ReplayedAlignment, ReplayedConfidence
from privfed.nets import Params, forward, initial
from privfed.randomness import Stream
from privfed.records import Records
from privfed.release import Observer, Transcript, View
from privfed.training import Recipe, Task, train
from tests.attacks.federations import (
    SPEC,
    candidates,
    extract,
    images,
    no_references,
    noise,
    server_view,
    weights,
    without_heads,
)
from tests.attacks.latents import latents
from tests.attacks.simulation import auc, chance_width

STEPS, ETA = 4, 0.3


def net(seed: int) -> Params:
    return initial(SPEC, torch.Generator().manual_seed(seed))


def descended(start: Params, records: Records) -> Params:
    """Full-batch gradient descent, one task at a time."""
    recipe = Recipe(epochs=STEPS, batch=len(records), lr=ETA)
    return train([Task(SPEC, start, records, recipe, Stream(5))])[0]


def distilled_round() -> tuple[View, View]:
    """A server's view of two clients' images with their learnt step sizes; and the models they stand for."""
    start, made = net(0), [noise(10, 20), noise(10, 21)]
    told = [weights(start, "surrogate", 0)]
    sets = [
        r for k, m in enumerate(made) for r in (images(m, 0, k), latents(torch.zeros(10, 1, 6, 6), 0, k, ETA))
    ]
    ends = [weights(descended(start, m), "update", 0, k) for k, m in enumerate(made)]
    return server_view(*told, *sets), server_view(*told, *ends)


def test_a_server_walks_the_way_that_the_images_stand_for() -> None:
    """Confidence and cosine are those of the update that the images reproduce exactly."""
    view, true = distilled_round()
    known = candidates(16, 6)
    for replayed, direct in (
        (ReplayedConfidence("client_images", steps=STEPS), ModelConfidence("update")),
        (ReplayedAlignment("client_images", steps=STEPS), UpdateAlignment()),
    ):
        ours, wanted = extract(replayed, known, view), extract(direct, known, true)
        np.testing.assert_allclose(ours.candidates, wanted.candidates, atol=1e-4)
        np.testing.assert_allclose(ours.population, wanted.population, atol=1e-4)
        np.testing.assert_array_equal(ours.clients, wanted.clients)


def test_one_step_is_the_mean_gradient_of_the_set() -> None:
    """The cosine is that of a record's gradient with the mean gradient, from autograd."""
    made, known, start = noise(7, 3), candidates(5, 3), net(0)
    view = server_view(weights(start, "surrogate", 0), images(made, 1))
    recipe = Recipe(epochs=1, batch=7, lr=0.5)
    found = extract(ReplayedAlignment(recipe=recipe), known, view).candidates[:, 0]

    def gradient(records: Records) -> torch.Tensor:
        leaves = {k: v[None].clone().requires_grad_() for k, v in start.items()}
        loss = F.cross_entropy(forward(SPEC, leaves, records.inputs[None])[0], records.labels)
        return torch.cat([g.flatten() for g in torch.autograd.grad(loss, list(leaves.values()))])

    mean = gradient(made)
    exact = [
        float(F.cosine_similarity(gradient(known.records.take(torch.tensor([i]))), mean, dim=0))
        for i in range(5)
    ]
    np.testing.assert_allclose(found, exact, atol=1e-5)


def test_the_start_is_what_the_observer_knows() -> None:
    """Newest whole broadcast up to the set; none for an outsider and for bodies without heads."""
    early, late, made = net(1), net(2), noise(9, 3)
    releases = (weights(early, "surrogate", 0), weights(late, "surrogate", 1), images(made, 2))
    transcript = Transcript(releases, {"surrogate": SPEC})
    known = candidates(4)

    def start(view: View, how: str = "fresh") -> Params:
        found = replays(view, "synthetic", How(TRAINING, 5, how), known, Stream(3))  # type: ignore[arg-type]
        assert found is not None
        return found[1][0].start

    def same(one: Params, other: Params) -> bool:
        return all(torch.equal(one[k], other[k]) for k in one)

    assert same(start(transcript.view(Observer("client", 0))), late)
    assert same(start(server_view(weights(early, "surrogate", 0), *releases[2:])), early)
    outside = transcript.view(Observer("outsider", holds=frozenset({"synthetic"})))
    fresh = start(outside)
    assert not same(fresh, late)
    assert same(fresh, start(outside))
    bodies = without_heads(server_view(*releases[:2]))
    headless = View(bodies.observer, (*bodies.releases, releases[2]), bodies.nets)
    assert same(fresh, start(headless))
    assert not same(fresh, start(outside, "public"))


def test_a_step_size_of_another_round_or_none_leaves_the_recipe() -> None:
    made, start = noise(8, 1), net(0)
    sent = weights(start, "surrogate", 0)
    plain = extract(ReplayedConfidence("client_images"), candidates(6), server_view(sent, images(made, 0, 0)))
    for eta, round, steps in ((ETA, 1, 5), (ETA, 0, 0), (float("nan"), 0, 5)):
        told = latents(torch.zeros(8, 1, 6, 6), round, 0, eta)
        view = server_view(sent, images(made, 0, 0), told)
        found = extract(ReplayedConfidence("client_images", steps=steps), candidates(6), view)
        np.testing.assert_allclose(found.candidates, plain.candidates)


@pytest.mark.parametrize(
    "observation", [ReplayedConfidence(), ReplayedAlignment(), ReplayedConfidence(start="public")]
)
@pytest.mark.parametrize("leaky", [True, False])
def test_an_outsider_finds_copies_and_nothing_in_independent_images(observation: Any, leaky: bool) -> None:
    records = noise(300, 0)
    inside = torch.rand(300, generator=torch.Generator().manual_seed(1)) < 0.5
    held = records.take(inside)
    copies = Records(held.inputs + 0.01 * noise(len(held), 8).inputs, held.labels)
    known = Candidates(records, torch.zeros(300, dtype=torch.int64), noise(60, 6), noise(60, 5))
    transcript = Transcript((images(copies if leaky else noise(150, 9)),), {"surrogate": SPEC})
    signals = extract(observation, known, transcript.view(Observer("outsider")))
    found = auc(LossThreshold(observation).score(signals, no_references(signals)), inside.numpy())
    width = chance_width(inside.numpy())
    assert found > 0.5 + 2 * width if leaky else abs(found - 0.5) < width


def test_bad_knobs_are_refused() -> None:
    for observation in (ReplayedConfidence, ReplayedAlignment):
        with pytest.raises(ValueError, match="expected steps >= 0, got steps=-1"):
            observation(steps=-1)
        with pytest.raises(ValueError, match="expected start to be one of fresh, public, got start='x'"):
            observation(start="x")  # type: ignore[arg-type]
