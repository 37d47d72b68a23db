"""Random-k sparsification: a client sends entries of its update chosen at random.

Random sparsification as analysed by Wangni et al. (arXiv 1710.09854, section 2) and by Konecny et al.
(arXiv 1610.05492, section 3, 'subsampling'), with entries of equal chances.
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
class RandomK:
    """Sends a random share of the entries of a client's update, over the whole model.

    It earns no claim: what is sent is sent without noise, and over the rounds every entry has its
    turn. After a defence that makes a claim it is post-processing, and the claim stays.

    Attributes:
        keep: share of the entries, in (0, 1], rounded up to a whole number; 1 changes nothing.
        rescale: whether what is sent is scaled up to make up for the rest, so that the mean over
            the choice is the update itself. The sent update is then longer, by up to one over `keep`.
    """

    keep: float
    rescale: bool = True

    def __post_init__(self) -> None:
        expect(0 < self.keep <= 1, "keep in (0, 1]", keep=self.keep)

    @property
    def keeps_norm(self) -> bool:
        """Whether what is sent is never longer than what was trained."""
        return not self.rescale

    def uplink(self, start: Params, params: Params, stream: Stream) -> Spent[Params]:
        """The parameters at entries drawn from `stream`, the start elsewhere; no guarantee."""
        entries = sum(t.numel() for t in params.values())
        sent = count(self.keep, entries)
        # Drawn on the CPU, so that every device sends the same entries.
        chosen = torch.randperm(entries, generator=stream.torch())[:sent]
        kept = torch.zeros(entries, dtype=torch.bool)
        kept[chosen] = True
        scaled = self._scaled(start, params, entries / sent if sent else 1.0)
        return Spent(only(kept.to(flat(params).device), start, scaled), None)

    def _scaled(self, start: Params, params: Params, factor: float) -> Params:
        if not self.rescale or factor == 1:
            return params
        longer = {name: t * factor for name, t in change(start, params).items()}
        return {name: start[name] + t if name in start else t for name, t in longer.items()}
