"""Soteria: the head learns nothing from the elements that lie furthest from their input; all else is sent."""

from __future__ import annotations

import math
from dataclasses import replace

import pytest
import torch

from defenses.soteria import Soteria, exposure
from privfed.nets import NetSpec, Params, feature_width, features, head_names, initial
from privfed.randomness import Stream
from privfed.records import Records
from privfed.training import Recipe, Task, train

FAMILIES = (
    NetSpec("convnet", channels=1, size=8, classes=3, width=4, depth=1),
    NetSpec("mlp", channels=1, size=4, classes=3, width=10, depth=2),
    NetSpec("cnn", channels=2, size=16, classes=3, hidden=(2, 3, 6, 5)),
    NetSpec("lstm", channels=5, size=4, classes=3, hidden=(6, 8)),
    NetSpec("linear", channels=1, size=1, classes=3, width=7),
)
ONE_STEP = Recipe(epochs=1, batch=50, lr=0.1)


def task(spec: NetSpec, n: int = 6, recipe: Recipe = ONE_STEP) -> Task:
    generator = Stream(0, (spec.family,)).torch()
    inputs = torch.randn(n, *spec.input_shape, generator=generator)
    return Task(
        spec, initial(spec, generator), Records(inputs, torch.arange(n) % 3), recipe, Stream(4, ("train",))
    )


def ratio_by_definition(spec: NetSpec, params: Params, inputs: torch.Tensor) -> torch.Tensor:
    """Record by record from the whole Jacobian."""
    own = {name: t.unsqueeze(0) for name, t in params.items()}
    rows = []
    for record in inputs:

        def representation(x: torch.Tensor) -> torch.Tensor:
            return features(spec, own, x[None, None])[0, 0]

        slopes = torch.autograd.functional.jacobian(representation, record).flatten(1)
        size = representation(record).abs()
        rows.append(
            torch.stack([s / d if s > 0 else s for s, d in zip(size, slopes.norm(dim=1), strict=True)])
        )
    return torch.stack(rows).mean(0)


@pytest.mark.parametrize("spec", FAMILIES, ids=lambda s: s.family)
def test_the_ratio_is_that_of_element_and_jacobian(spec: NetSpec) -> None:
    job = task(spec)
    expected = ratio_by_definition(spec, job.start, job.records.inputs)
    found = exposure(spec, job.start, job.records.inputs)
    assert found.shape == (feature_width(spec),)
    assert torch.allclose(found, expected, rtol=1e-3)
    assert float(found.max()) > 0


@pytest.mark.parametrize("spec", FAMILIES, ids=lambda s: s.family)
def test_the_largest_columns_stay_and_everything_else_is_plain_training(spec: NetSpec) -> None:
    job = task(spec, recipe=Recipe(epochs=3, batch=2, lr=0.1))
    spent, (plain,) = Soteria(share=0.4).train(job), train([job])
    weight, _ = head_names(spec)
    ratio = exposure(spec, job.start, job.records.inputs)
    masked = ratio.argsort(descending=True)[: math.ceil(0.4 * len(ratio))]
    still = [i for i in range(len(ratio)) if i not in masked]
    assert torch.equal(spent.value[weight][:, masked], job.start[weight][:, masked])
    assert torch.equal(spent.value[weight][:, still], plain[weight][:, still])
    assert not torch.equal(plain[weight][:, masked], job.start[weight][:, masked]), (
        "plain training moves them"
    )
    assert all(torch.equal(spent.value[k], t) for k, t in plain.items() if k != weight)
    assert spent.charges == ()


def test_after_one_step_it_is_the_gradient_with_those_elements_at_zero() -> None:
    """Section 4: the defended layer's gradient is made from the representation with elements set to zero."""
    spec = FAMILIES[1]
    job = task(spec, n=1)
    weight, _ = head_names(spec)
    sent = Soteria(share=0.5).train(job).value
    own = {name: t.unsqueeze(0) for name, t in job.start.items()}
    r = features(spec, own, job.records.inputs[None])[0, 0]
    ratio = exposure(spec, job.start, job.records.inputs)
    r[ratio.argsort(descending=True)[:5]] = 0.0
    moved = (job.start[weight] - sent[weight]) / ONE_STEP.lr
    (plain,) = train([job])
    error = (job.start[head_names(spec)[1]] - plain[head_names(spec)[1]]) / ONE_STEP.lr
    assert torch.allclose(moved, error[:, None] * r[None], atol=1e-5)


def test_on_features_the_largest_are_masked() -> None:
    spec = FAMILIES[4]
    inputs = torch.tensor([[0.1, -5.0, 0.3, 2.0, 0.0, 0.2, 1.0]])
    assert torch.allclose(exposure(spec, task(spec).start, inputs), inputs[0].abs())


def test_an_element_that_is_zero_is_masked_last() -> None:
    spec = FAMILIES[1]
    job = task(spec)
    ratio = exposure(spec, job.start, job.records.inputs)
    own = {name: t.unsqueeze(0) for name, t in job.start.items()}
    dead = (features(spec, own, job.records.inputs[None])[0] == 0).all(0)
    assert dead.any(), "some unit never fires on these records"
    assert not ratio[dead].any()
    assert ratio.isfinite().all()


def test_all_columns_can_be_masked_and_records_can_be_few() -> None:
    spec = FAMILIES[1]
    job = task(spec)
    weight, _ = head_names(spec)
    assert torch.equal(Soteria(share=1.0).train(job).value[weight], job.start[weight])
    alone = Soteria(share=0.5, records=1).train(job).value
    again = Soteria(share=0.5, records=1).train(job).value
    assert torch.equal(alone[weight], again[weight])
    empty = replace(job, records=Records(job.records.inputs[:0], job.records.labels[:0]))
    assert all(torch.equal(t, job.start[k]) for k, t in Soteria(0.5).train(empty).value.items())


def test_a_frozen_head_stays_as_it_is() -> None:
    spec = FAMILIES[1]
    job = replace(task(spec), frozen=head_names(spec))
    spent, (plain,) = Soteria(share=0.5).train(job), train([job])
    assert all(torch.equal(spent.value[k], t) for k, t in plain.items())


@pytest.mark.parametrize("share", [0.0, 1.2, math.nan])
def test_a_share_outside_its_range_is_refused(share: float) -> None:
    with pytest.raises(ValueError, match=rf"expected share in \(0, 1\], got share={share}"):
        Soteria(share)


def test_no_records_to_decide_on_are_refused() -> None:
    with pytest.raises(ValueError, match="expected records >= 1, got records=0"):
        Soteria(0.5, records=0)


def test_parameters_without_a_head_are_refused() -> None:
    spec = FAMILIES[1]
    job = task(spec)
    headless = {k: t for k, t in job.start.items() if k not in head_names(spec)}
    with pytest.raises(ValueError, match=r"expected a head '5.weight' to mask, got parameters=1.weight"):
        Soteria(0.5).train(replace(job, start=headless))
