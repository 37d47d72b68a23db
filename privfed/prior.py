"""The frozen generative prior: a diffusers AutoencoderKL trained on the public shard alone.

Latents start from a Gaussian fitted to the public latents of a class (or of all records, when the
public shard has none of the private classes); the decoder turns optimised latents into images. No
client data ever reaches this module. Stands in for the StyleGAN prior of FedDGM
(arXiv 2312.01537) where no pre-trained generator may be downloaded.
"""

from __future__ import annotations

import copy
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from privfed.randomness import Stream
from privfed.records import Records

SHRINKAGE = 0.9
CLIP_DEVIATIONS = 4.0


@dataclass(frozen=True, slots=True)
class PriorRecipe:
    """Architecture and training of the autoencoder.

    Attributes:
        widths: channels of each resolution level; every level but the first halves the size.
        latent_channels: channels of the latent map.
        steps, batch, lr: Adam steps on the public shard.
        kl_weight: weight of the Kullback-Leibler term per pixel beside the mean squared error.
        conditional: one Gaussian of initial latents per class (True) or one for all (False).
    """

    widths: tuple[int, ...] = (16, 32)
    latent_channels: int = 4
    steps: int = 600
    batch: int = 64
    lr: float = 2e-3
    kl_weight: float = 1e-3
    conditional: bool = True

    def __post_init__(self) -> None:
        if not self.widths or any(w < 8 or w % 8 for w in self.widths):
            raise ValueError(f"expected prior widths that are multiples of 8, got widths={self.widths}")
        for name, least in (("latent_channels", 1), ("steps", 0), ("batch", 1), ("kl_weight", 0)):
            if not getattr(self, name) >= least:
                raise ValueError(f"expected {name} >= {least}, got {name}={getattr(self, name)}")
        if not self.lr > 0:
            raise ValueError(f"expected lr > 0, got lr={self.lr}")


@dataclass(frozen=True, slots=True)
class Prior:
    """A frozen decoder with the distribution its latents start from.

    Attributes:
        autoencoder: diffusers AutoencoderKL in eval mode, no parameter requires a gradient.
        mean: shape (groups, d): centre of the initial latents of each class (groups = 1: of all).
        factor: shape (groups, d, d): Cholesky factor of their covariance.
        limit: shape (d,): largest absolute latent value allowed, 4 standard deviations.
        shape: (channels, height, width) of one latent, d its product.
    """

    autoencoder: Any
    mean: Tensor
    factor: Tensor
    limit: Tensor
    shape: tuple[int, int, int]

    def sample(self, labels: Tensor, generator: torch.Generator) -> Tensor:
        """Initial latents for labels of shape (n,): shape (n, channels, height, width)."""
        group = labels.clamp_max(len(self.mean) - 1) if len(self.mean) > 1 else torch.zeros_like(labels)
        noise = torch.randn(len(labels), self.mean.shape[1], generator=generator)
        noise = noise.to(self.mean.device)
        latents = self.mean[group] + torch.einsum("nij,nj->ni", self.factor[group], noise)
        return self.clip(latents.view(-1, *self.shape))

    def encode(self, images: Tensor) -> Tensor:
        """Latents (posterior means) of images (n, c, h, w), without gradients."""
        with torch.no_grad():
            return self.clip(self.autoencoder.encode(images).latent_dist.mean)

    def decode(self, latents: Tensor) -> Tensor:
        """Images in [-1, 1] for latents (n, channels, height, width); differentiable."""
        return torch.tanh(self.autoencoder.decode(latents, return_dict=False)[0])

    def clip(self, latents: Tensor) -> Tensor:
        """Latents held within the range of the public ones."""
        limit = self.limit.view(self.shape)
        return torch.maximum(torch.minimum(latents, self._centre + limit), self._centre - limit)

    def to(self, device: str) -> Prior:
        """A copy of the prior on `device`."""
        mean, factor, limit = (t.to(device) for t in (self.mean, self.factor, self.limit))
        return Prior(copy.deepcopy(self.autoencoder).to(device), mean, factor, limit, self.shape)

    @property
    def _centre(self) -> Tensor:
        return self.mean.mean(0).view(self.shape)

    @property
    def parameters(self) -> int:
        """Number of parameters of the autoencoder."""
        return sum(p.numel() for p in self.autoencoder.parameters())


