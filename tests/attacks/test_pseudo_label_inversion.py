"""Pseudo-label guided inversion: what is selected, the margin by hand, its work, and whom it finds."""

from __future__ import annotations

from dataclasses import replace
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from attacks._class_search import Model
from attacks.interface import Known, Reconstruction
from attacks.pseudo_label_inversion import PseudoLabelInversion, max_margin, pseudo_labelled
from privfed.nets import NetSpec, Params, initial, representation_of
from privfed.prior import Prior, fit
from privfed.randomness import Stream
from privfed.records import Records
from privfed.release import CLIENTS, SERVER, Release, View
from tests.attacks.federations import SPEC, candidates, images, memorise, noise, server_view, weights
from tests.attacks.latents import identity_prior
from tests.attacks.lineups import at_chance, coins, identified

STREAM = Stream(0)
SMALL = PseudoLabelInversion(top=4, samples=6, starts=3, images=2, steps=5, views=2, fitting=3)
SHARP = 10.0


class Mixtures(nn.Module):
    """A decoder that makes these images and what lies between them: latents say how much of each."""

    def __init__(self, known: Tensor) -> None:
        super().__init__()
        self.known = known * 0.999

    def encode(self, inputs: Tensor) -> Any:
        apart = torch.cdist(inputs.flatten(1), self.known.flatten(1))
        near = torch.nn.functional.one_hot(apart.argmin(1), len(self.known)).float()
        return SimpleNamespace(latent_dist=SimpleNamespace(mean=near[:, None, None]))

    def decode(self, latents: Tensor, return_dict: bool = True) -> tuple[Tensor]:
        shares = (SHARP * latents.flatten(1)).softmax(1)
        return ((shares @ self.known.flatten(1)).unflatten(1, self.known.shape[1:]).atanh(),)


def params(seed: int = 0) -> Params:
    return initial(SPEC, torch.Generator().manual_seed(seed))


def view() -> View:
    return server_view(weights(params(), "large"))


def known(prior: bool = True) -> Known:
    public = noise(30, 1)
    return Known(public, noise(12, 2), identity_prior(public) if prior else None)


def rebuilt(attack: PseudoLabelInversion, seen: View, told: Known) -> Reconstruction:
    found = attack.reconstruct(seen, told, STREAM)
    assert isinstance(found, Reconstruction)
    return found


def test_the_margin_by_hand() -> None:
    """The best other logit less that of the label: 5 - 2, 2 - 5, 1 - 1."""
    logits = torch.tensor([[2.0, 5.0, -1.0], [2.0, 5.0, -1.0], [1.0, 1.0, 0.0]])
    assert max_margin(logits, torch.tensor([0, 1, 0])).tolist() == [3.0, -3.0, 0.0]


def test_the_gradient_of_the_margin_does_not_fade_as_the_model_gets_surer() -> None:
    logits = torch.tensor([[90.0, 1.0, 0.0]], requires_grad=True)
    (margin,) = torch.autograd.grad(max_margin(logits, torch.tensor([0])).sum(), logits)
    (entropy,) = torch.autograd.grad(logits.log_softmax(1)[0, 0], logits)
    assert margin.tolist() == [[-1.0, 1.0, 0.0]]
    assert float(entropy.abs().max()) < 1e-30


def test_the_surest_of_each_class_by_hand() -> None:
    """Two pixels, two classes, logits = pixels: the surest of class 0 differ most in its favour."""
    spec = NetSpec("linear", 1, 1, 2, width=2)
    weight, bias = initial(spec, STREAM.torch())
    model = Model(spec, {weight: torch.eye(2), bias: torch.zeros(2)})
    pixels = torch.tensor([[0.1, 0.0], [0.9, 0.0], [0.0, 0.8], [0.5, 0.5], [1.0, 0.5]])
    found = pseudo_labelled(model, pixels, 2)
    assert found.labels.tolist() == [0, 0, 1, 1]
    assert torch.equal(found.inputs, pixels[[1, 4, 2, 3]])
    every = pseudo_labelled(model, pixels, 9)
    assert torch.equal(every.inputs, pixels[[1, 4, 0, 3, 2, 2, 3, 0, 4, 1]])


