"""Trajectory matching: its objective, its gradient against autograd and differences, its lanes."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any, cast

import pytest
import torch
from torch import Tensor
from torch.func import functional_call
from torch.nn import functional as F

from privfed.augmentation import Dsa
from privfed.distillation import Job, Matched, Matching, _lanes, match, matching_gradient, matching_loss
from privfed.nets import NetSpec, Params, initial, module_of
from privfed.prior import Prior, PriorRecipe, train_prior
from privfed.randomness import Stream
from privfed.records import Records
from privfed.training import Recipe, Task, train

CONVNET = NetSpec("convnet", channels=1, size=4, classes=3, width=4, depth=1)
MLP = NetSpec("mlp", channels=1, size=4, classes=3, width=5, depth=1)
LABELS = torch.tensor([0, 1, 2, 0])
every_spec = pytest.mark.parametrize("spec", [CONVNET, MLP], ids=lambda s: s.family)
every_dsa = pytest.mark.parametrize("dsa", [None, Dsa()], ids=["plain", "augmented"])


@dataclass(frozen=True)
class Identity:
    """A prior whose latents are the images."""

    spec: NetSpec

    def sample(self, labels: Tensor, generator: torch.Generator) -> Tensor:
        shape = (len(labels), self.spec.channels, self.spec.size, self.spec.size)
        return torch.rand(shape, generator=generator, dtype=torch.float64) * 2 - 1

    def decode(self, latents: Tensor) -> Tensor:
        return latents * 1.0

    def clip(self, latents: Tensor) -> Tensor:
        return latents.clamp(-1, 1)


def identity(spec: NetSpec) -> Prior:
    return cast(Prior, Identity(spec))


def net(spec: NetSpec, seed: int) -> Params:
    return {k: v.double() for k, v in initial(spec, Stream(seed, ("net",)).torch()).items()}


def noise(spec: NetSpec, labels: Tensor, seed: int) -> Records:
    return Records(identity(spec).sample(labels, Stream(seed, ("records",)).torch()), labels)


def local(spec: NetSpec, seed: int, recipe: Recipe, records: Records) -> tuple[Params, Params]:
    """Weights before and after a client's training."""
    start = net(spec, seed)
    (target,) = train([Task(spec, start, records, recipe, Stream(seed, ("client",)))])
    return start, target


def job(spec: NetSpec, seed: int, labels: Tensor = LABELS) -> Job:
    recipe = Recipe(epochs=3, batch=3, lr=0.3)
    start, target = local(spec, seed, recipe, noise(spec, torch.arange(7) % 3, seed))
    return Job(start, target, labels, Stream(seed, ("job",)))


def still(spec: NetSpec, seed: int) -> Job:
    moved = job(spec, seed)
    return replace(moved, target={k: v.clone() for k, v in moved.start.items()})


def generators(count: int) -> list[torch.Generator]:
    return [Stream(m, ("dsa",)).torch() for m in range(count)]


def assert_close(first: Matched, second: Matched) -> None:
    """Float64 rounding; Adam divides by the root of squared gradients and lifts it above 1e-12."""
    for name in ("latents", "images", "losses"):
        torch.testing.assert_close(
            getattr(first, name), getattr(second, name), rtol=1e-7, atol=1e-8, equal_nan=True
        )
    assert first.eta == pytest.approx(second.eta, rel=1e-6)
    assert torch.equal(first.labels, second.labels)


# The objective.


@every_spec
@every_dsa
def test_no_inner_step_is_no_movement(spec: NetSpec, dsa: Dsa | None) -> None:
    lanes = _lanes(spec, [job(spec, 0), job(spec, 1)])
    images = torch.stack([noise(spec, LABELS, m).inputs for m in range(2)])
    loss = matching_loss(lanes, images, torch.zeros(2), Matching(steps=3, dsa=dsa), generators(2))
    assert torch.equal(loss, torch.ones(2, dtype=torch.float64))


