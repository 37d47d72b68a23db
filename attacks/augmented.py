"""Observation: the same question about moved copies of each image, as often as there are moves.

Source: Carlini et al., "Membership inference attacks from first principles" (2022), section VI.C
(several queries a record): a model that was trained on a record knows its near copies as well.
"""

from __future__ import annotations

from dataclasses import dataclass, field, replace

import numpy as np
from torch import Tensor
from torch.nn import functional as F

from attacks.confidence import ModelConfidence
from attacks.interface import Candidates, Observation, Signals
from privfed.randomness import Stream
from privfed.records import Records
from privfed.release import View


@dataclass(frozen=True, slots=True)
class Augmented:
    """What another observation says of each image as it is, shifted to four sides, and perhaps mirrored.

    Images only; None for text. Direction as that observation defines it. Queries stand in blocks, one
    block a move, each with the rounds in their order: as many in every federation. Pixels that a shift
    uncovers repeat the edge.

    Attributes:
        observation: asked once a move; population and candidates are moved alike.
        shift: pixels, >= 0; 0 = no shifts.
        flip: ask about every copy's mirror image too. Off, since a mirrored digit or letter is no digit.
    """

    observation: Observation = field(default_factory=ModelConfidence)
    shift: int = 1
    flip: bool = False

    def __post_init__(self) -> None:
        if self.shift < 0:
            raise ValueError(f"expected shift >= 0, got shift={self.shift}")

    def extract(self, view: View, candidates: Candidates, stream: Stream) -> Signals | None:
        """Queries of all moves side by side; None where the observation says nothing."""
        if candidates.records.inputs.ndim != 4:
            return None
        found = []
        for number, move in enumerate(self._moves()):
            moved = replace(
                candidates,
                records=_moved(candidates.records, *move),
                population=_moved(candidates.population, *move),
            )
            signals = self.observation.extract(view, moved, stream.child("move", number))
            if signals is None:
                return None
            found.append(signals)
        return Signals(
            np.concatenate([s.candidates for s in found], axis=1),
            np.concatenate([s.population for s in found], axis=1),
            found[0].clients,
        )

    def _moves(self) -> list[tuple[int, int, bool]]:
        s = self.shift
        shifts = [(0, 0), *([(s, 0), (-s, 0), (0, s), (0, -s)] if s else [])]
        return [(down, right, mirror) for mirror in (False, True)[: 1 + self.flip] for down, right in shifts]


def shifted(images: Tensor, down: int, right: int) -> Tensor:
    """Images moved by whole pixels, the edge repeated, shape (n, channels, height, width)."""
    height, width = images.shape[-2:]
    pad = max(abs(down), abs(right))
    padded = F.pad(images, (pad, pad, pad, pad), mode="replicate")
    return padded[..., pad - down : pad - down + height, pad - right : pad - right + width]


def _moved(records: Records, down: int, right: int, mirror: bool) -> Records:
    inputs = shifted(records.inputs, down, right)
    return Records(inputs.flip(-1) if mirror else inputs, records.labels)
