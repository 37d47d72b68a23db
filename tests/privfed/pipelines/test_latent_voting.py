"""Votes on candidates: what one record adds, who wins, and that nothing else depends on the records."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch
from dp_accounting import GaussianDpEvent
from hypothesis import given
from hypothesis import settings as hypothesis_settings
from hypothesis import strategies as st

from defenses.dp_fedavg import DpFedAvg
from defenses.noisy_sum import NoisySum
from defenses.secure_aggregation import SecureAggregation
from privfed.accounting import epsilon
from privfed.claims import EVERYBODY
from privfed.federation import run
from privfed.hooks import Hooks
from privfed.ledger import claims
from privfed.pipelines.interface import ClientJob, ServerState, World
from privfed.pipelines.latent_voting import OPEN, VOTES, LatentVoting
from privfed.randomness import Stream
from privfed.records import Records
from privfed.release import AGGREGATOR, SERVER, Release
from privfed.training import Recipe
from tests.privfed.pipelines.worlds import SIZES, SURROGATE, equal, federation, named, noise, prior, world

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
    told = SHORT.announce(world(), state()).tensors
    chosen = torch.tensor([3, 6])
    votes = votes_of(Records(told["inputs"][chosen], told["labels"][chosen]))
    assert votes.nonzero().tolist() == [[2, 6], [3, 3]]


def test_a_record_that_is_a_candidate_of_another_label_votes_for_one_of_its_own() -> None:
    told = SHORT.announce(world(), state()).tensors
    votes = votes_of(Records(told["inputs"][[3]], torch.tensor([1])))
    ((row, column),) = votes.nonzero().tolist()
    assert row == 1
    assert int(told["labels"][column]) == 1


def without_labels() -> World:
    """A prior with one Gaussian for all: its latents belong to no class."""
    known = prior()
    pooled = replace(known, mean=known.mean[:1], factor=known.factor[:1])
    return world(prior=pooled, public_labelled=False)


def test_candidates_of_no_label_are_open_to_all_and_get_theirs_by_winning() -> None:
    here = without_labels()
    (start,) = SHORT.init(here, [Stream(0, ("init",))])
    told = SHORT.announce(here, start).tensors
    assert told["labels"].tolist() == [OPEN] * 12
    records = Records(told["inputs"][[5, 5]], torch.tensor([0, 3]))
    (message,) = SHORT.client_round(here, [ClientJob(0, 0, dict(told), records, Stream(1))])
    votes = message.releases[0].tensors[VOTES]
    assert votes.nonzero().tolist() == [[0, 5], [3, 5]]
    (after,) = SHORT.server_round(here, [start], [message.releases], [Stream(2)])
    again = SHORT.announce(here, after).tensors
    assert again["labels"].tolist() == [0, 0, 1, 1, 2, 2, 3, 3, 0, 0, 1, 1]
    assert torch.equal(again["inputs"][[0, 6]], told["inputs"][[5, 5]])


def test_there_must_be_more_candidates_than_winners() -> None:
    with pytest.raises(
        ValueError, match="expected candidates > 8, the winners of 4 classes, got candidates=8"
    ):
        replace(SHORT, candidates=8).init(world(), [Stream(0)])
    assert len(replace(SHORT, candidates=9).init(world(), [Stream(0)])) == 1


def test_noise_cannot_make_a_candidate_win_for_another_label() -> None:
    """Whatever the votes, in a world whose prior knows the labels."""
    votes = 100 * torch.randn(SURROGATE.classes, 12, generator=Stream(5).torch())
    told = SHORT.announce(world(), state()).tensors
    made = decide(votes).synthetic
    assert made is not None
    for image, label in zip(made.inputs, made.labels, strict=True):
        assert int(told["labels"][(told["inputs"] == image).flatten(1).all(1)]) == int(label)


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
    votes[0, [4, 8]] = torch.tensor([5.0, 7.0])
    after = decide(votes)
    assert after.synthetic is not None
    decoded = SHORT.announce(world(), state()).tensors["inputs"]
    assert torch.equal(after.synthetic.inputs[:2], decoded[[8, 4]])
    assert after.synthetic.labels.tolist() == [0, 0, 1, 1, 2, 2, 3, 3]
    again = SHORT.announce(world(), after).tensors["inputs"]
    assert torch.equal(again[:8], after.synthetic.inputs), "winners as they are"
    assert len(again) == 12
    assert not torch.equal(again[8], again[0]), "then varied ones"


def test_entries_below_the_threshold_count_for_nothing() -> None:
    votes = torch.zeros(SURROGATE.classes, 12)
    votes[0, 8] = 3.0
    kept, dropped = (decide(votes, replace(SHORT, threshold=t)).synthetic for t in (2.0, 3.0))
    decoded = SHORT.announce(world(), state()).tensors["inputs"]
    assert kept is not None
    assert dropped is not None
    assert torch.equal(kept.inputs[0], decoded[8])
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


def test_noise_at_the_clients_is_paid_in_every_round_and_holds_against_everybody() -> None:
    (outcome,) = run(SHORT, world(hooks=Hooks(uplink=(NoisySum(3.0),))), [federation(0)])
    (found,) = claims(outcome.ledger, 1e-5)
    assert (found.unit, found.neighbouring, found.against) == ("record", "add_or_remove_one", EVERYBODY)
    assert found.epsilon == pytest.approx(epsilon([GaussianDpEvent(3.0)] * 2, 1e-5))
    assert found.verified, [a for a in found.assumptions if not a.verified]


@pytest.mark.parametrize("hidden", [False, True])
def test_noise_on_the_sum_is_about_clients_and_holds_against_the_server_where_it_sees_no_single_one(
    hidden: bool,
) -> None:
    hook = DpFedAvg(noise_multiplier=2.0, clip=1.0, expected_clients=float(len(SIZES)))
    hooks = Hooks(uplink=(hook,), aggregate=(hook, SecureAggregation(2)) if hidden else (hook,))
    (outcome,) = run(SHORT, world(hooks=hooks), [federation(0)])
    (found,) = claims(outcome.ledger, 1e-5)
    assert (found.unit, found.neighbouring) == ("client", "add_or_remove_one")
    assert found.against == (EVERYBODY if hidden else ("clients", "outsiders"))
    assert found.verified, [a for a in found.assumptions if not a.verified]


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
