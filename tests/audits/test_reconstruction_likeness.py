"""Likeness to members: copies are told in pixels and in features, which need not agree."""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np
import pytest
import torch
from torch import Tensor

from audits.reconstruction_cases import Case
from audits.reconstruction_deal import Dealt, deal, pool, public_of
from audits.reconstruction_federation import net_of
from audits.reconstruction_judge import judge_of
from audits.reconstruction_likeness import MOST, Likeness, beside
from audits.reconstruction_measures import Evaluator, perceptual_distance, ssim
from privfed.nets import NetSpec
from privfed.randomness import Stream
from privfed.records import Records

SOURCE = "digits"


def dealt(records: int = 4) -> Dealt:
    return deal(pool(SOURCE), Case("records", "mlp", "analytic", records), 2, Stream(0))


STRIP = slice(24, 32)


@dataclass(frozen=True, slots=True, eq=False)
class Seeing(Evaluator):
    """A judge that reads one row of pixels, times a factor."""

    factor: float = 1.0

    def features(self, inputs: Tensor) -> Tensor:
        return self.factor * inputs.flatten(1)[:, STRIP].double()


def seeing(factor: float) -> Seeing:
    return Seeing(NetSpec("mlp", 1, 8, 10, width=1), {}, factor)


def test_copies_of_members_are_found_by_every_measure() -> None:
    data = dealt()
    got = beside(data, 0, judge_of(SOURCE, 0)).likeness(data.clients[0])
    exact = Likeness(1.0, 1.0, 1.0, MOST, 1.0, 0.0, 1.0, 1.0)
    assert replace(got, structure=1.0, perceptual=0.0) == exact
    assert got.structure == pytest.approx(1.0, abs=1e-9)
    assert got.perceptual == pytest.approx(0.0, abs=1e-3)


def test_copies_of_decoys_are_misses_and_less_alike() -> None:
    data = dealt()
    got = beside(data, 0, judge_of(SOURCE, 0)).likeness(data.decoys[0])
    assert (got.first, got.every, got.found, got.first_seen, got.every_seen) == (0, 0, 0, 0, 0)
    assert got.structure is not None
    assert got.structure < 0.95
    assert got.perceptual is not None
    assert got.perceptual > 0.01


def test_structure_and_features_are_those_of_the_member_nearest_in_pixels() -> None:
    """A public record of every class, set against each member by hand."""
    data = dealt()
    own = data.clients[1].inputs
    pictures = public_of(pool(SOURCE)).take(torch.arange(0, 400, 40))
    nearest = torch.cdist(pictures.inputs.flatten(1), own.flatten(1)).argmin(1).numpy()
    judge = judge_of(SOURCE, 0)
    got = beside(data, 1, judge).likeness(pictures)
    rows = np.arange(len(pictures))
    assert len(set(nearest.tolist())) > 1
    assert got.structure == pytest.approx(ssim(pictures.inputs, own)[rows, nearest].mean())
    seen = perceptual_distance(pictures.inputs, own, judge.features)
    assert got.perceptual == pytest.approx(seen[rows, nearest].mean())
    assert got.perceptual > seen.min(1).mean()


def test_features_may_point_elsewhere_than_pixels() -> None:
    """A member but for the row that the judge reads, which is a decoy's."""
    data = dealt(1)
    mixed = data.clients[0].inputs.clone()
    mixed.flatten(1)[:, STRIP] = data.decoys[0].inputs[:1].flatten(1)[:, STRIP]
    got = beside(data, 0, seeing(1.0)).likeness(Records(mixed, data.clients[0].labels))
    assert (got.first, got.every) == (1.0, 1.0)
    assert (got.first_seen, got.every_seen) == (0.0, 0.0)
    assert got.perceptual is not None
    assert got.perceptual > 0.1


def test_features_that_are_all_nought_say_nothing() -> None:
    data = dealt()
    got = beside(data, 0, seeing(0.0)).likeness(data.clients[0])
    assert (got.first, got.first_seen, got.every_seen, got.perceptual) == (1.0, 0.0, 0.0, None)


def test_without_a_picture_there_is_no_likeness() -> None:
    data = dealt()
    got = beside(data, 0, judge_of(SOURCE, 0)).likeness(data.clients[0].take(torch.arange(0)))
    assert got == Likeness(0.0, None, 0.0, None, None, None, 0.0, None)


def test_the_line_up_has_the_chances_of_its_candidates() -> None:
    lineup = beside(dealt(), 0, judge_of(SOURCE, 0)).lineup
    assert lineup.chance == pytest.approx(4 / 104)
    assert lineup.chance_of_member == 1 / 101


def test_the_judge_is_trained_once_a_seed_and_on_other_weights_than_clients() -> None:
    judge = judge_of(SOURCE, 0)
    assert judge_of(SOURCE, 0) is judge
    other = judge_of(SOURCE, 1)
    assert not all(torch.equal(judge.params[k], other.params[k]) for k in judge.params)
    assert judge.spec != net_of(Case("records", "convnet", "DLG"), (1, 8, 8), 10)


def test_the_judge_recognises_records_that_it_never_saw() -> None:
    """80 decoys of ten classes; the weights are those of the public shard, whatever is dealt."""
    unseen = dealt(8).decoys[0]
    assert judge_of(SOURCE, 0).recognised(unseen).mean() > 0.6
