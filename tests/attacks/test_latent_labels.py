"""Labels from synthetic slots: planted signals are found, slots without one are at chance."""

from __future__ import annotations

from functools import lru_cache
from typing import Any

import numpy as np
import pytest
import torch

from attacks.interface import Floats, Inference, Known
from attacks.latent_labels import LatentLabels
from privfed.nets import NetSpec, Params, initial, representation_of
from privfed.prior import Prior, PriorRecipe, train_prior
from privfed.randomness import Stream
from privfed.records import Records
from privfed.release import CLIENTS, SERVER, Observer, Release, Transcript, View

SPEC = NetSpec("mlp", 1, 4, 4, width=10)
STREAM = Stream(0)
LABELS = torch.arange(4).repeat_interleave(2)


def records(labels: torch.Tensor, seed: int) -> Records:
    centres = torch.randn(4, 1, 4, 4, generator=torch.Generator().manual_seed(5))
    noise = torch.randn(len(labels), 1, 4, 4, generator=torch.Generator().manual_seed(seed))
    return Records((0.6 * centres[labels] + 0.2 * noise).clamp(-1, 1), labels)


@lru_cache(maxsize=1)
def prior() -> Prior:
    recipe = PriorRecipe(widths=(8, 8), steps=20)
    return train_prior(records(torch.arange(60) % 4, 1), 4, recipe, STREAM.child("prior"))


def known(with_prior: bool = True) -> Known:
    population = records(torch.arange(80) % 4, 2)
    return Known(population, population, prior() if with_prior else None)


def start() -> Params:
    return initial(SPEC, torch.Generator().manual_seed(0))


def distilled(
    images: Records, client: int = 0, round: int = 0, latents: torch.Tensor | None = None
) -> tuple[Release, Release]:
    inner = torch.zeros(len(images), *prior().shape) if latents is None else latents
    z = {"latents": inner, "eta": torch.tensor(0.5), "losses": torch.zeros(2)}
    x = {"inputs": images.inputs, "labels": images.labels}
    return (
        Release(round, SERVER, SERVER, "latents", "client_latents", z, client),
        Release(round, SERVER, SERVER, "synthetic", "client_images", x, client),
    )


def view(*releases: Release, params: Params | None = None) -> View:
    broadcasts = [Release(r, SERVER, CLIENTS, "weights", "surrogate", params or start()) for r in (0, 1)]
    return Transcript((*broadcasts, *releases), {"surrogate": SPEC}).view(Observer("server"))


def values(attack: Any, seen: View) -> Floats:
    found = attack.infer(seen, known(), STREAM)
    assert isinstance(found, Inference)
    return found.values


def slots(held: list[int], seed: int) -> Records:
    """Images of the labels held; where a label is not, images that the model takes for anything."""
    made = records(LABELS, seed)
    missing = ~torch.isin(LABELS, torch.tensor(held))
    made.inputs[missing] = 0.0
    return made


@pytest.mark.parametrize("reading", ["shares", "gain"])
def test_labels_without_a_signal_in_their_slots_score_lowest(reading: Any) -> None:
    held = [[0, 1], [1, 3], [0, 2, 3], [2]]
    seen = view(*(r for k, h in enumerate(held) for r in distilled(slots(h, 10 + k), k)))
    found = values(LatentLabels(reading), seen)
    assert found.shape == (4, 4)
    for row, own in zip(found, held, strict=True):
        inside = np.isin(np.arange(4), own)
        assert row[inside].min() > row[~inside].max()
    if reading == "shares":
        np.testing.assert_allclose(found.sum(1), 1)


def test_slots_that_know_nothing_of_the_client_are_at_chance() -> None:
    """Null: images of all labels whatever is held; 120 clients, 99.9 % band of the mean difference."""
    rng = np.random.default_rng(0)
    held = rng.random((120, 4)) < 0.5
    seen = view(*(r for k in range(120) for r in distilled(records(LABELS, 100 + k), k)))
    for reading in ("shares", "gain"):
        found = values(LatentLabels(reading), seen)
        found = (found - found.mean(0)) / found.std(0)
        difference = found[held].mean() - found[~held].mean()
        assert abs(difference) < 3.3 * np.sqrt(1 / held.sum() + 1 / (~held).sum()) < 0.35


def test_latents_as_the_prior_draws_them_are_at_no_distance_and_moved_ones_are() -> None:
    many = torch.arange(4).repeat_interleave(200)
    drawn = prior().sample(many, torch.Generator().manual_seed(3))
    d = drawn[0].numel()
    still = values(LatentLabels("distance"), view(*distilled(records(many, 1), 0, 0, drawn)))
    # The prior clips at four deviations of all latents, which takes a little off.
    np.testing.assert_allclose(still, 0, atol=0.05 + 3.3 * np.sqrt(2 / (200 * d)))
    moved = drawn + (many == 2).view(-1, 1, 1, 1) * 3 * drawn.std()
    row = values(LatentLabels("distance"), view(*distilled(records(many, 1), 0, 0, moved)))[0]
    assert row.argmax() == 2
    np.testing.assert_allclose(np.delete(row, 2), np.delete(still[0], 2))


def test_rounds_are_averaged_and_clients_without_images_are_unknown() -> None:
    first, second = slots([0, 1], 1), slots([2], 2)
    attack = LatentLabels("gain")
    both = values(attack, view(*distilled(first, 2), *distilled(second, 2, 1)))
    each = [values(attack, view(*distilled(s, 2))) for s in (first, second)]
    assert both.shape == (3, 4)
    assert np.isnan(both[:2]).all()
    np.testing.assert_allclose(both[2], (each[0][2] + each[1][2]) / 2)


def test_labels_without_a_slot_have_no_gain() -> None:
    only = records(torch.tensor([1, 1, 3]), 1)
    found = values(LatentLabels("gain"), view(*distilled(only)))
    assert np.isnan(found[0]).tolist() == [True, False, True, False]


@pytest.mark.parametrize("reading", ["shares", "gain", "distance"])
def test_without_what_a_reading_needs_there_is_nothing(reading: Any) -> None:
    attack = LatentLabels(reading)
    latents, images = distilled(slots([0], 1))
    for seen in (view(), view(latents), view(images)):
        assert attack.infer(seen, known(), STREAM) is None
    bare = view(latents, images, params=representation_of(SPEC, start()))
    if reading == "distance":
        assert attack.infer(view(latents, images), known(with_prior=False), STREAM) is None
    else:
        assert attack.infer(bare, known(), STREAM) is None
    assert hash(attack) == hash(LatentLabels(reading))


def test_what_no_outsider_holds_is_not_read() -> None:
    transcript = Transcript(distilled(slots([0], 1)), {"surrogate": SPEC})
    assert LatentLabels().infer(transcript.view(Observer("outsider")), known(), STREAM) is None


def test_knobs_out_of_range_are_refused() -> None:
    with pytest.raises(
        ValueError, match="expected reading to be one of shares, gain, distance, got reading='x'"
    ):
        LatentLabels("x")  # type: ignore[arg-type]
    with pytest.raises(ValueError, match="expected steps >= 1, got steps=0"):
        LatentLabels(steps=0)
