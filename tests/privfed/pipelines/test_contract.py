"""What every pipeline keeps, found by walking the package: a new file is tested by existing."""

from __future__ import annotations

import dataclasses
import inspect
import math
from collections.abc import Iterator
from dataclasses import replace

import pytest
import torch

from privfed.federation import run
from privfed.nets import initial, module_of, parameter_shapes
from privfed.pipelines._own_models import UNCOUNTED
from privfed.pipelines.interface import Pipeline
from privfed.pipelines.twin import Twin
from privfed.randomness import Stream
from privfed.release import CLIENTS, PUBLIC, SERVER, Observer, client_name
from tests.privfed.pipelines.contract import (
    CLASSES,
    every_class,
    every_pipeline,
    every_training,
    identical,
    jobs,
    like,
    play,
    played,
    sent_by_clients,
    sent_names,
    talking_rounds,
)
from tests.privfed.pipelines.worlds import (
    SIZES,
    SURROGATE,
    assert_close,
    assert_params_close,
    double_precision,
    equal,
    federation,
    named,
    updates,
    world,
)

SERVERS_OWN = {"client_images", "client_latents", "bank", "latents", "aggregate"}
SUMS = {"votes", "embedding"}
ASKED = {"candidates", "frequencies", "shared_bank"}
KNOWN = {"surrogate", "update", "large", "synthetic", "generator", "personal", *SERVERS_OWN, *SUMS, *ASKED}
DISCLOSED = {"count", "labels", "logits", "raw_images", "raw_records"}


@pytest.fixture
def double() -> Iterator[None]:
    with double_precision():
        yield


def test_the_walk_finds_the_pipelines() -> None:
    ours = {"ditto", "fedavg", "fedavg_fine_tuned", "feddgm", "fedprox", "local_only", "twin"}
    assert ours <= CLASSES.keys()


@every_class
def test_a_pipeline_is_a_frozen_documented_value_with_defaults(cls: type) -> None:
    assert dataclasses.is_dataclass(cls)
    assert cls() == cls()
    assert hash(cls()) == hash(cls())
    assert "0x" not in repr(cls()), "its repr is its configuration, and part of a content address"
    name = dataclasses.fields(cls)[0].name
    with pytest.raises(dataclasses.FrozenInstanceError):
        setattr(cls(), name, None)
    assert (cls.__doc__ or "").splitlines()[0].endswith(".")
    assert (inspect.getmodule(cls) or object()).__doc__


@every_pipeline
def test_the_same_seed_gives_the_same_bits(pipeline: Pipeline) -> None:
    torch.manual_seed(1)
    before = torch.get_rng_state()
    first = play(pipeline)
    assert torch.equal(torch.get_rng_state(), before), "the global generator is nobody's"
    torch.manual_seed(2)
    assert identical(first, play(pipeline))
    other = run(pipeline, world(), [replace(federation(0), stream=Stream(1))])[0]
    assert not identical(first, other)


@every_training
def test_an_update_is_the_weights_in_float32_and_nothing_else(pipeline: Pipeline) -> None:
    outcome = played(pipeline)
    sent = [(r.round, r.about) for r in updates(outcome)]
    assert sorted(sent) == [(r, k) for r in talking_rounds(pipeline) for k in range(len(SIZES))]
    parameters = sum(math.prod(parameter_shapes(SURROGATE)[name]) for name in sent_names(pipeline))
    for release in updates(outcome):
        assert list(release.tensors) == sent_names(pipeline)
        assert [v.dtype for v in release.tensors.values()] == [torch.float32] * len(release.tensors)
        assert release.payload_bytes == 4 * parameters
        assert (release.sender, release.receiver) == (client_name(release.about or 0), SERVER)
        assert release.kind == "weights"


@every_pipeline
def test_what_is_released_has_a_known_name_and_disclosures_are_declared(pipeline: Pipeline) -> None:
    outcome = played(pipeline)
    assert {r.name for r in outcome.transcript.releases} <= KNOWN | DISCLOSED
    beside = {r.name for r in sent_by_clients(outcome)} - {"update", *SUMS}
    assert beside <= DISCLOSED
    # The null twin says nothing although it sends images: they are public ones.
    told = [s for s in pipeline.outside_claim if s != UNCOUNTED and "at home" not in s]
    said, images_only = bool(told), beside == {"raw_images"}
    assert said == bool(beside) or (isinstance(pipeline, Twin) and images_only)


