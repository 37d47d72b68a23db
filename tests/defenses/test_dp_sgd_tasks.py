"""DP-SGD on every family of nets, with frozen parameters, with a proximal term, and without a teacher."""

from __future__ import annotations

from dataclasses import replace
from typing import Any, get_args

import pytest
import torch
from torch import Tensor
from torch.nn import functional as F

from defenses import dp_sgd
from defenses._dp_steps import without_hook_warning
from defenses.dp_sgd import DpSgd
from privfed.hooks import Hooks, Spent
from privfed.nets import Family, NetSpec, Params, forward, head_names, head_of, initial, representation_of
from privfed.pipelines._personal import Fit, fit_heads, fit_representations
from privfed.pipelines.interface import World
from privfed.randomness import Stream
from privfed.records import Records
from privfed.training import Recipe, Task, train

SPECS = (
    NetSpec("convnet", channels=2, size=8, classes=3, width=4, depth=2, groups=2),
    NetSpec("mlp", channels=1, size=4, classes=3, width=6, depth=2),
    NetSpec("cnn", channels=2, size=16, classes=3, hidden=(3, 4, 6, 5)),
    NetSpec("lstm", channels=4, size=5, classes=3, hidden=(6, 5)),
    NetSpec("linear", channels=1, size=1, classes=3, width=7),
)
MLP, LSTM = SPECS[1], SPECS[3]
MANY = tuple(s for s in SPECS if s.family != "linear")
NOISY = DpSgd(noise_multiplier=1.0, clip=1.0, sampling_rate=0.5, steps=6, expected_batch=5.0, lr=0.5)
SUMMED = DpSgd(noise_multiplier=0.0, clip=1e9, sampling_rate=1.0, steps=1, expected_batch=1.0, lr=1.0)
RECIPE = Recipe(epochs=1, batch=10, lr=0.1)
every_family = pytest.mark.parametrize("spec", SPECS, ids=lambda s: s.family)
every_body = pytest.mark.parametrize("spec", MANY, ids=lambda s: s.family)
PARTS = ("head", "representation", "a bias")
every_part = pytest.mark.parametrize("part", PARTS)


def task(spec: NetSpec, n: int = 8, frozen: tuple[str, ...] = (), **change: Any) -> Task:
    generator = Stream(n, ("records",)).torch()
    inputs = torch.randn(n, *spec.input_shape, generator=generator)
    labels = torch.randint(spec.classes, (n,), generator=generator)
    start = initial(spec, Stream(1).torch())
    return replace(Task(spec, start, Records(inputs, labels), RECIPE, Stream(2), frozen), **change)


def names(spec: NetSpec, part: str) -> tuple[str, ...]:
    """To freeze; "a bias" leaves its layer's weight to train."""
    head = head_names(spec)
    if part == "a bias":
        return (head[1],)
    return head if part == "head" else tuple(k for k in initial(spec, Stream(0).torch()) if k not in head)


def alone(of: Task, record: int) -> Params:
    """The gradient of one record by itself, of all parameters, by the functional form of the net."""
    params = {k: v.clone().requires_grad_() for k, v in of.start.items()}
    x, y = of.records.inputs[record], of.records.labels[record]
    logits = forward(of.spec, {k: v.unsqueeze(0) for k, v in params.items()}, x[None, None])
    found = torch.autograd.grad(F.cross_entropy(logits[0], y[None]), list(params.values()))
    return dict(zip(params, found, strict=True))


def flat(params: Params) -> Tensor:
    return torch.cat([p.flatten() for p in params.values()])


def same(first: Params, second: Params) -> bool:
    return list(first) == list(second) and all(torch.equal(first[k], second[k]) for k in first)


def failed(spent: Spent[Params]) -> set[str]:
    return {a.name for a in spent.checked if not a.verified}


def test_every_family_is_here() -> None:
    assert {s.family for s in SPECS} == set(get_args(Family))


# Gradients


