"""Imprint: counts against the closed form, exact readings, steps, batches, depth and what is refused."""

from __future__ import annotations

import math
from itertools import combinations_with_replacement

import numpy as np
import pytest
import torch

from attacks._imprint import BIAS, WEIGHT, exchanges
from attacks.imprint import Imprint, bins, expected_lone, expected_lone_pessimistic, imprinted, thresholds
from attacks.interface import Known
from privfed.nets import NetSpec, Params, representation_of
from privfed.randomness import Stream
from privfed.records import Records
from tests.attacks import crafted
from tests.attacks.crafted import GIVEN_UP, SPEC, drawn, matched, public, start, trained, unseen_label

PAIRS = [(8, 128), (64, 128), (64, 1024), (100, 1000)]
STREAM = Stream(0)


def sent(seed: int = 0, spec: NetSpec = SPEC) -> Params:
    return Imprint().craft(spec, public(), start(seed, spec), Stream(seed))


def measured_bins(model: Params, own: Records) -> torch.Tensor:
    """How many rows each record activates, by definition; records of one bin agree."""
    on = own.inputs.flatten(1).double() @ model[WEIGHT].double().T + model[BIAS].double() > 0
    return on.sum(1)


@pytest.mark.parametrize(("pair", "golden"), list(zip(PAIRS, [7.57, 39.05, 60.18, 90.57], strict=True)))
def test_expected_count_under_uniform_occupancy(pair: tuple[int, int], golden: float) -> None:
    assert expected_lone(*pair) == pytest.approx(golden, abs=0.005)


@pytest.mark.parametrize(("pair", "golden"), list(zip(PAIRS, [7.13, 28.17, 56.73, 82.69], strict=True)))
def test_expected_count_when_occupancies_are_equally_likely(pair: tuple[int, int], golden: float) -> None:
    assert expected_lone_pessimistic(*pair) == pytest.approx(golden, abs=0.005)
    assert expected_lone_pessimistic(*pair) < expected_lone(*pair)


def test_the_pessimistic_count_is_that_of_all_occupancies_written_out() -> None:
    n, k = 4, 5
    vectors = [np.bincount(c, minlength=k) for c in combinations_with_replacement(range(k), n)]
    lone = np.mean([(v == 1).sum() for v in vectors])
    assert expected_lone_pessimistic(n, k) == pytest.approx(lone - n / k)


@pytest.mark.parametrize("pair", PAIRS)
def test_simulated_occupancy_has_the_closed_form_in_its_interval(pair: tuple[int, int]) -> None:
    """4,000 draws of n uniform bins, mean within 3.3 standard errors; the pessimistic model is outside."""
    n, k = pair
    rng = np.random.default_rng(0)
    lone = [(np.bincount(row, minlength=k) == 1).sum() for row in rng.integers(k, size=(4000, n))]
    width = 3.3 * np.std(lone) / math.sqrt(4000)
    assert abs(np.mean(lone) - expected_lone(n, k)) < width
    assert abs(np.mean(lone) - expected_lone_pessimistic(n, k)) > width


@pytest.mark.parametrize("pair", PAIRS)
def test_the_attack_itself_reads_as_many_records_as_the_closed_form_says(pair: tuple[int, int]) -> None:
    """Uniform measurements: records whose projections are uniform, cut at the true quantiles."""
    n, k = pair
    spec = NetSpec("mlp", 1, 2, 2, width=k)
    counts = []
    for seed in range(40):
        rng = np.random.default_rng(seed)
        place = torch.from_numpy(rng.random(n))
        records = torch.from_numpy(rng.uniform(-1, 1, (n, 4)))
        on = place[:, None] >= torch.arange(k) / k
        weight, bias = on.double().T @ records, on.double().sum(0)
        found = bins(spec, weight, bias)
        apart = torch.cdist(records, found.inputs.flatten(1).double(), p=torch.inf).amin(1)
        counts.append(int((apart < 1e-5).sum()))
    assert abs(np.mean(counts) - expected_lone(n, k)) < 3.3 * np.std(counts) / math.sqrt(40)


