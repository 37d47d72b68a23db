"""Noise on a published synthetic set: it is noise, and it is no guarantee, whatever stands beside it."""

from __future__ import annotations

import inspect
import math
from dataclasses import dataclass, replace
from typing import Any

import pytest
import torch
from dp_accounting import GaussianDpEvent
from scipy import stats

from defenses.dp_fedavg import DpFedAvg
from defenses.dp_sgd import DpSgd
from defenses.local_noise import LocalNoise
from defenses.noisy_latents import NoisyLatents
from privfed.federation import run
from privfed.hooks import Hooks, Spent
from privfed.ledger import PUBLICATION, Ledger, claims
from privfed.pipelines.interface import World
from privfed.randomness import Stream
from privfed.release import Release
from tests.privfed.echo import WORLD, Echo, federation

SET = Release(
    3,
    "server",
    "public",
    "synthetic",
    "synthetic",
    {"inputs": torch.zeros(50, 1, 4, 4), "labels": torch.arange(50) % 3},
)
LATENTS = replace(SET, kind="latents", name="latents", tensors={"z": torch.ones(40, 8)})


@pytest.mark.parametrize(("release", "values"), [(SET, "inputs"), (LATENTS, "z")], ids=["images", "latents"])
def test_values_get_gaussian_noise_and_labels_stay(release: Release, values: str) -> None:
    spent = NoisyLatents(0.3).release(release, Stream(0))
    noise = (spent.value.tensors[values] - release.tensors[values]).flatten() / 0.3
    assert stats.kstest(noise.numpy(), "norm").pvalue > 0.01
    assert spent.value.tensors[values].dtype == torch.float32
    assert torch.equal(SET.tensors["inputs"], torch.zeros(50, 1, 4, 4))
    if "labels" in release.tensors:
        assert spent.value.tensors["labels"] is release.tensors["labels"]
    assert replace(spent.value, tensors={}) == replace(release, tensors={})


def test_the_model_stays_as_it_is() -> None:
    model = replace(SET, kind="weights", name="large", tensors={"w": torch.ones(3)})
    assert NoisyLatents(0.3).release(model, Stream(0)).value is model


@pytest.mark.parametrize("deviation", [0.0, 0.1, 1e9])
def test_its_entry_in_the_ledger_is_none(deviation: float) -> None:
    """However large the noise: there is no sensitivity to set it against."""
    spent = NoisyLatents(deviation).release(SET, Stream(0))
    assert spent.event is None
    assert spent.charges == ()
    ledger = Ledger().publish(spent, Stream(0))
    assert ledger.published == {PUBLICATION: ((),)}
    assert claims(ledger, 1e-5, accountant="rdp") == ()


def against_outsiders_alone(ledger: Ledger) -> list[Any]:
    """Claims that rest on noise at publication."""
    return [c for c in claims(ledger, 1e-5, accountant="rdp") if c.against == ("outsiders",)]


@pytest.mark.parametrize(
    ("others", "against"),
    [
        (Hooks(), []),
        (Hooks(aggregate=(DpFedAvg(1.0, 1.0, 2.0),)), [("clients", "outsiders")]),
        (Hooks(uplink=(LocalNoise(1.0, 1.0),)), [("server", "clients", "outsiders")]),
    ],
    ids=["alone", "beside noise on sums", "beside noise at clients"],
)
def test_an_epsilon_elsewhere_in_the_plan_earns_it_nothing(
    others: Hooks, against: list[tuple[str, ...]]
) -> None:
    """Each claim is there with and without it, to the last digit, and none is on what was published."""
    found = []
    for release in ((), (NoisyLatents(0.5),)):
        ledger = filled(replace(others, release=release))
        assert against_outsiders_alone(ledger) == []
        found.append(claims(ledger, 1e-5, accountant="rdp"))
    assert found[0] == found[1]
    assert [c.against for c in found[1]] == against


def filled(hooks: Hooks) -> Ledger:
    """Two clients' round with those hooks, and what is published after it."""
    ledger, start = Ledger(), {"w": torch.zeros(3)}
    for client in range(2):
        for hook in hooks.uplink:
            stream = Stream(client, ("uplink",))
            ledger = ledger.spend(client, hook.uplink(start, {"w": torch.ones(3)}, stream), stream)
    for aggregate in hooks.aggregate:
        total = {"w": torch.full((3,), 0.5)}
        ledger = ledger.spend_on_sum([0, 1], aggregate.aggregate(total, 2, Stream(7)), Stream(7))
    for defense in hooks.release:
        ledger = ledger.publish(defense.release(SET, Stream(8)), Stream(8))
    return ledger


@dataclass(frozen=True, slots=True)
class _NoiseOnTheModel:
    """Stands for a release defence that earns its claim, on the model alone."""

    def release(self, release: Release, stream: Stream) -> Spent[Release]:
        return Spent(release, GaussianDpEvent(1.0) if release.name == "large" else None)


def test_one_guaranteed_release_does_not_lend_its_claim_to_the_set_beside_it() -> None:
    """In a whole federation that publishes a model with and a set without a guarantee."""
    world: World = replace(WORLD, hooks=Hooks(release=(_NoiseOnTheModel(), NoisyLatents(0.5))))
    (outcome,) = run(Echo(), world, [federation(0)])
    # Both releases have their entry; the set's is empty, and the outsider gets both.
    assert [len(entry) for entry in outcome.ledger.published[PUBLICATION]] == [1, 0]
    assert against_outsiders_alone(outcome.ledger) == []
    (plain,) = run(Echo(), WORLD, [federation(0)])
    assert claims(outcome.ledger, 1e-5, accountant="rdp") == claims(plain.ledger, 1e-5, accountant="rdp")


def test_what_is_noised_before_distilling_keeps_its_claim() -> None:
    """The other way round, as the documentation advises: the set is post-processing then."""
    dp = DpSgd(noise_multiplier=1.0, clip=1.0, sampling_rate=0.5, steps=3, expected_batch=4.0, lr=0.1)
    ledger = Ledger().spend(0, Spent({}, dp.event), Stream(0))
    with_noise = ledger.publish(NoisyLatents(0.5).release(SET, Stream(1)), Stream(1))
    (before,), (after,) = (claims(x, 1e-5, accountant="rdp") for x in (ledger, with_noise))
    assert (before.epsilon, before.against) == (after.epsilon, after.against)


def test_it_says_why() -> None:
    said = " ".join((inspect.getdoc(NoisyLatents) or "").split())
    assert "no guarantee at any deviation" in said
    assert "an arg-min has unbounded sensitivity" in said
    assert "noise the inputs" in said
    assert not hasattr(NoisyLatents, "for_epsilon")


def test_an_arg_min_moves_further_than_any_bound_by_one_record() -> None:
    """The mean of a cluster, by medians: one record more decides between minima any distance apart."""
    for distance in (1.0, 1e3, 1e9):
        private = torch.tensor([0.0] * 5 + [distance] * 5)
        choices = torch.tensor([0.0, distance])
        best = [
            choices[(choices[:, None] - records).abs().sum(1).argmin()]
            for records in (torch.cat([private, torch.tensor([x])]) for x in (0.0, distance))
        ]
        assert float(best[1] - best[0]) == distance


@pytest.mark.parametrize("deviation", [-1.0, math.inf, math.nan])
def test_deviation_out_of_range(deviation: float) -> None:
    with pytest.raises(ValueError, match=f"^expected a finite deviation >= 0, got deviation={deviation}$"):
        NoisyLatents(deviation)