def train_prior(public: Records, classes: int, recipe: PriorRecipe, stream: Stream) -> Prior:
    """Trains the autoencoder on the public shard and fits the Gaussians of its latents.

    Args:
        public: the public shard; its labels are used only when `recipe.conditional`.
        classes: number of classes of the task.
        recipe: architecture and training.
        stream: randomness of initialisation, batches and latent noise.
    """
    if len(public) < 2:
        raise ValueError(f"expected at least 2 public records for the prior, got {len(public)}")
    autoencoder = new_autoencoder(public.inputs.shape[1], public.inputs.shape[-1], recipe, stream)
    optimiser = torch.optim.Adam(autoencoder.parameters(), lr=recipe.lr)
    schedule = torch.optim.lr_scheduler.CosineAnnealingLR(optimiser, max(recipe.steps, 1))
    generator = stream.child("train").torch()
    for _ in range(recipe.steps):
        index = torch.randint(len(public), (min(recipe.batch, len(public)),), generator=generator)
        loss = _loss(autoencoder, public.inputs[index], recipe, generator)
        optimiser.zero_grad(set_to_none=True)
        loss.backward()
        optimiser.step()
        schedule.step()
    return fit(autoencoder, public, classes, recipe.conditional)


def new_autoencoder(channels: int, size: int, recipe: PriorRecipe, stream: Stream) -> Any:
    """An untrained AutoencoderKL for square images of that size, initialised from `stream`."""
    from diffusers import AutoencoderKL

    levels = len(recipe.widths)
    if size % 2 ** (levels - 1):
        raise ValueError(
            f"expected an image size divisible by {2 ** (levels - 1)} for {levels} widths, got size={size}"
        )
    with torch.random.fork_rng(devices=[]):
        # diffusers initialises from the global generator; the fork keeps that from leaking out.
        torch.manual_seed(stream.child("initial").integer())
        return AutoencoderKL(
            in_channels=channels,
            out_channels=channels,
            down_block_types=("DownEncoderBlock2D",) * levels,
            up_block_types=("UpDecoderBlock2D",) * levels,
            block_out_channels=recipe.widths,
            layers_per_block=1,
            latent_channels=recipe.latent_channels,
            norm_num_groups=8,
            sample_size=size,
            mid_block_add_attention=False,
        )


def fit(autoencoder: Any, public: Records, classes: int, conditional: bool) -> Prior:
    """Freezes the autoencoder and fits Gaussians to its latents of the public shard.

    Covariances are shrunk, 0.9 S + 0.1 diag(S), so that few records a class give a proper factor.
    """
    frozen: nn.Module = autoencoder.eval().requires_grad_(False)
    with torch.no_grad():
        latents = autoencoder.encode(public.inputs).latent_dist.mean
    flat = latents.flatten(1)
    groups = [flat[public.labels == c] for c in range(classes)] if conditional else [flat]
    # A class with fewer than two public records starts from the Gaussian of all of them.
    fits = [_gaussian(g if len(g) > 1 else flat) for g in groups]
    channels, height, width = latents.shape[1:]
    return Prior(
        frozen,
        torch.stack([m for m, _ in fits]),
        torch.stack([f for _, f in fits]),
        CLIP_DEVIATIONS * flat.std(0).clamp_min(1e-3),
        (int(channels), int(height), int(width)),
    )


def _gaussian(latents: Tensor) -> tuple[Tensor, Tensor]:
    mean = latents.mean(0)
    centred = latents - mean
    covariance = centred.T @ centred / (len(latents) - 1)
    diagonal = covariance.diagonal().clamp_min(1e-6)
    shrunk = SHRINKAGE * covariance + torch.diag((1 - SHRINKAGE) * diagonal + 1e-6)
    return mean, torch.linalg.cholesky(shrunk)


def _loss(autoencoder: Any, images: Tensor, recipe: PriorRecipe, generator: torch.Generator) -> Tensor:
    posterior = autoencoder.encode(images).latent_dist
    noise = torch.randn(posterior.mean.shape, generator=generator)
    decoded = torch.tanh(autoencoder.decode(posterior.mean + posterior.std * noise, return_dict=False)[0])
    divergence = 0.5 * (posterior.mean**2 + posterior.var - 1.0 - posterior.logvar).sum()
    loss: Tensor = F.mse_loss(decoded, images) + recipe.kl_weight * divergence / images.numel()
    return loss
