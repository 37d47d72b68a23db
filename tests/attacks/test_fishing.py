"""Fishing: the share of one record against its bound, exact readings by class and by feature, many steps."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch

from attacks._imprint import moved
from attacks.fishing import Fishing, features, fished, least_share, lone
from attacks.imprint import Imprint
from privfed.nets import NetSpec, Params, head_names, initial
from privfed.randomness import Stream
from privfed.records import Records
from privfed.training import predict
from tests.attacks import crafted
from tests.attacks.crafted import SPEC, digits, drawn, matched, public, start, trained, unseen_label

STREAM = Stream(0)
LABEL = 3


def one_of(label: int, n: int, seed: int) -> Records:
    """n records, the first of them the only one of its label."""
    own = drawn(1200, seed)
    first = (own.labels == label).nonzero()[:1, 0]
    others = (own.labels != label).nonzero()[: n - 1, 0]
    return own.take(torch.cat([first, others]))


def backflow(model: Params, own: Records) -> torch.Tensor:
    """|p_label - 1[y = label]| of each record: what reaches its features, up to one common row."""
    p = predict(SPEC, model, own.inputs).double().softmax(1)[:, LABEL]
    return (p - (own.labels == LABEL).double()).abs()


@pytest.mark.parametrize("depth", [2.0, 6.0, 30.0])
@pytest.mark.parametrize("n", [8, 64])
def test_the_share_of_the_fished_record_is_above_the_closed_form(n: int, depth: float) -> None:
    own = one_of(LABEL, n, seed=n)
    model = Fishing(LABEL, depth, pull=1e-3).craft(SPEC, public(), start(), STREAM)
    flow = backflow(model, own)
    share = float(flow[0] / flow.sum())
    bound = least_share(n, SPEC.classes, depth)
    assert share >= bound > 1 / n
    assert share == pytest.approx(bound, rel=0.02), "a small row leaves the bound tight"


def test_the_bound_is_the_share_when_every_record_is_as_high_as_the_span() -> None:
    """p = e^(span - depth) / (e^(span - depth) + C - 1) for all, written out."""
    n, classes, depth, span = 5, 4, 3.0, 1.2
    p = math.exp(span - depth) / (math.exp(span - depth) + classes - 1)
    assert least_share(n, classes, depth, span) == pytest.approx((1 - p) / (1 - p + (n - 1) * p))
    assert least_share(1, classes, depth) == 1


@pytest.mark.parametrize("n", [8, 64])
def test_the_only_record_of_a_label_is_read_exactly_after_one_step(n: int) -> None:
    own = one_of(LABEL, n, seed=n)
    model = Fishing(LABEL).craft(SPEC, public(), start(), STREAM)
    found = Fishing(LABEL).recover(SPEC, model, trained(model, own))
    assert matched(found.inputs, own)[0] < 1e-5
    assert found.objective[0] < 1e-5


@pytest.mark.parametrize(("steps", "batch"), [(5, 4096), (20, 4096), (1, 8), (5, 8)])
def test_many_steps_leave_it_close(steps: int, batch: int) -> None:
    """Mean squared error below 1e-3 of pixels in [-1, 1] for each of 10 clients of 32 records."""
    for seed in range(10):
        own = one_of(LABEL, 32, seed)
        model = Fishing(LABEL).craft(SPEC, public(), start(seed), STREAM)
        found = Fishing(LABEL).recover(SPEC, model, trained(model, own, steps, batch)).inputs
        assert (found[0] - own.inputs[0]).square().mean() < 1e-3


def test_without_pull_other_labels_flow_in_after_the_first_step() -> None:
    own, weak = one_of(LABEL, 32, seed=0), Fishing(LABEL, pull=0.1)
    model = weak.craft(SPEC, public(), start(), STREAM)
    found = weak.recover(SPEC, model, trained(model, own, 20))
    assert not len(found.inputs) or (found.inputs[0] - own.inputs[0]).square().mean() > 1e-2


def test_two_records_of_the_label_are_a_mixture_that_shows() -> None:
    own = drawn(1200, 0)
    own = own.take(
        torch.cat([(own.labels == LABEL).nonzero()[:2, 0], (own.labels != LABEL).nonzero()[:9, 0]])
    )
    model = Fishing(LABEL).craft(SPEC, public(), start(), STREAM)
    found = Fishing(LABEL).recover(SPEC, model, trained(model, own))
    assert found.objective[0] > 0.05
    assert (matched(found.inputs, own) > 1e-2).all()


def test_a_client_without_the_label_gives_next_to_nothing() -> None:
    own = unseen_label(16, 0, LABEL)
    model = Fishing(LABEL).craft(SPEC, public(), start(), STREAM)
    assert float(moved(model, trained(model, own))[1].abs().max()) < 1e-9
    weight, bias = torch.zeros(128, 64, dtype=torch.float64), torch.zeros(128, dtype=torch.float64)
    assert len(lone(SPEC, weight, bias).inputs) == 0


def above_cutoff(model: Params, own: Records) -> torch.Tensor:
    return predict(SPEC, model, own.inputs)[:, LABEL] > 0


@pytest.mark.parametrize("steps", [1, 5, 20])
def test_one_record_above_the_cutoff_of_a_feature_is_read(steps: int) -> None:
    attack, read, alone = Fishing(LABEL, cutoff=1 / 16), 0, 0
    for seed in range(12):
        own = unseen_label(16, seed, LABEL)
        model = attack.craft(SPEC, public(), start(seed), STREAM)
        found = attack.recover(SPEC, model, trained(model, own, steps)).inputs
        above = above_cutoff(model, own)
        if above.sum() == 1:
            alone += 1
            read += int((found[0] - own.inputs[above][0]).square().mean() < 1e-3)
    assert alone >= 3
    assert read == alone


def test_records_of_the_label_flow_in_below_the_cutoff() -> None:
    """The reason why the client must lack the label: each of them below the cutoff counts in full."""
    own = one_of(LABEL, 16, seed=1)
    model = Fishing(LABEL, cutoff=1 / 16).craft(SPEC, public(), start(), STREAM)
    flow, above = backflow(model, own), above_cutoff(model, own)
    is_label = own.labels == LABEL
    assert torch.allclose(flow, (above ^ is_label).double(), atol=1e-3)


def test_the_cutoff_is_the_public_quantile_of_the_widest_feature() -> None:
    model = Fishing(LABEL, cutoff=0.1).craft(SPEC, public(), start(), STREAM)
    values = features(SPEC, start(), public())
    widest = int(values.std(0).argmax())
    weight, bias = (model[name] for name in head_names(SPEC))
    assert weight[LABEL].nonzero().flatten().tolist() == [widest]
    cut = float(-bias[LABEL] / weight[LABEL, widest])
    assert float((values[:, widest] > cut).double().mean()) == pytest.approx(0.1, abs=0.01)


def test_it_reads_its_own_models_and_gives_them_their_label() -> None:
    own = one_of(LABEL, 16, seed=2)
    model = Fishing(LABEL).craft(SPEC, public(), start(), STREAM)
    seen = crafted.view(crafted.sent_to(model), crafted.returned(trained(model, own), client=1))
    made = Fishing().reconstruct(seen, public(), STREAM)
    assert made is not None
    assert made.records.labels.tolist() == [LABEL]
    assert made.clients.tolist() == [1]
    assert matched(made.records.inputs, own)[0] < 1e-5
    feature = Fishing(LABEL, cutoff=0.2)
    model = feature.craft(SPEC, public(), start(), STREAM)
    seen = crafted.view(crafted.sent_to(model), crafted.returned(trained(model, own)))
    assert feature.reconstruct(seen, public(), STREAM) is not None


def test_it_says_nothing_of_other_models() -> None:
    own = drawn(8, 0)
    others = [start(), Imprint().craft(SPEC, public(), start(), STREAM)]
    for model in others:
        assert fished(SPEC, model) is None
        seen = crafted.view(crafted.sent_to(model), crafted.returned(trained(model, own)))
        assert Fishing().reconstruct(seen, public(), STREAM) is None
    assert Fishing().reconstruct(crafted.view(), public(), STREAM) is None


def test_the_representation_is_left_as_it_was() -> None:
    model = Fishing(LABEL).craft(SPEC, public(), start(), STREAM)
    same = [k for k, v in start().items() if torch.equal(v, model[k])]
    assert set(same) == set(model) - set(head_names(SPEC))


def test_the_share_of_labels_held_once_is_what_fishing_for_each_can_read() -> None:
    """Eight records, every label in turn: read are exactly those whose label no other record has."""
    own = digits().take(torch.tensor([0, 1, 2, 3, 4, 10, 11, 7]))
    counts = np.bincount(own.labels.numpy(), minlength=10)
    for label in range(10):
        model = Fishing(label).craft(SPEC, public(), start(), STREAM)
        apart = matched(Fishing(label).recover(SPEC, model, trained(model, own)).inputs, own)
        assert int((apart < 1e-5).sum()) == int(counts[label] == 1)


def test_knobs_out_of_range_are_refused() -> None:
    with pytest.raises(ValueError, match="expected depth > 0, got depth=0"):
        Fishing(depth=0)
    with pytest.raises(ValueError, match="expected pull > 0, got pull=-1"):
        Fishing(pull=-1)
    with pytest.raises(ValueError, match=r"expected cutoff in \(0, 1\), got cutoff=1.0"):
        Fishing(cutoff=1.0)
    convnet = NetSpec("convnet", 1, 8, 10, width=4, depth=1)
    with pytest.raises(ValueError, match="got family='convnet'"):
        Fishing().craft(convnet, public(), initial(convnet, STREAM.torch()), STREAM)