@every_spec
@every_dsa
def test_the_clients_own_images_steps_and_rate_leave_no_loss(spec: NetSpec, dsa: Dsa | None) -> None:
    """Full batches, since the server steps on all images at once; the augmentation drawn alike."""
    recipe = Recipe(epochs=4, batch=100, lr=0.25, dsa=dsa)
    own = [noise(spec, torch.arange(n) % 3, n) for n in (5, 8)]
    pairs = [local(spec, m, recipe, records) for m, records in enumerate(own)]
    jobs = [
        Job(start, target, records.labels, Stream(m))
        for m, ((start, target), records) in enumerate(zip(pairs, own, strict=True))
    ]
    alike = [Stream(m, ("client", "augment")).torch() for m in range(2)]
    images = torch.nn.utils.rnn.pad_sequence([r.inputs for r in own], batch_first=True)
    matching = Matching(steps=4, dsa=dsa)
    loss = matching_loss(_lanes(spec, jobs), images, torch.full((2,), recipe.lr), matching, alike)
    assert loss.max() < 1e-20, "the square of rounding in float64"


@every_spec
def test_the_line_search_finds_the_clients_rate(spec: NetSpec) -> None:
    own = noise(spec, torch.arange(6) % 3, 0)
    start, target = local(spec, 0, Recipe(epochs=2, batch=100, lr=0.25), own)
    found = match(
        spec,
        [Job(start, target, own.labels, Stream(0), own.inputs)],
        identity(spec),
        Matching(iterations=0, steps=2, eta=1.0),
    )[0]
    assert found.eta == 0.25
    assert found.losses.shape == (1,)
    assert found.losses[0] < 1e-20
    assert torch.equal(found.images, own.inputs)


@every_spec
def test_the_loss_is_the_squared_distance_left_over_the_one_travelled(spec: NetSpec) -> None:
    one = job(spec, 3)
    images, eta = noise(spec, LABELS, 0).inputs, 0.2
    weights = one.start
    for _ in range(3):
        gradient = _gradient(spec, weights, images, LABELS)
        weights = {k: v - eta * gradient[k].detach() for k, v in weights.items()}
    left = sum(float((weights[k] - one.target[k]).square().sum()) for k in weights)
    travelled = sum(float((one.start[k] - one.target[k]).square().sum()) for k in weights)
    (loss,) = matching_loss(
        _lanes(spec, [one]),
        images.unsqueeze(0),
        torch.tensor([eta], dtype=torch.float64),
        Matching(steps=3),
        [],
    )
    assert float(loss) == pytest.approx(left / travelled, rel=1e-10)


def test_the_objective_falls_for_an_iid_client() -> None:
    """Digits of all classes, a convolutional net and a trained prior, in float32 as in use."""
    from sklearn.datasets import load_digits

    data = load_digits()
    images = torch.tensor(data.images, dtype=torch.float32).unsqueeze(1) / 8 - 1
    records = Records(images, torch.tensor(data.target))
    spec = NetSpec("convnet", channels=1, size=8, classes=10, width=8, depth=2)
    public = records.take(torch.arange(300))
    prior = train_prior(public, 10, PriorRecipe(widths=(8, 8), steps=60), Stream(0))
    start = initial(spec, Stream(1).torch())
    task = Task(spec, start, records.take(torch.arange(300, 500)), Recipe(2, 32, 0.05), Stream(2))
    (target,) = train([task])
    labels = torch.arange(10).repeat_interleave(2)
    (found,) = match(spec, [Job(start, target, labels, Stream(3))], prior, Matching(iterations=20))
    assert found.losses.shape == (21,)
    assert found.losses[0] < 1
    assert found.losses[-1] < 0.8 * found.losses[0]
    assert found.losses.diff().mean() < 0


# Its gradient.


