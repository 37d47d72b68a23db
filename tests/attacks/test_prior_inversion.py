"""Inversion through a prior: images it can make are found, others as far as deeper layers are freed."""

from __future__ import annotations

from dataclasses import replace
from functools import lru_cache
from itertools import pairwise

import pytest
import torch

from attacks._descent import Budget
from attacks._stages import into_ball, stages, through
from attacks.interface import Known, Reconstruction
from attacks.prior_inversion import PriorInversion
from privfed.nets import NetSpec, head_names
from privfed.prior import Prior, PriorRecipe, train_prior
from privfed.records import Records
from privfed.release import View
from tests.attacks.updates import MLP, STREAM, digits, known, psnr, trained, unlabelled, view, without_head


@lru_cache(maxsize=1)
def prior() -> Prior:
    recipe = PriorRecipe(widths=(8, 8), latent_channels=2, steps=60)
    return train_prior(digits(1000, 200), 10, recipe, STREAM.child("prior"))


def with_prior() -> Known:
    return replace(known(), prior=prior())


def attack(knobs: PriorInversion, seen: View) -> Reconstruction:
    made = knobs.reconstruct(seen, with_prior(), STREAM)
    assert made is not None
    return made


def planted(labels: list[int]) -> list[Records]:
    """Images that the prior makes of latents far from where the attack starts, two deviations wide."""
    noise = torch.randn(len(labels), *prior().shape, generator=STREAM.child("planted").torch())
    latents = prior().clip(noise * prior().limit.view(prior().shape) / 2)
    images = prior().decode(latents)
    return [Records(i.unsqueeze(0), torch.tensor([y])) for i, y in zip(images, labels, strict=True)]


def test_the_stages_in_a_row_are_the_decoder() -> None:
    latents = prior().sample(torch.arange(4), STREAM.torch())
    parts = stages(prior())
    assert len(parts) == 4
    assert torch.equal(through(parts, latents.unsqueeze(0))[0], prior().decode(latents))


def test_images_in_the_range_of_the_prior_are_found_from_one_gradient() -> None:
    clients = planted([3, 7])
    knobs = PriorInversion(layers=0, budget=Budget(iterations=200, restarts=2))
    found = attack(knobs, trained(MLP, clients))
    assert min(psnr(found, clients)) > 30
    control = attack(replace(knobs, matching=False), trained(MLP, clients))
    assert max(psnr(control, clients)) < min(psnr(found, clients)) - 5


def test_an_image_outside_its_range_comes_nearer_with_every_layer_that_is_freed() -> None:
    clients = [digits(0, 1)]
    seen = trained(MLP, clients)
    knobs = PriorInversion(budget=Budget(iterations=50, restarts=1, patience=50))
    values = [psnr(attack(replace(knobs, layers=k), seen), clients)[0] for k in range(5)]
    assert all(b > a for a, b in pairwise(values))
    assert values[-1] > values[0] + 5


def test_the_layer_that_matches_best_is_kept() -> None:
    seen = trained(MLP, [digits(k, 1) for k in range(2)])
    knobs = PriorInversion(budget=Budget(iterations=15, restarts=2))
    objectives = [attack(replace(knobs, layers=k), seen).objective for k in range(5)]
    assert all((b <= a).all() for a, b in pairwise(objectives))


def test_without_matching_only_the_labels_tell_of_the_client() -> None:
    knobs = PriorInversion(matching=False)
    same = [digits(0, 1), digits(0, 1)]
    other = [replace(r, inputs=-r.inputs) for r in same]
    one, two = (attack(knobs, trained(MLP, c)) for c in (same, other))
    assert torch.equal(one.records.inputs, two.records.inputs)
    assert (one.objective != two.objective).all()
    assert one.work == 2
    assert not one.stopped_early


def test_the_ball_is_projected_onto() -> None:
    centre = torch.zeros(1, 2, 4)
    values = torch.tensor([[[3.0, -1.0, 0.0, 0.0], [0.1, 0.1, -0.1, 0.0]]])
    inside = into_ball(values, centre, 0.5)
    torch.testing.assert_close(inside[0, 0], torch.tensor([2.0, 0.0, 0.0, 0.0]))
    torch.testing.assert_close(inside[0, 1], values[0, 1])
    wide = into_ball(5 * values, centre + 1, 0.25)
    torch.testing.assert_close((wide - 1).abs().sum(-1), torch.ones(1, 2))


def test_a_head_that_is_unknown_gets_all_labels_in_turn_where_no_label_is_known() -> None:
    sent = trained(MLP, [digits(0, 2)]).releases
    seen = view(MLP, (without_head(sent[0], head_names(MLP)), sent[1]))
    knobs = PriorInversion(records=2, budget=Budget(iterations=2))
    made = knobs.reconstruct(seen, replace(unlabelled(), prior=prior()), STREAM)
    assert made is not None
    assert made.records.labels.tolist() == [0, 1]


def test_nothing_without_updates_prior_or_images() -> None:
    seen = trained(MLP, [digits(0, 1)])
    linear = NetSpec("linear", 1, 1, 3, width=4)
    text = Records(torch.ones(1, 4), torch.tensor([0]))
    assert PriorInversion().reconstruct(view(MLP, ()), with_prior(), STREAM) is None
    assert PriorInversion().reconstruct(seen, known(), STREAM) is None
    assert PriorInversion().reconstruct(trained(linear, [text]), with_prior(), STREAM) is None


def test_a_prior_of_other_images_is_refused() -> None:
    small = NetSpec("mlp", channels=1, size=6, classes=10, width=8, depth=1)
    clients = [Records(torch.rand(1, 1, 6, 6), torch.tensor([0]))]
    with pytest.raises(
        ValueError, match=r"expected a prior of images of shape \(1, 6, 6\), got images=\(1, 8"
    ):
        PriorInversion().reconstruct(trained(small, clients), with_prior(), STREAM)


def test_knobs_that_make_no_sense_are_refused() -> None:
    for name in ("records", "rounds", "radius", "lr", "local_lr", "local_steps"):
        with pytest.raises(ValueError, match=f"expected {name} > 0, got {name}=0"):
            PriorInversion(**{name: 0})  # type: ignore[arg-type]
    for name in ("layers", "tv"):
        with pytest.raises(ValueError, match=f"expected {name} >= 0, got {name}=-1"):
            PriorInversion(**{name: -1})  # type: ignore[arg-type]
    with pytest.raises(ValueError, match=r"expected objective to be one of .*, got objective='x'"):
        PriorInversion(objective="x")  # type: ignore[arg-type]
