"""Student's t over clients: uniform where it should be, its normal stand-in not, and how it is laid out."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from scipy.stats import kstest, norm, t

from attacks.confidence import ModelConfidence
from attacks.fedmia import FedMia, OtherClients, t_score
from attacks.interface import Signals
from privfed.nets import Params, initial, representation_of
from privfed.randomness import Stream
from tests.attacks.federations import SPEC, candidates, extract, no_references, server_view, weights

NEVER = 1e9


def net(seed: int) -> Params:
    return initial(SPEC, torch.Generator().manual_seed(seed))


def null(clients: int, n: int = 20_000) -> tuple[np.ndarray, np.ndarray]:
    """One value of n records in each of K clients' updates, none of which holds them."""
    rng = np.random.default_rng(clients)
    values = rng.normal(3.0, 1.0, (n, 1)) + rng.normal(0, 0.5, (n, clients))
    return values[:, 0], values[:, 1:]


@pytest.mark.parametrize("clients", [3, 5, 10])
def test_the_probability_of_a_record_outside_is_uniform(clients: int) -> None:
    own, others = null(clients)
    assert kstest(t_score(own, others, NEVER), "uniform").pvalue > 0.01


def test_with_the_normal_in_its_place_it_is_not() -> None:
    """K = 10: the published score calls 1 in 100 what happens about 3 times in 100."""
    own, others = null(10)
    published = norm.cdf((own - others.mean(1)) / others.std(1))
    assert kstest(published, "uniform").pvalue < 1e-6
    assert 0.025 < (published > 0.99).mean() < 0.04
    assert abs((t_score(own, others, NEVER) > 0.99).mean() - 0.01) < 3 * np.sqrt(0.01 * 0.99 / 20_000)


@given(
    own=st.floats(-5, 5),
    others=st.lists(st.one_of(st.floats(-5, 5), st.just(float("nan"))), min_size=2, max_size=12),
    discard=st.sampled_from([0.5, 1.0, 3.0]),
)
def test_it_is_a_t_test_on_the_others_that_are_kept(own: float, others: list[float], discard: float) -> None:
    known = np.array([v for v in others if not np.isnan(v)])
    got = t_score(np.array([own]), np.array([others]), discard)[0]
    if len(known) > 1:
        spread = known.std(ddof=1)
        if spread > 1e-12 * abs(known.mean()):  # less than rounding is no spread, and nobody is far off
            known = known[known <= known.mean() + discard * spread]
    if len(known) < 2:
        assert np.isnan(got)
    elif known.std() > 1e-6:
        m = len(known)
        statistic = (own - known.mean()) / (known.std(ddof=1) * np.sqrt(1 + 1 / m))
        assert got == pytest.approx(t.cdf(statistic, m - 1), abs=1e-9)
    else:
        assert 0 <= got <= 1


@given(st.lists(st.floats(-5, 5), min_size=3, max_size=8), st.floats(-5, 5), st.floats(0, 5))
def test_it_never_falls_with_the_own_value(others: list[float], own: float, more: float) -> None:
    low, high = (t_score(np.array([v]), np.array([others]))[0] for v in (own, own + more))
    assert high >= low


@pytest.mark.parametrize("others", [[0.0, 0.0, -3.0e-254], [0.1] * 7])
def test_others_that_differ_by_less_than_rounding_are_all_kept(others: list[float]) -> None:
    assert t_score(np.array([1.0]), np.array([others]))[0] == 1.0


def test_others_that_do_not_vary_leave_below_equal_or_above() -> None:
    others = np.full((3, 4), 0.1)
    np.testing.assert_array_equal(t_score(np.array([0.0, 0.1, 0.2]), others), [0.0, 0.5, 1.0])


def test_fewer_than_two_others_say_nothing() -> None:
    assert np.isnan(t_score(np.ones(2), np.ones((2, 1)))).all()
    assert np.isnan(t_score(np.ones(2), np.empty((2, 0)))).all()
    assert np.isnan(t_score(np.array([np.nan]), np.ones((1, 5)))).all()


@pytest.mark.parametrize(("others", "acts"), [(10, False), (11, True)])
def test_three_deviations_can_only_be_exceeded_among_eleven(others: int, acts: bool) -> None:
    """The largest of m is at most (m - 1) / sqrt(m) above the mean: 2.85 for 10, 3.02 for 11."""
    values = np.zeros((1, others))
    values[0, 0], values[0, 1] = 1e6, 1e-9
    kept = t_score(np.array([1.0]), values, NEVER)[0]
    assert (t_score(np.array([1.0]), values)[0] != kept) == acts


def test_a_record_is_held_against_the_other_clients_of_its_round() -> None:
    known = candidates(9, 4)
    releases = [weights(net(10 * r + k), "update", r, k) for r in range(2) for k in range(5 - 4 * r)]
    view = server_view(*releases)
    read = extract(OtherClients(), known, view)
    assert read.candidates.shape == (9, 2)
    assert read.population.shape == (4, 2, 2)
    assert np.isnan(read.candidates[:, 1]).all()  # a single client has none to stand beside
    everybody = []
    for k in range(5):
        alone = server_view(weights(net(k), "surrogate", 1))
        everybody.append(extract(ModelConfidence("surrogate"), known, alone))
    values = np.concatenate([s.candidates for s in everybody], 1)
    for i, k in enumerate(known.clients.tolist()):
        expected = t_score(values[i, [k]], np.delete(values[i], k)[None])
        np.testing.assert_allclose(read.candidates[i, :1], expected, atol=1e-5)
    others = np.concatenate([s.population[:, :, 0] for s in everybody], 1)
    expected = t_score(others[:, 1], np.delete(others, 1, 1))
    np.testing.assert_allclose(read.population[:, 0, 1], expected, atol=1e-5)


@pytest.mark.parametrize("heads", [True, False])
def test_cosines_are_read_with_and_without_a_broadcast_head(heads: bool) -> None:
    start = net(0) if heads else representation_of(SPEC, net(0))
    view = server_view(weights(start, "surrogate"), *(weights(net(k + 1), "update", 0, k) for k in range(4)))
    read = extract(OtherClients("cosine"), candidates(6, 4), view)
    assert read.candidates.shape == (6, 1)
    assert ((read.candidates > 0) & (read.candidates < 1)).all()
    assert len(np.unique(read.candidates)) == 6


@pytest.mark.parametrize("measure", ["loss", "confidence", "cosine"])
def test_nothing_to_measure_is_none(measure: Any) -> None:
    headless = weights(representation_of(SPEC, net(1)), "update", 0, 0)
    for view in (server_view(), server_view(weights(net(0), "surrogate"), headless)):
        assert OtherClients(measure).extract(view, candidates(4), Stream(0)) is None


def test_scores_are_means_over_known_rounds() -> None:
    read = Signals(np.array([[0.2, 0.4], [np.nan, 0.7]]), np.zeros((1, 2, 1)), np.zeros(2, dtype=np.int64))
    np.testing.assert_allclose(FedMia().score(read, no_references(read)), [0.3, 0.7])


@pytest.mark.parametrize(
    ("field", "value", "message"),
    [
        ("measure", "dot", "expected measure to be one of loss, confidence, cosine, got measure='dot'"),
        ("part", "tail", "expected part to be one of all, head, representation, got part='tail'"),
        ("discard", 0.0, "expected discard > 0, got discard=0.0"),
    ],
)
def test_bad_knobs_are_refused(field: str, value: Any, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        OtherClients(**{field: value})
