"""Slopes over rounds: lines by hand, rounds that are missing, and what is refused."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from attacks import _signals
from attacks.confidence import ModelConfidence
from attacks.loss_slope import LossSlope, SignalSlope, slope
from privfed.nets import Params, initial, representation_of
from privfed.randomness import Stream
from tests.attacks.federations import SPEC, candidates, extract, no_references, server_view, weights


def net(seed: int) -> Params:
    return initial(SPEC, torch.Generator().manual_seed(seed))


@given(
    at=st.lists(st.integers(0, 300), min_size=2, max_size=6, unique=True),
    a=st.floats(-10, 10),
    b=st.floats(-10, 10),
)
def test_a_line_has_its_slope(at: list[int], a: float, b: float) -> None:
    places = np.array(at, dtype=np.float64)
    np.testing.assert_allclose(slope(places, a + b * places), b, atol=1e-9)


def test_it_is_that_of_least_squares_over_what_is_known() -> None:
    rng = np.random.default_rng(0)
    at, values = np.array([0.0, 1.0, 4.0, 5.0]), rng.normal(size=(20, 4))
    np.testing.assert_allclose(slope(at, values), np.polyfit(at, values.T, 1)[0])
    values[3, 1] = np.nan
    left = [0, 2, 3]
    assert slope(at, values)[3] == pytest.approx(np.polyfit(at[left], values[3, left], 1)[0])


def test_one_round_has_no_slope() -> None:
    values = np.array([[1.0, np.nan], [np.nan, np.nan], [1.0, 2.0]])
    np.testing.assert_array_equal(slope(np.array([0.0, 2.0]), values), [np.nan, np.nan, 0.5])


@pytest.mark.parametrize("measure", ["loss", "confidence"])
def test_rounds_count_by_their_number_and_each_client_by_its_own(measure: Any) -> None:
    known = candidates(9, 4)
    seeds = {(0, 0): 1, (3, 0): 2, (0, 1): 3}  # client 1 sits out round 3
    view = server_view(*(weights(net(s), "update", r, k) for (r, k), s in seeds.items()))
    phi = extract(ModelConfidence("update"), known, view)
    rising = (-_signals.loss(phi.candidates), -_signals.loss(phi.population))
    before, population = rising if measure == "loss" else (phi.candidates, phi.population)
    read = extract(SignalSlope("update", measure), known, view)
    mine = known.clients.numpy() == 0
    assert read.candidates.shape == (9, 1)
    assert read.population.shape == (4, 1, 2)
    np.testing.assert_allclose(read.candidates[mine, 0], ((before[:, 1] - before[:, 0]) / 3)[mine])
    np.testing.assert_allclose(read.population[:, 0, 0], (population[:, 1, 0] - population[:, 0, 0]) / 3)
    assert np.isnan(read.candidates[~mine]).all()
    assert np.isnan(read.population[..., 1]).all()
    scores = LossSlope(SignalSlope("update", measure)).score(read, no_references(read))
    np.testing.assert_array_equal(scores, read.candidates[:, 0])


def test_a_single_round_or_no_head_is_nothing_to_read() -> None:
    known = candidates(4)
    once = server_view(weights(net(0), "update", 0, 0), weights(net(1), "update", 0, 1))
    shared = representation_of(SPEC, net(0))
    headless = server_view(*(weights(shared, "update", r, 0) for r in range(3)))
    for view in (server_view(), once, headless):
        assert SignalSlope().extract(view, known, Stream(0)) is None


def test_the_broadcasts_are_read_as_well() -> None:
    view = server_view(*(weights(net(r), "surrogate", r) for r in range(4)))
    read = extract(SignalSlope("surrogate"), candidates(5, 4), view)
    assert np.isfinite(read.candidates).all()
    assert read.population.shape == (4, 1, 1)


@pytest.mark.parametrize(
    ("field", "value", "message"),
    [
        ("measure", "x", "expected measure to be one of loss, confidence, got measure='x'"),
        ("artefact", "x", "expected artefact to be one of update, .* got artefact='x'"),
    ],
)
def test_bad_knobs_are_refused(field: str, value: Any, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        SignalSlope(**{field: value})
