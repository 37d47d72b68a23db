"""Model inversion: what a released model takes for the best example of each class.

Fredrikson, Jha and Ristenpart, "Model inversion attacks that exploit confidence information" (CCS 2015),
Algorithm 1 (MIFace); Struppek et al., "Plug & Play Attacks" (ICML 2022, arXiv 2201.12179), sections 3.1
to 3.4, with the public prior in place of a StyleGAN2. What comes out belongs to a class, not to a
client: on classes that many clients share it is a likeness of nobody in particular, which is why the class
mean and the prior alone stand beside it.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from attacks._models import Artefact, check_artefact, released
from attacks._releases import weights, with_head
from attacks.interface import Known, Reconstruction
from privfed.augmentation import Dsa, apply, draw
from privfed.nets import NetSpec, Params, forward
from privfed.prior import Prior
from privfed.randomness import Stream
from privfed.records import Records
from privfed.release import View

_SHIFTS = Dsa(families=("crop", "scale"), crop=0.125, scale=1.2)
_BETAS = (0.1, 0.1)
_ONE = 0.9999  # of the target's coordinate: on the rim of the ball distances are infinite
_RIM = 1e-6


@dataclass(frozen=True, slots=True)
class MiFace:
    """Rebuild one image a class by gradient descent on 1 - p_c from a grey image, without any prior.

    Without the source's denoising. Stops when every class has reached `enough`, when none got better by
    `least_gain` within `patience` steps, or after `steps`. Keeps the best image of each class.
    Objective: 1 - p_c of that image. None for text, and for models that only answer.

    Attributes:
        artefact: name of the model; the newest release with a head is inverted.
        steps: gradient steps at most.
        rate: length of a step, in units of the gradient.
        patience: steps without a gain in any class.
        least_gain: of 1 - p_c, to count as one.
        enough: p_c at which a class is done.
    """

    artefact: Artefact = "large"
    steps: int = 500
    rate: float = 0.5
    patience: int = 100
    least_gain: float = 1e-4
    enough: float = 0.99

    def __post_init__(self) -> None:
        check_artefact(self.artefact)
        _check_positive(steps=self.steps, rate=self.rate, patience=self.patience)

    def reconstruct(self, view: View, known: Known, stream: Stream) -> Reconstruction | None:
        """One image a class, clients -1; None without such a model of images."""
        found = _model(view, self.artefact)
        if found is None or len(found[0].input_shape) == 2:
            return None
        spec, params = found
        labels = torch.arange(spec.classes)
        images = torch.zeros(len(labels), *spec.input_shape)
        best, least = images.clone(), torch.full((len(labels),), torch.inf)
        since, used, early = 0, 0, False
        for _ in range(self.steps):
            misses, gradient = doubt(spec, params, images, labels)
            used += 1
            gained = least - misses > self.least_gain
            best[misses < least], least = images[misses < least], torch.minimum(least, misses)
            since = 0 if bool(gained.any()) else since + 1
            early = bool((least <= 1 - self.enough).all()) or since >= self.patience
            if early:
                break
            images = (images - self.rate * gradient).clamp(-1, 1)
        return _result(Records(best, labels), least, used * len(labels), early)


@dataclass(frozen=True, slots=True)
class PlugAndPlay:
    """Rebuild images of each class within the public prior, by Poincare loss on its latents.

    Draws `samples` latents a class, keeps the `starts` of highest mean confidence under random shifts and
    scalings, moves them by Adam (betas 0.1, as in the source), and hands out the `images` of highest mean
    confidence under `views` fresh transformations: an image that is a class only pixel by pixel is an
    adversarial example, not a likeness. Objective: Poincare loss of an image as it is. Stops when the mean
    loss got no better by `least_gain` within `patience` steps, or after `steps`. None without a prior,
    for text, and for models that only answer.

    Attributes:
        artefact: name of the model; the newest release with a head is inverted.
        samples, starts, images: latents drawn, latents moved, and images handed out, each a class.
        steps: Adam steps at most.
        rate: Adam learning rate of the latents.
        views: random transformations that a confidence is averaged over.
        patience: steps without a gain.
        least_gain: of the mean loss, to count as one.
        dsa: the transformations.
    """

    artefact: Artefact = "large"
    samples: int = 100
    starts: int = 10
    images: int = 2
    steps: int = 60
    rate: float = 0.05
    views: int = 20
    patience: int = 20
    least_gain: float = 1e-3
    dsa: Dsa = _SHIFTS

    def __post_init__(self) -> None:
        check_artefact(self.artefact)
        _check_positive(steps=self.steps, rate=self.rate, views=self.views, patience=self.patience)
        if not 1 <= self.images <= self.starts <= self.samples:
            raise ValueError(
                "expected 1 <= images <= starts <= samples, "
                f"got images={self.images}, starts={self.starts}, samples={self.samples}"
            )

    def reconstruct(self, view: View, known: Known, stream: Stream) -> Reconstruction | None:
        """`images` images a class, clients -1; None without such a model or a prior."""
        found = _model(view, self.artefact)
        if found is None or known.prior is None or len(found[0].input_shape) != 3:
            return None
        spec, params = found
        prior, turns = known.prior, stream.child("transformations").torch()
        drawn = torch.arange(spec.classes).repeat_interleave(self.samples)
        latents = prior.sample(drawn, stream.child("latents").torch())
        with torch.no_grad():
            sure = self._confidence(spec, params, prior.decode(latents), drawn, turns)
        kept = _best(sure, spec.classes, self.starts)
        moved, labels, used, early = self._move(spec, params, prior, latents[kept], drawn[kept], turns)
        with torch.no_grad():
            images = prior.decode(moved)
            sure = self._confidence(spec, params, images, labels, turns)
            final = _best(sure, spec.classes, self.images)
            losses = poincare(_logits(spec, params, images[final]), labels[final])
        work = self.views * (len(drawn) + len(labels)) + used * len(labels) + len(final)
        return _result(Records(images[final], labels[final]), losses, work, early)

    def _move(
        self,
        spec: NetSpec,
        params: Params,
        prior: Prior,
        latents: Tensor,
        labels: Tensor,
        turns: torch.Generator,
    ) -> tuple[Tensor, Tensor, int, bool]:
        """The latents after optimisation, their labels, steps spent, and whether it ended early."""
        latents = latents.clone().requires_grad_()
        optimiser = torch.optim.Adam([latents], lr=self.rate, betas=_BETAS)
        least, since = torch.inf, 0
        for step in range(self.steps):
            images = apply(prior.decode(latents).unsqueeze(0), draw(self.dsa, [turns])).squeeze(0)
            loss = poincare(_logits(spec, params, images), labels).mean()
            optimiser.zero_grad(set_to_none=True)
            loss.backward()
            optimiser.step()
            with torch.no_grad():
                latents.copy_(prior.clip(latents))
            now = float(loss.detach())
            since = 0 if now < least - self.least_gain else since + 1
            least = min(least, now)
            if since >= self.patience:
                return latents.detach(), labels, step + 1, True
        return latents.detach(), labels, self.steps, False

    def _confidence(
        self, spec: NetSpec, params: Params, images: Tensor, labels: Tensor, turns: torch.Generator
    ) -> Tensor:
        """Mean probability of the label over random transformations, shape (m,)."""
        turned = (apply(images.unsqueeze(0), draw(self.dsa, [turns])).squeeze(0) for _ in range(self.views))
        seen = [_probability(_logits(spec, params, x), labels) for x in turned]
        return torch.stack(seen).mean(0)


def doubt(spec: NetSpec, params: Params, inputs: Tensor, labels: Tensor) -> tuple[Tensor, Tensor]:
    """1 - p of the label, shape (m,), and its gradient in the inputs, of their shape.

    Of a linear softmax the gradient is -p_c (W_c - sum_i p_i W_i).
    """
    x = inputs.detach().requires_grad_()
    misses = 1 - _probability(_logits(spec, params, x), labels)
    (gradient,) = torch.autograd.grad(misses.sum(), x)
    return misses.detach(), gradient


def poincare(logits: Tensor, labels: Tensor) -> Tensor:
    """Distance in the Poincare ball between logits over their L1 norm and the label, shape (m,).

    arcosh(1 + 2 |u - v|^2 / ((1 - |u|^2) (1 - |v|^2))), v with 0.9999 at the label. Unlike cross-entropy
    its gradient does not vanish while an image is taken for another class.
    """
    u = logits / logits.abs().sum(1, keepdim=True).clamp_min(_RIM)
    v = torch.zeros_like(u).scatter(1, labels.unsqueeze(1), _ONE)
    inside = (1 - u.square().sum(1)).clamp_min(_RIM) * (1 - v.square().sum(1))
    return torch.acosh(1 + 2 * (u - v).square().sum(1) / inside)


def _model(view: View, artefact: Artefact) -> tuple[NetSpec, Params] | None:
    found = released(view, artefact)
    if found is None:
        return None
    whole = with_head(found[1], found[0])
    return (found[0], weights(whole[-1], found[0])) if whole else None


def _logits(spec: NetSpec, params: Params, inputs: Tensor) -> Tensor:
    return forward(spec, {k: v.unsqueeze(0) for k, v in params.items()}, inputs.unsqueeze(0)).squeeze(0)


def _probability(logits: Tensor, labels: Tensor) -> Tensor:
    return logits.softmax(1).gather(1, labels.unsqueeze(1)).squeeze(1)


def _best(confidence: Tensor, classes: int, count: int) -> Tensor:
    """Indices of the `count` highest of each class; classes lie in blocks of one length."""
    blocks = confidence.view(classes, -1)
    top = blocks.topk(count, dim=1).indices
    return (top + blocks.shape[1] * torch.arange(classes).unsqueeze(1)).flatten()


def _result(records: Records, objective: Tensor, work: int, early: bool) -> Reconstruction:
    nobody = torch.full((len(records),), -1)
    return Reconstruction(records, nobody, objective.double().numpy().astype(np.float64), work, early)


def _check_positive(**knobs: float) -> None:
    for name, value in knobs.items():
        if not value > 0:
            raise ValueError(f"expected {name} > 0, got {name}={value}")