@pytest.mark.parametrize(
    ("spec", "frozen"),
    [(s, ()) for s in SPECS] + [(s, names(s, part)) for s in MANY for part in PARTS],
    ids=[f"{s.family}-all" for s in SPECS] + [f"{s.family}-without-{part}" for s in MANY for part in PARTS],
)
def test_gradients_of_a_batch_are_those_of_each_record_by_itself(
    spec: NetSpec, frozen: tuple[str, ...]
) -> None:
    job = task(spec, frozen=frozen)
    module = dp_sgd._per_sample(job)
    with without_hook_warning():
        F.cross_entropy(module(job.records.inputs), job.records.labels, reduction="sum").backward()
    each = [alone(job, record) for record in range(len(job.records))]
    for name, parameter in module._module.named_parameters():
        if name in frozen:
            assert parameter.grad is None
            assert not hasattr(parameter, "grad_sample")
        else:
            expected = torch.stack([gradient[name] for gradient in each])
            assert expected.abs().max() > 0
            torch.testing.assert_close(parameter.grad_sample, expected, rtol=1e-4, atol=1e-6)


@every_family
def test_a_step_sums_gradients_clipped_one_by_one(spec: NetSpec) -> None:
    job = task(spec)
    each = torch.stack([flat(alone(job, record)) for record in range(len(job.records))])
    norms = each.norm(dim=1)
    clip = float(norms.median())
    expected = ((clip / norms).clamp(max=1).unsqueeze(1) * each).sum(0)
    moved = flat(job.start) - flat(replace(SUMMED, clip=clip).train(job).value)
    torch.testing.assert_close(moved, expected, rtol=1e-3, atol=1e-5)


@every_family
def test_a_correct_run_verifies_every_assumption(spec: NetSpec) -> None:
    assert not failed(NOISY.train(task(spec)))


# Frozen parameters


@every_body
@every_part
def test_frozen_parameters_come_back_as_they_were_and_the_others_move(spec: NetSpec, part: str) -> None:
    frozen = names(spec, part)
    job = task(spec, frozen=frozen)
    start = dict(reversed(job.start.items()))
    trained = NOISY.train(replace(job, start=start)).value
    assert list(trained) == list(start)
    moved = {k: bool((trained[k] != start[k]).all()) for k in start}
    assert moved == {k: k not in frozen for k in start}
    assert all(trained[k] is not start[k] for k in start)


@every_body
@pytest.mark.parametrize("part", ["head", "representation"])
def test_frozen_parameters_are_in_no_norm(spec: NetSpec, part: str) -> None:
    frozen = names(spec, part)
    job = task(spec, frozen=frozen)
    gradients = [alone(job, record) for record in range(len(job.records))]
    each = torch.stack([flat({k: v for k, v in g.items() if k not in frozen}) for g in gradients])
    whole = torch.stack([flat(g) for g in gradients]).norm(dim=1)
    clip = float(each.norm(dim=1).max()) * 1.0001
    assert (whole > clip).any(), "some record would be clipped if frozen parameters counted"
    start = {k: v for k, v in job.start.items() if k not in frozen}
    after = {k: v for k, v in replace(SUMMED, clip=clip).train(job).value.items() if k not in frozen}
    torch.testing.assert_close(flat(start) - flat(after), each.sum(0), rtol=1e-3, atol=1e-5)


@every_part
def test_frozen_parameters_get_no_noise(part: str) -> None:
    frozen = names(MLP, part)
    job = task(MLP, frozen=frozen)
    (noise,) = [a for a in NOISY.train(job).checked if a.name == "Gaussian noise of the stated size"]
    free = sum(v.numel() for k, v in job.start.items() if k not in frozen)
    assert f"over {free * NOISY.steps} draws" in noise.evidence


def test_the_phases_of_a_personalised_client_train_their_part_alone() -> None:
    job = task(MLP)
    nothing = Records(torch.empty(0, 1, 4, 4), torch.empty(0, dtype=torch.int64))
    world = World(MLP, MLP, nothing, public_labelled=False, hooks=Hooks(local=NOISY))
    fit = Fit(job.start, job.records, job.stream)
    (heads,), (bodies,) = fit_heads(world, RECIPE, [fit]), fit_representations(world, RECIPE, [fit])
    for spent, kept, moved in ((heads, representation_of, head_of), (bodies, head_of, representation_of)):
        assert same(kept(MLP, spent.value), kept(MLP, job.start))
        assert not any(torch.equal(v, job.start[k]) for k, v in moved(MLP, spent.value).items())
        assert repr(spent.event) == repr(NOISY.event)
        assert not failed(spent)


