"""A model that answers and is not handed out: what it answers, who can ask it, and who holds its weights."""

from __future__ import annotations

import dataclasses
import math
import re
from collections.abc import Iterator, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from scipy import stats
from torch import Tensor

from privfed.answers import Interface, answer, interface_of, labels_of, put_behind, shown, weights_of
from privfed.nets import NetSpec, initial, representation_of
from privfed.randomness import Stream
from privfed.release import Observer, Release, Transcript, View
from privfed.training import predict
from privfed.transcript_files import load, save

SPEC = NetSpec("mlp", channels=1, size=4, classes=3, width=6, depth=1)
PARAMS = initial(SPEC, torch.Generator().manual_seed(0))
LARGE = Release(2, "server", "public", "weights", "large", PARAMS)
INPUTS = torch.rand(7, 1, 4, 4, generator=torch.Generator().manual_seed(1)) * 2 - 1
NOTHING = torch.zeros(1, 1, dtype=torch.float64)
STREAM = Stream(0, ("attack",))
OUTSIDERS = [
    Observer("outsider"),
    Observer("outsider", holds=frozenset({"large"})),
    Observer("client", 0),
]
SERVERS = [Observer("server"), Observer("malicious_server")]


def behind(**knobs: Any) -> Release:
    return put_behind(LARGE, Interface(**knobs))


def view(release: Release, observer: Observer = OUTSIDERS[0]) -> View:
    return Transcript((release,), {"large": SPEC}).view(observer)


def one_record(*probabilities: float) -> tuple[NetSpec, Release]:
    """A net that answers those confidences whatever it is asked."""
    spec = NetSpec("linear", 1, 1, len(probabilities), width=1)
    params = {
        "0.weight": torch.zeros(len(probabilities), 1, dtype=torch.float64),
        "0.bias": torch.tensor(probabilities, dtype=torch.float64).log(),
    }
    return spec, replace(LARGE, tensors=params)


def anything(value: Any) -> Iterator[Any]:
    """Whatever can be reached through fields, attributes, mappings and sequences."""
    yield value
    if dataclasses.is_dataclass(value) and not isinstance(value, type):
        for field in dataclasses.fields(value):
            yield from anything(getattr(value, field.name))
    elif isinstance(value, Mapping):
        for item in value.values():
            yield from anything(item)
    elif isinstance(value, (tuple, list, frozenset)):
        for item in value:
            yield from anything(item)
    elif callable(value):
        yield from anything(vars(value))
        yield from anything([getattr(value, name, None) for name in ("func", "args", "keywords", "__self__")])
        yield from anything([getattr(value, name, None) for name in ("__defaults__", "__kwdefaults__")])


def test_without_noise_or_rounding_the_answers_are_the_logits() -> None:
    got = view(behind()).ask("large", INPUTS, STREAM)
    assert got.dtype == torch.float64
    assert torch.equal(got, predict(SPEC, PARAMS, INPUTS).double())
    assert view(behind()).ask("large", INPUTS[:0], STREAM).shape == (0, 3)


def test_confidences_are_rounded_and_none_is_zero() -> None:
    spec, release = one_record(0.617, 0.381, 0.002)
    got = {
        decimals: answer(spec, put_behind(release, Interface(decimals)), NOTHING, STREAM)[0].exp()
        for decimals in (0, 1, 2, 3)
    }
    expected = {0: (1, 0.5, 0.5), 1: (0.6, 0.4, 0.05), 2: (0.62, 0.38, 0.005), 3: (0.617, 0.381, 0.002)}
    for decimals, confidences in expected.items():
        assert got[decimals].tolist() == pytest.approx(confidences, rel=1e-9)


@pytest.mark.parametrize(
    ("answers", "label"), [((3.0, 1.0, 2.0), 0), ((1.0, 2.0, 2.0), 1), ((1.0, 1.0, 1.0), 0)]
)
def test_of_equal_answers_the_first_names_the_label(answers: tuple[float, ...], label: int) -> None:
    assert labels_of(torch.tensor([answers] * 3)).tolist() == [label] * 3


def test_rounding_can_change_the_label() -> None:
    """Which is why accuracy is that of the answers: without decimals all three confidences are zero."""
    spec, release = one_record(0.32, 0.33, 0.35)
    coarse, fine = (answer(spec, put_behind(release, Interface(d)), NOTHING, STREAM) for d in (0, 2))
    assert (labels_of(coarse).item(), labels_of(fine).item()) == (0, 2)