@every_training
def test_the_server_broadcasts_before_each_round_and_at_the_end(pipeline: Pipeline) -> None:
    """Once for each round in which clients answer: what is known already is not sent again."""
    outcome = played(pipeline)
    sent = named(outcome, "surrogate")
    assert [r.round for r in sent] == list(range(len(talking_rounds(pipeline)) + 1))
    assert all((r.sender, r.receiver) == (SERVER, CLIENTS) for r in sent)
    last = dict(sent[-1].tensors)
    assert equal(last, like(last, outcome.surrogate))
    (delivered,) = named(outcome, "large")
    assert (delivered.sender, delivered.receiver) == (SERVER, PUBLIC)
    assert equal(dict(delivered.tensors), outcome.large)


@every_pipeline
def test_an_outsider_and_a_client_never_see_what_stays_on_the_server(pipeline: Pipeline) -> None:
    transcript = played(pipeline).transcript
    private = {"update", "personal", *SUMS, *SERVERS_OWN, *DISCLOSED}
    assert not private & {r.name for r in transcript.view(Observer("outsider")).releases}
    seen = transcript.view(Observer("client", client=0)).releases
    assert all(r.about == 0 for r in seen if r.name in private)
    assert not SERVERS_OWN & {r.name for r in seen}


@every_pipeline
def test_released_weights_rebuild_the_models(pipeline: Pipeline) -> None:
    transcript = played(pipeline).transcript
    for release in transcript.releases:
        if release.kind == "weights":
            spec = transcript.nets["large" if release.name == "large" else "surrogate"]
            whole = {**initial(spec, Stream(0).torch()), **release.tensors}
            logits = module_of(spec, whole)(torch.zeros(2, 1, 8, 8))
            assert logits.shape == (2, 4)
            assert logits.isfinite().all()


@every_pipeline
@pytest.mark.usefixtures("double")
def test_the_order_in_which_clients_work_and_arrive_does_not_matter(pipeline: Pipeline) -> None:
    of, order = federation(0), [2, 0, 1]
    work = jobs(pipeline, of)
    straight = pipeline.client_round(world(), work)
    shuffled = pipeline.client_round(world(), [work[k] for k in order])
    for k, message in zip(order, shuffled, strict=True):
        assert message.client == straight[k].client == k
        assert_params_close(message.kept, straight[k].kept)
        for a, b in zip(message.releases, straight[k].releases, strict=True):
            assert_params_close(dict(a.tensors), dict(b.tensors))
    states = pipeline.init(world(), [of.stream.child("init")])
    streams = [of.stream.child("server", 0)]
    inboxes = [
        [r for m in messages for r in m.releases] for messages in (straight, [straight[k] for k in order])
    ]
    (a_,), (b_,) = (pipeline.server_round(world(), states, [inbox], streams) for inbox in inboxes)
    assert_params_close(a_.surrogate, b_.surrogate)
    assert_params_close(a_.large or {}, b_.large or {})


@every_pipeline
@pytest.mark.usefixtures("double")
def test_federations_do_not_influence_one_another(pipeline: Pipeline) -> None:
    several = [federation(0), federation(1, (3, 9)), federation(2, (4,))]
    for engine in ("looped", "stacked"):
        here = world(engine=engine, large_engine=engine)
        together = run(pipeline, here, several)
        for of, outcome in zip(several, together, strict=True):
            (alone,) = run(pipeline, here, [of])
            assert_close(outcome, alone)
            for a, b in zip(outcome.personal, alone.personal, strict=True):
                assert_params_close(a, b)
    assert run(pipeline, world(), []) == []


@every_pipeline
@pytest.mark.usefixtures("double")
def test_both_engines_play_the_same_federation(pipeline: Pipeline) -> None:
    looped, stacked = (
        run(pipeline, world(engine=e, large_engine=e), [federation(0)])[0] for e in ("looped", "stacked")
    )
    assert_close(looped, stacked)
    for a, b in zip(looped.personal, stacked.personal, strict=True):
        assert_params_close(a, b)