def test_the_labels_of_public_images_are_never_read() -> None:
    told = known()
    others = replace(told, public=Records(told.public.inputs, 4 - told.public.labels))
    for prior in (told.prior, None):
        first, second = (rebuilt(SMALL, view(), replace(k, prior=prior)) for k in (told, others))
        assert torch.equal(first.records.inputs, second.records.inputs)


def test_the_objective_is_the_margin_of_what_is_handed_out_and_its_work_is_counted() -> None:
    found = rebuilt(SMALL, view(), known())
    assert found.records.labels.tolist() == [c for c in range(5) for _ in range(2)]
    assert found.clients.tolist() == [-1] * 10
    margins = max_margin(Model(SPEC, params()).logits(found.records.inputs), found.records.labels)
    np.testing.assert_allclose(found.objective, margins, rtol=1e-4, atol=1e-5)
    searched = 2 * (30 + 15) + 5 * 15 + 10
    assert (found.work, found.stopped_early) == (30 + searched, False)
    alone = rebuilt(SMALL, view(), known(prior=False))
    assert alone.work == 30 + searched + 3


def test_it_stops_when_nothing_gets_better() -> None:
    constant = {k: torch.zeros_like(v) for k, v in params().items()}
    attack = replace(SMALL, steps=50, patience=4)
    found = rebuilt(attack, server_view(weights(constant, "large")), known())
    assert found.stopped_early
    assert found.work == 30 + 2 * (30 + 15) + 5 * 15 + 10


@pytest.mark.parametrize("leaky", [True, False])
def test_members_in_the_range_of_the_prior_are_found_and_others_are_not(leaky: bool) -> None:
    told = candidates()
    included, held = coins(len(told.records), leaky)
    nets = memorise(told.records, torch.from_numpy(held), 100)
    attack = PseudoLabelInversion(top=4, samples=12, starts=4, images=2, steps=25, views=4)
    public = Records(told.records.inputs, torch.zeros_like(told.records.labels))
    told = replace(told, public=public, prior=mixtures(told.records))
    views = [server_view(weights(p, "large")) for p in nets]
    found = identified(attack, told, included, views)
    assert found.reconstructions == 2 * SPEC.classes * len(views)
    if leaky:
        assert (found.clustered.lower or 0.0) > found.chance
        assert (found.clustered.value or 0.0) > 0.9
    else:
        assert at_chance(found)


def mixtures(records: Records) -> Prior:
    return fit(Mixtures(records.inputs), records, SPEC.classes, conditional=False)


def test_without_a_model_or_public_images_of_its_shape_there_is_nothing_to_invert() -> None:
    told = known()
    assert SMALL.reconstruct(server_view(), told, STREAM) is None
    bare = Release(1, SERVER, CLIENTS, "weights", "surrogate", representation_of(SPEC, params()))
    assert replace(SMALL, artefact="surrogate").reconstruct(server_view(bare), told, STREAM) is None
    none, one = (told.public.take(torch.arange(n)) for n in (0, 1))
    other = Records(torch.zeros(9, 1, 4, 4), torch.zeros(9, dtype=torch.int64))
    sentences = Records(torch.zeros(9, 4, 3), torch.zeros(9, dtype=torch.int64))
    for public in (none, one, other, sentences):
        assert SMALL.reconstruct(view(), replace(told, public=public), STREAM) is None
    assert SMALL.reconstruct(server_view(images(noise(3, 0))), told, STREAM) is None


def test_knobs_out_of_range_are_refused() -> None:
    with pytest.raises(ValueError, match=r"expected artefact to be one of .*, got artefact=.small."):
        PseudoLabelInversion("small")  # type: ignore[arg-type]
    for name in ("top", "fitting", "steps", "rate", "views", "patience"):
        with pytest.raises(ValueError, match=f"expected {name} > 0, got {name}=0"):
            PseudoLabelInversion(**{name: 0})  # type: ignore[arg-type]
    with pytest.raises(ValueError, match="expected 1 <= images <= starts <= samples, got images=3"):
        PseudoLabelInversion(images=3, starts=2)