# Noise.


def test_noise_is_gaussian_of_the_stated_size_and_fresh_with_every_query() -> None:
    served = view(behind(deviation=2.0, seed=5))
    exact = predict(SPEC, PARAMS, INPUTS).double()
    drawn = torch.stack([served.ask("large", INPUTS, STREAM.child(i)) - exact for i in range(200)])
    assert stats.kstest(drawn.flatten().numpy() / 2.0, "norm").pvalue > 0.01
    assert len(np.unique(drawn.numpy())) == drawn.numel()
    torch.testing.assert_close(drawn.mean(0), torch.zeros(7, 3).double(), atol=0.7, rtol=0)


def test_the_same_question_has_the_same_answer() -> None:
    served = view(behind(deviation=2.0, seed=5))
    first, second = (served.ask("large", INPUTS, STREAM) for _ in range(2))
    assert torch.equal(first, second)


def test_who_asks_cannot_take_the_noise_off() -> None:
    """Neither by drawing it from the stream it asked with, nor from another record on that stream."""
    exact = predict(SPEC, PARAMS, INPUTS).double()
    noise = view(behind(deviation=2.0, seed=5)).ask("large", INPUTS, STREAM) - exact
    guess = 2.0 * torch.randn(7, 3, generator=STREAM.torch(), dtype=torch.float64)
    assert abs(np.corrcoef(noise.flatten(), guess.flatten())[0, 1]) < 0.7
    other_seed = view(behind(deviation=2.0, seed=6)).ask("large", INPUTS, STREAM) - exact
    assert not torch.equal(noise, other_seed)
    apart = [view(behind(deviation=2.0, seed=5)).ask("large", INPUTS[i : i + 1], STREAM) for i in range(7)]
    of_each = torch.cat(apart) - exact
    assert len(torch.unique(of_each)) == of_each.numel()


def test_noise_comes_before_rounding_whichever_was_set_first() -> None:
    noisy, rounded = Interface(deviation=1.0, seed=9), Interface(decimals=1)
    both = [put_behind(put_behind(LARGE, a), b) for a, b in ((noisy, rounded), (rounded, noisy))]
    assert interface_of(both[0]) == interface_of(both[1]) == Interface(1, 1.0, 9)
    confidences = answer(SPEC, both[0], INPUTS, STREAM).exp() * 20
    torch.testing.assert_close(confidences, confidences.round())


def test_of_two_interfaces_the_stricter_counts() -> None:
    twice = put_behind(behind(decimals=3, deviation=3.0, seed=1), Interface(5, 4.0, 2))
    assert interface_of(twice) == Interface(3, 5.0, 2)


# Who sees what.


@pytest.mark.parametrize("observer", OUTSIDERS, ids=lambda o: o.label)
def test_nobody_outside_can_reach_the_weights(observer: Observer) -> None:
    seen = view(behind(decimals=2, deviation=0.5, seed=77), observer)
    assert [r.name for r in seen.select("answers")] == ["large"]
    assert seen.select("weights") == ()
    reached = list(anything(seen))
    assert not any(isinstance(x, Tensor) for x in reached)
    assert 77 not in [x for x in reached if isinstance(x, int)]
    assert "large" in seen.interfaces
    assert "tensor(" not in repr(seen)
    # The walk finds what is there to be found: the same with weights handed out.
    assert any(isinstance(x, Tensor) for x in anything(view(LARGE, observer)))


def test_answers_carry_no_gradient() -> None:
    inputs = INPUTS.clone().requires_grad_()
    assert not view(behind()).ask("large", inputs, STREAM).requires_grad


@pytest.mark.parametrize("observer", SERVERS, ids=lambda o: o.label)
def test_whoever_serves_the_model_holds_it(observer: Observer) -> None:
    seen = view(behind(decimals=2), observer)
    (release,) = seen.select("weights", "large")
    assert release.tensors.keys() == PARAMS.keys()
    assert seen.interfaces == {}


def test_a_view_without_such_a_model_is_as_it_was() -> None:
    assert view(LARGE).releases == (LARGE,)
    assert view(LARGE).interfaces == {}
    assert shown(LARGE, OUTSIDERS[0]) is LARGE


