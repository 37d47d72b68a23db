"""Gradient ascent against the closed form of softmax regression, with a planted leak, and without."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import torch

from attacks.ascent import Ascent, CalibratedSnapBack, Recovery, SnapBack, aimed
from attacks.interface import Candidates, Floats, MembershipAttack, Signals
from attacks.lira import Lira
from privfed.nets import NetSpec, Params, initial, representation_of
from privfed.randomness import Stream
from privfed.records import Records
from privfed.release import SERVER, Observer, Release, Transcript, client_name
from privfed.training import Recipe, Task, train
from tests.attacks.federations import SPEC, candidates, noise, weights
from tests.attacks.malicious import coins, played, turn, views
from tests.attacks.simulation import auc, chance_width

CLASSES = 3
STEP, GAMMA = 0.3, 0.7
ATTACKS = (SnapBack(), CalibratedSnapBack(), CalibratedSnapBack(Recovery("loss")), Lira(Recovery()))


def softmax(z: Floats) -> Floats:
    shifted = np.exp(z - z.max(1, keepdims=True))
    return np.asarray(shifted / shifted.sum(1, keepdims=True))


def nats(z: Floats, labels: np.ndarray[tuple[int], np.dtype[np.int64]]) -> Floats:
    return np.asarray(-np.log(softmax(z)[np.arange(len(z)), labels]))


class Regression:
    """Softmax regression on n records, of which the client holds some: everything by hand."""

    def __init__(self, inputs: torch.Tensor, labels: torch.Tensor, held: int) -> None:
        self.records, self.held = Records(inputs, labels), held
        self.spec = NetSpec("linear", 1, 1, CLASSES, inputs.shape[1])
        self.start: Params = initial(self.spec, torch.Generator().manual_seed(0))
        self.products = (inputs @ inputs.T + 1).double().numpy()  # 1 for the bias
        weight, bias = (t.double().numpy() for t in self.start.values())
        self.logits: Floats = inputs.double().numpy() @ weight.T + bias

    def residual(self, z: Floats) -> Floats:
        truth: Floats = np.eye(CLASSES)[self.records.labels.numpy()]
        return softmax(z) - truth

    def sent(self) -> Floats:
        """Logits of the model that is sent: up the mean gradient over all n candidates."""
        uphill: Floats = self.products @ self.residual(self.logits) / len(self.logits)
        return self.logits + GAMMA * uphill

    def returned(self, step: float = STEP) -> Floats:
        """Logits after one full-batch step down the mean gradient over the records held."""
        z, own = self.sent(), slice(0, self.held)
        return z - step / self.held * self.products[:, own] @ self.residual(z)[own]

    def read(self, observation: Recovery, step: float = STEP) -> Signals:
        sent = Ascent(GAMMA).send(turn(self.spec, self.start, self.records, [0] * len(self.logits)))
        own = self.records.take(torch.arange(self.held))
        recipe = Recipe(epochs=1, batch=self.held, lr=step)
        (trained,) = train([Task(self.spec, sent, own, recipe, Stream(1))])
        releases = (
            Release(0, SERVER, client_name(0), "weights", "surrogate", sent),
            Release(0, client_name(0), SERVER, "weights", "update", trained, 0),
        )
        view = Transcript(releases, {"surrogate": self.spec}).view(Observer("malicious_server"))
        owners = torch.zeros(len(self.logits), dtype=torch.int64)
        known = Candidates(self.records, owners, self.records, self.records)
        found = observation.extract(view, known, Stream(0))
        assert found is not None
        return found


def drawn(seed: int) -> Regression:
    generator = torch.Generator().manual_seed(seed)
    labels = torch.randint(CLASSES, (12,), generator=generator)
    return Regression(torch.randn(12, 6, generator=generator), labels, held=5)


def apart() -> Regression:
    """Records whose gradients are orthogonal, bias and all: <x_i, x_j> = -1, |x_i|^2 + 1 = 4."""
    return Regression(2 * torch.eye(4) - 0.5, torch.tensor([0, 1, 2, 0]), held=2)


@pytest.mark.parametrize("seed", range(5))
def test_one_step_of_softmax_regression_recovers_by_the_closed_form(seed: int) -> None:
    """z' = z - (step / n) sum_i (<x, x_i> + 1) (p_i - y_i), of every record, whether or not it was held."""
    case = drawn(seed)
    labels = case.records.labels.numpy()
    found = case.read(Recovery("loss"))
    expected = nats(case.sent(), labels) - nats(case.returned(), labels)
    np.testing.assert_allclose(found.candidates[:, 0], expected, atol=2e-5)
    np.testing.assert_allclose(found.population[:, 0, 0], expected, atol=2e-5)


def test_a_record_with_a_gradient_of_its_own_recovers_only_if_it_was_held() -> None:
    case = apart()
    found = case.read(Recovery("loss")).candidates[:, 0]
    assert (found[:2] > 0.1).all()
    np.testing.assert_allclose(found[2:], 0, atol=1e-6)


def test_to_first_order_the_fall_is_step_over_n_times_the_squared_gradient() -> None:
    """As linear regression's (step / n) |x|^2 times residual: here (|x|^2 + 1) |p - y|^2 = |grad|^2."""
    case, step = apart(), 1e-3
    found = case.read(Recovery("loss"), step).candidates[:2, 0]
    squared = 4 * (case.residual(case.sent())[:2] ** 2).sum(1)
    np.testing.assert_allclose(found / (step / 2), squared, rtol=5e-3)


def test_the_confidence_rises_by_its_closed_form() -> None:
    case = drawn(7)
    rise = np.subtract(
        *(-np.log(np.expm1(nats(z, case.records.labels.numpy()))) for z in (case.returned(), case.sent()))
    )
    np.testing.assert_allclose(case.read(Recovery()).candidates[:, 0], rise, atol=5e-5)


