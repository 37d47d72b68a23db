"""Model inspection: flags crafted models, lets honest ones pass, and leaves a refused client silent."""

from __future__ import annotations

import math
from dataclasses import replace
from functools import lru_cache

import pytest
import torch
from scipy.stats import beta
from torch.nn import functional as F

from attacks.fishing import Fishing
from attacks.imprint import Imprint
from attacks.label_fishing import LabelFishing
from attacks.loki import Loki
from attacks.trap_weights import TrapWeights
from defenses.dp_sgd import DpSgd
from defenses.model_inspection import STATISTICS, Inspection, ModelInspection, inspect, measure, per_record
from privfed.hooks import Hooks, apply_local
from privfed.nets import NetSpec, Params, initial, module_of, representation_of
from privfed.randomness import Stream
from privfed.records import Records
from privfed.training import Recipe, Task, train
from tests.attacks.crafted import SPEC, digits, drawn, public, start

LOCAL = Recipe(epochs=5, batch=16, lr=0.1)
FAMILIES = (
    SPEC,
    NetSpec("mlp", channels=1, size=8, classes=2, hidden=(16, 8)),
    NetSpec("convnet", channels=1, size=8, classes=10, width=8, depth=2),
    NetSpec("cnn", channels=1, size=16, classes=3, hidden=(2, 3, 6, 5)),
    NetSpec("lstm", channels=5, size=4, classes=2, hidden=(6, 8)),
    NetSpec("linear", channels=1, size=1, classes=3, width=7),
)


def crafted(seed: int, own: Records) -> dict[str, Params]:
    known, first, stream = public(), start(seed), Stream(seed)
    return {
        "imprint": Imprint().craft(SPEC, known, first, stream),
        "trap": TrapWeights().craft(SPEC, known, first, stream),
        "fishing": Fishing(int(own.labels[0])).craft(SPEC, known, first, stream),
        "feature": Fishing(3, cutoff=0.1).craft(SPEC, known, first, stream),
        "loki": Loki().craft(SPEC, known, first, stream, 1, 4),
        "labels": LabelFishing().craft(SPEC, known, first, stream, 1, 4),
    }


def noisy(model: Params, seed: int) -> Params:
    """With 1 per cent of each tensor's root mean square added as noise, so that nothing is equal any more."""
    generator = torch.Generator().manual_seed(seed)
    return {
        k: t + 0.01 * t.square().mean().sqrt() * torch.randn(t.shape, generator=generator)
        for k, t in model.items()
    }


@lru_cache(maxsize=4)
def federation(seed: int, rounds: int = 2) -> tuple[tuple[Params, ...], tuple[Records, ...]]:
    """Honest broadcasts of a federation of four clients, some of them with two labels only."""
    own = drawn(400, seed)
    clients = [own.take((own.labels % 5 == k).nonzero()[:32, 0]) for k in range(2)]
    clients += [own.take(torch.arange(200 + 32 * k, 232 + 32 * k)) for k in range(2)]
    sent = [start(seed)]
    for r in range(rounds):
        tasks = [Task(SPEC, sent[-1], o, LOCAL, Stream(seed, (r, k))) for k, o in enumerate(clients)]
        after = train(tasks, "stacked")
        sent.append({k: torch.stack([a[k] for a in after]).mean(0) for k in sent[-1]})
    return tuple(sent), tuple(clients)


@pytest.mark.parametrize("n", [8, 64])
@pytest.mark.parametrize("jitter", [False, True])
def test_every_crafted_model_is_flagged_by_structure_and_by_novelty(n: int, jitter: bool) -> None:
    for seed in range(3):
        own = drawn(n, seed)
        for name, model in crafted(seed, own).items():
            received = noisy(model, seed) if jitter else model
            found = inspect(SPEC, received, start(seed), own, Stream(seed))
            assert "novelty" in found.flags, (name, seed, found)
            # Rows of zeros are alike; with noise on them they are not, and other rows have to show it.
            assert jitter or "alike" in found.flags, (name, seed, found)
            assert len(found.flags) >= 2, (name, seed, found)