@pytest.mark.parametrize("steps", [1, 5, 20])
@pytest.mark.parametrize("n", [8, 64])
def test_a_record_alone_in_its_bin_is_read_exactly_after_any_number_of_steps(n: int, steps: int) -> None:
    own, model = unseen_label(n, seed=n), sent()
    place = measured_bins(model, own)
    lone = torch.tensor([(place == p).sum() == 1 for p in place])
    assert lone.sum() > n / 3
    found = Imprint().recover(SPEC, model, trained(model, own, steps))
    apart = matched(found.inputs, own)
    assert (apart[lone] < 1e-5).all()
    shared = [own.inputs[place == p].mean(0) for p in place[~lone].unique()]
    for mean in shared:
        assert (found.inputs - mean).abs().flatten(1).amax(1).min() < 1e-4, "a shared bin gives its mean"


def test_doubt_is_zero_for_a_lone_record_and_counts_the_others_of_a_bin() -> None:
    own, model = unseen_label(64, seed=3), sent()
    place = measured_bins(model, own)
    found = Imprint().recover(SPEC, model, trained(model, own))
    for image, doubt in zip(found.inputs, found.objective, strict=True):
        same = (own.inputs - image).abs().flatten(1).amax(1) < 1e-3
        if same.any():
            assert doubt == pytest.approx(0, abs=1e-3)
        else:
            assert doubt == pytest.approx(round(doubt), abs=1e-3)
            assert doubt > 0.5
    assert len(found.inputs) == len(place.unique())


def test_records_of_the_label_given_up_are_not_seen_and_disturb_nobody() -> None:
    own, model = drawn(40, seed=1), sent()
    given = own.labels == GIVEN_UP
    assert given.any()
    found = Imprint().recover(SPEC, model, trained(model, own, 5)).inputs
    without = Imprint().recover(SPEC, model, trained(model, own.take(~given), 5)).inputs
    assert len(found) == len(without)
    assert torch.allclose(found, without, atol=1e-4)


def test_of_batches_the_first_is_read() -> None:
    """And of later ones whatever is above it, so some of many records, not none and not all."""
    own, model = unseen_label(64, seed=2), sent()
    apart = matched(Imprint().recover(SPEC, model, trained(model, own, 1, batch=8)).inputs, own)
    assert 4 <= int((apart < 1e-3).sum()) <= 20


def test_deeper_nets_pass_the_same_scalar_to_every_row() -> None:
    spec = NetSpec("mlp", 1, 8, 10, hidden=(96, 32, 16))
    own, model = unseen_label(8, seed=5), sent(spec=spec)
    place = measured_bins(model, own)
    lone = torch.tensor([(place == p).sum() == 1 for p in place])
    found = Imprint().recover(spec, model, trained(model, own, 3, spec=spec))
    assert lone.sum() >= 4
    assert (matched(found.inputs, own)[lone] < 1e-5).all()


def test_thresholds_are_quantiles_of_one_measurement() -> None:
    inputs = torch.randn(5000, 3, dtype=torch.float64, generator=torch.Generator().manual_seed(0))
    weight, bias = thresholds(inputs, 10, STREAM)
    assert torch.equal(weight, weight[:1].expand(10, 3))
    assert float(weight[0].norm()) == pytest.approx(1)
    above = (inputs @ weight.T + bias > 0).double().mean(0)
    assert torch.allclose(above, 1 - torch.arange(10).double() / 10, atol=2e-3)


