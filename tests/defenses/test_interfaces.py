"""Defences that put the delivered model behind an interface, in federations and in an audit's books."""

from __future__ import annotations

import inspect
import math
from typing import Any

import pytest
import torch

from defenses.noisy_logits import NoisyLogits
from defenses.rounded_confidences import RoundedConfidences
from privfed.answers import Interface, answer, interface_of, labels_of, weights_of
from privfed.federation import Federation, Outcome, run
from privfed.hooks import Hooks, apply_release
from privfed.ledger import claims
from privfed.nets import NetSpec, initial
from privfed.pipelines.fedavg import FedAvg
from privfed.pipelines.fedrep import FedRep
from privfed.pipelines.interface import Pipeline, World
from privfed.randomness import Stream
from privfed.records import Records
from privfed.release import Observer, Release
from privfed.training import Recipe
from tests.privfed.training_twin import same

SPEC = NetSpec("mlp", channels=1, size=4, classes=3, width=6, depth=1)
OUTSIDER = Observer("outsider", holds=frozenset({"large"}))
SGD = Recipe(epochs=2, batch=4, lr=0.1)
PIPELINES: list[Any] = [FedAvg(rounds=2, local=SGD), FedRep(rounds=2, head=SGD, representation=SGD)]
every_pipeline = pytest.mark.parametrize("pipeline", PIPELINES, ids=lambda p: type(p).__name__)
HOOKS: list[Any] = [RoundedConfidences(2), NoisyLogits(0.5), NoisyLogits(0.0)]


def records(n: int, seed: int) -> Records:
    generator = torch.Generator().manual_seed(seed)
    return Records(torch.rand(n, 1, 4, 4, generator=generator), torch.randint(3, (n,), generator=generator))


def played(pipeline: Pipeline, *release: Any) -> Outcome:
    world = World(SPEC, SPEC, records(5, 9), public_labelled=False, hooks=Hooks(release=release))
    (outcome,) = run(pipeline, world, [Federation((records(8, 0), records(8, 1)), Stream(4))])
    return outcome


@every_pipeline
@pytest.mark.parametrize("hook", HOOKS, ids=repr)
def test_outsiders_get_answers_and_the_weights_stay_what_they_were(pipeline: Any, hook: Any) -> None:
    plain, served = played(pipeline), played(pipeline, hook)
    assert plain.answers is None
    assert same(plain.large, served.large)
    assert same(plain.surrogate, served.surrogate)
    assert served.answers is not None
    assert served.answers.kind == "answers"
    view = served.transcript.view(OUTSIDER)
    assert [(r.kind, dict(r.tensors)) for r in view.releases] == [("answers", {})]
    inputs = records(6, 2).inputs
    asked = view.ask("large", inputs, Stream(1))
    assert torch.equal(asked, answer(SPEC, served.answers, inputs, Stream(1)))
    assert asked.shape == (6, 3)
    (handed,) = plain.transcript.view(OUTSIDER).select("weights", "large")
    assert same(weights_of(handed), plain.large)


@every_pipeline
@pytest.mark.parametrize("hook", HOOKS, ids=repr)
def test_neither_makes_a_claim(pipeline: Any, hook: Any) -> None:
    assert claims(played(pipeline, hook).ledger, 1e-5, accountant="rdp") == ()


def test_both_together_add_noise_and_then_round() -> None:
    large = Release(
        0, "server", "public", "weights", "large", initial(SPEC, torch.Generator().manual_seed(0))
    )
    for order in (HOOKS[:2], HOOKS[1::-1]):
        both = apply_release(Hooks(release=tuple(order)), large, Stream(0)).value
        found = interface_of(both)
        assert (found.decimals, found.deviation) == (2, 0.5)


def test_noise_has_a_seed_of_its_own_in_every_federation() -> None:
    large = Release(
        0, "server", "public", "weights", "large", initial(SPEC, torch.Generator().manual_seed(0))
    )
    seeds = {interface_of(NoisyLogits(0.5).release(large, Stream(s)).value).seed for s in range(5)}
    assert len(seeds) == 5
    exact = interface_of(RoundedConfidences(2).release(large, Stream(0)).value)
    assert exact == Interface(decimals=2)


@pytest.mark.parametrize("hook", HOOKS, ids=repr)
def test_what_is_not_the_delivered_model_is_left_alone(hook: Any) -> None:
    other = Release(0, "server", "public", "synthetic", "synthetic", {"inputs": torch.zeros(2, 1, 4, 4)})
    spent = hook.release(other, Stream(0))
    assert spent.value is other
    assert spent.event is None


def test_accuracy_falls_with_noise_as_answers_do() -> None:
    """At a deviation far above the logits the labels are guesses: a third of them stay, give or take."""
    served = played(PIPELINES[0], NoisyLogits(1e6))
    inputs = records(900, 3).inputs
    assert served.answers is not None
    named = labels_of(answer(SPEC, served.answers, inputs, Stream(0)))
    shares = torch.bincount(named, minlength=3) / 900
    assert torch.allclose(shares, torch.full((3,), 1 / 3), atol=0.06)


@pytest.mark.parametrize("decimals", [-1, 10])
def test_decimals_out_of_range(decimals: int) -> None:
    with pytest.raises(ValueError, match=f"^expected decimals from 0 to 9, got decimals={decimals}$"):
        RoundedConfidences(decimals)


@pytest.mark.parametrize("deviation", [-1.0, math.inf, math.nan])
def test_deviation_out_of_range(deviation: float) -> None:
    with pytest.raises(ValueError, match=f"^expected a finite deviation >= 0, got deviation={deviation}$"):
        NoisyLogits(deviation)


def test_they_say_why_there_is_no_claim() -> None:
    said = {k: " ".join((inspect.getdoc(k) or "").split()) for k in (NoisyLogits, RoundedConfidences)}
    assert "no claim, however large the noise: queries are not limited" in said[NoisyLogits]
    assert "no claim: rounding is no noise" in said[RoundedConfidences]