def test_the_ascent_is_of_the_mean_loss_of_the_clients_own_candidates() -> None:
    case = drawn(3)
    owners = [0] * 4 + [1] * 8
    sent = Ascent(GAMMA).send(turn(case.spec, case.start, case.records, owners))
    inputs = case.records.inputs.double().numpy()
    residual = case.residual(case.logits)[:4]
    (weight, bias), (start_weight, start_bias) = sent.values(), case.start.values()
    np.testing.assert_allclose(weight - start_weight, GAMMA / 4 * residual.T @ inputs[:4], atol=1e-6)
    np.testing.assert_allclose(bias - start_bias, GAMMA / 4 * residual.sum(0), atol=1e-6)


def test_it_is_done_in_the_rounds_chosen_and_only_where_there_is_something_to_aim_at() -> None:
    case = drawn(0)
    owners = [0] * 12

    def sent(ascent: Ascent, round: int = 0, client: int = 0) -> Params:
        return ascent.send(turn(case.spec, case.start, case.records, owners, client, round))

    later = [sent(Ascent(rounds=(1, 3)), r)["0.weight"] for r in range(4)]
    assert [torch.equal(w, case.start["0.weight"]) for w in later] == [True, False, True, False]
    assert torch.equal(sent(Ascent(), client=1)["0.weight"], case.start["0.weight"])
    assert torch.equal(sent(Ascent(gamma=0.0))["0.weight"], case.start["0.weight"])


def test_a_broadcast_without_its_head_is_raised_under_the_head_uploaded_last() -> None:
    whole = initial(SPEC, torch.Generator().manual_seed(0))
    bare, records = representation_of(SPEC, whole), noise(6, 0)
    upload = weights(whole, "update", 0, 0)
    untouched = Ascent().send(turn(SPEC, bare, records, [0] * 6))
    assert all(torch.equal(untouched[k], bare[k]) for k in bare)
    raised = Ascent().send(turn(SPEC, bare, records, [0] * 6, seen=[upload]))
    entire = Ascent().send(turn(SPEC, whole, records, [0] * 6))
    assert raised.keys() == bare.keys()
    assert all(torch.equal(raised[k], entire[k]) for k in bare)
    assert any(not torch.equal(raised[k], bare[k]) for k in bare)


def test_the_share_aimed_at_is_drawn_by_the_stream_alone() -> None:
    records = noise(40, 0)
    some = aimed(records, 0.25, Stream(1))
    assert len(some) == 10
    assert torch.equal(aimed(records, 0.25, Stream(1)).inputs, some.inputs)
    assert not torch.equal(aimed(records, 0.25, Stream(2)).inputs, some.inputs)
    assert [len(aimed(records, s, Stream(1))) for s in (0.001, 1)] == [1, 40]
    assert len(aimed(records.take(torch.arange(0)), 0.5, Stream(1))) == 0


def test_rounds_a_client_sat_out_are_unknown_and_the_passive_reading_sees_broadcasts() -> None:
    models = [initial(SPEC, torch.Generator().manual_seed(s)) for s in range(5)]
    own = (
        Release(0, SERVER, client_name(0), "weights", "surrogate", models[0]),
        weights(models[1], "update", 0, 0),
        weights(models[2], "surrogate", 1),
        weights(models[3], "update", 1, 1),
    )
    view = Transcript(own, {"surrogate": SPEC}).view(Observer("malicious_server"))
    known = candidates(8, 4)
    active, passive = (Recovery(passive=p).extract(view, known, Stream(0)) for p in (False, True))
    assert active is not None
    assert passive is not None
    first = known.clients.numpy() == 0
    assert (~np.isnan(active.candidates)).tolist() == [[bool(f), False] for f in first]
    assert (~np.isnan(passive.candidates)).tolist() == [[bool(f), not f] for f in first]
    assert active.population.shape == passive.population.shape == (4, 2, 2)
    np.testing.assert_array_equal(active.candidates[first, 0], passive.candidates[first, 0])


def test_nothing_is_read_where_the_server_was_honest() -> None:
    assert all(Recovery().extract(v, candidates(64), Stream(0)) is None for v in views(None))


@pytest.mark.parametrize("attack", ATTACKS, ids=repr)
def test_members_of_noise_are_found(attack: MembershipAttack) -> None:
    game = played(attack, Ascent(gamma=0.1))
    assert auc(game.scores(attack), game.included) > 0.8


@pytest.mark.parametrize("attack", ATTACKS, ids=repr)
def test_membership_of_others_is_at_chance(attack: MembershipAttack) -> None:
    """The same signals against coins that decided nothing; 512 scores, spread of LiRA's doubled."""
    game = replace(played(attack, Ascent(gamma=0.1)), included=coins(seed=1))
    assert abs(auc(game.scores(attack), game.included) - 0.5) < 2 * chance_width(game.included)


@pytest.mark.parametrize(
    ("knobs", "message"),
    [
        ({"gamma": -0.1}, r"expected a finite gamma >= 0, got gamma=-0.1"),
        ({"gamma": float("inf")}, r"expected a finite gamma >= 0, got gamma=inf"),
        ({"share": 0.0}, r"expected share in \(0, 1\], got share=0.0"),
        ({"rounds": (0, -1)}, r"expected rounds >= 0, got rounds=\(0, -1\)"),
    ],
)
def test_impossible_knobs_are_refused(knobs: dict[str, float], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        Ascent(**knobs)  # type: ignore[arg-type]


def test_an_unknown_measure_is_refused() -> None:
    with pytest.raises(ValueError, match=r"expected measure to be one of loss, confidence, got measure='x'"):
        Recovery("x")  # type: ignore[arg-type]
