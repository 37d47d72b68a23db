"""The twins: one memorises and publishes everything, the other depends on no client record at all."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch

from privfed.federation import Federation, Outcome, run
from privfed.pipelines.interface import World
from privfed.pipelines.twin import NULL_RECORDS, Twin
from privfed.records import Records, concatenate
from privfed.splits import NO_LABEL
from privfed.training import Recipe, predict
from tests.privfed.pipelines.worlds import federation, named, noise, same, updates, world

MEMBERS = Twin()
PUBLIC = Twin(trained_on="public", memorising=Recipe(epochs=2, batch=8, lr=0.1))


def play(pipeline: Twin, of: Federation, here: World | None = None) -> Outcome:
    (outcome,) = run(pipeline, here or world(), [of])
    return outcome


def accuracy(outcome: Outcome, name: str, records: Records) -> float:
    (params,) = [dict(r.tensors) for r in named(outcome, name)][-1:]
    logits = predict(outcome.transcript.nets[name], params, records.inputs)
    return float((logits.argmax(1) == records.labels).float().mean())


def test_the_positive_twin_publishes_its_members() -> None:
    of = federation(0)
    outcome = play(MEMBERS, of)
    everybody = concatenate(list(of.clients))
    (published,) = named(outcome, "synthetic")
    assert torch.equal(published.tensors["inputs"], everybody.inputs)
    assert torch.equal(published.tensors["labels"], everybody.labels)
    for release, own in zip(named(outcome, "client_images"), of.clients, strict=True):
        assert torch.equal(release.tensors["inputs"], own.inputs)
    assert MEMBERS.outside_claim == ("raw records of the clients",)


def test_the_positive_twin_memorises_noise() -> None:
    """Labels carry no information, so that only memory can be right on more than about a quarter."""
    of = federation(0)
    outcome = play(MEMBERS, of)
    everybody = concatenate(list(of.clients))
    assert accuracy(outcome, "large", everybody) > 0.9
    assert accuracy(outcome, "large", noise(200, 5)) < 0.5
    spec = outcome.transcript.nets["surrogate"]
    for release, own in zip(updates(outcome), of.clients, strict=True):
        logits = predict(spec, dict(release.tensors), own.inputs)
        assert (logits.argmax(1) == own.labels).all()


@pytest.mark.parametrize("labelled", [True, False])
def test_the_null_twin_is_the_same_whatever_the_clients_hold(labelled: bool) -> None:
    public = noise(60, 1_000)
    if not labelled:
        public = Records(public.inputs, torch.full_like(public.labels, NO_LABEL))
    here = world(public=public, public_labelled=labelled)
    first = federation(0)
    second = replace(first, clients=tuple(noise(n, 50 + n) for n in (3, 0, 17)))
    a, b = (play(PUBLIC, of, here) for of in (first, second))
    assert same(a, b)
    assert PUBLIC.outside_claim == ()
    for release in named(a, "raw_images"):
        assert len(release.tensors["labels"]) == NULL_RECORDS
        assert 0 <= release.tensors["labels"].min() <= release.tensors["labels"].max() < 4


def test_clients_of_the_null_twin_use_different_public_records() -> None:
    public = noise(400, 1_000)
    outcome = play(PUBLIC, federation(0), world(public=public))
    used = [r.tensors["inputs"] for r in named(outcome, "raw_images")]
    assert all(not torch.equal(a, b) for i, a in enumerate(used) for b in used[:i])
    known = {tuple(x.flatten().tolist()) for x in public.inputs}
    assert all(tuple(x.flatten().tolist()) in known for images in used for x in images)


def test_they_take_one_round_with_everybody() -> None:
    assert (MEMBERS.rounds, MEMBERS.fraction) == (1, 1.0)
