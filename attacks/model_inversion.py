"""Model inversion: what a released model takes for the best example of each class.

Fredrikson, Jha and Ristenpart, "Model inversion attacks that exploit confidence information" (CCS 2015),
Algorithm 1 (MIFace); Struppek et al., "Plug & Play Attacks" (ICML 2022, arXiv 2201.12179), sections 3.1
to 3.4, with the public prior in place of a StyleGAN2. What comes out belongs to a class, not to a
client: on classes that many clients share it is a likeness of nobody in particular, which is why the class
mean and the prior alone stand beside it.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from attacks._class_search import SHIFTS, Model, Search, image_model, of_nobody
from attacks._inversion import check_positive
from attacks._models import Artefact, check_artefact
from attacks.interface import Known, Reconstruction
from privfed.augmentation import Dsa
from privfed.nets import NetSpec, Params
from privfed.randomness import Stream
from privfed.records import Records
from privfed.release import View

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
        check_positive(self, "steps", "rate", "patience")

    def reconstruct(self, view: View, known: Known, stream: Stream) -> Reconstruction | None:
        """One image a class, clients -1; None without such a model of images."""
        model = image_model(view, self.artefact)
        if model is None:
            return None
        spec, params = model.spec, model.params
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
        return of_nobody(Records(best, labels), least, used * len(labels), early)


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
    dsa: Dsa = SHIFTS

    def __post_init__(self) -> None:
        check_artefact(self.artefact)
        self._search()

    def reconstruct(self, view: View, known: Known, stream: Stream) -> Reconstruction | None:
        """`images` images a class, clients -1; None without such a model or a prior."""
        model = image_model(view, self.artefact)
        if model is None or known.prior is None:
            return None
        return self._search().of_each_class(model, known.prior, poincare, stream)

    def _search(self) -> Search:
        """Refuses knobs out of range."""
        return Search(
            self.samples, self.starts, self.images, self.steps, self.rate, _BETAS, self.views, self.patience,
            self.least_gain, self.dsa,
        )  # fmt: skip


def doubt(spec: NetSpec, params: Params, inputs: Tensor, labels: Tensor) -> tuple[Tensor, Tensor]:
    """1 - p of the label, shape (m,), and its gradient in the inputs, of their shape.

    Of a linear softmax the gradient is -p_c (W_c - sum_i p_i W_i).
    """
    x = inputs.detach().requires_grad_()
    misses = 1 - Model(spec, params).probability(x, labels)
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
