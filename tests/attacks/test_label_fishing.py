"""Label fishing: exact shares from a sum after one step, close after more, and what is not read."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from attacks.imprint import Imprint
from attacks.interface import Floats
from attacks.label_fishing import LabelFishing, tells_labels
from privfed.nets import NetSpec, Params
from privfed.randomness import Stream
from privfed.records import Records
from privfed.release import View
from tests.attacks import crafted
from tests.attacks.crafted import NONE_PUBLIC, SPEC, drawn, public, start, trained

STREAM = Stream(0)
CLIENTS = 4


def sent(spec: NetSpec = SPEC) -> list[Params]:
    first = start(spec=spec)
    return [LabelFishing().craft(spec, NONE_PUBLIC, first, STREAM, k, CLIENTS) for k in range(CLIENTS)]


def data(n: int, seed: int = 0) -> list[Records]:
    return [drawn(n, CLIENTS * seed + k) for k in range(CLIENTS)]


def truth(own: list[Records]) -> Floats:
    return np.stack([np.bincount(o.labels.numpy(), minlength=10) / len(o) for o in own])


def hidden(own: list[Records], steps: int = 1, batch: int = 4096, spec: NetSpec = SPEC) -> View:
    models = sent(spec)
    after = [trained(m, o, steps, batch, spec) for m, o in zip(models, own, strict=True)]
    releases = [crafted.sent_to(m, client=k) for k, m in enumerate(models)]
    return crafted.view(*releases, crafted.summed(after), spec=spec)


def inferred(seen: View, attack: LabelFishing) -> Floats:
    found = attack.infer(seen, NONE_PUBLIC, STREAM)
    assert found is not None
    return found.values


@pytest.mark.parametrize("spec", [SPEC, NetSpec("mlp", 1, 8, 10, hidden=(12, 8, 6))], ids=["one", "three"])
@pytest.mark.parametrize("n", [8, 64])
def test_the_sum_gives_every_clients_shares_exactly_after_one_step(n: int, spec: NetSpec) -> None:
    own = data(n)
    values = inferred(hidden(own, spec=spec), LabelFishing())
    np.testing.assert_allclose(values, truth(own), atol=1e-5)


@pytest.mark.parametrize("steps", [5, 20])
def test_more_steps_leave_the_shares_far_closer_than_a_uniform_guess(steps: int) -> None:
    """L1 distance, mean over 4 clients of 64 records."""
    own = data(64)
    values = inferred(hidden(own, steps), LabelFishing(local_steps=steps))
    error, uniform = (np.abs(v - truth(own)).sum(1).mean() for v in (values, np.full((4, 10), 0.1)))
    assert error < uniform / 5
    np.testing.assert_allclose(values.sum(1), 1)


def test_batches_are_close_to_as_many_full_steps() -> None:
    own = data(64)
    values = inferred(hidden(own, 5, batch=16), LabelFishing(local_steps=20))
    assert np.abs(values - truth(own)).sum(1).mean() < np.abs(0.1 - truth(own)).sum(1).mean() / 3


@pytest.mark.parametrize("steps", [1, 3, 40])
def test_training_of_a_constant_predictor_is_inverted(steps: int) -> None:
    shares = np.array([0.5, 0.3, 0.2, 0.0])
    attack = LabelFishing(local_steps=steps)
    np.testing.assert_allclose(attack.shares(attack._trained(shares)), shares, atol=1e-5)


@pytest.mark.parametrize("steps", [20, 80])
def test_many_steps_are_noticed_where_one_was_assumed(steps: int) -> None:
    """Shares below a uniform guess must not be taken for none."""
    truth = np.array([0.0, 0.05, 0.6, 0.3, 0.0, 0.05])
    found = LabelFishing().shares(LabelFishing(local_steps=steps)._trained(truth))
    assert found[truth > 0].min() > found[truth == 0].max()
    assert np.abs(found - truth).sum() < 0.15


def test_single_updates_do_as_well_and_rounds_are_averaged() -> None:
    own, models = data(16), sent()
    releases = []
    for r in range(2):
        releases += [crafted.sent_to(m, k, r) for k, m in enumerate(models)]
        releases += [crafted.returned(trained(m, own[k]), k, r) for k, m in enumerate(models)]
    np.testing.assert_allclose(inferred(crafted.view(*releases), LabelFishing()), truth(own), atol=1e-5)


def test_a_client_that_was_sent_nothing_is_unknown() -> None:
    own, models = data(16), sent()
    after = [trained(models[k], own[k]) for k in (1, 3)]
    releases = [crafted.sent_to(models[k], client=k) for k in (1, 3)]
    values = inferred(crafted.view(*releases, crafted.summed(after)), LabelFishing())
    assert np.isnan(values[[0, 2]]).all()
    np.testing.assert_allclose(values[[1, 3]], truth(own)[[1, 3]], atol=1e-5)


def test_other_models_say_nothing() -> None:
    for model in (start(), Imprint().craft(SPEC, public(), start(), STREAM)):
        assert not tells_labels(SPEC, model)
        seen = crafted.view(crafted.sent_to(model, 0), crafted.returned(trained(model, drawn(8, 0))))
        assert LabelFishing().infer(seen, NONE_PUBLIC, STREAM) is None
    assert LabelFishing().infer(crafted.view(), NONE_PUBLIC, STREAM) is None
    convnet = NetSpec("convnet", 1, 8, 10, width=4, depth=1)
    other = crafted.view(crafted.sent_to(start(spec=convnet)), spec=convnet)
    assert LabelFishing().infer(other, NONE_PUBLIC, STREAM) is None


def test_a_client_that_sends_back_what_it_got_looks_uniform() -> None:
    models = sent()
    releases = [crafted.sent_to(m, client=k) for k, m in enumerate(models)]
    values = inferred(crafted.view(*releases, crafted.summed(models)), LabelFishing())
    np.testing.assert_allclose(values, 0.1)


def test_a_unit_is_open_for_every_record_of_its_client_and_no_other() -> None:
    for k, model in enumerate(sent()):
        on = torch.relu(drawn(20, 0).inputs.flatten(1) @ model["1.weight"].T + model["1.bias"])
        assert (on > 0).sum(1).tolist() == [1] * 20
        assert int(on[0].argmax()) == k * (128 // CLIENTS)


@pytest.mark.parametrize("knob", ["height", "local_lr", "local_steps"])
def test_knobs_that_are_not_positive_are_refused(knob: str) -> None:
    with pytest.raises(ValueError, match=f"expected {knob} > 0, got {knob}=0"):
        LabelFishing(**{knob: 0})


def test_too_narrow_a_net_is_refused() -> None:
    narrow = NetSpec("mlp", 1, 8, 10, hidden=(12, 3))
    with pytest.raises(ValueError, match="expected a hidden unit for each of 4 clients, got units=3"):
        sent(narrow)
