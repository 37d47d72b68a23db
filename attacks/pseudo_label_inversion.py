"""Pseudo-label guided inversion: public images that the model sorts by itself show where to look.

Source: Yuan et al., "Pseudo label-guided model inversion attack via conditional generative adversarial
network" (PLG-MI, arXiv 2302.09814): top-n selection, a conditional generator of what was selected, max-margin
loss under random transformations. What differs: in place of a conditional GAN guided by the model, the small
autoencoder of `privfed.prior` with a Gaussian of latents for each pseudo-label; one random transformation a
step; and images are chosen in the end by how sure the model stays of them under transformations, as
`plug_and_play` does.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

import torch
from torch import Tensor

from attacks._class_search import SHIFTS, Model, Search, image_model
from attacks._inversion import check_positive
from attacks._models import Artefact, check_artefact
from attacks.interface import Known, Reconstruction
from privfed.augmentation import Dsa
from privfed.prior import Prior, PriorRecipe, fit, train_prior
from privfed.randomness import Stream
from privfed.records import Records
from privfed.release import View

_BETAS = (0.9, 0.999)


@dataclass(frozen=True, slots=True)
class PseudoLabelInversion:
    """Rebuild images of each class within a prior of the public images that the model takes for it.

    The labels of public images are never read: each class gets the `top` images of which the model is surest,
    and a Gaussian of their latents, so that the public shard need not hold the private classes. The
    autoencoder is that of the public prior, which is trained without labels; where there is none, one is
    trained on what was selected. Then latents are searched as `plug_and_play` does, by the max-margin loss.
    Objective: max-margin loss of an image as it is. Stops when the mean loss got no better by `least_gain`
    within `patience` steps, or after `steps`. None without public images of the model's shape, for text,
    and for models that only answer.

    Attributes:
        artefact: name of the model; the newest release with a head is inverted.
        top: public images of each class; one image may serve several.
        samples, starts, images: latents drawn, latents moved, and images handed out, each a class.
        steps: Adam steps at most.
        rate: Adam learning rate of the latents.
        views: random transformations that a confidence is averaged over.
        patience: steps without a gain.
        least_gain: of the mean loss, to count as one.
        fitting: training steps of the autoencoder, where there is no public prior.
        dsa: the transformations.
    """

    artefact: Artefact = "large"
    top: int = 30
    samples: int = 100
    starts: int = 10
    images: int = 2
    steps: int = 60
    rate: float = 0.1
    views: int = 20
    patience: int = 20
    least_gain: float = 1e-2
    fitting: int = 300
    dsa: Dsa = SHIFTS

    def __post_init__(self) -> None:
        check_artefact(self.artefact)
        check_positive(self, "top", "fitting")
        self._search()

    def reconstruct(self, view: View, known: Known, stream: Stream) -> Reconstruction | None:
        """`images` images a class, clients -1; None without such a model or public images."""
        model = image_model(view, self.artefact)
        if model is None or len(known.public) < 2:
            return None
        if known.public.inputs.shape[1:] != model.spec.input_shape:
            return None
        sorted_ = pseudo_labelled(model, known.public.inputs, self.top)
        prior = self._fitted(sorted_, model.spec.classes, known.prior, stream.child("prior"))
        found = self._search().of_each_class(model, prior, max_margin, stream)
        trained = self.fitting if known.prior is None else 0
        return replace(found, work=found.work + len(known.public) + trained)

    def _fitted(self, images: Records, classes: int, public: Prior | None, stream: Stream) -> Prior:
        """The prior with one Gaussian of latents a pseudo-label."""
        if public is None:
            widths = (16,) if images.inputs.shape[-1] % 2 else (16, 32)
            recipe = PriorRecipe(widths=widths, steps=self.fitting, conditional=False)
            public = train_prior(images, classes, recipe, stream)
        return fit(public.autoencoder, images, classes, conditional=True)

    def _search(self) -> Search:
        """Refuses knobs out of range."""
        return Search(
            self.samples, self.starts, self.images, self.steps, self.rate, _BETAS, self.views, self.patience,
            self.least_gain, self.dsa,
        )  # fmt: skip


@torch.no_grad()
def pseudo_labelled(model: Model, images: Tensor, top: int) -> Records:
    """For each class the `top` images of highest probability, surest first, labelled with it.

    Args:
        model: whose probabilities are asked.
        images: shape (n, ...).
        top: at least 1; all n where there are fewer.

    Returns:
        classes x min(top, n) records, class by class; an image may be there several times.
    """
    sure = model.logits(images).double().softmax(1)
    at = sure.argsort(dim=0, descending=True, stable=True)[:top].T
    labels = torch.arange(len(at), device=at.device).repeat_interleave(at.shape[1])
    return Records(images[at.flatten()], labels)


def max_margin(logits: Tensor, labels: Tensor) -> Tensor:
    """The best other logit less that of the label, shape (m,); lower = taken for the label more clearly.

    Unlike that of cross-entropy its gradient does not fade as the model gets surer.
    """
    column = labels.unsqueeze(1)
    others = logits.scatter(1, column, -torch.inf).amax(1)
    return others - logits.gather(1, column).squeeze(1)
