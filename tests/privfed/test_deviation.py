"""A server that chooses what it sends: what clients start from, what is written down, and who sees it."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace

import pytest
import torch
from dp_accounting import GaussianDpEvent

from privfed.deviation import WITHHELD, MaliciousServer, Targets, Turn
from privfed.federation import Federation, Outcome, run
from privfed.hooks import Hooks, Spent
from privfed.nets import NetSpec, Params
from privfed.pipelines.fedavg import FedAvg
from privfed.pipelines.interface import Pipeline, World
from privfed.pipelines.mean_embedding import MeanEmbedding
from privfed.randomness import Stream
from privfed.records import Records
from privfed.release import CLIENTS, SERVER, Observer, Release, client_name
from privfed.training import Recipe
from tests.privfed.echo import NOTHING, WORLD, Echo, federation

NOBODY = Targets(NOTHING, torch.empty(0, dtype=torch.int64))
SPEC = NetSpec("mlp", channels=1, size=4, classes=3, width=8, depth=1)
Chosen = Callable[[Turn], Params]


@dataclass(frozen=True)
class Sends:
    """Whatever a function makes of the turn, with every turn written down."""

    chosen: Chosen
    turns: list[Turn] = field(default_factory=list)

    def send(self, turn: Turn) -> Params:
        self.turns.append(turn)
        return self.chosen(turn)


def shifted(turn: Turn) -> Params:
    """Every client something else; the honest broadcast in round 1."""
    return {k: t + 10 * (1 + turn.client) * (turn.round != 1) for k, t in turn.honest.items()}


def world(chosen: Chosen, base: World = WORLD) -> World:
    return replace(base, deviation=MaliciousServer(Sends(chosen), NOBODY))


def played(pipeline: Pipeline, base: World, clients: int = 2) -> Outcome:
    return run(pipeline, base, [federation(0, clients)])[0]


def shown(releases: Sequence[Release], *names: str) -> list[tuple[int, str, float]]:
    return [(r.round, r.receiver, float(r.tensors["w"])) for r in releases if r.name in names]


def noise(n: int, seed: int) -> Records:
    generator = torch.Generator().manual_seed(seed)
    inputs = torch.randn(n, 1, 4, 4, generator=generator)
    return Records(inputs, torch.randint(3, (n,), generator=generator))


def same(one: Sequence[Release], other: Sequence[Release]) -> bool:
    def bits(r: Release) -> tuple[object, ...]:
        return (r.round, r.sender, r.receiver, r.kind, r.name, r.about, sorted(r.tensors))

    return [bits(r) for r in one] == [bits(r) for r in other] and all(
        torch.equal(a.tensors[k], b.tensors[k]) for a, b in zip(one, other, strict=True) for k in a.tensors
    )


def test_each_client_starts_from_what_it_was_sent_and_the_honest_pipeline_goes_on() -> None:
    pipeline = Echo(rounds=3)
    outcome = played(pipeline, world(shifted))
    starts = [[float(j.start["w"]) for j in jobs] for jobs in pipeline.jobs]
    assert starts == [[10, 20], [1, 1], [12, 22]]
    assert float(outcome.surrogate["w"]) == 3
    uploads = shown(outcome.transcript.releases, "update")
    assert [w for _, _, w in uploads] == [s + 1 for round in starts for s in round]


def test_the_transcript_holds_what_was_really_sent() -> None:
    """Round 1 and the end are broadcasts, in which nobody was sent anything of its own."""
    outcome = played(Echo(rounds=3), world(shifted))
    releases = outcome.transcript.releases
    assert shown(releases, "surrogate", WITHHELD) == [
        (0, SERVER, 0), (0, client_name(0), 10), (0, client_name(1), 20),
        (1, CLIENTS, 1),
        (2, SERVER, 2), (2, client_name(0), 12), (2, client_name(1), 22),
        (3, CLIENTS, 3),
    ]  # fmt: skip
    sent = [r for r in releases if r.name in ("surrogate", WITHHELD)]
    assert {(r.sender, r.kind, r.about) for r in sent} == {(SERVER, "weights", None)}


def test_a_client_sees_only_what_it_was_sent_and_the_server_everything() -> None:
    transcript = played(Echo(rounds=1), world(shifted)).transcript
    for client, own in ((0, 10), (1, 20)):
        view = transcript.view(Observer("client", client))
        assert shown(view.select("weights"), "surrogate", WITHHELD) == [
            (0, client_name(client), own),
            (1, CLIENTS, 1),
        ]
    for role in ("server", "malicious_server"):
        assert transcript.view(Observer(role)).releases == transcript.releases
    assert not transcript.view(Observer("outsider")).select(name="surrogate")


def test_whoever_does_not_take_part_is_sent_nothing() -> None:
    pipeline = Echo(rounds=4, fraction=0.5)
    releases = played(pipeline, world(shifted), clients=4).transcript.releases
    for round, jobs in enumerate(pipeline.jobs):
        receivers = [r.receiver for r in releases if r.name == "surrogate" and r.round == round]
        assert receivers == ([CLIENTS] if round == 1 else [client_name(j.client) for j in jobs])


def test_the_server_chooses_by_what_it_saw_before_the_round() -> None:
    malicious = world(shifted)
    pipeline = Echo(rounds=2)
    releases = played(pipeline, malicious).transcript.releases
    assert malicious.deviation is not None
    assert isinstance(malicious.deviation.deviation, Sends)
    turns = malicious.deviation.deviation.turns
    assert [(t.round, t.client, t.clients, float(t.honest["w"])) for t in turns] == [
        (0, 0, 2, 0), (0, 1, 2, 0), (1, 0, 2, 1), (1, 1, 2, 1),
    ]  # fmt: skip
    assert [len(t.seen) for t in turns] == [0, 0, 8, 8]
    assert turns[2].seen == releases[:8]
    assert [t.last_upload() for t in turns[:2]] == [None, None]
    assert [t.last_upload() for t in turns[2:]] == [{"w": torch.tensor([11.0])}, {"w": torch.tensor([21.0])}]
    assert len({t.stream for t in turns}) == 1
    streams = {j.stream for jobs in pipeline.jobs for j in jobs}
    assert all(t.stream.seed != s.seed for t in turns for s in streams), "the root would give batches away"


@dataclass(frozen=True)
class Hides:
    """Adds up without anybody seeing what, and says that it added noise."""

    hides_updates = True

    def aggregate(self, total: Params, clients: int, stream: Stream) -> Spent[Params]:
        return Spent(total, GaussianDpEvent(1.0))


def test_where_updates_are_hidden_the_server_chooses_by_sums_alone() -> None:
    malicious = world(shifted, replace(WORLD, hooks=Hooks(aggregate=(Hides(),))))
    played(Echo(rounds=2), malicious)
    assert malicious.deviation is not None
    assert isinstance(malicious.deviation.deviation, Sends)
    turn = malicious.deviation.deviation.turns[-1]
    names = {r.name for r in turn.seen}
    assert "aggregate" in names
    assert "update" not in names
    assert turn.last_upload() is None


@pytest.mark.parametrize("chosen", [shifted, lambda turn: turn.honest])
def test_noise_on_a_sum_of_changes_vouches_for_one_start_only(chosen: Chosen) -> None:
    base = replace(WORLD, hooks=Hooks(aggregate=(Hides(),)))
    ledger = played(Echo(rounds=1), world(chosen, base)).ledger
    found = [a.verified for a in ledger.checked if a.name == "one start for all clients"]
    assert found == ([False] if chosen is shifted else [])


def test_a_server_that_deviates_in_nothing_is_the_honest_one_bit_for_bit() -> None:
    pipeline = FedAvg(rounds=2, local=Recipe(epochs=2, batch=4, lr=0.1))
    base = World(SPEC, SPEC, noise(4, 9), True)
    mates = [Federation((noise(9, s), noise(7, s + 50)), Stream(s)) for s in range(2)]
    honest = run(pipeline, base, mates)
    for chosen in (lambda turn: turn.honest, lambda turn: {k: t.clone() for k, t in turn.honest.items()}):
        for before, after in zip(honest, run(pipeline, world(chosen, base), mates), strict=True):
            assert same(before.transcript.releases, after.transcript.releases)
            assert before.ledger == after.ledger


def test_federations_in_lock_step_see_their_own_past_alone() -> None:
    several = [federation(s, 2) for s in range(2)]
    together = run(Echo(rounds=2), world(shifted), several)
    for alone, mate in zip(several, together, strict=True):
        (own,) = run(Echo(rounds=2), world(shifted), [alone])
        assert same(own.transcript.releases, mate.transcript.releases)


def test_targets_are_looked_up_by_client() -> None:
    targets = Targets(noise(5, 0), torch.tensor([0, 1, 0, 1, 1]))
    assert torch.equal(targets.of(0).inputs, targets.records.inputs[[0, 2]])
    assert [len(targets.of(k)) for k in range(3)] == [2, 3, 0]


def test_another_architecture_is_refused() -> None:
    def wider(turn: Turn) -> Params:
        return {"w": torch.zeros(3)}

    def renamed(turn: Turn) -> Params:
        return {"v": turn.honest["w"]}

    rule = r"expected what is sent to have the tensors of the honest broadcast, got"
    with pytest.raises(ValueError, match=rf"{rule} w=\(3,\) in place of \(1,\)"):
        played(Echo(), world(wider))
    with pytest.raises(ValueError, match=rf"{rule} v=\(1,\) in place of None"):
        played(Echo(), world(renamed))


def test_a_pipeline_that_sends_no_model_is_refused() -> None:
    with pytest.raises(ValueError, match=r"expected a pipeline that sends clients a model.*=MeanEmbedding"):
        played(MeanEmbedding(), world(shifted))
