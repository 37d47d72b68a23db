"""Model inversion: the gradient's closed form, the Poincare distance, stopping, and what is found."""

from __future__ import annotations

import math
from functools import lru_cache
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor

from attacks.interface import Known, Reconstruction
from attacks.model_inversion import MiFace, PlugAndPlay, doubt, poincare
from privfed.nets import NetSpec, Params, initial, representation_of
from privfed.prior import Prior, PriorRecipe, train_prior
from privfed.randomness import Stream
from privfed.records import Records
from privfed.release import CLIENTS, PUBLIC, SERVER, Observer, Release, Transcript, View
from privfed.training import Recipe, Task, predict, train

SPEC = NetSpec("mlp", 1, 4, 3, width=16)
STREAM = Stream(0)
SMALL = PlugAndPlay(samples=6, starts=3, images=2, steps=8, views=3)


def patterns() -> Tensor:
    """One image a class: a bright row at the top, in the middle, at the bottom."""
    images = torch.full((3, 1, 4, 4), -0.5)
    for c in range(3):
        images[c, 0, c] = 0.8
    return images


def examples(n: int, seed: int) -> Records:
    labels = torch.arange(n) % 3
    noise = torch.randn(n, 1, 4, 4, generator=torch.Generator().manual_seed(seed))
    return Records((patterns()[labels] + 0.1 * noise).clamp(-1, 1), labels)


@lru_cache(maxsize=1)
def model() -> Params:
    start = initial(SPEC, STREAM.child("model").torch())
    return train([Task(SPEC, start, examples(60, 0), Recipe(epochs=30, batch=20, lr=0.1), STREAM)])[0]


@lru_cache(maxsize=1)
def prior() -> Prior:
    return train_prior(examples(60, 1), 3, PriorRecipe(widths=(8, 8), steps=60), STREAM.child("prior"))


def known(with_prior: bool = True) -> Known:
    return Known(examples(30, 1), examples(30, 2), prior() if with_prior else None)


def view(params: Params, spec: NetSpec = SPEC) -> View:
    large = Release(1, SERVER, PUBLIC, "weights", "large", params)
    return Transcript((large,), {"large": spec, "surrogate": spec}).view(Observer("outsider"))


def rebuilt(attack: Any, seen: View) -> Reconstruction:
    found = attack.reconstruct(seen, known(), STREAM)
    assert isinstance(found, Reconstruction)
    return found


def test_the_gradient_of_a_linear_softmax_points_along_its_weights() -> None:
    """Of 1 - p_c: -p_c (W_c - sum_i p_i W_i)."""
    spec = NetSpec("linear", 1, 1, 4, width=6)
    params = {k: v.double() for k, v in initial(spec, torch.Generator().manual_seed(0)).items()}
    weight, bias = params.values()
    x = torch.randn(5, 6, generator=torch.Generator().manual_seed(1), dtype=torch.float64)
    labels = torch.tensor([0, 1, 2, 3, 1])
    misses, gradient = doubt(spec, params, x, labels)
    p = (x @ weight.T + bias).softmax(1)
    own = p.gather(1, labels[:, None])
    torch.testing.assert_close(gradient, -own * (weight[labels] - p @ weight))
    torch.testing.assert_close(misses, 1 - own[:, 0])


def test_poincare_distance_by_hand() -> None:
    """Logits (3, 1): u = (0.75, 0.25), v = (0.9999, 0)."""
    inside = (1 - 0.625) * (1 - 0.9999**2)
    expected = math.acosh(1 + 2 * (0.2499**2 + 0.0625) / inside)
    found = poincare(torch.tensor([[3.0, 1.0]], dtype=torch.float64), torch.tensor([0]))
    assert float(found) == pytest.approx(expected)


def test_poincare_is_least_at_the_label_and_has_a_gradient_where_softmax_has_none() -> None:
    logits = torch.tensor([[40.0, 0.0, 0.0], [0.0, 40.0, 0.0]], requires_grad=True)
    losses = poincare(logits, torch.tensor([0, 0]))
    assert losses[0] < losses[1]
    assert torch.isfinite(losses).all()
    (gradient,) = torch.autograd.grad(losses[1], logits)
    (flat,) = torch.autograd.grad(logits.softmax(1)[1, 0], logits)
    assert float(gradient[1].abs().max()) > 1e-3 > 1e-10 > float(flat[1].abs().max())


