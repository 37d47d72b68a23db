"""FedDGM: what the server makes of updates alone, and what the options disclose."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest
import torch
from torch import Tensor

from privfed.distillation import Matching
from privfed.federation import Federation, Outcome, run
from privfed.nets import initial
from privfed.pipelines.feddgm import FedDGM
from privfed.randomness import Stream
from privfed.records import concatenate
from privfed.release import CLIENTS, PUBLIC, SERVER
from privfed.training import Recipe
from tests.privfed.pipelines.worlds import LARGE, equal, federation, named, noise, same, world

QUICK = FedDGM(
    rounds=2,
    local=Recipe(epochs=1, batch=4, lr=0.1),
    surrogate_training=Recipe(epochs=2, batch=8, lr=0.01, momentum=0.9),
    large_training=Recipe(epochs=2, batch=8, lr=0.01, momentum=0.9),
    ipc=1,
    matching=Matching(iterations=2, steps=2),
)
PRIOR_ONLY = replace(QUICK, matching=Matching(iterations=0, steps=2))
CLASSES = 4


def play(pipeline: FedDGM, of: Federation | None = None, **change: Any) -> Outcome:
    (outcome,) = run(pipeline, world(**change), [of or federation(0)])
    return outcome


def synthetic(outcome: Outcome) -> tuple[Tensor, Tensor]:
    (release,) = named(outcome, "synthetic")
    assert (release.sender, release.receiver, release.kind) == (SERVER, PUBLIC, "synthetic")
    return release.tensors["inputs"], release.tensors["labels"]


# What the server sees.


@pytest.mark.parametrize("pipeline", [QUICK, replace(QUICK, label_mode="held", accumulate=True)], ids=repr)
def test_the_server_can_be_replayed_from_its_releases_alone(pipeline: FedDGM) -> None:
    """Its next broadcast follows to the bit from what it received; no client is there to ask."""
    of = federation(0)
    outcome = play(pipeline, of)
    (state,) = pipeline.init(world(), [of.stream.child("init")])
    for n in range(pipeline.rounds):
        received = [
            r
            for r in outcome.transcript.releases
            if r.round == n and r.receiver == SERVER and r.sender != SERVER
        ]
        streams = [of.stream.child("server", n)]
        (state,) = pipeline.server_round(world(), [state], [received], streams)
    assert equal(state.surrogate, outcome.surrogate)
    assert equal(state.large or {}, outcome.large)
    assert state.synthetic is not None
    assert torch.equal(state.synthetic.inputs, synthetic(outcome)[0])


def test_a_client_sends_its_weights_and_nothing_else() -> None:
    outcome = play(QUICK)
    sent = [r for r in outcome.transcript.releases if r.sender.startswith("client")]
    assert {r.name for r in sent} == {"update"}
    assert QUICK.outside_claim == ()


def test_a_client_receives_the_surrogate_and_what_is_published() -> None:
    releases = play(QUICK).transcript.releases
    assert {r.name for r in releases if r.receiver == CLIENTS} == {"surrogate"}
    assert {r.name for r in releases if r.receiver == PUBLIC} == {"large", "synthetic"}


def test_the_large_model_is_larger_and_leaves_the_server_once() -> None:
    outcome = play(QUICK)
    (delivered,) = named(outcome, "large")
    assert delivered.round == QUICK.rounds
    assert outcome.transcript.nets["large"] == LARGE
    assert not equal(outcome.large, initial(LARGE, federation(0).stream.child("init", "large").torch()))


# The synthetic set.


@pytest.mark.parametrize("accumulate", [False, True])
def test_the_set_has_every_class_of_every_client(accumulate: bool) -> None:
    images, labels = synthetic(play(replace(QUICK, ipc=2, accumulate=accumulate)))
    rounds = QUICK.rounds if accumulate else 1
    assert images.shape == (rounds * 3 * CLASSES * 2, 1, 8, 8)
    assert labels.bincount().tolist() == [rounds * 3 * 2] * CLASSES
    assert images.abs().max() <= 1


def test_the_pool_is_the_images_of_the_clients_in_order() -> None:
    outcome = play(replace(QUICK, accumulate=True))
    own = named(outcome, "client_images")
    assert [(r.round, r.about) for r in own] == [(n, k) for n in range(2) for k in range(3)]
    assert all(r.sender == r.receiver == SERVER for r in own)
    assert torch.equal(torch.cat([r.tensors["inputs"] for r in own]), synthetic(outcome)[0])
    assert torch.equal(torch.cat([r.tensors["labels"] for r in own]), synthetic(outcome)[1])


def test_the_latents_on_the_server_decode_to_its_images() -> None:
    outcome = play(QUICK)
    prior = world().prior
    assert prior is not None
    for latents, images in zip(
        named(outcome, "client_latents"), named(outcome, "client_images"), strict=True
    ):
        assert latents.about == images.about
        assert latents.tensors["losses"].shape == (QUICK.matching.iterations + 1,)
        assert latents.tensors["eta"] > 0
        # Decoded alone instead of with the other clients': float32 rounding.
        torch.testing.assert_close(prior.decode(latents.tensors["latents"]), images.tensors["inputs"])


def test_every_client_and_round_starts_from_latents_of_its_own() -> None:
    drawn = [r.tensors["latents"] for r in named(play(PRIOR_ONLY), "client_latents")]
    assert len(drawn) == 6
    assert all(not torch.equal(a, b) for i, a in enumerate(drawn) for b in drawn[:i])


# The control without client information.


def test_without_iterations_nothing_depends_on_the_records() -> None:
    """Other records, labels and sizes, the same randomness: the same bits in all that is not an update."""
    first = federation(0, (8, 6, 5))
    second = replace(first, clients=tuple(noise(n, 77 + n, (1, 3)) for n in (2, 11, 0)))
    a, b = (play(PRIOR_ONLY, of) for of in (first, second))
    assert torch.equal(synthetic(a)[0], synthetic(b)[0])
    assert equal(a.surrogate, b.surrogate)
    assert equal(a.large, b.large)
    assert not same(a, b), "the updates differ"
    for name in ("surrogate", "client_images"):
        for x, y in zip(named(a, name), named(b, name), strict=True):
            assert equal(dict(x.tensors), dict(y.tensors))


def test_with_iterations_the_set_depends_on_the_records() -> None:
    first = federation(0)
    second = replace(first, clients=tuple(noise(len(c), 77 + k) for k, c in enumerate(first.clients)))
    a, b = (play(QUICK, of) for of in (first, second))
    assert not torch.equal(synthetic(a)[0], synthetic(b)[0])


def test_a_client_that_did_not_move_leaves_images_of_the_prior() -> None:
    of = federation(0, (8, 0, 5))
    outcome, prior_only = play(QUICK, of), play(PRIOR_ONLY, of)
    (idle,) = [r for r in named(outcome, "client_images") if (r.round, r.about) == (0, 1)]
    (drawn,) = [r for r in named(prior_only, "client_images") if (r.round, r.about) == (0, 1)]
    # The same latents decoded in the same batch of clients.
    assert torch.equal(idle.tensors["inputs"], drawn.tensors["inputs"])
    (latents,) = [r for r in named(outcome, "client_latents") if (r.round, r.about) == (0, 1)]
    assert latents.tensors["losses"].isnan().all()


# Options that disclose.


HELD = replace(QUICK, label_mode="held")


def test_held_labels_are_said_and_only_those_get_images() -> None:
    clients = (noise(8, 0, (0, 2)), noise(6, 1, (3,)), noise(5, 2, (0, 1, 2, 3)))
    outcome = play(HELD, Federation(clients, Stream(0)))
    said = named(outcome, "labels")
    assert len(said) == HELD.rounds * 3
    for release in said:
        own = clients[release.about or 0].labels.unique()
        assert release.kind == "label_set"
        assert release.sender == f"client:{release.about}"
        assert torch.equal(release.tensors["labels"], own)
    for images in named(outcome, "client_images"):
        assert torch.equal(images.tensors["labels"], clients[images.about or 0].labels.unique())
    assert HELD.outside_claim == ("set of labels of each client",)


def test_absent_classes_get_images_all_the_same_unless_labels_are_held() -> None:
    lacking = Federation((noise(8, 0, (0,)), noise(6, 1, (0, 1))), Stream(0))
    assert synthetic(play(QUICK, lacking))[1].unique().tolist() == [0, 1, 2, 3]
    assert synthetic(play(HELD, lacking))[1].unique().tolist() == [0, 1]


@pytest.mark.parametrize("engine", ["looped", "stacked"])
def test_clients_without_any_label_get_no_images(engine: str) -> None:
    outcome = play(HELD, federation(0, (0, 7)), engine=engine)
    sizes = [len(r.tensors["labels"]) for r in named(outcome, "client_images")]
    assert sizes[::2] == [0, 0]
    assert min(sizes[1::2]) > 0
    nobody = play(HELD, federation(0, (0, 0)), engine=engine)
    assert synthetic(nobody)[0].shape == (0, 1, 8, 8)


REAL = replace(PRIOR_ONLY, initial="real", rounds=1)


def test_real_initialisation_publishes_the_clients_images_through_the_autoencoder() -> None:
    of, prior = federation(0), world().prior
    assert prior is not None
    outcome = play(REAL, of)
    firsts = [
        c.take(torch.tensor([int((c.labels == label).nonzero()[0]) for label in c.labels.unique()]))
        for c in of.clients
    ]
    kept = concatenate(firsts)
    images, labels = synthetic(outcome)
    torch.testing.assert_close(images, prior.decode(prior.encode(kept.inputs)))
    assert torch.equal(labels, kept.labels)
    raw = named(outcome, "raw_images")
    assert torch.equal(torch.cat([r.tensors["inputs"] for r in raw]), kept.inputs)
    assert REAL.outside_claim == ("raw images of the clients",)
    both = replace(REAL, label_mode="held").outside_claim
    assert both == ("set of labels of each client", "raw images of the clients")


@pytest.mark.parametrize("engine", ["looped", "stacked"])
def test_real_initialisation_of_a_client_without_records(engine: str) -> None:
    outcome = play(REAL, federation(0, (0, 7)), engine=engine)
    assert [len(r.tensors["labels"]) > 0 for r in named(outcome, "client_images")] == [False, True]


# Refusals.


def test_a_prior_is_needed() -> None:
    with pytest.raises(ValueError, match="expected a generative prior for FedDGM, got prior=None"):
        play(QUICK, prior=None)


def test_at_least_one_image_a_class() -> None:
    with pytest.raises(ValueError, match="expected ipc >= 1, got ipc=0"):
        FedDGM(ipc=0)


def test_a_round_without_updates_leaves_the_models() -> None:
    (state,) = QUICK.init(world(), [Stream(0)])
    (after,) = QUICK.server_round(world(), [state], [[]], [Stream(1)])
    assert after.round == 1
    assert equal(after.surrogate, state.surrogate)
