"""Released generators as functions of noise and label: the records the pipeline made, or a refusal."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import Tensor

from attacks._generators import Generator, generators
from privfed.generator import GeneratorTraining, draw_bank, generate, train_generator
from privfed.nets import NetSpec, Params
from privfed.randomness import Stream
from privfed.release import PUBLIC, SERVER, Observer, Release, Transcript
from tests.attacks.federations import noise, server_view
from tests.attacks.generators import affine, plateaus, released

IMAGES = NetSpec("mlp", channels=1, size=6, classes=5, width=8)
TEXT = NetSpec("lstm", channels=4, size=3, classes=2, hidden=(5, 4))


def trained(spec: NetSpec, **knobs: Any) -> Params:
    bank = draw_bank(30, spec.classes, Stream(0), torch.device("cpu"))
    recipe = GeneratorTraining(size=30, hidden=16, epochs=0, **knobs)
    params = train_generator(spec, [], bank, recipe, Stream(1))
    # Statistics of a normalisation that a fresh generator does not have.
    shift = torch.linspace(-1, 1, 16)
    moved = {"1.weight": params["1.weight"] * (1 + shift / 2), "1.bias": params["1.bias"] + shift}
    return {**params, **moved, **{f"bank.{k}": v for k, v in bank.to_params().items()}}


def only(params: Params) -> Generator:
    (found,) = generators(server_view(*released(params, 1)), "generator", 3)
    return found


def inputs_of(params: Params) -> Tensor:
    return torch.cat([params["bank.noise"], params["bank.embedding"][params["bank.labels"]]], 1)


@pytest.mark.parametrize("spec", [IMAGES, TEXT], ids=["images", "text"])
@pytest.mark.parametrize("knobs", [{"mode": "released"}, {"bound": 2.0}], ids=["unbounded", "bounded"])
def test_from_the_banks_noise_it_makes_the_banks_records(spec: NetSpec, knobs: dict[str, Any]) -> None:
    params = trained(spec, **knobs)
    found = only(params)
    expected = generate(params, inputs_of(params), spec.input_shape).flatten(1)
    assert float(expected.std()) > 0.1
    torch.testing.assert_close(found.make(found.noise, found.labels), expected, atol=1e-5, rtol=1e-5)


def test_what_it_makes_of_one_noise_does_not_depend_on_the_others() -> None:
    params = trained(IMAGES)
    found = only(params)
    torch.testing.assert_close(
        found.make(found.noise[4:5], found.labels[4:5]), found.make(found.noise, found.labels)[4:5]
    )
    alone = generate(params, inputs_of(params)[4:6], IMAGES.input_shape).flatten(1)
    assert not torch.allclose(alone[:1], found.make(found.noise[4:5], found.labels[4:5]), atol=1e-2)


def test_other_number_formats_are_read_too() -> None:
    params = trained(IMAGES)
    wide = {k: v.int() if k == "bank.labels" else v.double() for k, v in params.items()}
    plain, other = only(params), only(wide)
    torch.testing.assert_close(other.make(plain.noise, plain.labels), plain.make(plain.noise, plain.labels))


def test_generators_by_hand_make_what_they_say() -> None:
    records = noise(7, 0)
    steps = only(plateaus(records, 5, seed=3))
    torch.testing.assert_close(
        steps.make(steps.noise, steps.labels),
        records.inputs.flatten(1).repeat_interleave(4, 0),
        atol=1e-3,
        rtol=0,
    )
    matrix, centre = torch.randn(36, 64, generator=torch.Generator().manual_seed(0)), torch.arange(36.0)
    line = only(affine(matrix, centre, 5, 20, seed=3))
    fresh = torch.rand(9, 64, generator=torch.Generator().manual_seed(1))
    torch.testing.assert_close(
        line.make(fresh, torch.zeros(9, dtype=torch.int64)), centre + fresh @ matrix.T, atol=1e-3, rtol=1e-3
    )


def test_the_newest_come_first_and_what_was_published_counts_once() -> None:
    rounds = [plateaus(noise(4, s), 5, seed=s) for s in range(3)]
    releases = [r for t, p in enumerate(rounds) for r in released(p, t + 1) if t == 2 or r.receiver == SERVER]
    assert len(releases) == 4
    view = Transcript(tuple(releases)).view(Observer("server"))
    found = generators(view, "generator", 9)
    assert [float(g.bias[0]) for g in found] == [float(p["3.bias"][0]) for p in reversed(rounds)]
    (last,) = generators(view, "generator", 1)
    assert torch.equal(last.bias, rounds[2]["3.bias"])
    (published,) = generators(Transcript(tuple(releases)).view(Observer("outsider")), "generator", 9)
    assert torch.equal(published.bias, rounds[2]["3.bias"])
    assert generators(view, "other", 9) == ()


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"bound": None}, r"expected tensor 'bound' in release 'generator' of round 3 from server, got "),
        ({"bank.noise": None}, r"expected tensor 'bank.noise' in release 'generator' of round 3"),
        (
            {"3.weight": torch.zeros(2, 3)},
            r"expected a finite tensor '3.weight' of shape \(36, 16\) in release 'generator' of round 3 from "
            r"server, got 3.weight=\(2, 3\) torch.float32",
        ),
        ({"bound": torch.ones(2)}, r"expected a finite tensor 'bound' of shape \(\) in .* got bound=\(2,\)"),
        (
            {"bank.noise": torch.full((30, 64), torch.nan)},
            r"expected a finite tensor 'bank.noise' of shape \(30, 64\)",
        ),
        (
            {"bank.labels": torch.full((30,), 5)},
            r"expected whole labels from 0 to 4 in the bank of release 'generator' .* got bank.labels=\[5\]",
        ),
        (
            {"bank.labels": torch.full((30,), 0.5)},
            r"expected whole labels from 0 to 4 in the bank of .* got bank.labels=\[0.5\]",
        ),
        (
            {"bank.labels": torch.zeros(0, dtype=torch.int64), "bank.noise": torch.zeros(0, 64)},
            r"expected whole labels from 0 to 4 in the bank of .* got bank.labels=\[\]",
        ),
    ],
)
def test_damaged_generators_are_refused_in_one_line(change: dict[str, Tensor | None], message: str) -> None:
    params: dict[str, Tensor | None] = {**trained(IMAGES), **change}
    tensors = {k: v for k, v in params.items() if v is not None}
    view = server_view(Release(3, SERVER, PUBLIC, "generator", "generator", tensors))
    with pytest.raises(ValueError, match=message) as caught:
        generators(view, "generator", 3)
    assert "\n" not in str(caught.value)
