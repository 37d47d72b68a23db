"""MixUp (Zhang et al. 2018, arXiv 1710.09412, section 2): training on blends of pairs of records.

As in the authors' code one share is drawn a batch, and every record of the batch is blended with one
of the same batch, after a random permutation of it.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from privfed.randomness import Stream


@dataclass(frozen=True, slots=True)
class Pairing:
    """Whom each record of one model's batch is blended with, and in which proportion.

    Attributes:
        partner: record indices, shape (batch,).
        share: of the record itself, in [0, 1]; its partner has the rest.
    """

    partner: Tensor
    share: float


@dataclass(frozen=True, slots=True)
class Blend:
    """The pairings of one step of M models.

    Attributes:
        partner: record indices, shape (M, batch), zero where a batch is padded.
        share: shape (M, 1), floating.
    """

    partner: Tensor
    share: Tensor

    def inputs(self, own: Tensor, partners: Tensor) -> Tensor:
        """Blended inputs, shape (M, batch, ...)."""
        share = self.share.to(own.dtype).view(len(own), *(1 for _ in own.shape[1:]))
        return own * share + partners * (1 - share)

    def losses(self, own: Tensor, partners: Tensor) -> Tensor:
        """The loss against blended labels, shape (M, batch): cross-entropy is linear in them."""
        share = self.share.to(own.dtype)
        return own * share + partners * (1 - share)


def pairings(batches: Sequence[Tensor], alpha: float, stream: Stream) -> list[Pairing]:
    """One a batch, with a share from Beta(alpha, alpha).

    Args:
        batches: record indices of every step of one model.
        alpha: above 0; towards 0 records are hardly blended, at 1 the share is uniform.
        stream: of this alone.
    """
    generator = stream.numpy()
    found = []
    for batch in batches:
        share = float(generator.beta(alpha, alpha))
        found.append(Pairing(batch[torch.from_numpy(generator.permutation(len(batch)))], share))
    return found


def blend(pairs: Sequence[Pairing | None], width: int, device: torch.device) -> Blend:
    """The pairings of M models side by side; None for a model that has finished."""
    partner = torch.zeros(len(pairs), width, dtype=torch.int64)
    for row, pair in zip(partner, pairs, strict=True):
        if pair is not None:
            row[: len(pair.partner)] = pair.partner
    share = torch.tensor([[1.0 if p is None else p.share] for p in pairs], dtype=torch.float64)
    return Blend(partner.to(device), share.to(device))
