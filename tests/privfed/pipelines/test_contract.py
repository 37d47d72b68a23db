"""What every pipeline keeps, found by walking the package: a new file is tested by existing."""

from __future__ import annotations

import dataclasses
import inspect
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from functools import lru_cache

import pytest
import torch
from dp_accounting import GaussianDpEvent

from audits.catalogue import names
from privfed.federation import Federation, Outcome, run
from privfed.hooks import Hooks, Spent
from privfed.nets import Params, initial, module_of
from privfed.pipelines.fedavg import FedAvg
from privfed.pipelines.feddgm import FedDGM
from privfed.pipelines.interface import ClientJob, Pipeline
from privfed.pipelines.twin import Twin
from privfed.randomness import Stream
from privfed.release import CLIENTS, PUBLIC, SERVER, Observer, Release, client_name
from privfed.training import Task
from tests.privfed.pipelines.worlds import (
    SIZES,
    SURROGATE,
    assert_close,
    assert_params_close,
    double_precision,
    equal,
    federation,
    named,
    same,
    small,
    updates,
    world,
)

CLASSES = names("pipelines")
KNOWN = {"surrogate", "update", "large", "synthetic", "client_images", "client_latents"}
DISCLOSED = {"count", "labels", "raw_images"}
CONFIGURED: list[Pipeline] = [
    *(small(cls()) for cls in CLASSES.values()),
    small(FedAvg(weighting="equal")),
    small(FedDGM(label_mode="held", accumulate=True)),
    small(FedDGM(initial="real")),
    small(Twin(trained_on="public")),
]
PARAMETERS = sum(v.numel() for v in initial(SURROGATE, Stream(0).torch()).values())
every_class = pytest.mark.parametrize("cls", CLASSES.values(), ids=list(CLASSES))
every_pipeline = pytest.mark.parametrize("pipeline", CONFIGURED, ids=lambda p: repr(p).split("rounds=")[0])
every_partial = pytest.mark.parametrize(
    "pipeline",
    [p for p in CONFIGURED if any(f.name == "fraction" for f in dataclasses.fields(p))],  # type: ignore[arg-type]
    ids=lambda p: type(p).__name__,
)


@pytest.fixture
def double() -> Iterator[None]:
    with double_precision():
        yield


def play(
    pipeline: Pipeline, seed: int = 0, sizes: Sequence[int] = SIZES, hooks: Hooks | None = None
) -> Outcome:
    (outcome,) = run(pipeline, world(hooks=hooks or Hooks()), [federation(seed, sizes)])
    return outcome


def played(pipeline: Pipeline) -> Outcome:
    return _played(CONFIGURED.index(pipeline))


@lru_cache(maxsize=16)
def _played(index: int) -> Outcome:
    return play(CONFIGURED[index])


def jobs(pipeline: Pipeline, of: Federation) -> list[ClientJob]:
    (state,) = pipeline.init(world(), [of.stream.child("init")])
    return [
        ClientJob(k, 0, state.surrogate, records, of.stream.child("client", k, 0))
        for k, records in enumerate(of.clients)
    ]


def test_the_walk_finds_the_pipelines() -> None:
    assert {"fedavg", "feddgm", "twin"} <= CLASSES.keys()


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
    assert same(first, play(pipeline))
    other = run(pipeline, world(), [replace(federation(0), stream=Stream(1))])[0]
    assert not same(first, other)


@every_pipeline
def test_an_update_is_the_weights_in_float32_and_nothing_else(pipeline: Pipeline) -> None:
    outcome = played(pipeline)
    sent = [(r.round, r.about) for r in updates(outcome)]
    assert sorted(sent) == [(r, k) for r in range(pipeline.rounds) for k in range(len(SIZES))]
    names_ = list(initial(SURROGATE, Stream(0).torch()))
    for release in updates(outcome):
        assert release.payload_bytes == 4 * PARAMETERS
        assert list(release.tensors) == names_
        assert (release.sender, release.receiver) == (client_name(release.about or 0), SERVER)
        assert release.kind == "weights"


