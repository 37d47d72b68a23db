"""Models of one part of an update and one part of what came before."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch

from attacks.confidence import ModelConfidence
from attacks.part_update import PartConfidence
from privfed.nets import Params, head_of, initial, representation_of
from privfed.randomness import Stream
from tests.attacks.federations import SPEC, candidates, extract, server_view, weights


def net(seed: int) -> Params:
    return initial(SPEC, torch.Generator().manual_seed(seed))


def joined(body: Params, head: Params) -> Params:
    return {**representation_of(SPEC, body), **head_of(SPEC, head)}


def test_one_part_is_the_clients_and_the_other_what_was_broadcast() -> None:
    known = candidates(9, 4)
    sent = [weights(net(r), "surrogate", r) for r in range(2)]
    seeds = {(0, 0): 10, (0, 1): 11, (1, 0): 12}
    view = server_view(*sent, *(weights(net(s), "update", r, k) for (r, k), s in seeds.items()))
    for part in ("head", "representation"):
        models = {
            at: joined(net(at[0]), net(s)) if part == "head" else joined(net(s), net(at[0]))
            for at, s in seeds.items()
        }
        whole = server_view(*(weights(m, "update", r, k) for (r, k), m in models.items()))
        expected, got = (
            extract(o, known, v) for o, v in ((ModelConfidence("update"), whole), (knob(part), view))
        )
        np.testing.assert_array_equal(got.candidates, expected.candidates)
        np.testing.assert_array_equal(got.population, expected.population)
        assert np.isnan(got.candidates).sum() == (known.clients == 1).sum()


def knob(part: Any) -> PartConfidence:
    return PartConfidence(part)


def test_without_a_broadcast_head_the_representation_is_read_under_the_one_uploaded_before() -> None:
    known = candidates(6, 4)
    shared = [weights(representation_of(SPEC, net(r)), "surrogate", r) for r in range(2)]
    view = server_view(*shared, weights(net(10), "update", 0, 0), weights(net(12), "update", 1, 0))
    got = extract(PartConfidence("representation"), known, view)
    whole = server_view(weights(joined(net(12), net(10)), "update", 1, 0))
    np.testing.assert_array_equal(got.candidates, extract(ModelConfidence("update"), known, whole).candidates)
    head = extract(PartConfidence(), known, view)
    assert head.candidates.shape == (6, 2)


def test_what_came_before_must_be_known() -> None:
    known = candidates(4)
    headless = weights(representation_of(SPEC, net(1)), "update", 0, 0)
    views = [
        server_view(),
        server_view(weights(net(0), "surrogate"), headless),
        server_view(weights(net(0), "surrogate", 1), weights(net(1), "update", 0, 0)),
    ]
    first = server_view(
        weights(representation_of(SPEC, net(0)), "surrogate"), weights(net(1), "update", 0, 0)
    )
    for view in views:
        assert PartConfidence().extract(view, known, Stream(0)) is None
    assert PartConfidence("representation").extract(first, known, Stream(0)) is None
    assert PartConfidence().extract(first, known, Stream(0)) is not None


def test_other_parts_are_refused() -> None:
    with pytest.raises(ValueError, match="expected part to be one of head, representation, got part='all'"):
        PartConfidence("all")  # type: ignore[arg-type]
