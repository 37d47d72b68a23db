"""Running federations whose clients keep something: it comes back to them alone, and to no transcript."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field, replace

import pytest
import torch

from privfed.federation import Federation, Outcome, Progress, personal_models, run
from privfed.nets import Params
from privfed.pipelines.interface import ClientJob, ClientMessage, ServerState, World
from tests.privfed.echo import WORLD, Echo, federation

SECRET = 12_345.0
SIZES = (4, 1, 3)
SOMETIMES = (0.5, 0.26, 1.0, 0.5)


@dataclass(frozen=True)
class Diary(Echo):
    """Each client keeps a diary: one line (federation's seed, client, round) whenever it takes part."""

    shares: tuple[float, ...] = (1.0, 1.0)
    leaks: bool = False
    enrolled: list[ServerState] = field(default_factory=list)

    def share(self, round: int) -> float:
        return self.shares[round]

    def enrol(self, world: World, state: ServerState) -> Params:
        self.enrolled.append(state)
        return {"diary": torch.full((1, 3), SECRET), "start": state.surrogate["w"]}

    def shared(self, world: World, state: ServerState) -> Params:
        return {"w": state.surrogate["w"] + 50}

    def personal(self, world: World, state: ServerState, client: int, kept: Params) -> Params:
        return {"whose": torch.tensor(client), "diary": kept["diary"], "global": state.surrogate["w"]}

    def client_round(self, world: World, jobs: Sequence[ClientJob]) -> list[ClientMessage]:
        messages = super().client_round(world, jobs)
        return [self._noted(j, m) for j, m in zip(jobs, messages, strict=True)]

    def _noted(self, job: ClientJob, message: ClientMessage) -> ClientMessage:
        line = torch.tensor([[float(job.stream.seed), float(job.client), float(job.round)]])
        diary = torch.cat([job.kept["diary"], line])
        if not self.leaks:
            return replace(message, kept={**job.kept, "diary": diary})
        first, *others = message.releases
        return replace(message, releases=(replace(first, tensors={"w": diary}), *others), kept=job.kept)


def lines(params: Params) -> list[list[float]]:
    """A diary without its first page, which all have in common."""
    assert (params["diary"][0] == SECRET).all()
    found: list[list[float]] = params["diary"][1:].tolist()
    return found


def held(sizes: Sequence[int] = SIZES) -> list[Federation]:
    return [federation(seed, clients) for seed, clients in enumerate(sizes)]


def secrets(outcome: Outcome) -> list[str]:
    """Names of the releases that hold anything of a diary."""
    return [
        r.name for r in outcome.transcript.releases if any((t == SECRET).any() for t in r.tensors.values())
    ]


def tensors(outcome: Outcome) -> list[Params]:
    """All that a federation left behind."""
    releases = [dict(r.tensors) for r in outcome.transcript.releases]
    return [*releases, outcome.surrogate, outcome.large, *outcome.personal]


def same(first: Outcome, second: Outcome) -> bool:
    """Whether two outcomes are the same to the bit."""
    return first.ledger == second.ledger and all(
        a.keys() == b.keys() and all(torch.equal(a[k], b[k]) for k in a)
        for a, b in zip(tensors(first), tensors(second), strict=True)
    )


def test_what_a_client_keeps_comes_back_to_it_alone() -> None:
    pipeline = Diary(rounds=4, shares=SOMETIMES)
    run(pipeline, WORLD, held())
    written: dict[tuple[int, int], list[list[float]]] = {}
    for job in (j for jobs in pipeline.jobs for j in jobs):
        own = written.setdefault((job.stream.seed, job.client), [])
        assert lines(job.kept) == own
        own.append([float(job.stream.seed), float(job.client), float(job.round)])
    assert max(map(len, written.values())) == 4, "the only client of a federation is in every round"
    assert min(map(len, written.values())) < 4


def test_what_clients_keep_is_in_no_release() -> None:
    for outcome in run(Diary(), WORLD, held()):
        assert secrets(outcome) == []
        assert all(len(lines(own)) == 2 for own in outcome.personal), (
            "though there was something to give away"
        )
    (leaking,) = run(Diary(rounds=1, shares=(1.0,), leaks=True), WORLD, held((3,)))
    assert secrets(leaking) == ["update"] * 3, "the same search finds a diary that was sent"


def test_every_client_is_enrolled_once_with_what_follows_from_the_first_state() -> None:
    pipeline = Diary()
    run(pipeline, WORLD, held())
    assert [s.round for s in pipeline.enrolled] == [0, 0, 0], "one call a federation"
    for job in pipeline.jobs[0]:
        assert lines(job.kept) == []
        assert torch.equal(job.kept["start"], torch.tensor([0.0]))
    first, second = pipeline.jobs[0][:2]
    assert first.kept is not second.kept


def test_clients_of_other_pipelines_keep_nothing() -> None:
    pipeline, seen = Echo(), list[Progress]()
    (outcome,) = run(pipeline, WORLD, [federation(0)], seen.append)
    assert [j.kept for jobs in pipeline.jobs for j in jobs] == [{}] * 4
    assert [p.kept for p in seen] == [(({}, {}),)] * 2
    assert outcome.personal == ()
    assert personal_models(pipeline, WORLD, seen[-1].states[0], seen[-1].kept[0]) == ()


def test_the_share_of_a_round_takes_the_place_of_the_fraction() -> None:
    pipeline = Diary(rounds=4, fraction=1.0, shares=SOMETIMES)
    run(pipeline, WORLD, held((4,)))
    assert [len(jobs) for jobs in pipeline.jobs] == [2, 1, 4, 2]
    fixed = Echo(rounds=4, fraction=0.5)
    run(fixed, WORLD, held((4,)))
    chosen = [[[j.client for j in jobs] for jobs in p.jobs] for p in (pipeline, fixed)]
    assert [chosen[0][n] for n in (0, 3)] == [chosen[1][n] for n in (0, 3)], "the draw itself is the same"


def test_clients_start_from_what_is_shared_and_it_is_what_was_sent() -> None:
    pipeline = Diary()
    (outcome,) = run(pipeline, WORLD, held((2,)))
    assert [float(j.start["w"]) for jobs in pipeline.jobs for j in jobs] == [50, 50, 51, 51]
    sent = [r for r in outcome.transcript.releases if r.name == "surrogate"]
    assert [float(r.tensors["w"]) for r in sent] == [50, 51, 52]
    assert float(outcome.surrogate["w"]) == 2, "the server's own model, not what it shares"


# Watching


@pytest.mark.parametrize("pipeline", [Echo, Diary])
def test_watching_changes_nothing(pipeline: type[Echo]) -> None:
    watched = run(pipeline(), WORLD, held(), lambda _: None)
    plain = run(pipeline(), WORLD, held())
    assert all(same(a, b) for a, b in zip(watched, plain, strict=True))
    moved = replace(plain[0], surrogate={"w": plain[0].surrogate["w"] + 1})
    assert not same(plain[0], moved)


def test_a_watcher_is_called_once_a_round_with_all_federations_after_it() -> None:
    pipeline, seen = Diary(rounds=4, shares=SOMETIMES), list[Progress]()
    outcomes = run(pipeline, WORLD, held(), seen.append)
    assert [p.round for p in seen] == [0, 1, 2, 3]
    for progress, jobs in zip(seen, pipeline.jobs, strict=True):
        assert [s.round for s in progress.states] == [progress.round + 1] * 3
        assert tuple(map(len, progress.kept)) == SIZES
        for f, inbox in enumerate(progress.uploaded):
            chosen = [j.client for j in jobs if j.stream.seed == f]
            assert [(r.name, r.about) for r in inbox] == [
                (name, k) for k in chosen for name in ("update", "count")
            ]
            latest = [k for k, own in enumerate(progress.kept[f]) if [f, k, progress.round] in lines(own)]
            assert latest == chosen, "those that took part have a new line, the others what they had"
    uploads = [[r for p in seen for r in p.uploaded[f]] for f in range(3)]
    for outcome, uploaded in zip(outcomes, uploads, strict=True):
        assert [r for r in outcome.transcript.releases if r.name in ("update", "count")] == uploaded


# Personal models


def test_every_client_ends_with_its_own_model_even_one_that_never_took_part() -> None:
    pipeline, seen = Diary(rounds=1, shares=(0.25,)), list[Progress]()
    outcomes = run(pipeline, WORLD, held(), seen.append)
    for f, outcome in enumerate(outcomes):
        models = outcome.personal
        assert [int(m["whose"]) for m in models] == list(range(SIZES[f]))
        assert [float(m["global"]) for m in models] == [1.0] * SIZES[f], "after the last round"
        (chosen,) = [j.client for j in pipeline.jobs[0] if j.stream.seed == f]
        assert [lines(m) for m in models] == [
            [[float(f), float(k), 0.0]] if k == chosen else [] for k in range(SIZES[f])
        ]
        again = personal_models(pipeline, WORLD, seen[-1].states[f], seen[-1].kept[f])
        assert [float(m["whose"]) for m in again] == [float(m["whose"]) for m in models]
        assert all(torch.equal(a["diary"], b["diary"]) for a, b in zip(again, models, strict=True))
