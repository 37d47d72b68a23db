"""Generators worked out by hand, in the form in which FedBKD releases them."""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn import functional as F

from privfed.generator import EMBEDDING, NOISE
from privfed.nets import Params
from privfed.records import Records
from privfed.release import PUBLIC, SERVER, Release

RAMP = 0.1
"""Share of a plateau's length that it takes to come from one record to the next."""


def released(params: Params, round: int) -> tuple[Release, Release]:
    """As it lies on the server after a round, and as it is published."""
    held = {**params, "order": torch.tensor([0, 1])}
    return (
        Release(round - 1, SERVER, SERVER, "generator", "generator", held),
        Release(round, SERVER, PUBLIC, "generator", "generator", params),
    )


def plateaus(records: Records, classes: int, seed: int, entries: int = 4) -> Params:
    """A generator that makes record k of n wherever the first number of the noise lies in [k, k + 1) / n.

    Piecewise linear in that number alone: two hidden units a step from one record to the next. The bank
    has `entries` entries a record, with its label. Whatever else the noise holds changes nothing.
    """
    n = len(records)
    steps = torch.arange(1, n) / n
    knots = torch.cat([steps - RAMP / 2 / n, steps + RAMP / 2 / n])
    slopes = records.inputs.flatten(1).diff(dim=0).T * n / RAMP
    noise = torch.rand(n * entries, NOISE, generator=torch.Generator().manual_seed(seed))
    noise[:, 0] = (torch.arange(n * entries) + 0.5) / (n * entries)
    first = torch.zeros(len(knots), NOISE + EMBEDDING)
    first[:, 0] = 1.0
    return normalised(
        {
            "0.weight": first,
            "0.bias": -knots,
            "3.weight": torch.cat([slopes, -slopes], 1),
            "3.bias": records.inputs[0].flatten(),
            "bound": torch.tensor(0.0),
            **banked(noise, records.labels.repeat_interleave(entries), classes, seed),
        }
    )


def affine(matrix: Tensor, centre: Tensor, classes: int, size: int, seed: int) -> Params:
    """A generator that makes centre + matrix @ noise, whatever the label.

    Args:
        matrix: shape (d, 64).
        centre: shape (d,).
        classes: labels.
        size: entries of the bank.
        seed: of the bank.
    """
    noise = torch.rand(size, NOISE, generator=torch.Generator().manual_seed(seed))
    first = torch.cat([torch.eye(NOISE), torch.zeros(NOISE, EMBEDDING)], 1)
    return normalised(
        {
            "0.weight": first,  # noise is not negative: ReLU lets it pass
            "0.bias": torch.zeros(NOISE),
            "3.weight": matrix,
            "3.bias": centre,
            "bound": torch.tensor(0.0),
            **banked(noise, torch.arange(size) % classes, classes, seed),
        }
    )


def banked(noise: Tensor, labels: Tensor, classes: int, seed: int) -> Params:
    generator = torch.Generator().manual_seed(seed + 1)
    embedding = torch.randn(classes, EMBEDDING, generator=generator)
    return {"bank.noise": noise, "bank.embedding": embedding, "bank.labels": labels}


def normalised(params: Params) -> Params:
    """With the batch normalisation that undoes itself on the bank."""
    inputs = torch.cat([params["bank.noise"], params["bank.embedding"][params["bank.labels"]]], 1)
    hidden = F.linear(inputs, params["0.weight"], params["0.bias"])
    spread = (hidden.var(0, unbiased=False) + 1e-5).sqrt()
    return {**params, "1.weight": spread, "1.bias": hidden.mean(0)}
