"""Records held in memory as tensors."""

from __future__ import annotations

from dataclasses import dataclass

import torch


@dataclass(frozen=True, slots=True)
class Records:
    """Labelled records in memory.

    Attributes:
        inputs: what a net reads, shape (n, ...): images of shape (n, channels, height, width),
            float32 with values in [-1, 1]; embedded text of shape (n, tokens, dimension), float32;
            text not yet embedded, token numbers of shape (n, tokens), int64.
        labels: int64, shape (n,).
    """

    inputs: torch.Tensor
    labels: torch.Tensor

    def __post_init__(self) -> None:
        if self.inputs.ndim < 2 or self.labels.shape != self.inputs.shape[:1]:
            raise ValueError(
                "expected inputs of shape (n, ...) and labels of shape (n,), "
                f"got inputs={tuple(self.inputs.shape)} and labels={tuple(self.labels.shape)}"
            )

    def __len__(self) -> int:
        return int(self.labels.shape[0])

    def to(self, device: str) -> Records:
        """The same records on `device`."""
        return Records(self.inputs.to(device), self.labels.to(device))

    def take(self, index: torch.Tensor) -> Records:
        """The records at `index` (integers or a boolean mask), as copies."""
        return Records(self.inputs[index], self.labels[index])


def concatenate(parts: list[Records]) -> Records:
    """All records of `parts`, in order."""
    return Records(torch.cat([p.inputs for p in parts]), torch.cat([p.labels for p in parts]))
