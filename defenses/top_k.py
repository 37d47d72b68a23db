"""Top-k sparsification: a client sends the entries of its update that moved furthest, and no others.

Gradient dropping of Aji and Heafield (arXiv 1704.05021, section 3) without the residual that they carry
to the next step; as a defence against reconstruction, Zhu et al. (arXiv 1906.08935, section 5.2).
"""

from __future__ import annotations

from dataclasses import dataclass

import torch

from defenses._clipping import change, expect
from defenses._sparse import count, flat, only
from privfed.hooks import Spent
from privfed.nets import Params
from privfed.randomness import Stream


@dataclass(frozen=True, slots=True)
class TopK:
    """Sends the largest entries of a client's update, by magnitude over the whole model.

    It earns no claim: which entries are large, and how large, is read off the records, and what is
    sent is sent unchanged. After a defence that makes a claim it is post-processing, and the claim
    stays. What is not sent is dropped, not kept for the next round. It never makes an update longer.

    Attributes:
        keep: share of the entries, in (0, 1], rounded up to a whole number; 1 changes nothing. Of
            entries of one size the first in the order of the model go; one that is not a number
            counts as the largest.
    """

    keep: float

    keeps_norm = True

    def __post_init__(self) -> None:
        expect(0 < self.keep <= 1, "keep in (0, 1]", keep=self.keep)

    def uplink(self, start: Params, params: Params, stream: Stream) -> Spent[Params]:
        """The parameters at the entries that moved furthest, the start elsewhere; no guarantee."""
        size = flat(change(start, params)).abs()
        # A stable sort: topk may choose among equals as it likes.
        order = size.sort(descending=True, stable=True).indices
        kept = torch.zeros_like(size, dtype=torch.bool)
        kept[order[: count(self.keep, len(size))]] = True
        return Spent(only(kept, start, params), None)
