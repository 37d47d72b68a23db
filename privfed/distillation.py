"""One-segment trajectory matching through a frozen generative prior, for many clients at once.

For each client, latents of the prior are optimised until T steps of gradient descent on the decoded
images move the broadcast weights as the client's local training moved them. Objective and gradient
follow the released code of FedDGM (arXiv 2312.01537; FedDG23/FedDG-main, server_update.py): the
normalised parameter distance of MTT (Cazenavette et al. 2022) with the gradient of TESLA (Cui et
al. 2023), which holds the inner weights constant. The same computation is an inversion of the
client's update with a generative prior, and the attack `distil_and_test` runs it as such.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Literal

import torch
from torch import Tensor

from privfed.augmentation import Dsa, apply, draw
from privfed.nets import NetSpec, Params, forward
from privfed.prior import Prior
from privfed.randomness import Stream
from privfed.training import STACK, FlatParams, stack, weighted_loss

Memory = Literal["graph", "constant"]


@dataclass(frozen=True, slots=True)
class Matching:
    """Knobs of the matching.

    Attributes:
        iterations: latent updates (I); 0 leaves the initial latents of the prior.
        steps: inner gradient steps on the synthetic batch (T).
        latent_lr: Adam learning rate of the latents.
        eta_lr: Adam learning rate of the logarithm of the inner step size.
        eta: largest inner step size tried by the line search, which also tries its halves down
            to 1/64.
        dsa: augmentation of the synthetic batch, or None.
        memory: "graph" keeps the T inner graphs (faster), "constant" recomputes them.
    """

    iterations: int = 20
    steps: int = 5
    latent_lr: float = 0.05
    eta_lr: float = 0.05
    eta: float = 1.0
    dsa: Dsa | None = None
    memory: Memory = "graph"

    def __post_init__(self) -> None:
        if self.iterations < 0 or self.steps < 1:
            raise ValueError(
                f"expected iterations >= 0 and steps >= 1, got {self.iterations} and {self.steps}"
            )
        for name in ("latent_lr", "eta"):
            if not getattr(self, name) > 0:
                raise ValueError(f"expected {name} > 0, got {name}={getattr(self, name)}")
        if not self.eta_lr >= 0:
            raise ValueError(f"expected eta_lr >= 0, got eta_lr={self.eta_lr}")


@dataclass(frozen=True, slots=True)
class Job:
    """One client's update to match.

    Attributes:
        start, target: broadcast and uploaded weights.
        labels: int64, shape (n,): the fixed hard labels of the synthetic images.
        stream: randomness of the initial latents and the augmentation.
        latents: initial latents, shape (n, ...); None draws them from the prior.
    """

    start: Params
    target: Params
    labels: Tensor
    stream: Stream
    latents: Tensor | None = None


@dataclass(frozen=True, slots=True)
class Matched:
    """The result for one client.

    Attributes:
        latents: shape (n, channels, height, width) of the latent space.
        images: shape (n, c, h, w), in [-1, 1].
        labels: shape (n,).
        eta: learnt inner step size.
        losses: matching objective before each iteration and after the last, shape (I + 1,); 1 is
            "no movement", NaN for a client that did not move.
    """

    latents: Tensor
    images: Tensor
    labels: Tensor
    eta: float
    losses: Tensor


@dataclass(frozen=True, slots=True)
class _Lanes:
    """M jobs side by side: weights (M, P), displacement squared (M,), labels and weights (M, n)."""

    spec: NetSpec
    start: Params
    displacement: Tensor
    distance: Tensor
    labels: Tensor
    weight: Tensor


def match(
    spec: NetSpec, jobs: Sequence[Job], prior: Prior, matching: Matching, lanes: int = STACK
) -> list[Matched]:
    """Matches every job; jobs do not influence one another.

    Args:
        spec: architecture of the surrogate whose weights are matched.
        jobs: one per client; their label lists may differ in length.
        prior: frozen decoder and distribution of initial latents.
        matching: knobs.
        lanes: jobs matched side by side.
    """
    parts = [jobs[i : i + lanes] for i in range(0, len(jobs), lanes)]
    return [m for part in parts for m in _match_lanes(spec, part, prior, matching)]


def _match_lanes(spec: NetSpec, jobs: Sequence[Job], prior: Prior, matching: Matching) -> list[Matched]:
    lanes = _lanes(spec, jobs)
    latents = _pad([_initial(prior, j) for j in jobs])
    generators = [j.stream.child("dsa").torch(str(j.labels.device)) for j in jobs]
    log_eta = _line_search(lanes, _decode(prior, latents), matching, generators).log()
    latents.requires_grad_()
    log_eta.requires_grad_()
    optimiser = torch.optim.Adam(
        [{"params": [latents], "lr": matching.latent_lr}, {"params": [log_eta], "lr": matching.eta_lr}]
    )
    losses = []
    for _ in range(matching.iterations):
        images = _decode(prior, latents)
        loss, by_image, by_eta = matching_gradient(lanes, images, log_eta, matching, generators)
        (by_latent,) = torch.autograd.grad(images, latents, by_image.nan_to_num())
        latents.grad, log_eta.grad = by_latent, by_eta.nan_to_num()
        optimiser.step()
        with torch.no_grad():
            latents.copy_(prior.clip(latents.flatten(0, 1)).view_as(latents))
        losses.append(loss)
    with torch.no_grad():
        images = _decode(prior, latents)
    losses.append(matching_loss(lanes, images, log_eta.detach().exp(), matching, generators))
    return _unpack(jobs, latents.detach(), images, log_eta.detach().exp(), torch.stack(losses, 1))


def matching_loss(
    lanes: _Lanes, images: Tensor, eta: Tensor, matching: Matching, generators: list[torch.Generator]
) -> Tensor:
    """The objective of each lane, shape (M,): squared distance to the target over that of the start."""
    moved = torch.zeros_like(lanes.displacement)
    for gradient in _unroll(lanes, images, eta, matching, generators, False):
        moved += gradient
    residual = lanes.displacement - eta.unsqueeze(1) * moved
    return residual.square().sum(1) / lanes.distance


def matching_gradient(
    lanes: _Lanes, images: Tensor, log_eta: Tensor, matching: Matching, generators: list[torch.Generator]
) -> tuple[Tensor, Tensor, Tensor]:
    """Objective (M,), its gradient in the images (shape of images) and in log eta (M,).

    With v = (2 eta / D) (eta sum_s g_s - (start - target)), the gradient in the images is
    sum_t (d g_t / d images)^T v at constant inner weights (TESLA, section 3.2).
    """
    x = images.detach().requires_grad_()
    eta = log_eta.detach().exp()
    states = [g.get_state() for g in generators]
    total = torch.zeros_like(lanes.displacement)
    kept: list[Tensor] = []
    graph = matching.memory == "graph"
    for gradient in _unroll(lanes, x, eta, matching, generators, graph):
        total += gradient.detach()
        kept += [gradient] if graph else []
    residual = lanes.displacement - eta.unsqueeze(1) * total
    loss = residual.square().sum(1) / lanes.distance
    direction = -2 * eta.unsqueeze(1) / lanes.distance.unsqueeze(1) * residual
    if graph:
        (by_image,) = torch.autograd.grad((torch.stack(kept).sum(0) * direction).sum(), x)
    else:
        by_image = torch.zeros_like(x)
        for generator, state in zip(generators, states, strict=True):
            generator.set_state(state)
        for gradient in _unroll(lanes, x, eta, matching, generators, True):
            by_image += torch.autograd.grad((gradient * direction).sum(), x)[0]
    by_log_eta = -2 / lanes.distance * (residual * total).sum(1) * eta
    return loss, by_image, by_log_eta


def _unroll(
    lanes: _Lanes,
    images: Tensor,
    eta: Tensor,
    matching: Matching,
    generators: list[torch.Generator],
    graph: bool,
) -> Iterator[Tensor]:
    """Gradients g_t of the T inner steps, shape (M, P), each with a graph to the images if asked."""
    weights = FlatParams(lanes.start)
    for _ in range(matching.steps):
        x = images if matching.dsa is None else apply(images, draw(matching.dsa, generators))
        loss = weighted_loss(forward(lanes.spec, weights.views, x), lanes.labels, lanes.weight).sum()
        parts = torch.autograd.grad(loss, list(weights.views.values()), create_graph=graph)
        gradient = torch.cat([p.flatten(1) for p in parts], 1)
        yield gradient
        moved = weights.buffer - eta.unsqueeze(1) * gradient.detach()
        weights = FlatParams(_split(moved.detach(), lanes.start))


def _line_search(
    lanes: _Lanes, images: Tensor, matching: Matching, generators: list[torch.Generator]
) -> Tensor:
    """The inner step size of each lane, shape (M,), that fits its displacement best before any matching."""
    images = images.detach()
    candidates = [matching.eta / 2**k for k in range(7)]
    losses = []
    for eta in candidates:
        same = [_copy(g) for g in generators]
        losses.append(matching_loss(lanes, images, torch.full_like(lanes.distance, eta), matching, same))
    best = torch.stack(losses).nan_to_num(float("inf")).argmin(0)
    return lanes.distance.new_tensor(candidates)[best]


def _lanes(spec: NetSpec, jobs: Sequence[Job]) -> _Lanes:
    start, target = stack([j.start for j in jobs]), stack([j.target for j in jobs])
    displacement = torch.cat([(start[k] - target[k]).flatten(1) for k in start], 1)
    distance = displacement.square().sum(1)
    longest = max(len(j.labels) for j in jobs)
    weight = torch.stack([(torch.arange(longest) < len(j.labels)).float() for j in jobs])
    return _Lanes(
        spec,
        start,
        displacement,
        # A client that did not move has nothing to match: NaN marks its objective as undefined.
        torch.where(distance > 0, distance, torch.nan),
        _pad([j.labels for j in jobs]),
        weight.to(displacement.device),
    )


def _unpack(
    jobs: Sequence[Job], latents: Tensor, images: Tensor, eta: Tensor, losses: Tensor
) -> list[Matched]:
    return [
        Matched(
            latents[m, : len(j.labels)].clone(),
            images[m, : len(j.labels)].clone(),
            j.labels,
            float(eta[m]),
            losses[m],
        )
        for m, j in enumerate(jobs)
    ]


def _initial(prior: Prior, job: Job) -> Tensor:
    if job.latents is not None:
        return job.latents
    return prior.sample(job.labels, job.stream.child("latents").torch())


def _decode(prior: Prior, latents: Tensor) -> Tensor:
    """Images (M, n, c, h, w) for latents (M, n, ...)."""
    images = prior.decode(latents.flatten(0, 1))
    return images.view(*latents.shape[:2], *images.shape[1:])


def _pad(parts: Sequence[Tensor]) -> Tensor:
    """Tensors of different lengths stacked, zeros at the end of the shorter ones."""
    return torch.nn.utils.rnn.pad_sequence(list(parts), batch_first=True)


def _split(flat: Tensor, like: Params) -> Params:
    sizes = [t[0].numel() for t in like.values()]
    return {k: p.view(t.shape) for (k, t), p in zip(like.items(), flat.split(sizes, 1), strict=True)}


def _copy(generator: torch.Generator) -> torch.Generator:
    copy = torch.Generator(device=generator.device)
    copy.set_state(generator.get_state())
    return copy