def test_the_newest_of_a_name_answers() -> None:
    older = replace(LARGE, round=1, tensors={k: t + 1 for k, t in PARAMS.items()})
    transcript = Transcript((put_behind(older, Interface()), behind()), {"large": SPEC})
    got = transcript.view(OUTSIDERS[0]).ask("large", INPUTS, STREAM)
    assert torch.equal(got, predict(SPEC, PARAMS, INPUTS).double())


def test_a_representation_without_its_head_answers_nothing() -> None:
    headless = replace(LARGE, tensors=representation_of(SPEC, PARAMS))
    seen = view(put_behind(headless, Interface()))
    assert seen.interfaces == {}
    assert seen.releases[0].tensors == {}
    assert Transcript((behind(),), {}).view(OUTSIDERS[0]).interfaces == {}


def test_it_sends_nothing_but_is_kept() -> None:
    release = behind(decimals=2)
    assert release.payload_bytes == 0
    assert (release.round, release.sender, release.receiver, release.name) == (2, "server", "public", "large")
    assert all(torch.equal(t, PARAMS[k]) for k, t in weights_of(release).items())
    assert weights_of(release).keys() == PARAMS.keys()


def test_a_transcript_on_disk_answers_as_before(tmp_path: Path) -> None:
    transcript = Transcript((behind(decimals=3, deviation=0.5, seed=2**62 + 1),), {"large": SPEC})
    save(transcript, tmp_path / "t")
    again = load(tmp_path / "t")
    assert interface_of(again.releases[0]) == Interface(3, 0.5, 2**62 + 1)
    asked = [t.view(OUTSIDERS[1]).ask("large", INPUTS, STREAM) for t in (transcript, again)]
    assert torch.equal(*asked)
    assert not any(isinstance(x, Tensor) for x in anything(again.view(OUTSIDERS[1])))


# What is refused.


@pytest.mark.parametrize(
    ("knobs", "message"),
    [
        ({"decimals": -1}, "expected decimals from 0 to 9, got decimals=-1"),
        ({"decimals": 10}, "expected decimals from 0 to 9, got decimals=10"),
        ({"deviation": -0.5}, "expected a finite deviation >= 0, got deviation=-0.5"),
        ({"deviation": math.nan}, "expected a finite deviation >= 0, got deviation=nan"),
        ({"seed": -1}, "expected seed from 0 to 2^63 - 1, got seed=-1"),
    ],
)
def test_interfaces_that_cannot_be(knobs: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=f"^{re.escape(message)}$"):
        Interface(**knobs)


def test_only_models_answer() -> None:
    with pytest.raises(
        ValueError, match=r"^expected a model to put behind an interface, got kind='synthetic'$"
    ):
        put_behind(replace(LARGE, kind="synthetic"), Interface())


def without(release: Release, name: str) -> Release:
    return replace(release, tensors={k: t for k, t in release.tensors.items() if k != name})


def test_knobs_from_outside_are_looked_at() -> None:
    release = behind(decimals=2)
    with pytest.raises(ValueError, match=r"^expected the knobs .*, got answers:decimals, answers:deviation$"):
        interface_of(without(release, "answers:seed"))
    with pytest.raises(ValueError, match=r"^expected the knobs of an interface, got none$"):
        interface_of(LARGE)
    wide = replace(release, tensors={**release.tensors, "answers:seed": torch.zeros(2, dtype=torch.int64)})
    with pytest.raises(ValueError, match=r"^expected a scalar answers:seed, got answers:seed=\(2,\)"):
        interface_of(wide)
    half = replace(release, tensors={**release.tensors, "answers:decimals": torch.tensor(1.5)})
    with pytest.raises(ValueError, match=r"^expected a scalar answers:decimals, got .* torch.float32$"):
        interface_of(half)


def test_questions_that_cannot_be_answered() -> None:
    with pytest.raises(ValueError, match=r"^expected a model that answers \(large\), got name='surrogate'$"):
        view(behind()).ask("surrogate", INPUTS, STREAM)
    with pytest.raises(ValueError, match=r"^expected a model that answers \(none\), got name='large'$"):
        view(LARGE).ask("large", INPUTS, STREAM)
    with pytest.raises(ValueError, match=r"^expected inputs of shape \(1, 4, 4\), got inputs=\(1, 5, 5\)$"):
        view(behind()).ask("large", torch.zeros(2, 1, 5, 5), STREAM)
    with pytest.raises(ValueError, match=r"^expected a whole model behind the interface, got 1.bias=None$"):
        view(without(behind(), "1.bias")).ask("large", INPUTS, STREAM)
