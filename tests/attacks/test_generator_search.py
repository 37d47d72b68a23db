"""White-box search: closed forms, what a record does not depend on, and a generator that memorised."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from attacks import generator_search
from attacks._features import net_features
from attacks.generator_search import GeneratorSearch
from attacks.interface import Candidates, Floats
from attacks.nearest import NearestSynthetic
from privfed.generator import Bank, GeneratorTraining, Mode, draw_bank, synthesise, train_generator
from privfed.nets import NetSpec, Params
from privfed.randomness import Stream
from privfed.records import Records
from privfed.release import View
from tests.attacks.federations import candidates, extract, images, noise, server_view
from tests.attacks.generators import affine, released
from tests.attacks.simulation import auc, chance_width

SPEC = NetSpec("mlp", channels=1, size=6, classes=5, width=8)


def view_of(*params: Params) -> View:
    return server_view(*(r for t, p in enumerate(params) for r in released(p, t + 1)))


def against(view: View, records: Records, **knobs: Any) -> Floats:
    known = Candidates(records, torch.zeros(len(records), dtype=torch.int64), noise(3, 8), noise(3, 9))
    return extract(GeneratorSearch(**knobs), known, view).candidates[:, 0]


def trained(
    mode: Mode = "conditioned", planted: tuple[Records, ...] = (), size: int = 40
) -> tuple[Params, Bank]:
    bank = draw_bank(size, SPEC.classes, Stream(0), torch.device("cpu"))
    recipe = GeneratorTraining(mode=mode, size=size, hidden=64, epochs=0)
    params = train_generator(SPEC, [], bank, recipe, Stream(1), planted)
    return {**params, **{f"bank.{k}": v for k, v in bank.to_params().items()}}, bank


def test_the_distance_to_an_affine_generator_is_the_distance_to_a_box() -> None:
    """centre + Q noise with orthonormal columns Q: noise beyond [0, 1] is cut, what Q does not span stays."""
    basis = torch.linalg.qr(torch.randn(36, 36, generator=torch.Generator().manual_seed(0))).Q
    matrix = torch.zeros(36, 64)
    matrix[:, :4] = basis[:, :4]
    centre = torch.linspace(-1, 1, 36)
    wanted = torch.tensor([[0.2, 0.9, 0.5, 0.4], [1.5, 0.3, 0.1, 0.6], [0.5, -2.0, 1.3, 0.0]])
    beside = torch.tensor([0.0, 0.0, 3.0])
    inputs = centre + wanted @ basis[:, :4].T + beside.unsqueeze(1) * basis[:, 5]
    records = Records(inputs.view(-1, 1, 6, 6), torch.tensor([0, 1, 2]))
    view = view_of(affine(matrix, centre, 5, 50, seed=2))
    found = against(view, records, steps=400, tolerance=0)
    np.testing.assert_allclose(found, [-0.0, -0.5, -np.sqrt(4 + 0.09 + 9)], atol=5e-3)


def test_without_a_step_it_is_the_nearest_of_the_banks_records_of_the_label() -> None:
    params, bank = trained()
    made = synthesise(SPEC, params, bank, "conditioned")
    known = candidates(30, 10)
    found = extract(GeneratorSearch(steps=0), known, view_of(params))
    plain = extract(NearestSynthetic(same_label=True), known, server_view(images(made)))
    np.testing.assert_allclose(found.candidates, plain.candidates, atol=1e-5)
    np.testing.assert_allclose(found.population, plain.population, atol=1e-5)
    assert found.population.shape == (10, 1, 1)


def test_more_steps_restarts_and_generators_never_lose_a_record() -> None:
    (first, _), records = trained(), noise(40, 3)
    second = {k: v.flip(0) if k == "3.weight" else v for k, v in first.items()}
    start, searched = (against(view_of(first), records, steps=s, tolerance=0) for s in (0, 60))
    assert (searched >= start).all()
    assert (searched > start + 0.1).mean() > 0.9
    again = against(view_of(first), records, restarts=3, tolerance=0)
    assert (again >= against(view_of(first), records, tolerance=0) - 1e-5).all()
    both = against(view_of(first, second), records)
    np.testing.assert_allclose(
        both, np.maximum(*(against(view_of(p), records) for p in (first, second))), atol=1e-5
    )
    np.testing.assert_array_equal(
        against(view_of(first, second), records, newest=1), against(view_of(second), records)
    )


def test_features_lengthen_the_distance_and_draw_the_search() -> None:
    """The weighted distance at the start is made of the two parts, and the search shortens it."""
    (params, bank), records = trained(), noise(20, 3)
    view, public = view_of(params), noise(60, 9)
    known = Candidates(records, torch.zeros(20, dtype=torch.int64), noise(3, 8), public)

    def found(**knobs: Any) -> Floats:
        return extract(GeneratorSearch(**knobs), known, view).candidates[:, 0]

    made, into = synthesise(SPEC, params, bank, "conditioned"), net_features(public)
    assert into is not None
    own = [made.inputs[made.labels == y] for y in records.labels]
    at = [int((x - r).flatten(1).norm(dim=1).argmin()) for x, r in zip(own, records.inputs, strict=True)]
    start = torch.stack([x[i] for x, i in zip(own, at, strict=True)])
    pixels = (start - records.inputs).flatten(1).square().sum(1)
    deep = (into(start) - into(records.inputs)).detach().square().sum(1)
    np.testing.assert_allclose(found(steps=0, feature=0.5), -(pixels + 0.5 * deep).sqrt().numpy(), rtol=1e-4)
    assert (found(feature=0.5, tolerance=0) > found(steps=0, feature=0.5) + 0.1).mean() > 0.9


def test_lbfgs_finds_what_adam_does_within_the_same_box() -> None:
    view, records = view_of(trained()[0]), noise(12, 3)
    adam, other = (against(view, records, optimiser=o, tolerance=0, steps=200) for o in ("adam", "lbfgs"))
    np.testing.assert_allclose(other, adam, rtol=0.05)


def test_lbfgs_minds_features_too() -> None:
    view, records = view_of(trained()[0]), noise(6, 3)
    known = Candidates(records, torch.zeros(6, dtype=torch.int64), noise(2, 8), noise(60, 9))
    start, found = (
        extract(GeneratorSearch(feature=0.5, optimiser="lbfgs", steps=s), known, view).candidates
        for s in (0, 40)
    )
    assert (found > start + 0.1).all()


def test_without_labels_in_the_public_shard_features_say_nothing() -> None:
    one = Records(noise(9, 0).inputs, torch.zeros(9, dtype=torch.int64))
    known = Candidates(noise(4, 1), torch.zeros(4, dtype=torch.int64), noise(3, 2), one)
    assert GeneratorSearch(feature=1.0).extract(view_of(trained()[0]), known, Stream(0)) is None


PARAMS, _ = trained()
WHOLE = against(view_of(PARAMS), noise(25, 4))


@settings(max_examples=10)
@given(st.lists(st.integers(0, 24), min_size=1, max_size=25, unique=True))
def test_a_records_distance_does_not_depend_on_the_others(chosen: list[int]) -> None:
    found = against(view_of(PARAMS), noise(25, 4).take(torch.tensor(chosen)))
    np.testing.assert_allclose(found, WHOLE[chosen], atol=1e-5)


def test_chunks_do_not_change_the_result(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(generator_search, "_ROWS", 4)
    np.testing.assert_allclose(against(view_of(PARAMS), noise(25, 4)), WHOLE, atol=1e-5)


def test_a_search_that_gains_nothing_ends(monkeypatch: pytest.MonkeyPatch) -> None:
    """A generator of one record has no gradient: the first look after ten steps is the last."""
    calls: list[int] = []
    true = generator_search._slope

    def counted(*given: Any) -> Any:
        calls.append(len(given[1]))
        return true(*given)

    monkeypatch.setattr(generator_search, "_slope", counted)
    against(view_of(affine(torch.zeros(36, 64), torch.zeros(36), 5, 20, seed=1)), noise(6, 0), steps=500)
    assert calls == [6] * 11 + [3] * 11  # candidates, population


def test_a_label_that_the_bank_lacks_starts_from_the_noise_of_others() -> None:
    params, _ = trained(size=3)
    missing = next(iter(set(range(5)) - set(params["bank.labels"].tolist())))
    records = Records(noise(4, 0).inputs, torch.full((4,), missing))
    assert np.isfinite(against(view_of(params), records)).all()


def test_a_generator_trained_to_reproduce_its_members_gives_them_away() -> None:
    """200 records of noise, half of them planted, against chance at 3.3 standard deviations without."""
    records = noise(200, 5)
    inside = torch.rand(200, generator=torch.Generator().manual_seed(6)) < 0.5
    planted, _ = trained(planted=(records.take(inside),), size=160)
    free, _ = trained(size=160)
    assert auc(against(view_of(planted), records), inside.numpy()) > 0.95
    assert abs(auc(against(view_of(free), records), inside.numpy()) - 0.5) < chance_width(inside.numpy())


def test_records_that_no_such_generator_makes_are_refused() -> None:
    params, _ = trained()
    with pytest.raises(ValueError, match="expected a generator of records of 64 values, got a generator of"):
        against(view_of(params), Records(torch.zeros(2, 1, 8, 8), torch.zeros(2, dtype=torch.int64)))
    with pytest.raises(ValueError, match="expected labels from 0 to 4, got labels from 0 to 5"):
        against(view_of(params), Records(noise(2, 0).inputs, torch.tensor([0, 5])))


@pytest.mark.parametrize(
    ("knobs", "message"),
    [
        ({"steps": -1}, "expected steps >= 0, got steps=-1"),
        ({"restarts": 0}, "expected restarts >= 1, got restarts=0"),
        ({"newest": 0}, "expected newest >= 1, got newest=0"),
        ({"tolerance": -0.5}, "expected tolerance >= 0, got tolerance=-0.5"),
        ({"lr": 0.0}, "expected lr > 0, got lr=0.0"),
        ({"feature": -0.1}, "expected feature >= 0, got feature=-0.1"),
        ({"optimiser": "x"}, "expected optimiser to be one of adam, lbfgs, got optimiser='x'"),
    ],
)
def test_bad_knobs_are_refused(knobs: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        replace(GeneratorSearch(), **knobs)


def test_a_diverged_generator_says_nothing() -> None:
    huge = {k: v * 1e30 if k in ("3.weight", "3.bias") else v for k, v in trained("released")[0].items()}
    assert np.isnan(against(view_of(huge), noise(3, 0))).all()