def _gradient(spec: NetSpec, weights: Params, images: Tensor, labels: Tensor) -> Params:
    """Gradient of the mean cross-entropy by the module, with a graph to the images."""
    module = module_of(spec, {k: v.float() for k, v in weights.items()}).double()
    leaves = {k: v if v.requires_grad else v.detach().requires_grad_() for k, v in weights.items()}
    loss = F.cross_entropy(functional_call(module, leaves, (images,)), labels)
    parts = torch.autograd.grad(loss, list(leaves.values()), create_graph=True)
    return dict(zip(leaves, parts, strict=True))


def _flat(params: Params) -> Tensor:
    return torch.cat([v.flatten() for v in params.values()])


def _inner(spec: NetSpec, one: Job, images: Tensor, eta: float, steps: int) -> list[Params]:
    """Inner weights before each step, without graph."""
    weights = [one.start]
    for _ in range(steps - 1):
        gradient = _gradient(spec, weights[-1], images, one.labels)
        weights.append({k: v - eta * gradient[k].detach() for k, v in weights[-1].items()})
    return weights


def _constant(spec: NetSpec, one: Job, images: Tensor, eta: float, steps: int) -> tuple[list[Params], Tensor]:
    """Inner weights and v = (2 eta / D) (eta sum g - (start - target)), both fixed."""
    weights = _inner(spec, one, images, eta, steps)
    total = torch.stack([_flat(_gradient(spec, w, images, one.labels)).detach() for w in weights]).sum(0)
    displacement = _flat(one.start) - _flat(one.target)
    v = 2 * eta / displacement.square().sum() * (eta * total - displacement)
    return weights, v


def _found(
    spec: NetSpec, jobs: Sequence[Job], images: Tensor, eta: float, matching: Matching
) -> tuple[Tensor, Tensor, Tensor]:
    log_eta = torch.full((len(jobs),), eta, dtype=torch.float64).log()
    return matching_gradient(_lanes(spec, jobs), images, log_eta, matching, generators(len(jobs)))


@every_spec
@pytest.mark.parametrize("steps", [1, 4])
def test_the_gradient_is_that_of_the_gradients_against_a_constant(spec: NetSpec, steps: int) -> None:
    """TESLA, section 3.2: autograd of sum_t g_t . v at inner weights held constant."""
    jobs = [job(spec, m) for m in range(2)]
    images = torch.stack([noise(spec, LABELS, m).inputs for m in range(2)])
    _, by_image, _ = _found(spec, jobs, images, 0.2, Matching(steps=steps))
    for m, one in enumerate(jobs):
        weights, v = _constant(spec, one, images[m], 0.2, steps)
        x = images[m].clone().requires_grad_()
        aligned = sum(_flat(_gradient(spec, w, x, one.labels)) @ v for w in weights)
        assert isinstance(aligned, Tensor)
        (expected,) = torch.autograd.grad(aligned, x)
        torch.testing.assert_close(by_image[m], expected, rtol=1e-9, atol=1e-11)


@every_spec
def test_the_gradient_is_that_of_finite_differences(spec: NetSpec) -> None:
    """Central differences of step 1e-6: truncation of 1e-12 and cancellation of 1e-10 in float64."""
    one, images, step = job(spec, 0), noise(spec, LABELS, 0).inputs, 1e-6
    _, by_image, _ = _found(spec, [one], images.unsqueeze(0), 0.2, Matching(steps=3))
    weights, v = _constant(spec, one, images, 0.2, 3)

    def aligned(x: Tensor) -> float:
        return float(sum(_flat(_gradient(spec, w, x, one.labels)).detach() @ v for w in weights))

    for place in range(images.numel()):
        bump = torch.zeros(images.numel(), dtype=torch.float64)
        bump[place] = step
        slope = (aligned(images + bump.view_as(images)) - aligned(images - bump.view_as(images))) / (2 * step)
        assert float(by_image.flatten()[place]) == pytest.approx(slope, rel=1e-6, abs=1e-8)


