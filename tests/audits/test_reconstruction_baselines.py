"""What needs no federation: class means, public neighbours, the prior alone."""

from __future__ import annotations

import pytest
import torch

from audits.reconstruction_baselines import class_means, copies, prior_only, public_neighbours
from privfed.prior import PriorRecipe, train_prior
from privfed.randomness import Stream
from privfed.records import Records


def records(values: list[float], labels: list[int]) -> Records:
    return Records(torch.tensor(values).view(-1, 1, 1, 1).expand(-1, 1, 4, 4), torch.tensor(labels))


def test_class_means_average_each_label_and_leave_unknown_ones_out() -> None:
    means = class_means(records([0.0, 1.0, 0.5], [0, 0, 2]), torch.tensor([2, 0, 1, 0]))
    assert means.labels.tolist() == [2, 0, 0]
    assert means.inputs[:, 0, 0, 0].tolist() == [0.5, 0.5, 0.5]
    assert len(class_means(records([0.0], [1]), torch.tensor([0]))) == 0


@pytest.mark.parametrize("by_features", [False, True])
def test_public_neighbours_keep_the_label_of_the_query(by_features: bool) -> None:
    features = (lambda x: torch.stack([x[:, 0, 0, 0], torch.ones(len(x))], 1)) if by_features else None
    found = public_neighbours(records([0.2, 0.9], [5, 6]), records([0.0, 1.0], [1, 2]), features)
    assert found.labels.tolist() == [5, 6]
    assert found.inputs[:, 0, 0, 0].tolist() == [0.0, 1.0]


def test_public_neighbours_need_public_records() -> None:
    with pytest.raises(ValueError, match="expected at least one public record, got public=0"):
        public_neighbours(records([0.0], [0]), records([0.0], [0]).take(torch.zeros(0, dtype=torch.int64)))


def test_the_prior_alone_draws_images_of_the_labels() -> None:
    public = records([0.0, 0.1, 0.5, 0.9], [0, 0, 1, 1])
    prior = train_prior(public, 2, PriorRecipe(widths=(8, 8), steps=0), Stream(0))
    drawn = prior_only(prior, torch.tensor([0, 1, 1]), Stream(1))
    assert drawn.inputs.shape == (3, 1, 4, 4)
    assert float(drawn.inputs.abs().max()) <= 1
    assert torch.equal(drawn.inputs, prior_only(prior, torch.tensor([0, 1, 1]), Stream(1)).inputs)


def test_copies_go_round() -> None:
    members = records([0.0, 1.0], [0, 1])
    assert copies(members, 3).labels.tolist() == [0, 1, 0]
    assert len(copies(members.take(torch.zeros(0, dtype=torch.int64)), 3)) == 0
