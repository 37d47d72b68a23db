"""Distil and test, with a fake distiller: whose images a candidate meets, and where they come from."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import Any, cast

import numpy as np
import pytest
import torch

from attacks._distances import nearest
from attacks.class_mean import ClassMean
from attacks.distil_and_test import DistilAndTest, DistilledNearest
from attacks.interface import Candidates, MembershipAttack
from privfed.distillation import Job, Matched, Matching
from privfed.nets import NetSpec, Params, head_of, initial, representation_of
from privfed.prior import Prior, PriorRecipe, train_prior
from privfed.randomness import Stream
from privfed.records import Records
from privfed.release import Observer, Transcript, View
from privfed.training import Recipe, Task, train
from tests.attacks.federations import SPEC, candidates, extract, images, noise, server_view, weights
from tests.attacks.simulation import Game, auc, bernoulli

STREAM = Stream(0, ("attack",))
PRIOR = cast(Prior, object())


def net(seed: int) -> Params:
    return initial(SPEC, torch.Generator().manual_seed(seed))


def fake(spec: NetSpec, jobs: Sequence[Job], prior: Prior, matching: Matching) -> list[Matched]:
    """Images that depend on the job's randomness only."""
    assert spec == SPEC
    assert prior is PRIOR
    made = [noise(len(j.labels), j.stream.integer() % 2**31) for j in jobs]
    return [
        Matched(torch.zeros(0), m.inputs, j.labels, 1.0, torch.zeros(matching.iterations + 1))
        for m, j in zip(made, jobs, strict=True)
    ]


def digits() -> Records:
    from sklearn.datasets import load_digits

    data = load_digits()
    order = np.random.default_rng(0).permutation(len(data.target))
    images = torch.tensor(data.images[order], dtype=torch.float32).unsqueeze(1) / 8 - 1
    return Records(images, torch.tensor(data.target[order]))


def with_prior(n: int = 9, z: int = 4) -> Candidates:
    return replace(candidates(n, z), prior=PRIOR)


def other(spec: NetSpec, jobs: Sequence[Job], prior: Prior, matching: Matching) -> list[Matched]:
    """Another distiller."""
    return fake(spec, jobs, prior, matching)


def test_the_distiller_is_part_of_what_is_written_of_the_observation() -> None:
    """What was read is kept under this text: signals of one distiller must not pass as another's."""
    texts = [repr(DistilledNearest(distil=d)) for d in (fake, other)]
    assert texts[0] != texts[1]
    assert texts[0].endswith(f"distil={__name__}.fake)")
    assert repr(DistilledNearest("x", ipc=2)).startswith("DistilledNearest(artefact='x', same_label=Fal")


def test_images_held_by_the_server_are_used_and_never_those_of_another_client() -> None:
    known = candidates(9, 4)
    held = {0: noise(5, 20), 1: noise(6, 21)}
    view = server_view(*(images(r, 0, k) for k, r in held.items()))
    signals = extract(DistilledNearest(), known, view)
    for client, own in held.items():
        mine = known.clients == client
        np.testing.assert_allclose(
            signals.candidates[mine.numpy(), 0], -nearest(known.records.take(mine), own)
        )
        np.testing.assert_allclose(signals.population[:, 0, client], -nearest(known.population, own))
    np.testing.assert_array_equal(signals.clients, known.clients.numpy())


def test_rounds_of_a_client_are_pooled_and_a_client_without_images_is_unknown() -> None:
    known = candidates(8, 4)
    first, second = noise(5, 20), noise(5, 21)
    signals = extract(DistilledNearest(), known, server_view(images(first, 0, 1), images(second, 1, 1)))
    mine = known.clients == 1
    own = known.records.take(mine)
    np.testing.assert_allclose(
        signals.candidates[mine.numpy(), 0], -np.minimum(nearest(own, first), nearest(own, second))
    )
    assert np.isnan(signals.candidates[~mine.numpy()]).all()
    assert np.isnan(signals.population[:, :, 0]).all()


def test_per_client_images_of_another_name_may_be_read_instead() -> None:
    known = candidates(8, 4)
    usual = [images(noise(5, 20 + k), 0, k) for k in range(2)]
    other = [replace(images(noise(5, 30 + k), 0, k), name="client_means") for k in range(2)]
    signals = extract(DistilledNearest(artefact="client_means"), known, server_view(*usual, *other))
    alone = extract(DistilledNearest(artefact="client_means"), known, server_view(*other))
    np.testing.assert_array_equal(signals.candidates, alone.candidates)
    assert (signals.candidates != extract(DistilledNearest(), known, server_view(*usual)).candidates).all()


def test_the_same_label_may_be_asked_for() -> None:
    known = candidates(8, 4)
    view = server_view(images(noise(9, 20), 0, 0), images(noise(9, 21), 0, 1))
    any_label = extract(DistilledNearest(), known, view).candidates
    same = extract(DistilledNearest(same_label=True), known, view).candidates
    assert (same <= any_label).all()
    assert (same < any_label).any()


