"""What clients may count on, in every pipeline that the walk finds: who sends what, and what stays."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import cast

import pytest
import torch

from privfed.federation import Federation, run
from privfed.nets import NetSpec, Params, parameter_shapes
from privfed.pipelines.interface import Personalised, Pipeline
from privfed.pipelines.twin import Twin
from privfed.randomness import Stream
from privfed.records import Records
from privfed.release import SERVER, Release
from tests.privfed.pipelines.contract import (
    changed,
    every_partial,
    every_personal,
    every_pipeline,
    like,
    play,
    played,
    senders,
    sent_by_clients,
    share,
    talks,
    watched,
)
from tests.privfed.pipelines.worlds import SIZES, SURROGATE, equal, federation, named, noise, updates, world

FIVE = (4, 3, 5, 4, 3)
TEXT = NetSpec("lstm", channels=3, size=4, classes=2, hidden=(4, 3))


def assert_finite(params: Params) -> None:
    for name, value in params.items():
        assert value.isfinite().all(), name


@every_pipeline
@pytest.mark.parametrize("sizes", [(0, 6, 1), (1,), (0, 0)], ids=str)
def test_clients_with_one_record_or_none(pipeline: Pipeline, sizes: tuple[int, ...]) -> None:
    outcome = play(pipeline, sizes=sizes)
    for release in outcome.transcript.releases:
        assert_finite({k: v for k, v in release.tensors.items() if k != "losses"})
    for model in outcome.personal:
        assert_finite(model)
    starts = named(outcome, "surrogate")
    if not (isinstance(pipeline, Twin) and pipeline.trained_on == "public"):
        for update in (u for u in updates(outcome) if u.round == 0):
            start, sent = dict(starts[0].tensors), dict(update.tensors)
            assert equal(like(start, sent), like(sent, start)) == (sizes[update.about or 0] == 0)


@every_pipeline
def test_clients_of_one_class(pipeline: Pipeline) -> None:
    clients = tuple(noise(n, k, classes=(k,)) for k, n in enumerate(SIZES))
    (outcome,) = run(pipeline, world(), [Federation(clients, Stream(0))])
    assert {int(c.labels[0]) for c in clients} == {0, 1, 2}
    for release in outcome.transcript.releases:
        assert_finite({k: v for k, v in release.tensors.items() if k != "losses"})
    for model in outcome.personal:
        assert_finite(model)


@every_pipeline
def test_embedded_text_is_learnt_from_like_images(pipeline: Pipeline) -> None:
    def text(n: int, seed: int) -> Records:
        generator = Stream(seed, ("text",)).torch()
        return Records(torch.rand(n, 4, 3, generator=generator), torch.randint(2, (n,), generator=generator))

    here = world(surrogate=TEXT, large=TEXT, public=text(30, 9), prior=None)
    of = Federation((text(6, 0), text(5, 1)), Stream(0))
    if getattr(pipeline, "needs_prior", False):
        name = type(pipeline).__name__
        with pytest.raises(ValueError, match=rf"^expected a generative prior for {name}, got prior=None$"):
            run(pipeline, here, [of])
        return
    (outcome,) = run(pipeline, here, [of])
    assert {k: tuple(v.shape) for k, v in outcome.large.items()} == parameter_shapes(TEXT)
    assert_finite(outcome.large)
    assert [set(p) for p in outcome.personal] in ([], [set(outcome.large)] * 2)


@every_partial
def test_only_participants_of_a_round_send_updates(pipeline: Pipeline) -> None:
    pipeline = changed(pipeline, fraction=0.4, rounds=6)
    outcome = play(pipeline, sizes=FIVE)
    by_round = [senders(outcome, n) for n in range(6)]
    expected = [int(share(pipeline, n) * 5 + 0.5) if talks(pipeline, n) else 0 for n in range(6)]
    assert [len(took_part) for took_part in by_round] == expected
    partial = [frozenset(t) for t in by_round if len(t) == 2]
    assert not partial or len(set(partial)) > 1, "drawn afresh in every round"
    about = {(r.round, r.about) for r in outcome.transcript.releases if r.about is not None}
    assert about == {(n, k) for n, took_part in enumerate(by_round) for k in took_part}
    assert {k: len(e) for k, e in outcome.ledger.events.items()} == {
        k: sum(k in t for t in by_round) for k in set().union(*by_round)
    }
    few = play(changed(pipeline, fraction=0.01, rounds=2), sizes=FIVE)
    assert not talks(pipeline, 0) or len(senders(few, 0)) == 1, "never nobody"


@every_partial
def test_nothing_released_depends_on_a_client_before_it_took_part(pipeline: Pipeline) -> None:
    pipeline, of = changed(pipeline, fraction=0.4, rounds=2), federation(0, FIVE)
    draw = of.stream.child("participants", 0).numpy().permutation(5)
    inside, outside = int(draw[0]), int(draw[-1])

    def first_round(swapped: int | None) -> list[Release]:
        clients = tuple(
            noise(n, 77) if k == swapped else c for k, (n, c) in enumerate(zip(FIVE, of.clients, strict=True))
        )
        (outcome,) = run(pipeline, world(), [replace(of, clients=clients)])
        return [r for r in outcome.transcript.releases if r.round == 0 and r.name != "large"]

    def alike(a: Sequence[Release], b: Sequence[Release]) -> bool:
        pairs = zip(a, b, strict=True)
        return all(equal(dict(x.tensors), dict(y.tensors)) for x, y in pairs)

    assert alike(first_round(None), first_round(outside))
    assert alike(first_round(None), first_round(inside)) == (not talks(pipeline, 0))


@every_partial
@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"rounds": 0}, "expected rounds >= 1, got rounds=0"),
        ({"fraction": 0.0}, r"expected fraction in \(0, 1\], got fraction=0.0"),
        ({"fraction": 1.5}, r"expected fraction in \(0, 1\], got fraction=1.5"),
    ],
)
def test_a_federation_without_rounds_or_clients(
    pipeline: Pipeline, change: dict[str, float], message: str
) -> None:
    with pytest.raises(ValueError, match=message):
        changed(pipeline, **change)


@every_pipeline
def test_everything_a_client_sends_is_in_the_transcript(pipeline: Pipeline) -> None:
    found = watched(pipeline, federation(0))
    sent = [r for p in found.progress for inbox in p.uploaded for r in inbox]
    recorded = sent_by_clients(found.outcome)
    assert len(sent) == len(recorded)
    assert all(a is b for a, b in zip(sent, recorded, strict=True))
    assert all(r.receiver == SERVER for r in sent)


# Clients' own models.


def given_away(releases: Sequence[Release], kept: Sequence[Params]) -> list[str]:
    """Names of the releases that have a weight matrix in them which some client keeps."""
    own = [v for params in kept for v in params.values() if v.ndim > 1]
    return [r.name for r in releases if any(_has(r, v) for v in own)]


def _has(release: Release, value: torch.Tensor) -> bool:
    return any(v.shape == value.shape and torch.equal(v, value) for v in release.tensors.values())


@every_personal
def test_what_a_client_keeps_is_in_no_release_unless_it_shares_its_head(pipeline: Pipeline) -> None:
    found = watched(pipeline, federation(0))
    releases = found.outcome.transcript.releases
    shares_heads = getattr(pipeline, "share_heads", False)
    assert set(given_away(releases, found.kept)) <= ({"update", "personal"} if shares_heads else set())
    (delivered,) = named(found.outcome, "large")
    stolen = next(v for v in found.kept[0].values() if v.ndim > 1)
    assert given_away([replace(delivered, tensors={"any": stolen.clone()})], found.kept) == ["large"]


@every_personal
def test_every_client_has_a_model_of_its_own(pipeline: Pipeline) -> None:
    models = played(pipeline).personal
    assert len(models) == len(SIZES)
    for model in models:
        assert {k: tuple(v.shape) for k, v in model.items()} == parameter_shapes(SURROGATE)
        assert_finite(model)
    assert not any(equal(a, b) for i, a in enumerate(models) for b in models[:i])


@every_personal
def test_a_client_that_has_not_trained_yet_has_a_model_all_the_same(pipeline: Pipeline) -> None:
    pipeline, of = changed(pipeline, fraction=0.4, rounds=2), federation(0, FIVE)
    found = watched(pipeline, of)
    before = found.progress[0]
    for k, kept in enumerate(before.kept[0]):
        model = cast(Personalised, pipeline).personal(world(), before.states[0], k, kept)
        assert {n: tuple(v.shape) for n, v in model.items()} == parameter_shapes(SURROGATE)
