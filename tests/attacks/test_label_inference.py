"""Labels from the movement of a head: exact cases, scale, rounds, heads that are not broadcast."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
import pytest
import torch

from attacks.interface import Floats, Inference, Known
from attacks.label_inference import DisclosedLabels, LabelInference, shares
from privfed.nets import NetSpec, Params, head_names, initial, representation_of
from privfed.randomness import Stream
from privfed.records import Records
from privfed.release import CLIENTS, SERVER, Observer, Release, Transcript, View, client_name
from privfed.training import Recipe, Task, train

SPEC = NetSpec("mlp", 1, 4, 10, width=12)
STREAM = Stream(0)


def blobs(counts: list[int], seed: int) -> Records:
    """Records about one fixed centre a label."""
    centres = torch.randn(SPEC.classes, 1, 4, 4, generator=torch.Generator().manual_seed(99))
    labels = torch.repeat_interleave(torch.arange(SPEC.classes), torch.tensor(counts))
    noise = torch.randn(len(labels), 1, 4, 4, generator=torch.Generator().manual_seed(seed))
    return Records((0.5 * centres[labels] + 0.2 * noise).clamp(-1, 1), labels)


def known(population: Records) -> Known:
    return Known(population.take(torch.zeros(0, dtype=torch.int64)), population)


def start(zero_head: bool = False) -> Params:
    params = initial(SPEC, torch.Generator().manual_seed(0))
    for name in head_names(SPEC) if zero_head else ():
        params[name] = torch.zeros_like(params[name])
    return params


def trained(records: Records, recipe: Recipe, at: Params) -> Params:
    return train([Task(SPEC, at, records, recipe, STREAM.child("train"))])[0]


def one_step(records: Records, lr: float = 0.5) -> Recipe:
    return Recipe(epochs=1, batch=len(records), lr=lr)


def broadcast(params: Params, round: int = 0) -> Release:
    return Release(round, SERVER, CLIENTS, "weights", "surrogate", params)


def update(params: Params, client: int = 0, round: int = 0) -> Release:
    return Release(round, client_name(client), SERVER, "weights", "update", params, client)


def view(*releases: Release) -> View:
    return Transcript(releases, {"surrogate": SPEC}).view(Observer("server"))


def inferred(attack: Any, seen: View, population: Records) -> Floats:
    found = attack.infer(seen, known(population), STREAM)
    assert isinstance(found, Inference)
    return found.values


COUNTS = [5, 0, 3, 1, 9, 0, 4, 2, 6, 2]
TRUTH = np.array(COUNTS) / 32


def test_exact_at_uniform_softmax_whatever_the_attacker_knows() -> None:
    """B = 32, C = 10, a head at zero, one full-batch step: the oracle of the specification."""
    batch, zero = blobs(COUNTS, 1), start(zero_head=True)
    seen = view(broadcast(zero), update(trained(batch, one_step(batch), zero)))
    strangers = Records(torch.rand(40, 1, 4, 4), torch.arange(40) % 10)
    attack = LabelInference(parts="bias", points=1, rate=0.5)
    values = inferred(attack, seen, strangers)
    np.testing.assert_allclose(values, TRUTH[None], atol=1e-5)
    np.testing.assert_array_equal(np.rint(values[0] * 32), COUNTS)


def test_without_the_rate_biases_leave_the_level_open_and_an_absent_label_closes_it() -> None:
    batch, zero = blobs(COUNTS, 1), start(zero_head=True)
    seen = view(broadcast(zero), update(trained(batch, one_step(batch, 0.07), zero)))
    values = inferred(LabelInference(parts="bias", points=1), seen, blobs([4] * 10, 2))[0]
    slopes = np.diff(values) / np.diff(TRUTH)
    np.testing.assert_allclose(slopes, slopes[0], rtol=1e-3)


@pytest.mark.parametrize("lr", [0.01, 0.3])
def test_exact_for_one_step_with_the_members_mean_movements_at_any_rate(lr: float) -> None:
    """The same mean record of each label: every label twice as often in the population, in other shares."""
    batch, at = blobs(COUNTS, 1), start()
    seen = view(broadcast(at), update(trained(batch, one_step(batch, lr), at)))
    twice = Records(torch.cat([batch.inputs] * 2), torch.cat([batch.labels] * 2))
    values = inferred(LabelInference(points=1), seen, twice)[0]
    held = TRUTH > 0
    np.testing.assert_allclose(values[held], TRUTH[held], atol=2e-3)
    np.testing.assert_array_equal(np.isnan(values), ~held)  # no record of those labels to read them by


@pytest.mark.parametrize("parts", ["head", "bias"])
def test_many_local_steps_are_read_far_better_than_by_guessing(parts: Any) -> None:
    """Ten clients, ten epochs in batches of 8; uniform guesses err by 0.5 to 1.5."""
    rng, at, population = np.random.default_rng(0), start(), blobs([8] * 10, 50)
    truth = np.stack(
        [np.bincount(rng.choice(10, 60, p=rng.dirichlet([0.5] * 10)), minlength=10) for _ in range(10)]
    )
    recipe = Recipe(epochs=10, batch=8, lr=0.1)
    ends = [trained(blobs(t.tolist(), 60 + k), recipe, at) for k, t in enumerate(truth)]
    values = inferred(
        LabelInference(parts=parts),
        view(broadcast(at), *(update(e, k) for k, e in enumerate(ends))),
        population,
    )
    error = np.abs(values - truth / 60).sum(1)
    guess = np.abs(0.1 - truth / 60).sum(1)
    assert (error < guess).all()
    assert error.mean() < guess.mean() / 2


def test_updates_that_say_nothing_of_labels_are_far_from_the_truth() -> None:
    """Null: a random movement of the head."""
    rng, at = torch.Generator().manual_seed(3), start()
    truth = np.zeros(10)
    truth[3] = 1.0
    noisy = [{k: v + 0.1 * torch.randn(v.shape, generator=rng) for k, v in at.items()} for _ in range(20)]
    seen = view(broadcast(at), *(update(n, k) for k, n in enumerate(noisy)))
    values = inferred(LabelInference(), seen, blobs([8] * 10, 50))
    assert np.abs(values - truth).sum(1).mean() > 1.2


def test_rounds_are_read_together_and_one_sat_out_is_passed_over() -> None:
    batch, at = blobs(COUNTS, 1), start()
    middle = trained(batch, one_step(batch), at)
    end = trained(batch, one_step(batch), middle)
    population = blobs([9] * 10, 2)
    both = inferred(
        LabelInference(points=1),
        view(broadcast(at), update(middle), broadcast(middle, 1), update(end, 0, 1), update(end, 2, 1)),
        population,
    )
    alone = inferred(LabelInference(points=1), view(broadcast(middle, 1), update(end, 0, 1)), population)
    assert both.shape == (3, 10)
    assert np.isnan(both[1]).all()
    np.testing.assert_allclose(both[2], alone[0])
    assert not np.allclose(both[0], alone[0])
    assert np.abs(both[0] - TRUTH).sum() < 0.2


def test_where_no_head_is_broadcast_the_clients_last_upload_is_the_start() -> None:
    batch, at = blobs(COUNTS, 1), start()
    shared = tuple(representation_of(SPEC, at))
    first = train([Task(SPEC, at, batch, one_step(batch), STREAM, shared)])[0]
    second = train([Task(SPEC, first, batch, one_step(batch), STREAM, shared)])[0]
    bare = representation_of(SPEC, at)
    seen = view(broadcast(bare), update(first), broadcast(bare, 1), update(second, 0, 1))
    values = inferred(LabelInference(points=1), seen, batch)[0]
    held = TRUTH > 0
    np.testing.assert_allclose(values[held], TRUTH[held], atol=2e-3)
    assert LabelInference().infer(view(broadcast(bare), update(first)), known(batch), STREAM) is None


def test_uploads_without_a_head_hold_nothing() -> None:
    bare = representation_of(SPEC, start())
    assert (
        LabelInference().infer(view(broadcast(bare), update(bare)), known(blobs([1] * 10, 0)), STREAM) is None
    )


def test_a_head_that_did_not_move_is_unknown_and_a_view_without_updates_nothing() -> None:
    at = start()
    values = inferred(LabelInference(), view(broadcast(at), update(at)), blobs([2] * 10, 0))
    assert np.isnan(values).all()
    assert LabelInference().infer(view(broadcast(at)), known(blobs([2] * 10, 0)), STREAM) is None


def test_without_labelled_records_there_is_nothing_to_read_by() -> None:
    at, batch = start(), blobs(COUNTS, 1)
    seen = view(broadcast(at), update(trained(batch, one_step(batch), at)))
    unlabelled = replace(batch, labels=torch.full((32,), -1))
    assert LabelInference().infer(seen, known(unlabelled), STREAM) is None
    assert LabelInference().infer(seen, Known(batch, unlabelled), STREAM) is not None


def test_what_outsiders_and_clients_see_has_no_updates() -> None:
    at = start()
    transcript = Transcript((broadcast(at), update(at)), {"surrogate": SPEC})
    for observer in (Observer("outsider"), Observer("client", 0)):
        assert LabelInference().infer(transcript.view(observer), known(blobs([2] * 10, 0)), STREAM) is None


def test_shares_are_the_weights_of_a_mixture() -> None:
    each = np.random.default_rng(0).normal(size=(30, 4))
    np.testing.assert_allclose(shares(each @ [1.0, 3.0, 0.0, 4.0], each), [0.125, 0.375, 0.0, 0.5], atol=1e-9)
    holed = each.copy()
    holed[:, 1] = np.nan
    np.testing.assert_allclose(shares(each @ [1.0, 0, 0, 3.0], holed), [0.25, np.nan, 0, 0.75], atol=1e-9)
    assert np.isnan(shares(np.zeros(30), each)).all()
    assert np.isnan(shares(np.full(30, np.nan), each)).all()


def test_disclosed_labels_are_what_was_said_in_any_round() -> None:
    def said(labels: list[int], client: int, round: int = 0) -> Release:
        tensors = {"labels": torch.tensor(labels, dtype=torch.int64)}
        return Release(round, client_name(client), SERVER, "label_set", "labels", tensors, client)

    values = inferred(
        DisclosedLabels(), view(said([1, 2], 0), said([5], 2), said([7], 0, 1)), blobs([1] * 10, 0)
    )
    assert np.flatnonzero(values[0]).tolist() == [1, 2, 7]
    assert np.isnan(values[1]).all()
    assert np.flatnonzero(values[2]).tolist() == [5]
    assert DisclosedLabels().infer(view(), known(blobs([1] * 10, 0)), STREAM) is None
    with pytest.raises(
        ValueError, match=r"expected labels from 0 to 9 in release 'labels' .* got labels from 3"
    ):
        inferred(DisclosedLabels(), view(said([3, 10], 0)), blobs([1] * 10, 0))


def test_knobs_out_of_range_are_refused() -> None:
    with pytest.raises(ValueError, match="expected parts to be one of head, bias, got parts='all'"):
        LabelInference(parts="all")  # type: ignore[arg-type]
    with pytest.raises(ValueError, match="expected points >= 1, got points=0"):
        LabelInference(points=0)
    with pytest.raises(ValueError, match=r"expected rate > 0, got rate=0.0"):
        LabelInference(rate=0.0)
