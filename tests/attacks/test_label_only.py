"""Label-only membership inference: what is asked, what is read of it, and whom it finds."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
import pytest
import torch
from scipy.stats import norm
from torch import Tensor

from attacks import label_only
from attacks.label_only import RADII, BoundaryDistance, LabelOnly, kept_share
from attacks.lira import Lira
from privfed.answers import Interface, put_behind
from privfed.nets import NetSpec, Params, head_names, initial, representation_of
from privfed.randomness import Stream
from privfed.records import Records
from privfed.release import Observer, Release, Transcript, View
from tests.attacks.federations import (
    SPEC,
    candidates,
    extract,
    no_references,
    play,
    server_view,
    weights,
)
from tests.attacks.simulation import auc, chance_width

OUTSIDER = Observer("outsider", holds=frozenset({"large"}))
METHODS = pytest.mark.parametrize("method", ["boundary", "noise"])


def net(seed: int) -> Params:
    return initial(SPEC, torch.Generator().manual_seed(seed))


def outside(release: Release) -> View:
    return Transcript((release,), {"large": SPEC}).view(OUTSIDER)


def test_misclassified_records_lie_at_zero_and_no_others() -> None:
    known, view = candidates(60, 20), server_view(weights(net(1), "large"))
    signals = extract(BoundaryDistance(), known, view)
    right = extract(BoundaryDistance(queries=2), known, view).candidates[:, 0] > 0
    assert signals.candidates.shape == (60, 1)
    assert signals.population.shape == (20, 1, 1)
    np.testing.assert_array_equal(signals.candidates[:, 0] > 0, right)
    assert 0 < right.sum() < 60


@METHODS
def test_only_labels_are_read(method: Any) -> None:
    """Logits three times as large name the same labels."""
    known, params = candidates(40, 20), net(1)
    sharper = {k: v * 3 if k in head_names(SPEC) else v for k, v in params.items()}
    first, second = (
        extract(BoundaryDistance(method=method), known, server_view(weights(p, "large")))
        for p in (params, sharper)
    )
    np.testing.assert_array_equal(first.candidates, second.candidates)
    np.testing.assert_array_equal(first.population, second.population)


@METHODS
def test_a_model_that_answers_gives_what_its_weights_give(method: Any) -> None:
    known, release = candidates(40, 20), weights(net(1), "large", 2)
    handed, asked = (
        extract(BoundaryDistance(method=method), known, outside(r))
        for r in (release, put_behind(release, Interface()))
    )
    np.testing.assert_array_equal(handed.candidates, asked.candidates)
    np.testing.assert_array_equal(handed.population, asked.population)


@METHODS
@pytest.mark.parametrize("queries", [5, 64, 130])
def test_no_record_is_asked_about_more_often_than_allowed(method: Any, queries: int) -> None:
    known, view = candidates(30, 10), outside(put_behind(weights(net(1), "large"), Interface()))
    inner, asked = view.interfaces["large"], 0

    def counted(inputs: Tensor, stream: Stream) -> Tensor:
        nonlocal asked
        asked += len(inputs)
        return inner(inputs, stream)

    watched = replace(view, interfaces={"large": counted})
    right = (extract(BoundaryDistance(method=method), known, view).candidates > 0).sum()
    extract(BoundaryDistance(method=method, queries=queries), known, watched)
    starts = 2 * (len(known.public) + len(known.population)) if method == "boundary" else 0
    assert right * (queries // 2) < asked <= starts + 40 * queries


def test_answers_that_are_not_finite_are_refused() -> None:
    view = outside(put_behind(weights(net(1), "large"), Interface()))
    broken = replace(view, interfaces={"large": lambda x, _: torch.full((len(x), 5), torch.nan)})
    with pytest.raises(ValueError, match="expected finite answers of model 'large', got some with NaN"):
        BoundaryDistance().extract(broken, candidates(4), Stream(0))


def test_candidates_meet_their_own_clients_update_and_nothing_in_rounds_it_sat_out() -> None:
    known = candidates(9, 4)
    seeds = {(0, 0): 1, (0, 1): 2, (3, 1): 3}
    view = server_view(*(weights(net(s), "update", r, k) for (r, k), s in seeds.items()))
    signals = extract(BoundaryDistance("update"), known, view)
    owners = known.clients.numpy()
    assert signals.candidates.shape == (9, 2)
    assert signals.population.shape == (4, 2, 2)
    np.testing.assert_array_equal(np.isnan(signals.candidates), [[False, k == 0] for k in owners])
    alone = extract(BoundaryDistance("large"), known, server_view(weights(net(3), "large")))
    np.testing.assert_array_equal(signals.candidates[owners == 1, 1], alone.candidates[owners == 1, 0])


@pytest.mark.parametrize("artefact", ["surrogate", "large"])
def test_a_representation_without_its_head_gives_no_label(artefact: Any) -> None:
    shared = weights(representation_of(SPEC, net(1)), artefact, 1)
    assert BoundaryDistance(artefact).extract(server_view(shared), candidates(4), Stream(0)) is None


def test_embedded_text_is_searched_like_images() -> None:
    spec = NetSpec("lstm", channels=3, size=4, classes=2, hidden=(5, 4))
    generator = torch.Generator().manual_seed(0)
    params = initial(spec, generator)
    inputs = torch.randn(30, 4, 3, generator=generator)
    text = Records(inputs, torch.arange(30) % 2)
    known = replace(candidates(30), records=text, population=text, public=text)
    view = View(Observer("server"), (weights(params, "large"),), {"large": spec})
    for method in ("boundary", "noise"):
        assert extract(BoundaryDistance(method=method), known, view).candidates.shape == (30, 1)


@pytest.mark.parametrize("distance", [0.0, 0.4, 1.5])
def test_kept_copies_of_a_linear_model_are_a_mean_of_normal_probabilities(distance: float) -> None:
    weight, scale = torch.tensor([0.6, 0.8]), 0.7

    def label(inputs: Tensor) -> Tensor:
        return (inputs @ weight + 1e-6 > 0).long()

    record = Records((distance * weight).unsqueeze(0), torch.tensor([1]))
    copies = 20_000
    share = kept_share(label, record, scale, 1 + 4 * copies, Stream(1))[0]
    each = norm.cdf(distance / (scale * np.array(RADII)))
    spread = np.sqrt((each * (1 - each)).sum() / copies) / len(RADII)
    assert abs(share - each.mean()) < 4 * spread + 1e-5


def test_copies_in_parts_are_the_same_copies(monkeypatch: pytest.MonkeyPatch) -> None:
    known, view = candidates(30, 10), server_view(weights(net(1), "large"))
    whole = extract(BoundaryDistance(method="noise"), known, view)
    monkeypatch.setattr(label_only, "_ELEMENTS", 36 * 200)
    np.testing.assert_array_equal(
        extract(BoundaryDistance(method="noise"), known, view).candidates, whole.candidates
    )


def test_the_score_is_the_mean_distance_over_known_queries() -> None:
    known = candidates(9, 4)
    view = server_view(*(weights(net(s), "update", r, 1) for r, s in enumerate((2, 3))))
    signals = extract(BoundaryDistance("update"), known, view)
    scores = LabelOnly().score(signals, no_references(signals))
    mine = known.clients.numpy() == 1
    np.testing.assert_allclose(scores[mine], signals.candidates[mine].mean(1))
    assert np.isnan(scores[~mine]).all()


@METHODS
def test_members_of_a_model_that_memorises_are_found_and_nobody_where_there_is_no_leak(method: Any) -> None:
    for attack in (LabelOnly(BoundaryDistance(method=method)), Lira(BoundaryDistance(method=method))):
        g = play(attack, leaky=True)
        assert auc(g.scores(attack), g.included) > 0.9
        g = play(attack, leaky=False)  # each is target and reference in turn, which widens the spread
        assert abs(auc(g.scores(attack), g.included) - 0.5) < 1.5 * chance_width(g.included)


def test_distances_tell_members_from_records_that_are_merely_labelled_rightly() -> None:
    """Beyond the gap attack: among rightly labelled records, members lie further from the boundary."""
    g = play(LabelOnly(), leaky=True)
    scores = g.scores(LabelOnly())
    right = scores > 0
    assert (~g.included & right).sum() > 50
    assert auc(scores[right], g.included[right]) > 0.8


@pytest.mark.parametrize(
    ("knobs", "message"),
    [
        ({"artefact": "x"}, "expected artefact to be one of update, "),
        ({"method": "x"}, "expected method to be one of boundary, noise, got method='x'"),
        ({"queries": 1}, "expected queries >= 2, got queries=1"),
        ({"queries": 4, "method": "noise"}, "expected queries >= 5, got queries=4"),
    ],
)
def test_knobs_that_make_no_sense_are_refused(knobs: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        BoundaryDistance(**knobs)