@pytest.mark.parametrize(("attack", "each"), [(MiFace(steps=200), 1), (SMALL, 2)])
def test_images_are_taken_for_their_class_and_look_like_it(attack: Any, each: int) -> None:
    found = rebuilt(attack, view(model()))
    assert found.records.labels.tolist() == [c for c in range(3) for _ in range(each)]
    assert found.records.inputs.shape == (3 * each, 1, 4, 4)
    assert float(found.records.inputs.abs().max()) <= 1
    assert found.clients.tolist() == [-1] * 3 * each
    assert found.objective.shape == (3 * each,)
    taken = predict(SPEC, model(), found.records.inputs).argmax(1)
    assert torch.equal(taken, found.records.labels)
    distance = torch.cdist(found.records.inputs.flatten(1), patterns().flatten(1))
    assert torch.equal(distance.argmin(1), found.records.labels)


def test_the_objective_of_miface_is_the_doubt_of_what_is_handed_out() -> None:
    found = rebuilt(MiFace(steps=20, enough=1.0), view(model()))
    misses, _ = doubt(SPEC, model(), found.records.inputs, found.records.labels)
    np.testing.assert_allclose(found.objective, misses, atol=1e-6)
    assert not found.stopped_early
    assert found.work == 20 * 3


def test_the_objective_of_plug_and_play_is_its_loss_and_its_work_is_counted() -> None:
    found = rebuilt(SMALL, view(model()))
    losses = poincare(predict(SPEC, model(), found.records.inputs), found.records.labels)
    np.testing.assert_allclose(found.objective, losses, rtol=1e-4)
    assert found.work == 3 * (18 + 9) + 8 * 9 + 6


def test_miface_stops_when_all_are_sure_or_nothing_gets_better() -> None:
    sure = rebuilt(MiFace(steps=500, enough=0.6), view(model()))
    assert sure.stopped_early
    assert (sure.objective <= 0.4).all()
    constant = {k: torch.zeros_like(v) for k, v in model().items()}
    stuck = rebuilt(MiFace(patience=5), view(constant))
    assert stuck.stopped_early
    assert stuck.work == 6 * 3
    np.testing.assert_allclose(stuck.objective, 2 / 3, rtol=1e-6)


def test_plug_and_play_stops_when_nothing_gets_better() -> None:
    constant = {k: torch.zeros_like(v) for k, v in model().items()}
    found = rebuilt(PlugAndPlay(samples=2, starts=2, images=1, steps=50, views=1, patience=4), view(constant))
    assert found.stopped_early
    assert found.work == (6 + 6) + 5 * 6 + 3


def test_the_same_stream_gives_the_same_images() -> None:
    first, second = (rebuilt(SMALL, view(model())) for _ in range(2))
    assert torch.equal(first.records.inputs, second.records.inputs)


@pytest.mark.parametrize("attack", [MiFace(), PlugAndPlay()])
def test_without_a_model_of_images_there_is_nothing_to_invert(attack: Any) -> None:
    empty = Transcript((), {"large": SPEC, "surrogate": SPEC}).view(Observer("outsider"))
    assert attack.reconstruct(empty, known(), STREAM) is None
    text = NetSpec("lstm", 5, 6, 2, hidden=(4, 4))
    assert attack.reconstruct(view(initial(text, STREAM.torch()), text), known(), STREAM) is None
    assert hash(attack) == hash(type(attack)())


def test_a_representation_without_its_head_is_no_model() -> None:
    bare = Release(1, SERVER, CLIENTS, "weights", "surrogate", representation_of(SPEC, model()))
    seen = Transcript((bare,), {"surrogate": SPEC}).view(Observer("server"))
    assert MiFace("surrogate").reconstruct(seen, known(), STREAM) is None


def test_plug_and_play_needs_a_prior() -> None:
    assert PlugAndPlay().reconstruct(view(model()), known(with_prior=False), STREAM) is None


def test_knobs_out_of_range_are_refused() -> None:
    with pytest.raises(ValueError, match=r"expected artefact to be one of .*, got artefact=.small."):
        MiFace("small")  # type: ignore[arg-type]
    with pytest.raises(ValueError, match="expected steps > 0, got steps=0"):
        MiFace(steps=0)
    with pytest.raises(ValueError, match="expected rate > 0, got rate=-1"):
        PlugAndPlay(rate=-1)
    with pytest.raises(
        ValueError, match="expected 1 <= images <= starts <= samples, got images=2, starts=1, sa"
    ):
        PlugAndPlay(images=2, starts=1)
