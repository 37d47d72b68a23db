"""Properties of clients' data: what is planted is found, a null is at chance, references stay apart."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch

from attacks.interface import Inference, Known
from attacks.property_inference import (
    Bright,
    LabelGroup,
    PropertyInference,
    PropertyLossTest,
    SyntheticProperty,
    mean_shares,
    share_estimates,
    true_shares,
)
from privfed.nets import NetSpec, Params, initial, representation_of
from privfed.randomness import Stream
from privfed.records import Records
from privfed.release import CLIENTS, SERVER, Observer, Release, Transcript, View, client_name
from privfed.training import Recipe, Task, train

SPEC = NetSpec("mlp", 1, 4, 4, width=10)
STREAM = Stream(0)
RECIPE = Recipe(epochs=4, batch=10, lr=0.1)


def records(n: int, seed: int, weights: list[float] | None = None) -> Records:
    generator = torch.Generator().manual_seed(seed)
    labels = torch.multinomial(torch.tensor(weights or [1.0] * 4), n, True, generator=generator)
    centres = torch.randn(4, 1, 4, 4, generator=torch.Generator().manual_seed(5))
    inputs = 0.4 * centres[labels] + 0.2 * torch.randn(n, 1, 4, 4, generator=generator)
    return Records(inputs.clamp(-1, 1), labels)


def known() -> Known:
    return Known(records(40, 1), records(80, 2))


def federation(seed: int, clients: list[Records]) -> View:
    start = initial(SPEC, torch.Generator().manual_seed(seed))
    tasks = [Task(SPEC, start, c, RECIPE, Stream(seed, (k,))) for k, c in enumerate(clients)]
    return view(start, train(tasks, "stacked"))


def view(start: Params, ends: list[Params]) -> View:
    broadcast = Release(0, SERVER, CLIENTS, "weights", "surrogate", start)
    updates = (Release(0, client_name(k), SERVER, "weights", "update", e, k) for k, e in enumerate(ends))
    return Transcript((broadcast, *updates), {"surrogate": SPEC}).view(Observer("server"))


def values(attack: Any, seen: View) -> Any:
    found = attack.infer(seen, known(), STREAM)
    assert isinstance(found, Inference)
    return found.values


@pytest.mark.parametrize("attack", [PropertyInference(), PropertyLossTest()], ids=lambda a: type(a).__name__)
def test_a_group_of_labels_is_found_in_updates(attack: Any) -> None:
    """Six federations of eight clients whose share of labels 0 and 1 is between 5 % and 95 %."""
    rng, public = np.random.default_rng(0), known().public
    features, truth = [], []
    for f in range(6):
        wanted = rng.uniform(0.05, 0.95, 8)
        clients = [records(60, 100 * f + k, [w, w, 1 - w, 1 - w]) for k, w in enumerate(wanted)]
        features.append(values(attack, federation(f, clients)))
        truth.append(true_shares(clients, attack.property, public))
    shares = np.stack(truth)
    estimates = share_estimates(np.stack(features), shares)
    error, guess = ((e - shares) ** 2 for e in (estimates, mean_shares(shares)))
    assert error.mean() < guess.mean() / 3


def test_the_loss_falls_most_where_a_client_has_records() -> None:
    much, little = records(60, 1, [1, 1, 0.05, 0.05]), records(60, 2, [0.05, 0.05, 1, 1])
    found = values(PropertyLossTest(), federation(0, [much, little]))
    assert found.shape == (2, 1)
    assert found[0, 0] > 0 > found[1, 0]


def test_a_planted_linear_relation_is_found() -> None:
    rng = np.random.default_rng(0)
    features = rng.normal(size=(8, 6, 5))
    shares = np.clip(0.5 + features @ [0.1, -0.05, 0, 0, 0.08], 0, 1)
    np.testing.assert_allclose(share_estimates(features, shares), shares, atol=0.05)


def test_numbers_without_any_relation_are_no_better_than_the_mean() -> None:
    """40 games of 8 federations and 6 clients: the gain over the baseline is not above 0."""
    gains = []
    for seed in range(40):
        rng = np.random.default_rng(seed)
        shares = rng.random((8, 6))
        error = (share_estimates(rng.normal(size=(8, 6, 3)), shares) - shares) ** 2
        gains.append(float(((mean_shares(shares) - shares) ** 2 - error).mean()))
    assert np.mean(gains) < 3.3 * np.std(gains) / np.sqrt(40) < 0.01


def test_a_client_that_is_merely_recognised_is_not_inferred() -> None:
    """Features name the client, whose share never changes: recalling it must not count."""
    shares = np.broadcast_to(np.random.default_rng(0).random(6), (8, 6)).copy()
    names = np.broadcast_to(np.eye(6), (8, 6, 6)).copy()
    error = (share_estimates(names, shares) - shares) ** 2
    assert error.mean() > 0.9 * ((mean_shares(shares) - shares) ** 2).mean()


def test_the_baseline_is_the_mean_of_other_clients_elsewhere() -> None:
    shares = np.array([[0.1, 0.2, 0.3], [0.4, 0.5, 0.6]])
    np.testing.assert_allclose(mean_shares(shares)[0], [0.55, 0.5, 0.45])
    assert np.isnan(mean_shares(shares[:1])).all()


def test_unknown_features_stay_unknown_and_few_references_say_nothing() -> None:
    rng = np.random.default_rng(0)
    features, shares = rng.normal(size=(4, 3, 2)), rng.random((4, 3))
    features[1, 2, 0] = np.nan
    estimates = share_estimates(features, shares)
    assert np.argwhere(np.isnan(estimates)).tolist() == [[1, 2]]
    assert np.isnan(share_estimates(features[:1], shares[:1])).all()
    with pytest.raises(
        ValueError, match=r"expected features of shape .* got features=\(4, 3, 2\) and shares"
    ):
        share_estimates(features, shares[:, :2])


def test_properties_and_their_true_shares() -> None:
    public = Records(torch.linspace(-1, 1, 5).view(5, 1, 1, 1), torch.zeros(5, dtype=torch.int64))
    some = Records(torch.tensor([-0.5, 0.1, 0.9, 0.5]).view(4, 1, 1, 1), torch.tensor([0, 1, 2, 2]))
    assert LabelGroup((1, 2)).holds(some, public).tolist() == [False, True, True, True]
    assert Bright().holds(some, public).tolist() == [False, True, True, True]
    none = public.take(torch.zeros(0, dtype=torch.int64))
    assert Bright().holds(some, none).tolist() == [False, True, True, True]
    np.testing.assert_array_equal(true_shares([some, none], LabelGroup((2,)), public), [0.5, np.nan])


def test_what_is_extracted_does_not_depend_on_the_order_of_units() -> None:
    start = initial(SPEC, torch.Generator().manual_seed(0))
    end = train([Task(SPEC, start, records(40, 1), RECIPE, STREAM)])[0]
    order = torch.randperm(10, generator=torch.Generator().manual_seed(1))

    def permuted(params: Params) -> Params:
        first, bias, head, last = params.values()
        return dict(zip(params, (first[order], bias[order], head[:, order], last), strict=True))

    for attack in (PropertyInference(), PropertyLossTest()):
        given = values(attack, view(start, [end]))
        np.testing.assert_allclose(given, values(attack, view(permuted(start), [permuted(end)])), atol=1e-5)


def test_clients_that_did_not_move_are_unknown_and_the_width_stays() -> None:
    start = initial(SPEC, torch.Generator().manual_seed(0))
    end = train([Task(SPEC, start, records(40, 1), RECIPE, STREAM)])[0]
    for attack, width in ((PropertyInference(), 24), (PropertyLossTest(), 1)):
        nobody = values(attack, view(start, [start, start]))
        one = values(attack, view(start, [start, end]))
        assert nobody.shape == one.shape == (2, width)
        assert np.isnan(nobody).all()
        assert np.isnan(one[0]).all()
        assert np.isfinite(one[1]).all()


def test_synthetic_records_are_counted() -> None:
    def made(bright: list[float], client: int, round: int) -> Release:
        tensors = {
            "inputs": torch.tensor(bright).view(-1, 1, 1, 1),
            "labels": torch.zeros(len(bright)).long(),
        }
        return Release(round, SERVER, SERVER, "synthetic", "client_images", tensors, client)

    some = (made([0.9, 0.9, -0.9, -0.9], 0, 0), made([0.9], 0, 1), made([-0.9], 2, 1))
    seen = Transcript(some, {"surrogate": SPEC}).view(Observer("server"))
    np.testing.assert_array_equal(values(SyntheticProperty(), seen), [[0.75], [np.nan], [0.0]])


def test_a_view_without_movements_or_a_property_nobody_has_holds_nothing() -> None:
    start = initial(SPEC, torch.Generator().manual_seed(0))
    bare = representation_of(SPEC, start)
    empty = Transcript((), {"surrogate": SPEC}).view(Observer("server"))
    for attack in (PropertyInference(), PropertyLossTest(), SyntheticProperty()):
        assert attack.infer(empty, known(), STREAM) is None
        assert attack.infer(view(bare, [bare]), known(), STREAM) is None
        assert hash(attack) == hash(type(attack)())
    nobody = PropertyInference(LabelGroup((9,)))
    assert nobody.infer(federation(0, [records(20, 1)]), known(), STREAM) is None