def _full_unroll(spec: NetSpec, one: Job, images: Tensor, log_eta: Tensor, steps: int) -> Tensor:
    """The objective with a graph through every inner step, as in MTT."""
    weights = {k: v.detach().requires_grad_() for k, v in one.start.items()}
    for _ in range(steps):
        gradient = _gradient(spec, weights, images, one.labels)
        weights = {k: v - log_eta.exp() * gradient[k] for k, v in weights.items()}
    distance = (_flat(one.start) - _flat(one.target)).square().sum()
    return (_flat(weights) - _flat(one.target)).square().sum() / distance


@every_spec
@pytest.mark.parametrize("steps", [1, 3])
def test_one_step_is_the_full_unroll_and_several_are_not(spec: NetSpec, steps: int) -> None:
    one, x = job(spec, 0), noise(spec, LABELS, 0).inputs.requires_grad_()
    log_eta = torch.tensor(0.2, dtype=torch.float64).log().requires_grad_()
    loss = _full_unroll(spec, one, x, log_eta, steps)
    expected, by_eta = torch.autograd.grad(loss, (x, log_eta))
    found, by_image, by_log_eta = _found(spec, [one], x.unsqueeze(0), 0.2, Matching(steps=steps))
    torch.testing.assert_close(found[0], loss.detach(), rtol=1e-10, atol=0)
    exact = steps == 1
    assert torch.allclose(by_image[0], expected, rtol=1e-9, atol=1e-11) == exact
    assert torch.allclose(by_log_eta[0], by_eta, rtol=1e-9, atol=1e-11) == exact


@every_spec
def test_the_gradient_in_the_step_size_holds_the_inner_gradients_constant(spec: NetSpec) -> None:
    one, images, eta = job(spec, 0), noise(spec, LABELS, 0).inputs, 0.2
    _, _, by_log_eta = _found(spec, [one], images.unsqueeze(0), eta, Matching(steps=3))
    weights = _inner(spec, one, images, eta, 3)
    total = torch.stack([_flat(_gradient(spec, w, images, LABELS)).detach() for w in weights]).sum(0)
    displacement = _flat(one.start) - _flat(one.target)
    log_eta = torch.tensor(eta, dtype=torch.float64).log().requires_grad_()
    loss = (displacement - log_eta.exp() * total).square().sum() / displacement.square().sum()
    (expected,) = torch.autograd.grad(loss, log_eta)
    torch.testing.assert_close(by_log_eta[0], expected, rtol=1e-9, atol=1e-11)


@every_spec
@every_dsa
def test_recomputing_the_inner_graphs_changes_nothing(spec: NetSpec, dsa: Dsa | None) -> None:
    jobs = [job(spec, m) for m in range(2)]
    images = torch.stack([noise(spec, LABELS, m).inputs for m in range(2)])
    kept, recomputed = (Matching(steps=3, dsa=dsa, memory=m) for m in ("graph", "constant"))
    for a, b in zip(
        _found(spec, jobs, images, 0.2, kept), _found(spec, jobs, images, 0.2, recomputed), strict=True
    ):
        torch.testing.assert_close(a, b, rtol=1e-10, atol=1e-12)
    whole = [match(spec, jobs, identity(spec), replace(m, iterations=5)) for m in (kept, recomputed)]
    for a_, b_ in zip(*whole, strict=True):
        assert_close(a_, b_)


# Lanes.


@every_spec
@every_dsa
def test_jobs_do_not_influence_one_another(spec: NetSpec, dsa: Dsa | None) -> None:
    lengths = (4, 1, 6, 3)
    jobs = [job(spec, m, torch.arange(n) % 3) for m, n in enumerate(lengths)] + [still(spec, 9)]
    matching = Matching(iterations=4, steps=3, dsa=dsa)
    together = match(spec, jobs, identity(spec), matching)
    assert [len(m.images) for m in together] == [*lengths, 4]
    for lanes in (1, 2):
        for a, b in zip(together, match(spec, jobs, identity(spec), matching, lanes=lanes), strict=True):
            assert_close(a, b)
    swapped = match(spec, jobs[::-1], identity(spec), matching)
    for a, b in zip(together, swapped[::-1], strict=True):
        assert_close(a, b)


