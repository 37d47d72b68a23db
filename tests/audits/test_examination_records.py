"""What stands beside identification: exact copies, noise, images of a class, and what is left out where."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from audits.examination import Examined, examine
from audits.examination_likeness import Beside
from audits.examination_records import IN_FEATURES
from audits.game import members_of
from audits.inquiry import Inquiry
from audits.probe import MODEL
from audits.reconstruction_measures import ssim
from audits.setting import Setting
from audits.setting_judge import judge_of
from privfed.nets import NetSpec
from privfed.records import Records
from tests.audits.test_examination import CLIENTS, COUNT, Rebuilds, asked, played, rebuilt, setting

ACCEPTED, OF_THESE = "taken for its class by an independent network", "of these, nearest to a member"
PERCEPTUAL = "perceptual distance to the nearest member"
NETWORK = {PERCEPTUAL, IN_FEATURES}


@pytest.fixture(autouse=True)
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PRIVFED_CACHE", str(tmp_path))


def copies(where: Setting, f: int) -> dict[str, Any]:
    return rebuilt([r.take(torch.arange(4)) for r in members_of(where, f)], [0, 1])


def noise(where: Setting, f: int) -> dict[str, Any]:
    draw = torch.Generator().manual_seed(f)
    made = torch.rand(CLIENTS, 20, 1, 8, 8, generator=draw) * 2 - 1
    return rebuilt([Records(x, torch.zeros(20, dtype=torch.int64)) for x in made], [0, 1])


def look(make: Any, where: Setting, inquiry: Inquiry | None = None) -> Examined:
    inquiry = inquiry or asked(Rebuilds())
    found = examine(inquiry, played(where, inquiry, lambda f: make(where, f)), where)
    assert not found.crashed
    return found


def values(found: Examined) -> dict[str, float | None]:
    return {name: m(0.95).value for name, m in found.details.items()}


def test_exact_copies_are_alike_by_every_figure() -> None:
    found = values(look(copies, setting()))
    assert found["PSNR to the nearest member, dB"] == 100.0
    assert found["SSIM to the nearest member"] == pytest.approx(1.0)
    assert found["memorisation ratio below 1/2"] == 1.0
    assert found[PERCEPTUAL] == pytest.approx(0.0, abs=1e-6)
    assert found[IN_FEATURES] == 1.0


def test_noise_is_like_nobody_and_names_members_as_chance_does() -> None:
    examined = look(noise, setting())
    found = values(examined)
    assert (found["PSNR to the nearest member, dB"] or 99) < 12
    assert (found["SSIM to the nearest member"] or 1) < 0.5
    assert found["memorisation ratio below 1/2"] == 0.0
    assert (found[PERCEPTUAL] or 0) > 0.1
    estimate = examined.details[IN_FEATURES](0.999)
    assert (estimate.lower or 0) <= examined.chance <= (estimate.upper or 1)


def test_every_figure_has_bounds_at_any_level() -> None:
    for name, measure in look(noise, setting()).details.items():
        wide, narrow = measure(0.99), measure(0.8)
        assert wide.lower is not None, name
        assert narrow.upper is not None
        assert wide.lower <= (narrow.value or 0) <= narrow.upper


def test_of_images_of_a_class_an_independent_network_says_whether_they_are() -> None:
    """Public records of a class, right ones first: accepted as often as the network is right, no members."""
    where, inquiry = setting(), replace(asked(Rebuilds()), observer=MODEL)
    judge = judge_of(where)
    assert judge is not None
    public = where.candidates.public.take(torch.arange(20))
    wrong = Records(public.inputs, (public.labels + 1) % 10)

    def of_nobody(where: Setting, f: int) -> dict[str, Any]:
        return rebuilt([public, wrong], [-1, -1])

    found = values(look(of_nobody, where, inquiry))
    known = judge.recognised(public)
    assert known.mean() > 0.8
    assert found[ACCEPTED] == pytest.approx((known.sum() + judge.recognised(wrong).sum()) / 40)
    members = [where.candidates.records.take(where.members(f)) for f in range(COUNT)]

    def stolen(where: Setting, f: int) -> dict[str, Any]:
        return rebuilt([members[f].take(torch.arange(10))], [-1])

    assert values(look(stolen, where, inquiry))[OF_THESE] == 1.0


def test_only_the_released_model_is_asked_for_classes() -> None:
    found = values(look(copies, setting()))
    assert not {ACCEPTED, OF_THESE} & set(found)


def test_without_public_labels_there_is_no_network_to_ask() -> None:
    where = setting()
    unlabelled = replace(where, world=replace(where.world, public_labelled=False))
    assert judge_of(unlabelled) is None
    found = values(look(copies, unlabelled))
    assert not NETWORK & set(found)
    assert found["SSIM to the nearest member"] == pytest.approx(1.0)


def test_figures_of_images_are_left_out_of_sentences() -> None:
    """The same numbers as 8 tokens of 8 dimensions: identified in the space of embeddings, no more."""
    where = setting()
    flat = [Records(r.inputs[:, 0], r.labels) for r in (where.candidates.records, where.candidates.public)]
    text = replace(
        where,
        candidates=replace(where.candidates, records=flat[0], public=flat[1]),
        world=replace(where.world, public=flat[1], surrogate=NetSpec("lstm", 8, 8, 10, hidden=(4, 4))),
    )
    assert judge_of(text) is None
    examined = look(copies, text)
    assert set(examined.details) == {"one to one", "reconstructions taken for independent"}
    assert examined.measure is not None
    assert examined.measure(0.95).value == 1.0


def test_where_nothing_was_rebuilt_no_network_is_trained(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("audits.setting_judge.evaluator", lambda *_: pytest.fail("trained"))
    nothing = look(lambda where, f: rebuilt([where.candidates.public.take(torch.arange(0))], [0]), setting())
    assert set(nothing.details) == {"one to one", "reconstructions taken for independent"}
    assert nothing.pointed is None


def test_the_network_is_trained_once_a_setting_and_sees_public_records_alone(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    where = setting()
    first = judge_of(where)
    monkeypatch.setattr("audits.setting_judge.evaluator", lambda *_: pytest.fail("trained again"))
    blind = replace(where, candidates=replace(where.candidates, records=where.candidates.population))
    again = judge_of(blind)
    assert first is not None
    assert again is not None
    np.testing.assert_array_equal(first.features(where.test.inputs), again.features(where.test.inputs))
    assert first.spec != where.world.surrogate


def test_images_too_small_for_a_network_have_none() -> None:
    where = setting()
    world = replace(where.world, surrogate=replace(where.world.surrogate, size=1))
    assert judge_of(replace(where, world=world)) is None


def test_the_structure_is_that_of_the_nearest_member_pair_by_pair() -> None:
    draw = torch.Generator().manual_seed(0)
    made, candidates = (torch.rand(n, 1, 8, 8, generator=draw) * 2 - 1 for n in (37, 50))
    theirs = np.random.default_rng(0).random((37, 50)) < 0.5
    theirs[3] = False
    beside = Beside(made, candidates, theirs)
    found = beside.structure(beside.distances)
    for i, (x, allowed) in enumerate(zip(made, theirs, strict=True)):
        if not allowed.any():
            assert np.isnan(found[i])
            continue
        own = candidates[torch.from_numpy(allowed)]
        nearest = own[int((own - x).square().sum((1, 2, 3)).argmin())]
        assert found[i] == pytest.approx(float(ssim(x[None], nearest[None])[0, 0]))
