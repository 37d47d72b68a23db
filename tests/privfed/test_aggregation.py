"""The step between clients and server: what is added up, who sees it, and what it costs."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any

import pytest
import torch
from dp_accounting import GaussianDpEvent, PoissonSampledDpEvent

from privfed.aggregation import needs_each, sum_up, summed_names
from privfed.claims import EVERYBODY
from privfed.federation import run
from privfed.hooks import Hooks, Spent
from privfed.ledger import claims
from privfed.nets import Params
from privfed.pipelines.fedavg import FedAvg
from privfed.pipelines.fedbkd import FedBKD
from privfed.pipelines.feddgm import FedDGM
from privfed.pipelines.fedrep import FedRep
from privfed.pipelines.interface import Pipeline
from privfed.pipelines.local_only import LocalOnly
from privfed.pipelines.twin import Twin
from privfed.randomness import Stream
from privfed.release import AGGREGATOR, SERVER, Observer, Release, client_name
from privfed.training import Recipe
from tests.privfed.pipelines.worlds import (
    SIZES,
    assert_params_close,
    double_precision,
    federation,
    named,
    small,
    updates,
    world,
)

START = {"w": torch.tensor([1.0, 2.0])}


def sent(client: int, value: list[float], name: str = "update") -> Release:
    return Release(3, client_name(client), SERVER, "weights", name, {"w": torch.tensor(value)}, client)


@dataclass(frozen=True)
class Sum:
    """Adds a number to the sum, which is public knowledge here, and says what it is told."""

    added: float = 0.0
    hides_updates: bool = False
    expected_clients: float | None = None
    poisson: bool = False
    event: Any = None

    def aggregate(self, total: Params, clients: int, stream: Stream) -> Spent[Params]:
        value = {k: t + self.added for k, t in total.items()}
        return Spent(value, self.event, unit="client")


def test_the_sum_of_changes_moves_the_start_by_their_mean() -> None:
    inbox = [sent(0, [2.0, 2.0]), sent(1, [4.0, 0.0])]
    found = sum_up(Hooks(aggregate=(Sum(),)), ("update",), START, inbox, 2, 3, Stream(0))
    (made,) = found.inbox
    assert made.tensors["w"].tolist() == [3.0, 1.0]
    assert (made.round, made.sender, made.receiver, made.name, made.about) == (
        3,
        AGGREGATOR,
        SERVER,
        "update",
        None,
    )
    (shown,) = found.shown
    assert (shown.name, shown.kind) == ("aggregate", "weights")


def test_a_stated_divisor_takes_the_place_of_the_number_of_clients() -> None:
    hooks = Hooks(aggregate=(Sum(added=8.0, expected_clients=4.0),))
    found = sum_up(hooks, ("update",), START, [sent(0, [2.0, 2.0])], 1, 0, Stream(0))
    assert found.inbox[0].tensors["w"].tolist() == [1 + 9 / 4, 2 + 8 / 4]
    nobody = sum_up(hooks, ("update",), START, [], 0, 0, Stream(0))
    assert nobody.inbox[0].tensors["w"].tolist() == [3.0, 4.0], "noise alone moves the start"


def test_what_was_not_broadcast_counts_from_zero_and_other_mail_passes() -> None:
    label = Release(0, client_name(0), SERVER, "label_set", "labels", {"labels": torch.tensor([1])}, 0)
    inbox = [sent(0, [2.0, 4.0], "votes"), sent(1, [2.0, 0.0], "votes"), label]
    found = sum_up(Hooks(aggregate=(Sum(),)), ("votes",), {}, inbox, 2, 0, Stream(0))
    votes = next(r for r in found.inbox if r.name == "votes")
    assert votes.tensors["w"].tolist() == [2.0, 2.0]
    assert label in found.inbox
    assert [r.name for r in found.shown] == ["aggregate_votes"]


SUMMABLE: list[Pipeline] = [
    FedAvg(weighting="equal"),
    FedDGM(target="aggregate"),
    FedRep(),
    FedBKD(side="client", share_heads=False, global_head="federated"),
]


@pytest.mark.parametrize("pipeline", SUMMABLE, ids=lambda p: type(p).__name__)
def test_a_server_given_the_sum_alone_gets_as_far(pipeline: Pipeline) -> None:
    with double_precision():
        plain, hidden = (
            run(small(pipeline), replace(world(), hooks=hooks), [federation(0)])[0]
            for hooks in (Hooks(), Hooks(aggregate=(Sum(hides_updates=True),)))
        )
    assert_params_close(plain.large, hidden.large)
    assert_params_close(plain.surrogate, hidden.surrogate)
    assert needs_each(pipeline) == ""


@pytest.mark.parametrize("pipeline", SUMMABLE, ids=lambda p: type(p).__name__)
def test_hidden_updates_are_seen_by_nobody_but_their_clients(pipeline: Pipeline) -> None:
    (outcome,) = run(
        small(pipeline), world(hooks=Hooks(aggregate=(Sum(hides_updates=True),))), [federation(0)]
    )
    names = summed_names(pipeline)
    server = outcome.transcript.view(Observer("server"))
    assert not [r for r in server.releases if r.name in names]
    assert [r for r in server.releases if r.name == "aggregate"]
    assert not [r for r in server.releases if r.about is not None]
    own = outcome.transcript.view(Observer("client", 1))
    assert {r.about for r in own.releases if r.name in names} == {1}
    stranger = outcome.transcript.view(Observer("outsider"))
    assert not [r for r in stranger.releases if r.name in (*names, "aggregate")]


def test_without_hiding_the_server_sees_updates_and_sum() -> None:
    (outcome,) = run(
        small(FedAvg(weighting="equal")), world(hooks=Hooks(aggregate=(Sum(),))), [federation(0)]
    )
    server = outcome.transcript.view(Observer("server"))
    assert len([r for r in server.releases if r.name == "update"]) == 2 * len(SIZES)
    assert len([r for r in server.releases if r.name == "aggregate"]) == 2


def test_the_aggregate_variant_distils_one_set_a_round_that_is_nobody_s() -> None:
    (outcome,) = run(small(FedDGM(target="aggregate")), world(), [federation(0)])
    made = named(outcome, "latents")
    assert [r.round for r in named(outcome, "bank")] == [0, 1]
    assert not named(outcome, "client_images")
    assert [(r.round, r.about) for r in made] == [(0, None), (1, None)]
    assert len(updates(outcome)) == 2 * len(SIZES)


@pytest.mark.parametrize(
    ("pipeline", "reason"),
    [
        (FedDGM(), "target 'aggregate'"),
        (FedBKD(), "side 'client'"),
        (FedBKD(side="client"), "share_heads false"),
        (FedRep(share_heads=True), "share_heads false"),
        (LocalOnly(), "send nothing"),
        (Twin(), "control"),
    ],
)
def test_a_pipeline_that_needs_single_updates_says_so(pipeline: Pipeline, reason: str) -> None:
    assert reason in needs_each(pipeline)


GAUSSIAN = GaussianDpEvent(5.0)


def spent_on(hook: Sum, fraction: float = 1.0, rounds: int = 2) -> Any:
    pipeline = FedAvg(rounds, Recipe(epochs=1, batch=5, lr=0.1), "equal", fraction)
    (outcome,) = run(pipeline, world(hooks=Hooks(aggregate=(hook,))), [federation(0, (3,) * 6)])
    return outcome.ledger


def test_noise_on_the_sum_is_charged_to_those_who_were_in_it() -> None:
    ledger = spent_on(Sum(event=GAUSSIAN), fraction=0.5)
    assert sum(map(len, ledger.central.values())) == 6
    assert {c.event for one in ledger.central.values() for charges in one for c in charges} == {GAUSSIAN}
    (claim,) = claims(ledger, 1e-5)
    assert (claim.unit, claim.against) == ("client", ("clients", "outsiders"))


def test_under_sampling_everybody_is_charged_for_every_round() -> None:
    sampled = PoissonSampledDpEvent(0.5, GAUSSIAN)
    hook = Sum(event=sampled, poisson=True, expected_clients=3.0)
    ledger = spent_on(hook, fraction=0.5, rounds=5)
    assert {k: len(v) for k, v in ledger.central.items()} == dict.fromkeys(range(6), 5)
    sizes = {len(v) for v in ledger.uplink.values()}
    assert len(sizes) > 1 or sizes == {5}, "but not everybody took part in every round"


def test_hidden_updates_let_the_claim_hold_against_the_server() -> None:
    ledger = spent_on(Sum(event=GAUSSIAN, hides_updates=True))
    (claim,) = claims(ledger, 1e-5)
    assert claim.against == EVERYBODY


def test_a_sum_without_noise_supports_no_claim() -> None:
    assert claims(spent_on(Sum(hides_updates=True)), 1e-5) == ()