@every_pipeline
def test_what_is_released_has_a_known_name_and_disclosures_are_declared(pipeline: Pipeline) -> None:
    releases = played(pipeline).transcript.releases
    assert {r.name for r in releases} <= KNOWN | DISCLOSED
    beside = {r.name for r in releases if r.sender.startswith("client") and r.name != "update"}
    assert beside <= DISCLOSED
    # The null twin says nothing although it sends images: they are public ones.
    said, images_only = bool(pipeline.outside_claim), beside == {"raw_images"}
    assert said == bool(beside) or (isinstance(pipeline, Twin) and images_only)


@every_pipeline
def test_the_server_broadcasts_before_each_round_and_at_the_end(pipeline: Pipeline) -> None:
    outcome = played(pipeline)
    sent = named(outcome, "surrogate")
    assert [r.round for r in sent] == list(range(pipeline.rounds + 1))
    assert all((r.sender, r.receiver) == (SERVER, CLIENTS) for r in sent)
    assert equal(dict(sent[-1].tensors), outcome.surrogate)
    (delivered,) = named(outcome, "large")
    assert (delivered.sender, delivered.receiver) == (SERVER, PUBLIC)
    assert equal(dict(delivered.tensors), outcome.large)


@every_pipeline
def test_an_outsider_and_a_client_never_see_what_stays_on_the_server(pipeline: Pipeline) -> None:
    transcript = played(pipeline).transcript
    private = {"update", "client_images", "client_latents", *DISCLOSED}
    assert not private & {r.name for r in transcript.view(Observer("outsider")).releases}
    seen = transcript.view(Observer("client", client=0)).releases
    assert all(r.about == 0 and r.sender == client_name(0) for r in seen if r.name in private)


@every_pipeline
def test_released_weights_rebuild_the_models(pipeline: Pipeline) -> None:
    transcript = played(pipeline).transcript
    for release in transcript.releases:
        if release.kind == "weights":
            spec = transcript.nets["surrogate" if release.name == "update" else release.name]
            logits = module_of(spec, dict(release.tensors))(torch.zeros(2, 1, 8, 8))
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
        for alone, outcome in zip(several, together, strict=True):
            assert_close(outcome, run(pipeline, here, [alone])[0])
    assert run(pipeline, world(), []) == []


@every_pipeline
@pytest.mark.usefixtures("double")
def test_both_engines_play_the_same_federation(pipeline: Pipeline) -> None:
    looped, stacked = (
        run(pipeline, world(engine=e, large_engine=e), [federation(0)])[0] for e in ("looped", "stacked")
    )
    assert_close(looped, stacked)


@every_pipeline
@pytest.mark.parametrize("sizes", [(0, 6, 1), (1,), (0, 0)], ids=str)
def test_clients_with_one_record_or_none(pipeline: Pipeline, sizes: tuple[int, ...]) -> None:
    outcome = play(pipeline, sizes=sizes)
    for release in outcome.transcript.releases:
        finite = {k: v for k, v in release.tensors.items() if k != "losses"}
        assert all(v.isfinite().all() for v in finite.values()), release.name
    starts = named(outcome, "surrogate")
    if not (isinstance(pipeline, Twin) and pipeline.trained_on == "public"):
        for update in updates(outcome):
            unmoved = equal(dict(update.tensors), dict(starts[update.round].tensors))
            assert unmoved == (sizes[update.about or 0] == 0)