def test_crafted_models_are_flagged_in_the_first_round_too() -> None:
    own = drawn(16, 0)
    for name, model in crafted(0, own).items():
        found = inspect(SPEC, model, None, own, Stream(0))
        assert math.isnan(found.statistics["novelty"])
        assert "alike" in found.flags, name


def test_honest_broadcasts_are_not_flagged_over_many_federations() -> None:
    """One look in each of 24 federations, in rounds 0, 1 and 2 in turn: all pass.

    No flag in 24 independent looks bounds the rate of false alarms by 11.7 % (Clopper-Pearson, 95 %, one
    side); the slow test takes the bound further down.
    """
    flagged = sum(bool(look(seed).flags) for seed in range(24))
    assert flagged == 0
    assert beta.ppf(0.95, 1, 24) == pytest.approx(0.117, abs=5e-4)


@pytest.mark.slow
def test_the_rate_of_false_alarms_is_below_one_and_a_half_per_cent() -> None:
    """One look in each of 300 federations; 0 flags of 300 bound the rate by 1.0 %, 1 flag by 1.6 %."""
    flagged = sum(bool(look(seed).flags) for seed in range(300))
    assert beta.ppf(0.95, flagged + 1, 300 - flagged) < 0.015


def look(seed: int) -> Inspection:
    sent, clients = federation(seed)
    r = seed % 3
    before = sent[r - 1] if r else None
    return inspect(SPEC, sent[r], before, clients[seed % 4], Stream(seed, ("look",)))


@pytest.mark.parametrize("spec", FAMILIES, ids=lambda s: f"{s.family}-{s.classes}")
def test_fresh_and_trained_nets_of_every_family_pass(spec: NetSpec) -> None:
    generator = Stream(5, (spec.family,)).torch()
    own = Records(
        torch.randn(20, *spec.input_shape, generator=generator).clamp(-1, 1), torch.arange(20) % spec.classes
    )
    first = initial(spec, generator)
    (after,) = train([Task(spec, first, own, Recipe(3, 10, 0.1), Stream(5))])
    assert inspect(spec, first, None, own, Stream(6)).flags == ()
    assert inspect(spec, after, first, own, Stream(6)).flags == ()


@pytest.mark.parametrize("spec", FAMILIES, ids=lambda s: f"{s.family}-{s.classes}")
def test_losses_and_gradients_are_those_of_single_records(spec: NetSpec) -> None:
    generator = Stream(7).torch()
    own = Records(torch.randn(4, *spec.input_shape, generator=generator), torch.arange(4) % spec.classes)
    params = initial(spec, generator)
    loss, gradient = per_record(spec, params, own)
    for i in range(4):
        net = module_of(spec, params)
        one = F.cross_entropy(net(own.inputs[i : i + 1]), own.labels[i : i + 1])
        (expected,) = torch.autograd.grad(one, [next(net.parameters())])
        assert float(loss[i]) == pytest.approx(float(one.detach()), rel=1e-4)
        assert torch.allclose(gradient[i], expected.flatten(1), atol=1e-5)


def test_statistics_by_hand() -> None:
    spec = NetSpec("linear", 1, 1, 3, width=2)
    params = {"0.weight": torch.tensor([[1.0, 0.0], [0.6, 0.8], [-1.0, 0.0]]), "0.bias": torch.zeros(3)}
    own = Records(torch.tensor([[0.0, 0.0], [0.0, 0.0]]), torch.tensor([0, 1]))
    found = measure(spec, params, {k: -t for k, t in params.items()}, own)
    assert found["alike"] == pytest.approx(0.6)
    assert found["novelty"] == pytest.approx(2)
    assert found["loss"] == pytest.approx(math.log(3))
    assert math.isnan(found["dominance"]), "no gradient at all"
    assert found["lone"] == 0
    one = replace(own, inputs=torch.tensor([[0.0, 0.0], [1.0, 1.0]]))
    found = measure(spec, params, None, one)
    assert found["dominance"] == pytest.approx(1)
    assert found["lone"] == 1
    zeros = {**params, "0.weight": torch.tensor([[1.0, 0.0], [0.0, 0.0], [0.0, 0.0]])}
    assert measure(spec, zeros, None, own)["alike"] == 1