@every_spec
@every_dsa
def test_a_client_that_did_not_move_gets_the_initial_images(spec: NetSpec, dsa: Dsa | None) -> None:
    jobs = [job(spec, 0), still(spec, 1), job(spec, 2)]
    found = match(spec, jobs, identity(spec), Matching(iterations=3, steps=2, dsa=dsa))
    drawn = identity(spec).sample(LABELS, jobs[1].stream.child("latents").torch())
    assert torch.equal(found[1].images, drawn)
    assert torch.equal(found[1].latents, drawn)
    assert found[1].losses.isnan().all()
    assert found[1].eta > 0
    for other in (found[0], found[2]):
        assert other.losses.isfinite().all()
        assert other.images.isfinite().all()
        assert not torch.equal(other.images, drawn)


@every_spec
@pytest.mark.parametrize("lanes", [1, 8])
def test_a_client_without_labels_gets_no_images(spec: NetSpec, lanes: int) -> None:
    nothing = torch.empty(0, dtype=torch.int64)
    jobs = [replace(still(spec, 0), labels=nothing), job(spec, 1), replace(job(spec, 2), labels=nothing)]
    found = match(spec, jobs, identity(spec), Matching(iterations=2, steps=2), lanes)
    assert [len(m.images) for m in found] == [0, 4, 0]
    assert found[0].losses.isnan().all()
    assert torch.equal(found[2].losses, torch.ones(3, dtype=torch.float64)), "no image, no movement"
    assert found[1].losses.isfinite().all()


def test_no_jobs_are_no_results() -> None:
    assert match(CONVNET, [], identity(CONVNET), Matching()) == []


# What goes in and comes out.


@every_dsa
def test_the_same_streams_give_the_same_bits(dsa: Dsa | None) -> None:
    jobs = [job(CONVNET, m) for m in range(2)]
    matching = Matching(iterations=3, steps=2, dsa=dsa)
    before = torch.get_rng_state()
    first, second = (match(CONVNET, jobs, identity(CONVNET), matching) for _ in range(2))
    assert torch.equal(torch.get_rng_state(), before), "the global generator is nobody's"
    for a, b in zip(first, second, strict=True):
        assert torch.equal(a.images, b.images)
        assert torch.equal(a.losses, b.losses)
    moved = [replace(j, stream=j.stream.child("other")) for j in jobs]
    other = match(CONVNET, moved, identity(CONVNET), matching)
    assert not torch.equal(first[0].images, other[0].images)


@pytest.mark.parametrize("iterations", [0, 3])
def test_latents_start_where_they_are_told_and_stay_within_the_prior(iterations: int) -> None:
    one = job(CONVNET, 0)
    at = torch.full((4, 1, 4, 4), 0.99, dtype=torch.float64)
    matching = Matching(iterations=iterations, latent_lr=0.5)
    (found,) = match(CONVNET, [replace(one, latents=at)], identity(CONVNET), matching)
    assert found.latents.abs().max() <= 1
    assert torch.equal(found.latents, at) == (iterations == 0)
    assert (at == 0.99).all()
    assert found.losses.shape == (iterations + 1,)
    assert not found.latents.requires_grad
    assert not found.images.requires_grad


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"iterations": -1}, "expected iterations >= 0 and steps >= 1, got -1 and 5"),
        ({"steps": 0}, "expected iterations >= 0 and steps >= 1, got 20 and 0"),
        ({"latent_lr": 0.0}, "expected latent_lr > 0, got latent_lr=0.0"),
        ({"eta": float("nan")}, "expected eta > 0, got eta=nan"),
        ({"eta_lr": -0.1}, "expected eta_lr >= 0, got eta_lr=-0.1"),
    ],
)
def test_a_matching_that_cannot_be_done(change: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        replace(Matching(), **change)