def test_otherwise_every_update_is_distilled_from_the_weights_broadcast_in_its_round() -> None:
    seen: list[Job] = []

    def spy(spec: NetSpec, jobs: Sequence[Job], prior: Prior, matching: Matching) -> list[Matched]:
        seen.extend(jobs)
        return fake(spec, jobs, prior, matching)

    view = server_view(
        *(weights(net(r), "surrogate", r) for r in range(3)),
        *(weights(net(10 * r + k + 3), "update", r, k) for r in range(2) for k in range(2)),
    )
    known = with_prior()
    signals = extract(DistilledNearest(ipc=2, distil=spy), known, view)
    assert np.isfinite(signals.candidates).all()
    assert signals.population.shape == (4, 1, 2)
    pairs = [(r, 10 * r + k + 3) for r in range(2) for k in range(2)]
    for job, (start, target) in zip(seen, pairs, strict=True):
        assert job.labels.tolist() == [0, 0, 1, 1, 2, 2, 3, 3, 4, 4]
        assert all(torch.equal(job.start[k], v) for k, v in net(start).items())
        assert all(torch.equal(job.target[k], v) for k, v in net(target).items())
    assert len({j.stream for j in seen}) == 4


def test_a_clients_own_head_stands_in_where_a_representation_is_broadcast() -> None:
    seen: list[Job] = []

    def spy(spec: NetSpec, jobs: Sequence[Job], prior: Prior, matching: Matching) -> list[Matched]:
        seen.extend(jobs)
        return fake(spec, jobs, prior, matching)

    start = weights(representation_of(SPEC, net(0)), "surrogate", 0)
    view = server_view(start, *(weights(net(k + 1), "update", 0, k) for k in range(2)))
    signals = extract(DistilledNearest(distil=spy), with_prior(), view)
    assert np.isfinite(signals.candidates).all()
    for client, job in enumerate(seen):
        before = {**head_of(SPEC, net(client + 1)), **representation_of(SPEC, net(0))}
        assert job.start.keys() == job.target.keys()
        assert all(torch.equal(job.start[k], v) for k, v in before.items())
        assert all(torch.equal(job.target[k], v) for k, v in net(client + 1).items())


def test_a_round_in_which_only_heads_were_trained_says_nothing() -> None:
    """FedBKD's last one: the representation comes back as it was broadcast."""
    seen: list[Job] = []

    def spy(spec: NetSpec, jobs: Sequence[Job], prior: Prior, matching: Matching) -> list[Matched]:
        seen.extend(jobs)
        return fake(spec, jobs, prior, matching)

    shared = [representation_of(SPEC, net(r)) for r in range(2)]
    tuned = [weights({**head_of(SPEC, net(9)), **shared[1]}, "update", 1, k) for k in range(2)]
    broadcasts = [weights(p, "surrogate", r) for r, p in enumerate(shared)]
    observe = DistilledNearest(distil=spy)
    assert observe.extract(server_view(*broadcasts, *tuned), with_prior(), STREAM) is None
    moved, resting = weights(net(5), "update", 0, 0), weights({**net(5), **shared[0]}, "update", 0, 1)
    signals = extract(observe, with_prior(), server_view(*broadcasts, moved, resting, *tuned))
    # A client that alone did not move is distilled too: whether it has a score must not say so.
    assert len(seen) == 2
    assert np.isfinite(signals.candidates).all()


def test_sentences_are_not_distilled_but_those_held_are_read() -> None:
    spec = NetSpec("lstm", channels=4, size=3, classes=2, hidden=(5, 4))

    def sentences(n: int, seed: int) -> Records:
        generator = torch.Generator().manual_seed(seed)
        return Records(torch.randn(n, 3, 4, generator=generator), torch.arange(n) % 2)

    known = Candidates(sentences(6, 0), torch.arange(6) % 2, sentences(4, 1), sentences(4, 2), prior=PRIOR)
    models = [initial(spec, torch.Generator().manual_seed(s)) for s in range(2)]
    sent = (weights(models[0], "surrogate", 0), weights(models[1], "update", 0, 0))
    view = Transcript(sent, {"surrogate": spec}).view(Observer("server"))
    assert DistilledNearest(distil=fake).extract(view, known, STREAM) is None
    held = Transcript((*sent, images(sentences(5, 3), 0, 0)), {"surrogate": spec}).view(Observer("server"))
    signals = extract(DistilledNearest(), known, held)
    mine = known.clients == 0
    np.testing.assert_allclose(
        signals.candidates[mine.numpy(), 0], -nearest(known.records.take(mine), sentences(5, 3))
    )