@every_partial
def test_only_participants_of_a_round_send_updates(pipeline: Pipeline) -> None:
    sizes = (4, 3, 5, 4, 3)
    outcome = play(replace(pipeline, fraction=0.4, rounds=6), sizes=sizes)  # type: ignore[type-var]
    by_round = [{r.about for r in updates(outcome) if r.round == n} for n in range(6)]
    assert [len(took_part) for took_part in by_round] == [2] * 6
    assert len({frozenset(t) for t in by_round}) > 1, "drawn afresh in every round"
    senders = {(r.round, r.about) for r in outcome.transcript.releases if r.about is not None}
    assert senders == {(n, k) for n, took_part in enumerate(by_round) for k in took_part}
    assert {k: len(e) for k, e in outcome.ledger.events.items()} == {
        k: sum(k in t for t in by_round) for k in set().union(*by_round)
    }
    few = play(replace(pipeline, fraction=0.01, rounds=2), sizes=sizes)  # type: ignore[type-var]
    assert len(updates(few)) == 2, "never nobody"


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
        replace(pipeline, **change)  # type: ignore[type-var]


# Hooks.


@dataclass(frozen=True)
class Silence:
    """Sends the weights the client was given."""

    def uplink(self, start: Params, params: Params, stream: Stream) -> Spent[Params]:
        return Spent({k: v.clone() for k, v in start.items()}, GaussianDpEvent(1.0))


@dataclass(frozen=True)
class Ones:
    """Local training that ends at weights of one, whatever the records."""

    def train(self, task: Task) -> Spent[Params]:
        return Spent({k: torch.ones_like(v) for k, v in task.start.items()}, GaussianDpEvent(2.0))


@dataclass(frozen=True)
class Blank:
    """Publishes zeros in the place of the model."""

    def release(self, release: Release, stream: Stream) -> Spent[Release]:
        if release.name != "large":
            return Spent(release, None)
        return Spent(
            replace(release, tensors={k: torch.zeros_like(v) for k, v in release.tensors.items()}), None
        )


@every_pipeline
def test_an_uplink_hook_acts_on_what_is_sent(pipeline: Pipeline) -> None:
    outcome = play(pipeline, hooks=Hooks(uplink=(Silence(),)))
    starts = named(outcome, "surrogate")
    for update in updates(outcome):
        assert equal(dict(update.tensors), dict(starts[update.round].tensors))
    assert not same(outcome, played(pipeline))


@every_pipeline
def test_a_local_hook_replaces_the_training(pipeline: Pipeline) -> None:
    outcome = play(pipeline, hooks=Hooks(local=Ones()))
    assert all((v == 1).all() for u in updates(outcome) for v in u.tensors.values())


@every_pipeline
def test_a_release_hook_acts_on_what_is_published(pipeline: Pipeline) -> None:
    outcome = play(pipeline, hooks=Hooks(release=(Blank(),)))
    (delivered,) = named(outcome, "large")
    assert all((v == 0).all() for v in delivered.tensors.values())
    assert equal(outcome.large, dict(delivered.tensors)), "accuracy is measured on what was delivered"
    undefended = played(pipeline)
    assert equal(outcome.surrogate, undefended.surrogate), "nothing before publication changes"


@every_pipeline
def test_the_ledger_has_one_entry_a_round_and_client(pipeline: Pipeline) -> None:
    everyone = range(len(SIZES))
    plain = played(pipeline).ledger
    assert dict(plain.events) == {k: (None,) * pipeline.rounds for k in everyone}
    noisy = play(pipeline, hooks=Hooks(uplink=(Silence(),))).ledger
    assert dict(noisy.events) == {k: (GaussianDpEvent(1.0),) * pipeline.rounds for k in everyone}
    assert len(noisy.streams) == pipeline.rounds * len(SIZES)
    assert [(a.name, a.verified) for a in noisy.checked] == [("fresh noise in every round", True)]
    both = play(pipeline, hooks=Hooks(local=Ones(), uplink=(Silence(),))).ledger
    for events in both.events.values():
        for event in events:
            assert event is not None
            assert "GaussianDpEvent(noise_multiplier=2.0)" in str(event)
            assert "GaussianDpEvent(noise_multiplier=1.0)" in str(event)
