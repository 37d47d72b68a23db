"""The decoder of the generative prior cut into stages, each of which can be entered from outside."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import torch
from torch import Tensor

from privfed.prior import Prior

Stage = Callable[[Tensor], Tensor]


def stages(prior: Prior) -> tuple[Stage, ...]:
    """What turns latents (n, ...) into features, features into others, and the last into images.

    The cuts are those of the distillation through this decoder: latents, after the middle block, after
    each block that doubles the size. All of them in a row are `prior.decode`.
    """
    autoencoder, decoder = prior.autoencoder, prior.autoencoder.decoder

    def entry(latents: Tensor) -> Tensor:
        ready = latents if autoencoder.post_quant_conv is None else autoencoder.post_quant_conv(latents)
        features: Tensor = decoder.mid_block(decoder.conv_in(ready), None)
        return features

    def end(features: Tensor) -> Tensor:
        images: Tensor = torch.tanh(decoder.conv_out(decoder.conv_act(decoder.conv_norm_out(features))))
        return images

    return (entry, *(_block(b) for b in decoder.up_blocks), end)


def through(parts: Sequence[Stage], values: Tensor) -> Tensor:
    """Records (L, n, ...) from features (L, n, ...) that enter the first of `parts`."""
    if not parts:
        return values
    flat = values.flatten(0, 1)
    for part in parts:
        flat = part(flat)
    records: Tensor = flat.unflatten(0, values.shape[:2])
    return records


def into_ball(values: Tensor, centre: Tensor, radius: float) -> Tensor:
    """The nearest point to each of `values` within an l1 ball about its centre, shape (L, n, ...).

    By sorting (Duchi et al. 2008, "Efficient projections onto the l1-ball", figure 1).

    Args:
        values: shape (L, n, ...); a ball is one record's.
        centre: of the same shape.
        radius: mean absolute difference allowed per value, so that layers of any size compare.
    """
    apart = (values - centre).flatten(2)
    size = apart.abs()
    total = radius * size.shape[-1]
    ordered = size.sort(dim=-1, descending=True).values
    places = torch.arange(1, size.shape[-1] + 1, device=size.device)
    cuts = (ordered.cumsum(-1) - total) / places
    last = (ordered > cuts).sum(-1, keepdim=True).clamp_min(1) - 1
    cut = cuts.gather(-1, last).clamp_min(0.0)
    inside = apart.sign() * (size - cut).clamp_min(0.0)
    return centre + inside.view_as(centre)


def _block(block: Callable[[Tensor, None], Tensor]) -> Stage:
    return lambda features: block(features, None)
