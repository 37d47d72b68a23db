"""What inversions of a released model share: the model itself, and the search of a prior for its classes.

The search is that of Struppek et al., "Plug & Play Attacks" (ICML 2022, arXiv 2201.12179), sections 3.1 to
3.4: latents drawn and weeded out, moved by a loss of the model's logits under random transformations, and
chosen by how sure the model stays of what they make when it is shifted and scaled.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from attacks._inversion import IMAGE, check_positive
from attacks._models import Artefact, released
from attacks._releases import weights, with_head
from attacks.interface import Reconstruction
from privfed.augmentation import Dsa, apply, draw
from privfed.nets import NetSpec, Params, forward
from privfed.prior import Prior
from privfed.randomness import Stream
from privfed.records import Records
from privfed.release import View

Loss = Callable[[Tensor, Tensor], Tensor]
"""Of logits (m, classes) and labels (m,): what is minimised of each, shape (m,)."""

SHIFTS = Dsa(families=("crop", "scale"), crop=0.125, scale=1.2)


@dataclass(frozen=True, slots=True)
class Model:
    """A released classifier of images.

    Attributes:
        spec: its architecture.
        params: its weights by name.
    """

    spec: NetSpec
    params: Params

    def logits(self, inputs: Tensor) -> Tensor:
        """Of images (m, ...), shape (m, classes); differentiable in the images."""
        lane = {k: v.unsqueeze(0) for k, v in self.params.items()}
        return forward(self.spec, lane, inputs.unsqueeze(0)).squeeze(0)

    def probability(self, inputs: Tensor, labels: Tensor) -> Tensor:
        """Of the label, shape (m,)."""
        return self.logits(inputs).softmax(1).gather(1, labels.unsqueeze(1)).squeeze(1)


def image_model(view: View, artefact: Artefact) -> Model | None:
    """The newest model of that name that has a head.

    None for text, and for models that only answer.
    """
    found = released(view, artefact)
    if found is None or len(found[0].input_shape) != IMAGE:
        return None
    whole = with_head(found[1], found[0])
    return Model(found[0], weights(whole[-1], found[0])) if whole else None


@dataclass(frozen=True, slots=True)
class Search:
    """Budget of a search, and when it ends by itself.

    Attributes:
        samples, starts, images: latents drawn, latents moved, and images handed out, each a class.
        steps: Adam steps at most.
        rate, betas: of Adam on the latents.
        views: random transformations that a confidence is averaged over.
        patience: steps without a gain.
        least_gain: of the mean loss, to count as one.
        dsa: the transformations.
    """

    samples: int
    starts: int
    images: int
    steps: int
    rate: float
    betas: tuple[float, float]
    views: int
    patience: int
    least_gain: float
    dsa: Dsa

    def __post_init__(self) -> None:
        check_positive(self, "steps", "rate", "views", "patience")
        if not 1 <= self.images <= self.starts <= self.samples:
            raise ValueError(
                "expected 1 <= images <= starts <= samples, "
                f"got images={self.images}, starts={self.starts}, samples={self.samples}"
            )

    def of_each_class(self, model: Model, prior: Prior, loss: Loss, stream: Stream) -> Reconstruction:
        """`images` images a class, clients -1; objective: the loss of an image as it is."""
        classes, turns = model.spec.classes, stream.child("transformations").torch()
        drawn = torch.arange(classes).repeat_interleave(self.samples)
        latents = prior.sample(drawn, stream.child("latents").torch())
        with torch.no_grad():
            sure = self.confidence(model, prior.decode(latents), drawn, turns)
        kept = best_of_each(sure, classes, self.starts)
        moved, used, early = self._move(model, prior, loss, latents[kept], drawn[kept], turns)
        with torch.no_grad():
            images, labels = prior.decode(moved), drawn[kept]
            sure = self.confidence(model, images, labels, turns)
            final = best_of_each(sure, classes, self.images)
            losses = loss(model.logits(images[final]), labels[final])
        work = self.views * (len(drawn) + len(labels)) + used * len(labels) + len(final)
        return of_nobody(Records(images[final], labels[final]), losses, work, early)

    def confidence(self, model: Model, images: Tensor, labels: Tensor, turns: torch.Generator) -> Tensor:
        """Mean probability of the label over random transformations, shape (m,)."""
        turned = (apply(images.unsqueeze(0), draw(self.dsa, [turns])).squeeze(0) for _ in range(self.views))
        return torch.stack([model.probability(x, labels) for x in turned]).mean(0)

    def _move(
        self, model: Model, prior: Prior, loss: Loss, latents: Tensor, labels: Tensor, turns: torch.Generator
    ) -> tuple[Tensor, int, bool]:
        """The latents after optimisation, steps spent, and whether it ended early."""
        latents = latents.clone().requires_grad_()
        optimiser = torch.optim.Adam([latents], lr=self.rate, betas=self.betas)
        least, since = torch.inf, 0
        for step in range(self.steps):
            images = apply(prior.decode(latents).unsqueeze(0), draw(self.dsa, [turns])).squeeze(0)
            mean = loss(model.logits(images), labels).mean()
            optimiser.zero_grad(set_to_none=True)
            mean.backward()
            optimiser.step()
            with torch.no_grad():
                latents.copy_(prior.clip(latents))
            now = float(mean.detach())
            since = 0 if now < least - self.least_gain else since + 1
            least = min(least, now)
            if since >= self.patience:
                return latents.detach(), step + 1, True
        return latents.detach(), self.steps, False


def best_of_each(confidence: Tensor, classes: int, count: int) -> Tensor:
    """Indices of the `count` highest of each class; classes lie in blocks of one length."""
    blocks = confidence.view(classes, -1)
    top = blocks.topk(count, dim=1).indices
    return (top + blocks.shape[1] * torch.arange(classes).unsqueeze(1)).flatten()


def of_nobody(records: Records, objective: Tensor, work: int, early: bool) -> Reconstruction:
    """Records that belong to a class rather than to a client."""
    nobody = torch.full((len(records),), -1)
    return Reconstruction(records, nobody, objective.double().numpy().astype(np.float64), work, early)