def test_distillation_is_determined_by_its_stream() -> None:
    view = server_view(weights(net(0), "surrogate", 0), *(weights(net(k), "update", 0, k) for k in (0, 1)))
    observe = DistilledNearest(distil=fake)
    first, second, other = (
        observe.extract(view, with_prior(), s) for s in (STREAM, STREAM, STREAM.child("b"))
    )
    assert first is not None
    assert second is not None
    assert other is not None
    np.testing.assert_array_equal(first.candidates, second.candidates)
    assert (first.candidates != other.candidates).any()


def test_nothing_to_read_without_images_updates_broadcast_heads_or_prior() -> None:
    update, start = weights(net(1), "update", 0, 0), weights(net(0), "surrogate", 0)
    observe = DistilledNearest(distil=fake)
    assert observe.extract(server_view(), with_prior(), STREAM) is None
    assert observe.extract(server_view(update), with_prior(), STREAM) is None
    assert observe.extract(server_view(start, update), candidates(4), STREAM) is None
    headless = weights(representation_of(SPEC, net(1)), "update", 0, 0)
    assert observe.extract(server_view(start, headless), with_prior(), STREAM) is None
    outside = Transcript((start, update), {"surrogate": SPEC}).view(Observer("outsider"))
    assert observe.extract(outside, with_prior(), STREAM) is None


def test_bad_knobs_and_malformed_updates_are_refused() -> None:
    with pytest.raises(ValueError, match="expected ipc >= 1, got ipc=0"):
        DistilledNearest(ipc=0)
    bad: dict[str, Any] = {**net(1), "1.bias": torch.zeros(1)}
    view = server_view(weights(net(0), "surrogate", 0), weights(bad, "update", 0, 0))
    with pytest.raises(
        ValueError, match=r"expected tensor '1.bias' .* in release 'update' of round 0 from client:0"
    ):
        DistilledNearest(distil=fake).extract(view, with_prior(), STREAM)


def test_the_distiller_is_no_part_of_the_configuration_shown() -> None:
    assert "0x" not in repr(DistilledNearest())


def test_the_real_distiller_fits() -> None:
    """The distiller of the pipelines, two iterations through an untrained prior."""
    prior = train_prior(noise(60, 2), SPEC.classes, PriorRecipe(widths=(8, 8), steps=0), Stream(0))
    view = server_view(
        weights(net(0), "surrogate", 0), *(weights(net(k + 1), "update", 0, k) for k in (0, 1))
    )
    known = replace(candidates(9, 4), prior=prior)
    signals = extract(DistilledNearest(ipc=1, matching=Matching(iterations=2, steps=2)), known, view)
    assert np.isfinite(signals.candidates).all()
    assert np.isfinite(signals.population).all()


@pytest.mark.slow
def test_updates_of_small_clients_give_their_records_away_and_the_class_mean_does_not() -> None:
    """Digits, 8 federations of 2 clients with 5 records each on average, one round of FedAvg.

    Chance by redrawing membership 200 times; 3.3 standard deviations.
    """
    data = digits()
    public, records = data.take(torch.arange(600)), data.take(torch.arange(600, 620))
    spec = NetSpec("convnet", channels=1, size=8, classes=10, width=8, depth=2)
    prior = train_prior(public, 10, PriorRecipe(steps=300), Stream(0))
    known = Candidates(records, torch.arange(20) % 2, data.take(torch.arange(1300, 1400)), public, prior)
    included = np.random.default_rng(1).random((8, 20)) < 0.5
    views = [_one_round(spec, known, torch.from_numpy(included[f]), Stream(f)) for f in range(8)]
    attack = DistilAndTest(DistilledNearest(ipc=1, matching=Matching(iterations=60)))
    found, chance = {}, {}
    scored: MembershipAttack
    for scored in (attack, ClassMean()):
        read = [extract(scored.observation, known, v) for v in views]
        played = Game(
            np.stack([s.candidates for s in read]),
            np.stack([s.population for s in read]),
            included,
            read[0].clients,
        )
        name, rng = type(scored).__name__, np.random.default_rng(2)
        redrawn = [replace(played, included=bernoulli(rng, 8, 20)) for _ in range(200)]
        chance[name] = 3.3 * np.std([auc(g.scores(scored), g.included) for g in redrawn])
        found[name] = auc(played.scores(scored), included)
    assert found["DistilAndTest"] > 0.5 + chance["DistilAndTest"]
    assert abs(found["ClassMean"] - 0.5) < chance["ClassMean"]


def _one_round(spec: NetSpec, known: Candidates, held: torch.Tensor, stream: Stream) -> View:
    start = initial(spec, stream.torch())
    own = [known.records.take(held & (known.clients == k)) for k in range(2)]
    tasks = [
        Task(spec, start, r, Recipe(epochs=10, batch=32, lr=0.1), stream.child(k)) for k, r in enumerate(own)
    ]
    updates = [weights(u, "update", 0, k) for k, u in enumerate(train(tasks, "looped"))]
    releases = (weights(start, "surrogate", 0), *updates)
    return Transcript(releases, {"surrogate": spec}).view(Observer("server"))
