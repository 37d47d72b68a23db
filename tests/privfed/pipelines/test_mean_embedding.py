"""Mean embeddings: what one record adds, what is fitted to them, and with what privacy."""

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
from privfed.accounting import epsilon
from privfed.claims import EVERYBODY
from privfed.federation import run
from privfed.hooks import Hooks
from privfed.ledger import claims
from privfed.pipelines.mean_embedding import (
    EMBEDDING,
    MeanEmbedding,
    contributions,
    fourier,
    means,
)
from privfed.randomness import Stream
from privfed.records import Records
from privfed.training import Recipe
from tests.privfed.pipelines.worlds import SIZES, SURROGATE, federation, named, noise, world

SHORT = MeanEmbedding(features=40, ipc=3, steps=5, training=Recipe(epochs=1, batch=8, lr=0.1))
CLASSES = SURROGATE.classes


def frequencies(n: int = 40) -> torch.Tensor:
    return torch.randn(n, 64, generator=Stream(0).torch()) / 4


@hypothesis_settings(max_examples=20, deadline=None)
@given(st.integers(1, 8), st.floats(0.01, 100.0))
def test_every_record_contributes_a_norm_of_one(n: int, scale: float) -> None:
    records = noise(n, 1)
    each = contributions(Records(records.inputs * scale, records.labels), frequencies(), CLASSES)
    torch.testing.assert_close(each.flatten(1).norm(dim=1), torch.ones(n))
    rows = each.abs().sum(2).nonzero()[:, 1]
    assert torch.equal(rows, records.labels), "in the row of its label"


def test_the_mean_of_a_sum_is_the_mean_of_the_features() -> None:
    records, known = noise(40, 2), frequencies()
    found = means(contributions(records, known, CLASSES).sum(0))
    for c in range(CLASSES):
        wanted = fourier(records.inputs[records.labels == c], known).mean(0)
        torch.testing.assert_close(found[c], wanted)


def test_a_class_of_nobody_has_no_mean() -> None:
    only = noise(10, 3, classes=(1,))
    found = means(contributions(only, frequencies(), CLASSES).sum(0))
    assert found.abs().sum(1).gt(0).tolist() == [False, True, False, False]


def test_features_approximate_the_gaussian_kernel() -> None:
    """Inner products of features against the kernel itself, |x - y|^2 in units of the bandwidth 4."""
    records = noise(20, 4).inputs
    features = fourier(records, frequencies(20_000))
    kernel = (-torch.cdist(records.flatten(1), records.flatten(1)).square() / (2 * 16)).exp()
    assert float((features @ features.T - kernel).abs().max()) < 0.05


@pytest.mark.parametrize("prior", [True, False])
def test_more_steps_bring_the_embedding_nearer(prior: bool) -> None:
    here = world() if prior else world(prior=None)
    of = federation(0, (20, 20))
    gaps = []
    for steps in (0, 60):
        (outcome,) = run(replace(SHORT, steps=steps), here, [of])
        (made,) = named(outcome, "synthetic")
        known = named(outcome, "frequencies")[0].tensors["frequencies"]
        sent = torch.stack([r.tensors[EMBEDDING] for r in named(outcome, EMBEDDING)]).sum(0)
        own = Records(made.tensors["inputs"], made.tensors["labels"])
        gaps.append(float((means(contributions(own, known, CLASSES).sum(0)) - means(sent)).square().sum()))
    assert gaps[1] < 0.8 * gaps[0]


def test_rounds_add_up() -> None:
    pipeline = replace(SHORT, rounds=2, fraction=0.5)
    (outcome,) = run(pipeline, world(), [federation(0, (5, 5))])
    assert [r.round for r in named(outcome, EMBEDDING)] == [0, 1]
    assert outcome.surrogate is not None
    assert len(named(outcome, "synthetic")) == 1


def test_noise_on_the_sums_earns_a_claim_for_records_against_everybody() -> None:
    hooks = Hooks(uplink=(NoisySum(2.0),))
    (outcome,) = run(SHORT, world(hooks=hooks), [federation(0)])
    (found,) = claims(outcome.ledger, 1e-5)
    assert (found.unit, found.neighbouring, found.against) == ("record", "add_or_remove_one", EVERYBODY)
    assert found.epsilon == pytest.approx(epsilon([GaussianDpEvent(2.0)], 1e-5))
    assert found.verified, [a for a in found.assumptions if not a.verified]


def test_noise_on_their_sum_earns_a_claim_for_clients_against_those_behind_it() -> None:
    hook = DpFedAvg(noise_multiplier=2.0, clip=1.0, expected_clients=float(len(SIZES)))
    hooks = Hooks(uplink=(hook,), aggregate=(hook,))
    (outcome,) = run(SHORT, world(hooks=hooks), [federation(0)])
    (found,) = claims(outcome.ledger, 1e-5)
    assert (found.unit, found.against) == ("client", ("clients", "outsiders"))
    assert found.verified, [a for a in found.assumptions if not a.verified]


def test_a_sum_over_nobody_gets_its_noise_all_the_same() -> None:
    hook = DpFedAvg(noise_multiplier=2.0, clip=1.0, expected_clients=0.003, client_rate=0.001)
    hooks = Hooks(uplink=(hook,), aggregate=(hook,))
    (outcome,) = run(replace(SHORT, fraction=0.001), world(hooks=hooks), [federation(0)])
    (shown,) = named(outcome, f"aggregate_{EMBEDDING}")
    assert not named(outcome, EMBEDDING)
    assert float(shown.tensors[EMBEDDING].std()) > 0


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"features": 0}, "expected features >= 1, got features=0"),
        ({"ipc": 0}, "expected ipc >= 1, got ipc=0"),
        ({"bandwidth": 0.0}, "expected bandwidth > 0, got bandwidth=0.0"),
        ({"lr": 0.0}, "expected lr > 0, got lr=0.0"),
        ({"steps": -1}, "expected steps >= 0, got steps=-1"),
    ],
)
def test_bad_knobs_are_refused(change: dict[str, float], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        replace(SHORT, **change)  # type: ignore[arg-type]
