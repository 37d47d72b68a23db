"""Secure aggregation: the server sees a sum over enough clients, and nothing is promised for it."""

from __future__ import annotations

import pytest
import torch

from defenses.secure_aggregation import TRUSTED, SecureAggregation
from privfed.federation import run
from privfed.hooks import Hooks, Spent
from privfed.ledger import claims
from privfed.pipelines.fedavg import FedAvg
from privfed.randomness import Stream
from privfed.release import Observer
from privfed.training import Recipe
from tests.privfed.pipelines.worlds import federation, world

TOTAL = {"w": torch.arange(3.0)}
BRIEF = FedAvg(2, Recipe(epochs=1, batch=5, lr=0.1), "equal")


def test_the_sum_passes_as_it_is_and_says_what_is_taken_on_trust() -> None:
    assert SecureAggregation(2).aggregate(TOTAL, 2, Stream(0)) == Spent(TOTAL, None, outside=(TRUSTED,))


def test_a_sum_over_too_few_is_not_shown() -> None:
    with pytest.raises(ValueError, match="expected at least 3 clients in a sum, got clients=2"):
        SecureAggregation(3).aggregate(TOTAL, 2, Stream(0))


@pytest.mark.parametrize("minimum", [1, 0, -3])
def test_a_sum_of_one_hides_nothing(minimum: int) -> None:
    with pytest.raises(ValueError, match=f"expected minimum >= 2, got minimum={minimum}"):
        SecureAggregation(minimum)


def test_the_server_sees_sums_alone_and_gets_as_far() -> None:
    hooks = Hooks(aggregate=(SecureAggregation(3),))
    hidden, plain = (run(BRIEF, world(hooks=h), [federation(0)])[0] for h in (hooks, Hooks()))
    seen = {r.name for r in hidden.transcript.view(Observer("server")).releases}
    assert "aggregate" in seen
    assert "update" not in seen
    assert all(torch.allclose(t, hidden.large[k], atol=1e-5) for k, t in plain.large.items())


def test_hiding_is_no_guarantee() -> None:
    (outcome,) = run(BRIEF, world(hooks=Hooks(aggregate=(SecureAggregation(2),))), [federation(0)])
    assert outcome.ledger.hidden
    assert claims(outcome.ledger, 1e-5) == ()


def test_a_round_with_fewer_clients_stops_the_run() -> None:
    hooks = Hooks(aggregate=(SecureAggregation(4),))
    with pytest.raises(ValueError, match="expected at least 4 clients in a sum, got clients=3"):
        run(BRIEF, world(hooks=hooks), [federation(0)])