# The proximal term


@every_family
@pytest.mark.parametrize("anchored", [True, False])
@pytest.mark.parametrize("momentum", [0.0, 0.9])
def test_without_noise_and_clipping_it_is_plain_training(
    spec: NetSpec, anchored: bool, momentum: float
) -> None:
    """Full batches; a mean of losses is the clipped sum over the number of records."""
    recipe = Recipe(epochs=5, batch=8, lr=0.1, momentum=momentum, proximal=0.7)
    anchor = {k: v + 0.5 for k, v in initial(spec, Stream(9).torch()).items()} if anchored else None
    frozen = () if spec.family == "linear" else head_names(spec)
    job = task(spec, frozen=frozen, recipe=recipe, anchor=anchor)
    trained = DpSgd(0.0, 1e9, 1.0, 5, 8.0, 0.1, momentum).train(job).value
    (expected,) = train([job])
    torch.testing.assert_close(flat(trained), flat(expected), rtol=1e-4, atol=1e-5)
    (without,) = train([replace(job, recipe=replace(recipe, proximal=0.0))])
    assert (flat(without) - flat(expected)).abs().max() > 1e-3, "the term is felt"


@pytest.mark.parametrize("n", [0, 8])
def test_the_pull_is_the_same_whatever_the_records(n: int) -> None:
    anchor = {k: v + 1 for k, v in initial(MLP, Stream(9).torch()).items()}
    plain = task(MLP, n, anchor=anchor)
    pulled = replace(plain, recipe=replace(RECIPE, proximal=0.4))
    one = replace(NOISY, steps=1, clip=1e-3)
    difference = flat(one.train(pulled).value) - flat(one.train(plain).value)
    expected = -one.lr * 0.4 * (flat(plain.start) - flat(anchor))
    assert expected.norm() > 1, "far beyond the clipping norm: the pull is not clipped"
    torch.testing.assert_close(difference, expected, rtol=1e-4, atol=1e-5)


def test_an_anchor_without_a_proximal_term_changes_nothing() -> None:
    job = task(LSTM)
    anchored = replace(job, anchor={k: v + 1 for k, v in job.start.items()})
    assert same(NOISY.train(job).value, NOISY.train(anchored).value)


# What it claims


@pytest.mark.parametrize("spec", [MLP, LSTM], ids=lambda s: s.family)
def test_a_frozen_or_proximal_run_claims_the_same(spec: NetSpec) -> None:
    far = {k: v + 10 for k, v in task(spec).start.items()}
    for job in (
        task(spec, frozen=head_names(spec)),
        task(spec, recipe=replace(RECIPE, proximal=0.5), anchor=far),
        task(spec, frozen=head_names(spec), recipe=replace(RECIPE, proximal=0.5), anchor=far),
    ):
        spent = NOISY.train(job)
        assert repr(spent.event) == repr(NOISY.event)
        assert not failed(spent)


def test_something_added_before_the_witness_looks_is_seen(monkeypatch: pytest.MonkeyPatch) -> None:
    """The order matters: what reaches the gradient earlier is held against the stated noise."""

    def pull_first(look: Any, pull: Any) -> Any:
        return lambda optimizer: (pull(optimizer), look(optimizer))

    job = task(
        MLP, recipe=replace(RECIPE, proximal=1.0), anchor={k: v + 1 for k, v in task(MLP).start.items()}
    )
    monkeypatch.setattr(dp_sgd, "in_turn", pull_first)
    assert failed(NOISY.train(job)) == {"Gaussian noise of the stated size"}


def test_a_teacher_is_refused() -> None:
    message = r"expected a task without a teacher under DP-SGD, got teacher of shape \(8, 6\)"
    with pytest.raises(ValueError, match=f"^{message}$"):
        NOISY.train(task(MLP, teacher=torch.zeros(8, 6)))