def test_it_reads_a_view_and_says_nothing_of_honest_models() -> None:
    own, model = unseen_label(8, seed=7), sent()
    after = trained(model, own)
    seen = crafted.view(crafted.sent_to(model), crafted.returned(after, client=2))
    made = Imprint().reconstruct(seen, public(), STREAM)
    assert made is not None
    assert set(made.clients.tolist()) == {2}
    apart = matched(made.records.inputs, own)
    assert int((apart < 1e-5).sum()) >= 4
    best = torch.cdist(own.inputs.flatten(1), made.records.inputs.flatten(1)).argmin(1)[apart < 1e-5]
    assert (made.records.labels[best] == own.labels[apart < 1e-5]).double().mean() > 0.8
    honest = start()
    plain = crafted.view(crafted.sent_to(honest), crafted.returned(trained(honest, own)))
    assert Imprint().reconstruct(plain, public(), STREAM) is None
    assert Imprint().reconstruct(crafted.view(), public(), STREAM) is None


def test_what_was_addressed_to_a_client_is_what_it_started_from() -> None:
    own, model = unseen_label(8, seed=7), sent()
    releases = [
        crafted.sent_to(start()),
        crafted.sent_to(model, client=1),
        crafted.returned(trained(start(), own), client=0),
        crafted.returned(trained(model, own), client=1),
    ]
    found = exchanges(crafted.view(*releases))
    assert found is not None
    assert [imprinted(SPEC, e.sent) for e in found[1]] == [False, True]
    made = Imprint().reconstruct(crafted.view(*releases), public(), STREAM)
    assert made is not None
    assert set(made.clients.tolist()) == {1}


def test_representations_and_other_nets_are_passed_over() -> None:
    model = sent()
    headless = representation_of(SPEC, model)
    seen = crafted.view(crafted.sent_to(headless), crafted.returned(headless))
    assert Imprint().reconstruct(seen, public(), STREAM) is None
    convnet = NetSpec("convnet", 1, 8, 10, width=4, depth=1)
    plain = crafted.view(
        crafted.sent_to(start(spec=convnet)), crafted.returned(start(1, convnet)), spec=convnet
    )
    assert Imprint().reconstruct(plain, public(), STREAM) is None


def test_a_client_that_sends_back_what_it_got_gives_nothing_away() -> None:
    model = sent()
    seen = crafted.view(crafted.sent_to(model), crafted.returned(model))
    made = Imprint().reconstruct(seen, public(), STREAM)
    assert made is not None
    assert len(made.records) == 0


def test_craft_is_a_pure_function_of_its_stream() -> None:
    first, second, other = sent(1), sent(1), Imprint().craft(SPEC, public(), start(1), Stream(2))
    assert all(torch.equal(first[k], second[k]) for k in first)
    assert not torch.equal(first[WEIGHT], other[WEIGHT])
    assert {k: v.shape for k, v in first.items()} == {k: v.shape for k, v in start().items()}


def test_the_population_stands_in_for_public_records() -> None:
    known = Known(crafted.NONE_PUBLIC.public, public().population)
    model = Imprint().craft(SPEC, known, start(), STREAM)
    assert imprinted(SPEC, model)


@pytest.mark.parametrize("knob", ["gain", "pull"])
def test_knobs_that_are_not_positive_are_refused(knob: str) -> None:
    with pytest.raises(ValueError, match=f"expected {knob} > 0, got {knob}=0"):
        Imprint(**{knob: 0})


def test_what_cannot_be_crafted_is_refused() -> None:
    convnet = NetSpec("convnet", 1, 8, 10, width=4, depth=1)
    with pytest.raises(ValueError, match=r"expected a net whose first layer .* got family='convnet'"):
        Imprint().craft(convnet, public(), start(spec=convnet), STREAM)
    with pytest.raises(ValueError, match="expected a label from 0 to 9, got label=10"):
        Imprint(label=10).craft(SPEC, public(), start(), STREAM)
    with pytest.raises(ValueError, match="expected public records to craft a model on, got public=0"):
        Imprint().craft(SPEC, crafted.NONE_PUBLIC, start(), STREAM)