def test_thresholds_come_from_honest_models_alone() -> None:
    own, stream = drawn(16, 0), Stream(0)
    first, second = (
        inspect(SPEC, m, None, own, stream).thresholds for m in (start(), crafted(0, own)["imprint"])
    )
    assert {k: v for k, v in first.items() if k != "novelty"} == {
        k: v for k, v in second.items() if k != "novelty"
    }
    assert set(first) == set(STATISTICS)
    honest = [measure(SPEC, initial(SPEC, stream.child("initial", i).torch()), None, own) for i in range(16)]
    assert first["loss"] == pytest.approx(2 * max(h["loss"] for h in honest))
    assert first["alike"] == pytest.approx((1 + max(h["alike"] for h in honest)) / 2)


def test_a_representation_alone_is_looked_at_as_far_as_it_goes() -> None:
    own = drawn(8, 0)
    honest = representation_of(SPEC, start())
    found = inspect(SPEC, honest, None, own, Stream(0))
    assert found.flags == ()
    assert math.isnan(found.statistics["loss"])
    bad = representation_of(SPEC, crafted(0, own)["imprint"])
    assert inspect(SPEC, bad, None, own, Stream(0)).flags == ("alike",)


def test_a_client_without_records_looks_at_the_structure() -> None:
    own = drawn(0, 0)
    assert inspect(SPEC, start(), None, own, Stream(0)).flags == ()
    assert "alike" in inspect(SPEC, crafted(0, drawn(8, 0))["trap"], None, own, Stream(0)).flags


def sent_back(task: Task, *others: object) -> Params:
    hooks = Hooks(tasks=(ModelInspection(weights_only=bool(others)),), local=others[0] if others else None)  # type: ignore[arg-type]
    return apply_local(hooks, [task], train)[0].value


def test_a_flagged_model_is_sent_back_as_it_came_and_an_honest_one_is_trained() -> None:
    own = drawn(16, 0)
    for name, model in crafted(0, own).items():
        after = sent_back(Task(SPEC, model, own, LOCAL, Stream(0)))
        assert all(torch.equal(after[k], model[k]) for k in model), name
        found = Imprint().recover(SPEC, model, after)
        assert len(found.inputs) == 0, name
    honest = Task(SPEC, start(), own, LOCAL, Stream(0))
    plain, after = train([honest])[0], sent_back(honest)
    assert all(torch.equal(after[k], plain[k]) for k in plain)


def test_beside_dp_sgd_a_refusal_is_noise_alone() -> None:
    model, noise = crafted(0, drawn(16, 0))["imprint"], DpSgd(1.0, 1.0, 0.5, 2, 8.0, 0.1)
    one, other = (
        sent_back(Task(SPEC, model, own, LOCAL, Stream(3)), noise) for own in (drawn(16, 0), drawn(9, 4))
    )
    assert all(torch.equal(one[k], other[k]) for k in model), "whatever the records are"
    assert any(not torch.equal(one[k], model[k]) for k in model)


def test_weights_alone_say_the_same_whatever_the_records_are() -> None:
    """A model of which only records could tell: honest but for a bias that makes it sure of one label."""
    sure = {**start(), "3.bias": torch.nn.functional.one_hot(torch.tensor(0), 10) * 30.0}
    own = drawn(16, 0)
    task = Task(SPEC, sure, own.take(own.labels != 0), LOCAL, Stream(0))
    assert len(ModelInspection().adapt(task).records) == 0
    assert ModelInspection(weights_only=True).adapt(task) is task
    assert ModelInspection().decides_on_records
    assert not ModelInspection(weights_only=True).decides_on_records


def test_a_teacher_goes_with_its_records() -> None:
    own = digits().take(torch.arange(12))
    teacher = torch.randn(12, 128, generator=torch.Generator().manual_seed(0))
    task = Task(SPEC, crafted(0, own)["loki"], own, LOCAL, Stream(0), teacher=teacher)
    adapted = ModelInspection().adapt(task)
    assert len(adapted.records) == 0
    assert adapted.teacher is not None
    assert len(adapted.teacher) == 0


def test_fewer_than_two_honest_models_are_refused() -> None:
    with pytest.raises(ValueError, match="expected initialisations >= 2, got initialisations=1"):
        ModelInspection(1)
