"""Alignment of records' gradients with updates: the closed form of one step, scale and layout."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from attacks._gradients import Aligned
from attacks.gradient_alignment import GradientAlignment, UpdateAlignment, measured
from attacks.interface import Candidates, Signals
from privfed.nets import NetSpec, Params, initial, module_of
from privfed.randomness import Stream
from privfed.records import Records
from privfed.release import Observer, View
from privfed.training import Recipe, Task, train
from tests.attacks.federations import SPEC, candidates, extract, no_references, server_view, weights

LINEAR = NetSpec("linear", channels=1, size=1, classes=3, width=6)


def net(seed: int, spec: NetSpec = SPEC) -> Params:
    return initial(spec, torch.Generator().manual_seed(seed))


def features(n: int, seed: int) -> Records:
    generator = torch.Generator().manual_seed(seed)
    return Records(torch.randn(n, 6, generator=generator), torch.arange(n) % 3)


def gradient(record: int, own: Records) -> torch.Tensor:
    """Of the cross-entropy of a linear net, written out."""
    logits = module_of(LINEAR, net(0, LINEAR))(own.inputs[record]).detach()
    pull = logits.softmax(0)
    pull[own.labels[record]] -= 1
    return torch.cat([torch.outer(pull, own.inputs[record]).flatten(), pull]).double()


def test_one_step_of_a_linear_net_gives_the_mean_product_of_gradients() -> None:
    """<D, g_x> = lr / n sum_i <g_i, g_x>, of members and of others alike."""
    members, outside = features(5, 1), features(4, 2)
    start = net(0, LINEAR)
    (after,) = train([Task(LINEAR, start, members, Recipe(epochs=1, batch=5, lr=0.5), Stream(0))])
    view = View(
        Observer("server"),
        (weights(start, "surrogate"), weights(after, "update", 0, 0)),
        {"surrogate": LINEAR},
    )
    records = Records(
        torch.cat([members.inputs, outside.inputs]), torch.cat([members.labels, outside.labels])
    )
    g = torch.stack([gradient(i, records) for i in range(9)])
    moved = 0.5 * g[:5].mean(0)
    products = 0.5 / 5 * (g[:5] @ g.T).sum(0)
    known = Candidates(records, torch.zeros(9, dtype=torch.int64), outside, outside)
    read = extract(UpdateAlignment(), known, view)
    expected = products / moved.norm() / g.norm(dim=1)
    np.testing.assert_allclose(read.candidates[:, 0], expected.numpy(), rtol=1e-4)
    np.testing.assert_allclose(read.population[:, 0, 0], expected[5:].numpy(), rtol=1e-4)
    norms = extract(UpdateAlignment("norm"), known, view)
    np.testing.assert_allclose(norms.candidates[:, 0], -g.norm(dim=1).numpy(), rtol=1e-4)


def test_the_difference_is_that_of_an_update_scaled_to_the_sum_of_gradients() -> None:
    """|cD|^2 - |cD - g|^2 by hand, with two members of mean product 2 and |D| = 2: c = 3 x 2 / 4."""
    aligned = Aligned(np.array([[1.0], [3.0], [-2.0]]), np.array([[4.0], [1.0], [9.0]]), np.array([2.0]))
    got = measured(aligned, "difference", np.array([0, 0]), np.array([3.0]))
    np.testing.assert_allclose(got[:, 0], [2 * 1.5 * 1 - 4, 2 * 1.5 * 3 - 1, 2 * 1.5 * -2 - 9])
    away = Aligned(-aligned.dots, aligned.squares, aligned.lengths)
    got = measured(away, "difference", np.array([0, 0]), np.array([3.0]))
    np.testing.assert_allclose(got[:, 0], -aligned.squares[:, 0])


@given(
    scale=st.floats(1e-3, 1e3),
    seed=st.integers(0, 50),
    measure=st.sampled_from(["cosine", "difference", "norm"]),
)
def test_learning_rate_and_number_of_steps_do_not_matter(scale: float, seed: int, measure: Any) -> None:
    rng = np.random.default_rng(seed)
    columns, counts = np.array([0, 1, 0, 1]), np.array([3.0, 5.0])
    first = Aligned(rng.normal(size=(6, 2)), rng.random((6, 2)) + 0.1, rng.random(2) + 0.1)
    longer = Aligned(scale * first.dots, first.squares, scale * first.lengths)
    np.testing.assert_allclose(
        measured(longer, measure, columns, counts), measured(first, measure, columns, counts), rtol=1e-9
    )


def test_a_client_is_read_in_its_own_rounds_and_not_where_it_stayed() -> None:
    known = candidates(9, 4)
    sent = [weights(net(0), "surrogate", r) for r in range(2)]
    moved = [weights(net(s), "update", r, k) for s, r, k in ((1, 0, 0), (2, 0, 1), (3, 1, 0), (0, 1, 1))]
    one = UpdateAlignment().extract(server_view(*sent, *moved[:3]), known, Stream(0))
    still = UpdateAlignment("norm").extract(server_view(*sent, *moved), known, Stream(0))
    mine = known.clients.numpy() == 1
    for read in (one, still):
        assert read is not None
        assert read.candidates.shape == (9, 2)
        assert read.population.shape == (4, 2, 2)
        np.testing.assert_array_equal(np.isnan(read.candidates[:, 1]), mine)
        np.testing.assert_array_equal(np.isnan(read.population).all(0), [[False, False], [False, True]])
    assert one is not None
    np.testing.assert_allclose(
        GradientAlignment().score(one, no_references(one))[mine], one.candidates[mine, 0]
    )


def test_at_the_end_the_models_own_gradients_are_read() -> None:
    known = candidates(6, 4)
    view = server_view(
        weights(net(0), "surrogate"), weights(net(1), "update", 0, 0), weights(net(2), "update", 0, 1)
    )
    swapped = server_view(weights(net(1), "surrogate"), weights(net(0), "update", 0, 0))
    there = extract(UpdateAlignment(at=1.0), known, view)
    back = extract(UpdateAlignment(), known, swapped)
    mine = known.clients.numpy() == 0
    np.testing.assert_allclose(there.candidates[mine], -back.candidates[mine], rtol=1e-4, atol=1e-6)


def test_scores_are_means_over_known_rounds() -> None:
    read = Signals(np.array([[1.0, 3.0], [np.nan, 2.0]]), np.zeros((1, 2, 1)), np.zeros(2, dtype=np.int64))
    np.testing.assert_array_equal(GradientAlignment().score(read, no_references(read)), [2.0, 2.0])


@pytest.mark.parametrize(
    ("field", "value", "message"),
    [
        ("measure", "dot", "expected measure to be one of cosine, difference, norm, got measure='dot'"),
        ("part", "tail", "expected part to be one of all, head, representation, got part='tail'"),
        ("at", -0.1, r"expected at in \[0, 1\], got at=-0.1"),
    ],
)
def test_bad_knobs_are_refused(field: str, value: Any, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        UpdateAlignment(**{field: value})
