"""The pilot curve: its parts by closed forms, and the published table by running it."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from audits.pilot_curve import (
    APART,
    NAMES,
    NON_MEMBERS,
    PUBLISHED,
    SPEC,
    Row,
    Setup,
    _apart,
    _dealt,
    matched,
    measure,
    table,
    unrolled,
)
from privfed.datasets import load
from privfed.nets import Params, initial
from privfed.randomness import Stream
from privfed.training import Recipe, Task, train

SHORT = Setup(seeds=2, iterations=3)


def stacked(*seeds: int) -> Params:
    nets = [initial(SPEC, torch.Generator().manual_seed(s)) for s in seeds]
    return {name: torch.stack([n[name] for n in nets]) for name in nets[0]}


def test_the_client_is_full_batch_gradient_descent() -> None:
    members, _ = _dealt(load("digits").records, 2, Stream(0))
    start = stacked(0)
    ours = unrolled(start, members.inputs[None], members.labels[None], Setup())
    recipe = Recipe(epochs=5, batch=len(members), lr=0.1)
    (wanted,) = train([Task(SPEC, {k: v[0] for k, v in start.items()}, members, recipe, Stream(1))])
    for name, tensor in wanted.items():
        torch.testing.assert_close(ours[name][0], tensor)


def test_members_and_non_members_are_dealt_apart_by_class() -> None:
    members, others = _dealt(load("digits").records, 3, Stream(4))
    assert torch.bincount(members.labels).tolist() == [3] * 10
    assert torch.bincount(others.labels).tolist() == [NON_MEMBERS] * 10
    assert float(torch.cdist(members.inputs.flatten(1), others.inputs.flatten(1)).min()) > 0


def test_matching_moves_the_model_towards_the_target_and_lanes_do_not_mix() -> None:
    start, target = stacked(0, 1), stacked(2, 3)
    made, labels = matched(start, target, 1, Setup(iterations=0), Stream(5))
    better, _ = matched(start, target, 1, Setup(iterations=30), Stream(5))
    ends = [unrolled(start, x, labels.expand(2, -1), Setup()) for x in (made, better)]
    assert (_apart(ends[1], target) < _apart(ends[0], target)).all()
    changed = {name: torch.stack([t[0], t[1] + 0.1]) for name, t in target.items()}
    again, _ = matched(start, changed, 1, Setup(iterations=30), Stream(5))
    torch.testing.assert_close(again[0], better[0])
    assert not torch.allclose(again[1], better[1])


def test_one_row_and_the_table() -> None:
    found = measure(Row(1, 1, PUBLISHED[0].means), SHORT)
    assert found.shape == (2, len(NAMES))
    assert ((found[:, :4] >= 0) & (found[:, :4] <= 1)).all()
    # One record a class is its own class mean: whoever holds the mean holds the record.
    np.testing.assert_array_equal(found[:, 1], 1)
    lines = table([found] * len(PUBLISHED)).splitlines()
    assert len(lines) == 1 + len(PUBLISHED)
    assert "1.000 (1.000-1.000) / 0.935" in lines[2]


@pytest.mark.slow
def test_the_published_curve() -> None:
    """All rows, 4 seeds. Where the pilot gave a range over its seeds, our mean lies in it, widened by ours.

    Fewer records a class leak more by every measure. At one record a class the images tell more than the
    update does to the two simple attacks on it, which are thereby too weak. What is listed as apart is left
    out: there the images come closer to the members than the pilot's did.
    """
    found = [measure(row) for row in PUBLISHED]
    means = np.array([f.mean(0) for f in found])
    outside = set()
    for row, own in zip(PUBLISHED, found, strict=True):
        for name, published, values in zip(NAMES, row.ranges, own.T, strict=True):
            if published is not None:
                spread = values.max() - values.min()
                if not published[0] - spread <= values.mean() <= published[1] + spread:
                    outside.add((row.samples, row.ipc, name))
    assert outside <= APART
    one_image = [0, 1, 2, 4]
    for column in range(4):
        assert (np.diff(means[one_image, column]) < 0).all(), NAMES[column]
    assert means[0, 0] > max(means[0, 2:4])
    assert means[0, 4] > means[1:, 4].max() + 10
    assert max(means[3, 4], means[5, 4]) < means[[1, 2, 4], 4].min()
