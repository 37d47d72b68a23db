"""Votes on candidates: what one record adds, who wins, and that nothing else depends on the records."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch
from hypothesis import given
from hypothesis import settings as hypothesis_settings
from hypothesis import strategies as st

from privfed.federation import run
from privfed.pipelines.interface import ClientJob, ServerState
from privfed.pipelines.latent_voting import VOTES, LatentVoting
from privfed.randomness import Stream
from privfed.records import Records
from privfed.release import AGGREGATOR, SERVER, Release
from privfed.training import Recipe
from tests.privfed.pipelines.worlds import SURROGATE, equal, federation, named, noise, world

SHORT = LatentVoting(rounds=2, candidates=12, ipc=2, training=Recipe(epochs=1, batch=8, lr=0.1))


def state(pipeline: LatentVoting = SHORT) -> ServerState:
    return pipeline.init(world(), [Stream(0, ("init",))])[0]


def votes_of(records: Records, pipeline: LatentVoting = SHORT) -> torch.Tensor:
    start = dict(pipeline.announce(world(), state(pipeline)).tensors)
    (message,) = pipeline.client_round(world(), [ClientJob(0, 0, start, records, Stream(1))])
    return message.releases[0].tensors[VOTES]


def test_every_record_has_one_vote_in_the_row_of_its_label() -> None:
    records = noise(30, 5)
    votes = votes_of(records)
    assert votes.shape == (SURROGATE.classes, 12)
    assert votes.sum(1).tolist() == [float((records.labels == c).sum()) for c in range(SURROGATE.classes)]


def test_a_record_votes_for_the_candidate_it_is() -> None:
    candidates = SHORT.announce(world(), state()).tensors["inputs"]
    votes = votes_of(Records(candidates[[3, 7]], torch.tensor([1, 2])))
    assert votes.nonzero().tolist() == [[1, 3], [2, 7]]


@hypothesis_settings(max_examples=20, deadline=None)
@given(st.integers(0, 9), st.integers(0, 5))
def test_one_record_more_moves_the_histogram_by_one(extra: int, n: int) -> None:
    records, more = noise(n, 3), noise(10, 4).take(torch.tensor([extra]))
    both = Records(torch.cat([records.inputs, more.inputs]), torch.cat([records.labels, more.labels]))
    assert float((votes_of(both) - votes_of(records)).norm()) == 1.0


def decide(votes: torch.Tensor, pipeline: LatentVoting = SHORT) -> ServerState:
    inbox = [Release(0, AGGREGATOR, SERVER, "counts", VOTES, {VOTES: votes})]
    return pipeline.server_round(world(), [state(pipeline)], [inbox], [Stream(2)])[0]


def test_the_candidates_with_most_votes_win_and_stay_candidates() -> None:
    votes = torch.zeros(SURROGATE.classes, 12)
    votes[0, [4, 9]] = torch.tensor([5.0, 7.0])
    after = decide(votes)
    assert after.synthetic is not None
    decoded = SHORT.announce(world(), state()).tensors["inputs"]
    assert torch.equal(after.synthetic.inputs[:2], decoded[[9, 4]])
    assert after.synthetic.labels.tolist() == [0, 0, 1, 1, 2, 2, 3, 3]
    again = SHORT.announce(world(), after).tensors["inputs"]
    assert torch.equal(again[:8], after.synthetic.inputs), "winners as they are"
    assert len(again) == 12
    assert not torch.equal(again[8], again[0]), "then varied ones"


def test_entries_below_the_threshold_count_for_nothing() -> None:
    votes = torch.zeros(SURROGATE.classes, 12)
    votes[0, 11] = 3.0
    kept, dropped = (decide(votes, replace(SHORT, threshold=t)).synthetic for t in (2.0, 3.0))
    decoded = SHORT.announce(world(), state()).tensors["inputs"]
    assert kept is not None
    assert dropped is not None
    assert torch.equal(kept.inputs[0], decoded[11])
    assert torch.equal(dropped.inputs[0], decoded[0])


def test_the_same_votes_give_the_same_releases_whatever_the_records() -> None:
    """Records that vote alike cannot be told apart by anything that is released."""
    of = federation(0)
    nearer = tuple(Records(c.inputs * 1.0001, c.labels) for c in of.clients)
    first, second = (run(SHORT, world(), [replace(of, clients=c)])[0] for c in (of.clients, nearer))
    for a, b in zip(first.transcript.releases, second.transcript.releases, strict=True):
        assert equal(dict(a.tensors), dict(b.tensors))


def test_clients_release_their_histogram_and_nothing_else() -> None:
    (outcome,) = run(SHORT, world(), [federation(0)])
    sent = [r for r in outcome.transcript.releases if r.sender.startswith("client")]
    assert {(r.kind, r.name) for r in sent} == {("counts", VOTES)}
    assert len(named(outcome, "candidates")) == 3
    checked = {a.name: a.verified for a in outcome.ledger.checked}
    assert checked["each record contributes at most 1"]


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"ipc": 0}, r"expected ipc in \[1, 12\], the candidates, got ipc=0"),
        ({"ipc": 13}, r"expected ipc in \[1, 12\], the candidates, got ipc=13"),
        ({"spread": -1.0}, "expected spread >= 0, got spread=-1.0"),
        ({"threshold": float("nan")}, "expected threshold >= 0, got threshold=nan"),
    ],
)
def test_bad_knobs_are_refused(change: dict[str, float], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        replace(SHORT, **change)  # type: ignore[arg-type]
